"""Budgets in time: delays and losses, recognised, bounded, and searched."""

import math

import pytest
import torch

from avrobust import AV, FGSM, PGD, Rows, Seeds, Threat, evaluate
from avrobust.attacks import Misaligned, Square
from avrobust.budget_check import BudgetError, check
from avrobust.config import from_plain, to_plain
from avrobust.facts import Budget
from avrobust.objectives import margins
from avrobust.report.load import read
from avrobust.report.sections import timing
from avrobust.timing import Delay, Outage
from nets import clips, network

NOTHING = Threat.linf().audio
AUDIO, FRAMES = torch.arange(1.0, 9)[None] / 10, torch.rand(1, 6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
EDGES = {"silence": [0.0, 0.0], "repeat": [0.1, 0.1], "circular": [0.7, 0.8]}


@pytest.mark.parametrize("edge", EDGES)
def test_a_delay_shifts_and_its_edge_says_what_comes_in(edge):
    ball = Delay(2.0, rate=1000, edge=edge)
    late = ball.moved(AUDIO, torch.tensor([2]))
    assert late[0].tolist() == pytest.approx(EDGES[edge] + AUDIO[0, :6].tolist())
    early = ball.moved(AUDIO, torch.tensor([-1]))
    assert early[0, :7].tolist() == AUDIO[0, 1:].tolist()
    for x in (AUDIO, FRAMES):
        for k in (0, 1, -2):
            assert ball.distance(ball.moved(x, torch.tensor([k])), x) == [abs(k)]  # 1 sample is 1 ms here
    assert Delay(2.0, rate=1000, edge=edge).distance(
        Delay(3.0, rate=1000, edge=edge).moved(AUDIO, torch.tensor([3])), AUDIO
    ) == [math.inf]
    assert ball.distance(AUDIO + 0.01, AUDIO) == [math.inf]


def test_a_loss_is_a_stretch_of_silence():
    ball = Outage(3.0, rate=1000)
    lost = ball.moved(AUDIO, torch.tensor([2]))
    assert (lost[0] == 0).tolist() == [False] * 2 + [True] * 3 + [False] * 3
    assert ball.distance(lost, AUDIO) == [3.0] and ball.distance(AUDIO, AUDIO) == [0.0]
    twice = lost.clone()
    twice[0, 7] = 0.0
    assert ball.distance(twice, AUDIO) == [math.inf]
    assert ball.places(8, 2.0) == [0, 2, 4, 5]


def margin_at(net, x, y, ball, k):
    with torch.no_grad():
        return margins(net(AV(ball.moved(x.audio, torch.full((len(y),), k)), x.visual)), y)


@pytest.mark.parametrize("edge", EDGES)
def test_it_is_the_worst_of_all_delays_clip_by_clip(edge):
    net, batch, ball = network(), clips(5), Delay(3.0, rate=1000, edge=edge)
    threat = Threat(ball, Threat.linf().visual)
    adv = Misaligned(every_ms=0)(net, batch.x, batch.label, threat, Seeds(0, batch.ids))
    check(threat, batch.x, adv, batch.ids, "Misaligned")
    assert adv.visual is batch.x.visual
    with torch.no_grad():
        found = margins(net(adv), batch.label)
    every = torch.stack([margin_at(net, batch.x, batch.label, ball, k) for k in range(-3, 4)]).amax(0)
    torch.testing.assert_close(found, every, rtol=1e-4, atol=1e-5)
    # a clip depends on no neighbour
    some = batch.subset([3, 0])
    alone = Misaligned(every_ms=0)(net, some.x, some.label, threat, Seeds(0, some.ids))
    assert torch.equal(alone.audio, adv.audio[[3, 0]])


def test_a_larger_budget_is_never_weaker_and_video_is_delayed_too():
    net, batch = network(), clips(5)
    frames = AV(batch.x.audio, batch.x.visual.repeat(1, 2, 1, 1, 1) * torch.linspace(0.4, 1, 4).view(1, 4, 1, 1, 1))
    for make in (lambda ms: Threat(Delay(ms, rate=4000), NOTHING), lambda ms: Threat(NOTHING, Delay(ms, rate=4))):
        losses = []
        for ms in (0.6, 260.0, 510.0):
            adv = Misaligned(every_ms=0.5)(net, frames, batch.label, threat := make(ms), Seeds(0, batch.ids))
            check(threat, frames, adv, batch.ids, "Misaligned")
            with torch.no_grad():
                losses.append(margins(net(adv), batch.label))
        assert (losses[0] <= losses[1] + 1e-5).all() and (losses[1] <= losses[2] + 1e-5).all()


def test_rows_carry_the_budget_and_the_page_shows_it():
    net, batch = network(), clips(6)
    threats = [
        Threat(ball, Threat.linf().visual)
        for ball in (Delay(1.0, rate=1000), Delay(4.0, rate=1000), Outage(2.0, rate=1000))
    ]
    rows = evaluate(net, batch, Misaligned(every_ms=0), threats, name="net")
    budgets = {str(Budget.of(row).audio) for row in rows.data.to_pylist() if row["attack"] != "none"}
    assert budgets == {"delay 1 ms (silence)", "delay 4 ms (silence)", "outage 2 ms"}
    assert max(u for u in rows.data["used_audio"].to_pylist() if u is not None and u == u) <= 1
    found = timing.data(read(rows))["tables"]
    assert [t.title for t in found] == ["Audio delayed", "Audio with an outage"]
    assert [c.name for c in found[0].columns] == ["Model", "Attack", "Clean", "1 ms (silence)", "4 ms (silence)"]
    for cell, ms in zip(found[0].rows[0][3:], (1.0, 4.0), strict=True):
        own = Rows(
            rows.data.filter(
                (rows.data["eps_audio"].to_numpy() == ms)
                & (rows.data["norm_audio"].to_numpy(zero_copy_only=False) == "delay")
            )
        )
        assert cell.number.value == pytest.approx(100 * own.accuracy().value) and cell.number.n == 6


def test_threats_survive_their_plain_form():
    for threat in (Threat(Delay(40.0, rate=8000, edge="repeat"), NOTHING), Threat(NOTHING, Outage(200.0, rate=4))):
        assert from_plain(to_plain(threat)) == threat


@pytest.mark.parametrize(
    ("attack", "threat", "match"),
    [
        (PGD(steps=1), Threat(Delay(4.0, rate=1000), NOTHING), "Use attacks.Misaligned"),
        (FGSM(), Threat(Delay(4.0, rate=1000), NOTHING), "Use attacks.Misaligned"),
        (Square(queries=2), Threat(Delay(4.0, rate=1000), NOTHING), "linf budgets only"),
        (Misaligned(), Threat.linf(audio=0.1), "one budget in time"),
        (Misaligned(), Threat(Delay(4.0, rate=1000), Delay(300.0, rate=4)), "one budget in time"),
    ],
)
def test_a_budget_that_an_attack_cannot_search_is_refused(attack, threat, match):
    batch = clips(2)
    with pytest.raises(ValueError, match=match):
        attack(network(), batch.x, batch.label, threat, Seeds(0, batch.ids))


def test_what_is_no_delay_is_outside_the_budget():
    batch = clips(2)
    threat = Threat(Delay(4.0, rate=1000), Threat.linf().visual)
    with pytest.raises(BudgetError, match="left its audio budget"):
        check(threat, batch.x, AV(batch.x.audio * 0.9, batch.x.visual), batch.ids, "mine")
    for make in (lambda: Delay(-1.0), lambda: Delay(1.0, rate=0.0), lambda: Misaligned(every_ms=-1.0)):
        with pytest.raises(ValueError, match="should be"):
            make()
