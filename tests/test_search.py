"""APGD and Square: what the papers promise of them, on small networks and on problems whose answer is known."""

import itertools
from dataclasses import replace

import pytest
import torch

from avrobust import AV, FGSM, MIM, PGD, AVAutoAttack, Batch, Seeds, Threat, margin
from avrobust.attacks import APGD, Square, search
from avrobust.attacks.apgd import checkpoints
from avrobust.budget_check import check
from avrobust.objectives import dlr, margins
from avrobust.threat import Ball
from avrobust.types import Output
from nets import clips, linear, network

BOTH = Threat.linf(audio=0.02, visual="4/255")
ATTACKS = [APGD(steps=8), APGD(steps=8, objective=dlr, stop=False), Square(queries=30), Square(queries=30, stop=False)]


def attack_on(attack, model, batch, threat, seed=0):
    return attack(model, batch.x, batch.label, threat, Seeds(seed, batch.ids))


@pytest.mark.parametrize("threat", [BOTH, BOTH.only("A"), BOTH.only("V")], ids=str)
@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
@pytest.mark.parametrize("model", [network(), linear], ids=["network", "linear"])
def test_properties(attack, threat, model):
    batch = clips(24)
    adv = attack_on(attack, model, batch, threat)
    check(threat, batch.x, adv, batch.ids, attack.name)
    again = attack_on(attack, model, batch, threat)
    assert torch.equal(adv.audio, again.audio) and torch.equal(adv.visual, again.visual)
    order = torch.tensor([4, 0, 2])
    some = Batch(batch.x.map(lambda s: s[order]), batch.label[order], tuple(batch.ids[i] for i in order))
    for a, b in zip(attack_on(attack, model, some, threat), adv, strict=True):
        assert ((a - b[order]).abs() > 1e-5).float().mean() < 0.01
    with torch.no_grad():
        before, after = margins(model(batch.x), batch.label), margins(model(adv), batch.label)
    assert (after > before)[before <= 0].float().mean() > 0.5  # a clip that is wrong already may be left as it is
    assert (after > 0)[before > 0].all()


def test_apgd_looks_at_its_steps_when_the_paper_says():
    """At the start, 22, 41, 57, 70, ... of 100: then every 6, as the differences stop shrinking there."""
    looks = sorted(checkpoints(100))
    assert looks[:6] == [0, 22, 41, 57, 70, 80]
    assert all(b - a >= 6 for a, b in itertools.pairwise(looks)) and looks[-1] < 101


def test_apgd_finds_the_optimum_of_a_linear_model():
    """There it is known: every sample and pixel at the end of its budget."""
    batch, threat = clips(), Threat.linf(audio=0.005, visual=0.005)
    adv = attack_on(APGD(steps=20, objective=margin, stop=False), linear, batch, threat)
    best = attack_on(PGD(steps=100, restarts=5, objective=margin), linear, batch, threat)
    with torch.no_grad():
        assert (margins(linear(adv), batch.label) >= margins(linear(best), batch.label) - 1e-4).all()


def test_apgd_is_no_weaker_than_pgd_with_as_many_steps():
    net, batch = network(), clips(48)
    small = Threat.linf(audio=0.004, visual="1/255")
    with torch.no_grad():
        batch = replace(batch, label=net(batch.x).argmax(1))  # all right when clean
        found = {
            type(a).__name__: margins(net(attack_on(a, net, batch, small)), batch.label)
            for a in (
                PGD(steps=30, objective=margin),
                APGD(steps=30, objective=margin, stop=False),
                FGSM(objective=margin),
            )
        }
    assert found["APGD"].mean() >= found["PGD"].mean() - 1e-3 > found["FGSM"].mean() - 1e-3


