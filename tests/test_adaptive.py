"""Defenses that do not defend: each makes a plain attack fail, is found out by a probe, and falls to the adapted attack."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from avrobust import AV, PGD, AVAutoAttack, Batch, Seeds, Threat, engine
from avrobust.attacks.adaptive import is_random, ways
from avrobust.defenses import Broken, ExFMem, saving
from avrobust.engine import recognise
from avrobust.evaluation.probe import probe
from avrobust.objectives import dlr_towards, margins
from avrobust.types import Output
from nets import clips, linear, network

THREAT = Threat.linf(audio=0.05, visual="8/255")
BROKEN = {"rounded": 2.0, "noisy": 0.3, "saturated": 1e5, "sociable": 0.8}


def right(model, adv, batch):
    with torch.no_grad():
        return margins(model(adv), batch.label) <= 0


def attacked(attack, model, batch):
    return attack(engine.as_victim(model, clips(1).x), batch.x, batch.label, THREAT, Seeds(0, batch.ids))


@torch.no_grad()
def behind(feature_defense, batch):
    """A network with this feature defense that does not prefer one class for all of these clips."""
    net = network()
    if feature_defense:
        net.feature_defense = feature_defense.fill(net, [batch], seed=0)
    net.classifier.bias -= net(batch.x).mean(0)
    return net


@pytest.fixture(scope="module")
def defended():
    """The same network behind each broken feature defense, with clips that it gets right without one."""
    batch = clips(40)
    net = behind(None, batch)
    with torch.no_grad():
        batch = replace(batch, label=net(batch.x).argmax(1))
    return net, {how: behind(Broken(how, amount), batch) for how, amount in BROKEN.items()}, batch


@pytest.mark.parametrize("how", ["rounded", "saturated"])
def test_a_plain_attack_is_stopped_and_the_adapted_one_is_not(defended, how):
    net, nets, batch = defended
    with torch.no_grad():
        own = replace(batch, label=nets[how](batch.x).argmax(1))
    plain = right(nets[how], attacked(PGD(steps=10, random_start=False), nets[how], own), own).float().mean()
    adapted = right(nets[how], attacked(AVAutoAttack(steps=10, queries=20), nets[how], own), own).float().mean()
    bare = right(net, attacked(PGD(steps=10), net, batch), batch).float().mean()
    assert plain > 0.9  # nothing to climb
    assert adapted < 0.5 * plain and adapted <= bare + 0.25


def test_probes_tell_them_apart(defended):
    net, nets, batch = defended
    found = {how: probe(engine.as_victim(model, clips(1).x), batch) for how, model in nets.items()}
    quiet = {
        "random": 0.0,
        "sociable": 0.0,
        "faint": {"audio": 0.0, "visual": 0.0},
        "flat": {"audio": 0.0, "visual": 0.0},
        "hidden": {},  # it suspects nothing
    }
    own = probe(engine.as_victim(net, clips(1).x), batch)
    assert min(own.pop("explained").values()) > 0.95
    assert (
        own == {"clips": 40, "moved": own["moved"], "ignores": {"audio": False, "visual": False}} | quiet
        and min(own["moved"].values()) > 10
    )
    assert found["noisy"]["random"] > 0.9 and found["noisy"]["sociable"] == 0
    assert found["sociable"]["sociable"] > 0.9 and found["sociable"]["random"] == 0
    assert found["saturated"]["faint"]["audio"] > 0.5 and found["saturated"]["flat"]["audio"] == 0
    assert found["rounded"]["flat"] == {"audio": 1.0, "visual": 1.0}


def test_probes_count_on_all_clips_what_they_find_on_a_few(defended):
    """A model that is random on loud clips only; and one that looks at its first batch mate on those."""
    net, _, batch = defended
    loud = batch.x.audio.abs().mean(1) > batch.x.audio.abs().mean(1)[:16].median()
    assert len(batch) == 40 and 0 < int(loud[:16].sum()) < int(loud.sum()) < 40
    among = batch.x.audio[loud]

    def on_loud(x: AV, added: Callable[[Tensor], Tensor]) -> Tensor:
        here = (x.audio[:, None] == among).all(2).any(1)
        return net(x) + here[:, None] * added(x.audio)

    random = probe(lambda x: on_loud(x, lambda a: torch.randn(len(a), 1)), batch)
    assert random["random"] == pytest.approx(float(loud.float().mean())) and random["sociable"] == 0
    shared = probe(lambda x: on_loud(x, lambda a: 10.0 * torch.full((len(a), 1), float(len(a) > 1))), batch)
    assert shared["sociable"] == pytest.approx(float(loud.float().mean())) and shared["random"] == 0


def test_what_all_clips_share_is_not_taken_for_ignored():
    batch = clips(6)
    silent = Batch(batch.x.map(lambda s, part: 0 * s if part else s, AV(True, False)), batch.label % 2)
    found = probe(lambda x: torch.stack([x.audio.abs().sum(1), x.visual.sum((1, 2, 3, 4))], 1), silent)
    assert found["ignores"] == {"audio": False, "visual": False}


def test_what_was_random_once_stays_random(defended):
    """Of a model that is rarely random, a second look need not show it."""
    net, _, batch = defended
    calls: list[int] = []

    def once(x: AV) -> Tensor:
        calls.append(len(x.audio))
        return net(x) + 10.0 * (len(calls) == 4)

    assert probe(once, batch)["random"] == pytest.approx(16 / 40) and len(calls) > 4


def test_streams_that_run_once_are_paired_as_a_black_box_would(defended):
    net, _, batch = defended
    own, opaque = probe(net, batch), probe(lambda x: net(x), batch)
    assert {k: own[k] for k in ("moved", "ignores", "clips")} == {k: opaque[k] for k in ("moved", "ignores", "clips")}
    assert min(own["moved"].values()) > 10


def test_probes_see_a_chunk_of_their_clips_at_a_time(defended, monkeypatch):
    """As the network does where clips are large."""
    net, _, batch = defended
    whole = probe(engine.as_victim(net, clips(1).x), batch)
    monkeypatch.setattr(recognise, "NUMBERS_ON_CPU", 3.0 * sum(s[0].numel() for s in batch.x))
    assert probe(net, batch)["explained"] == pytest.approx(whole["explained"], abs=1e-3)


def test_ways_around_a_feature_defense(defended):
    net, nets, batch = defended
    assert len(ways(engine.as_victim(net, clips(1).x), batch.x)) == 1
    model = engine.as_victim(nets["rounded"], clips(1).x)
    through, straight, past = (way(model) for way in ways(model, batch.x))
    for other in (straight, past):
        _, grad = engine.gradient(other, lambda out, y: margins(out.logits, y), batch.x, batch.label, THREAT)
        assert (grad.audio.abs().amax(1) > 0).all()
    with torch.no_grad():
        assert torch.allclose(straight(batch.x), through(batch.x), atol=1e-5)
        assert torch.allclose(past(batch.x), model.net.decide(model.net.embed(batch.x)), atol=1e-5)


def test_a_sparse_code_is_gone_around_too(defended):
    _net, _, batch = defended
    remembering = behind(ExFMem(columns=8), batch)
    assert len(ways(engine.as_victim(remembering, clips(1).x), batch.x)) == 3


def test_a_random_model_is_averaged(defended):
    _, nets, batch = defended
    model = engine.as_victim(nets["noisy"], clips(1).x)
    assert is_random(model, batch.x) and not is_random(linear, batch.x)
    way = ways(model, batch.x)[0](model)
    with torch.no_grad():
        spread = torch.stack([model(batch.x) for _ in range(32)]).std(0).mean()
        averaged = torch.stack([way(batch.x) for _ in range(32)]).std(0).mean()
    assert averaged / spread == pytest.approx(8**-0.5, rel=0.2)

    def careless(x):
        return linear(x) + torch.randn(len(x.audio), 4)

    def silent(x):  # no answer to the first clip
        return careless(x).index_fill(0, torch.tensor([0]), torch.inf)

    assert is_random(silent, batch.x)
    for nothing in (torch.nan, torch.inf):
        assert not is_random(lambda x, to=nothing: linear(x).index_fill(0, torch.tensor([0]), to), batch.x)

    model = engine.BlackBox(careless)
    assert len(ways(model, batch.x)) == 1 and ways(model, batch.x)[0](model).draws == 8


@pytest.mark.parametrize("own", [False, True], ids=["AVNet", "callable"])
def test_square_asks_a_random_model_for_the_mean_of_its_answers(defended, own, monkeypatch):
    """One lucky draw is no reason to stop."""
    _, nets, batch = defended
    asked = []

    def square(model, x, y, threat, seeds):
        with torch.no_grad():
            asked.append(torch.stack([model(x) for _ in range(8)]).std(0).mean())
        return x

    def built(**settings):
        assert settings == {"queries": 20, "stop": False, "objective": None}
        return square

    monkeypatch.setattr("avrobust.attacks.autoattack.Square", built)
    model = (lambda x: nets["noisy"](x)) if own else engine.as_victim(nets["noisy"], clips(1).x)
    with torch.no_grad():
        once = torch.stack([model(batch.x) for _ in range(8)]).std(0).mean()
    AVAutoAttack(steps=2, queries=20)(model, batch.x, batch.label, THREAT.only("A"), Seeds(0, batch.ids))
    assert asked and all(a < 0.7 * once for a in asked)


def test_a_random_model_of_somebody_s_own_may_show_its_features(defended):
    _, nets, batch = defended

    class Showing:
        def __call__(self, x):
            return self.decide(self.feature_defense(self.embed(x)))

        embed, decide, feature_defense = nets["noisy"].embed, nets["noisy"].decide, nets["noisy"].feature_defense

    model, seeds = Showing(), Seeds(0, batch.ids)
    adv = AVAutoAttack(steps=2, queries=2)(model, batch.x, batch.label, THREAT.only("A"), seeds)
    assert right(model, adv, batch).float().mean() < right(model, batch.x, batch).float().mean() + 0.1


class Hidden:
    """A model of somebody's own, without a gradient, that says where to find one."""

    def __call__(self, x):
        return (linear(x) * 20).round() / 20

    def ways(self):
        return (linear,)