def test_apgd_moves_one_modality_at_a_time_if_asked():
    net, batch, threat = network(), clips(8), Threat.linf(audio=0.004, visual="1/255")
    seen: list[AV] = []

    def watched(x):
        seen.append(x.map(torch.Tensor.detach))
        return net(x)

    found = attack_on(APGD(steps=12, objective=margin, stop=False, alternate=True), watched, batch, threat)
    check(threat, batch.x, found, batch.ids, "APGD")
    first, second, third = seen[:3]
    assert not torch.equal(first.audio, second.audio) and torch.equal(first.visual, second.visual)
    assert not torch.equal(second.visual, third.visual)
    with torch.no_grad():
        plain = attack_on(APGD(steps=12, objective=margin, stop=False), net, batch, threat)
        start, alone, both = (margins(net(x), batch.label).mean() for x in (batch.x, found, plain))
    assert alone - start > 0.8 * (both - start)
    one = threat.only("A")
    alone, plain = (attack_on(APGD(steps=6, alternate=a), net, batch, one) for a in (True, False))
    assert torch.equal(alone.audio, plain.audio)  # nothing to take turns with


def test_apgd_in_l2():
    batch, threat = clips(), Threat.l2(audio=0.2, visual=0.5)
    adv = attack_on(APGD(steps=10), network(), batch, threat)
    check(threat, batch.x, adv, batch.ids, "APGD")


def test_square_needs_no_gradient():
    """A model whose gradient is zero everywhere: gradient searches stand still, this one does not."""
    net = network()

    def rounded(x):
        return torch.round(net(x) * 50) / 50

    batch = clips(24)
    with torch.no_grad():
        batch = replace(batch, label=net(batch.x).argmax(1))
    hidden, found = (
        margins(rounded(attack_on(a, rounded, batch, Threat.linf(audio=0.05, visual="16/255"))), batch.label)
        for a in (FGSM(), Square(queries=150))
    )
    assert (found > hidden + 0.01).float().mean() > 0.8


def test_more_queries_are_never_worse():
    net, batch = network(), clips(24)
    values = []
    for queries in (1, 20, 200):
        adv = attack_on(Square(queries=queries, stop=False), net, batch, BOTH)
        with torch.no_grad():
            values.append(margins(net(adv), batch.label))
    assert (values[2] >= values[0] - 1e-6).all() and values[2].mean() > values[1].mean() > values[0].mean()


def test_square_is_for_linf():
    with pytest.raises(ValueError, match="Use APGD for L2"):
        attack_on(Square(queries=2), network(), clips(), Threat.l2(audio=0.1))


@pytest.mark.parametrize(
    "make", [lambda: APGD(steps=1), lambda: APGD(restarts=0), lambda: Square(queries=0), lambda: Square(share=2)]
)
def test_settings_that_make_no_sense_are_refused(make):
    with pytest.raises(ValueError, match="got"):
        make()


def test_dlr_does_not_feel_scale_or_shift():
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 2, 3, 4, 0])
    plain = dlr.value(Output(logits), y)
    assert torch.allclose(plain, dlr.value(Output(1000 * logits + 7), y), atol=1e-3)
    z = logits[0].sort(descending=True).values
    other = logits[0, 1:].max()
    assert plain[0] == pytest.approx(float((other - logits[0, 0]) / (z[0] - z[2])), rel=1e-5)
    with pytest.raises(ValueError, match="3 classes"):
        dlr.value(Output(logits[:, :2]), torch.zeros(6, dtype=torch.long))


# The combination


def survivors(net, adv, batch):
    with torch.no_grad():
        return margins(net(adv), batch.label) <= 0