def test_a_model_may_say_how_it_is_best_attacked():
    batch, model = clips(40), Hidden()
    batch = replace(batch, label=model(batch.x).argmax(1))
    small = Threat.linf(audio=0.02, visual="2/255")
    found = {
        type(a).__name__: right(model, a(model, batch.x, batch.label, small, Seeds(0, batch.ids)), batch).sum()
        for a in (PGD(), AVAutoAttack(steps=10, queries=5))
    }
    assert found["AVAutoAttack"] < 0.7 * found["PGD"]


def test_targeted_dlr_is_that_of_the_paper_where_the_clip_is_right():
    logits = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
    y = logits.argmax(1)
    target = (y + 1) % 6
    z = logits.sort(descending=True).values
    wanted = (logits.gather(1, target[:, None])[:, 0] - logits.gather(1, y[:, None])[:, 0]) / (
        z[:, 0] - (z[:, 2] + z[:, 3]) / 2
    )
    assert torch.allclose(dlr_towards.value(Output(logits), torch.stack([y, target], 1)), wanted, atol=1e-6)
    with pytest.raises(ValueError, match="4 classes"):
        dlr_towards.value(Output(logits[:, :3]), torch.stack([y, target], 1))


def test_a_broken_feature_defense_is_built_again_from_its_settings(defended):
    _, nets, _ = defended
    for net in nets.values():
        again = saving.rebuild(saving.describe(net.feature_defense))
        again.load_state_dict(net.feature_defense.state_dict())
        assert again.settings == net.feature_defense.settings
    with pytest.raises(ValueError, match="expected one of"):
        Broken("clever", 1.0)