@pytest.mark.parametrize("model", [network(), network(3), linear], ids=["network", "another", "linear"])
def test_the_combination_is_at_least_as_strong_as_its_parts_clip_by_clip(model):
    batch = clips(40)
    with torch.no_grad():
        batch = replace(batch, label=torch.where(torch.arange(40) < 36, model(batch.x).argmax(1), batch.label))
    threat = Threat.linf(audio=0.01, visual="2/255")
    combined = AVAutoAttack(steps=8, queries=20)
    both = survivors(model, attack_on(combined, model, batch, threat), batch)
    check(threat, batch.x, attack_on(combined, model, batch, threat), batch.ids, "combined")
    for part in threat.subsets():
        alone = survivors(model, attack_on(combined, model, batch, part), batch)
        assert (both <= alone).all()  # attacking both is never weaker than attacking one
    for attack in (FGSM(), PGD(steps=8), MIM(steps=8)):
        assert both.sum() <= survivors(model, attack_on(attack, model, batch, threat), batch).sum()


def test_the_combination_does_not_depend_on_batch_mates():
    net, batch, threat = network(), clips(12), Threat.linf(audio=0.01, visual="2/255")
    adv = attack_on(AVAutoAttack(steps=4, queries=5), net, batch, threat)
    some = Batch(batch.x.map(lambda s: s[3:5]), batch.label[3:5], batch.ids[3:5])
    for a, b in zip(attack_on(AVAutoAttack(steps=4, queries=5), net, some, threat), adv, strict=True):
        assert ((a - b[3:5]).abs() > 1e-5).float().mean() < 0.01


@pytest.mark.parametrize("attack", [PGD(stop=True, restarts=2), MIM(stop=True, keep="last"), APGD(steps=8), Square(queries=30), AVAutoAttack(steps=4, queries=5, targets=1)], ids=repr)  # fmt: skip
def test_batches_of_few_sizes_give_the_same_clips(attack, monkeypatch):
    """As on a GPU: clips that are done stay in the batch until it shrinks to the next size, and nothing happens to them."""
    batch, net, sizes = clips(24), network(), set()
    wanted = attack_on(attack, net, batch, BOTH)
    seen = net.audio.register_forward_hook(lambda module, args, out: sizes.add(len(out)))
    monkeypatch.setattr(search, "rounded", lambda clips: True)
    found = attack_on(attack, net, batch, BOTH)
    seen.remove()
    assert sizes <= {1, 2, 3, 4, 6, 8, 12, 16, 24} and len(sizes) > 1
    for a, b in zip(wanted, found, strict=True):
        assert ((a - b).abs() > 1e-5).float().mean() < 0.01
    with torch.no_grad():
        assert torch.equal(net(wanted).argmax(1) == batch.label, net(found).argmax(1) == batch.label)


def test_a_batch_is_filled_with_clips_that_are_done(monkeypatch):
    gone = torch.tensor([True, False, False, True, False, False, True, False])
    assert search.staying(gone).tolist() == [1, 2, 4, 5, 7]
    monkeypatch.setattr(search, "rounded", lambda clips: True)
    assert search.staying(gone).tolist() == [0, 1, 2, 4, 5, 7]
    assert search.staying(torch.ones(3, dtype=torch.bool)).tolist() == []


@pytest.mark.parametrize("model", [network(), linear], ids=["network", "linear"])
@pytest.mark.parametrize("subset", ["A", "V"])
def test_a_search_holds_only_what_may_change(subset, model, monkeypatch):
    """At the paper's sizes a perturbation of the other modality would be two thirds of the work on one of audio."""
    batch, threat, held = clips(4), BOTH.only(subset), []
    for name in ("ascent", "project"):
        real = getattr(Ball, name)
        monkeypatch.setattr(
            Ball, name, lambda ball, s, x, f=real: held.append((ball.active, s.numel())) or f(ball, s, x)
        )
    for attack in (PGD(steps=3), MIM(steps=3), APGD(steps=3), Square(queries=3)):
        start = {} if isinstance(attack, Square) else {"start": batch.x.map(lambda s: torch.full_like(s, 0.001))}
        adv = attack(model, batch.x, batch.label, threat, Seeds(0, batch.ids), **start)
        check(threat, batch.x, adv, batch.ids, attack.name)
    assert held and all(active == (size > 0) for active, size in held)
