"""Detectors and the gate: what they suspect, what is measured, and attacks that know them."""

import copy
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from avrobust import AV, PGD, AVAutoAttack, Batch, Rows, Seeds, Threat, evaluate
from avrobust.defenses import Broken, Disagreement, Distance, ExFMem, Gate, Learned, Prototypes, Sensitivity
from avrobust.defenses.saving import describe, rebuild
from avrobust.engine import as_victim
from avrobust.evaluation.suspicion import suspicion
from avrobust.facts import Budget
from avrobust.models.fusion import Concat
from avrobust.models.network import AVNet
from avrobust.objectives import Undetected, margin, suspicion_of
from avrobust.report.load import read
from avrobust.report.sections import suspicion as section
from avrobust.types import InputError, Output
from facts_of import budget_of
from nets import clips, network


class Line(nn.Module):
    """The first four numbers of a signal, from a middle."""

    width = 4

    def __init__(self, middle):
        super().__init__()
        self.middle = middle

    def forward(self, signal):
        return 8 * (signal.flatten(1)[:, :4] - self.middle)


def pair():
    """Features are the signals themselves; class 0 lies around -1, class 1 around +1, in both modalities."""
    net = AVNet(AV(Line(0.0), Line(0.5)), Concat(AV(4, 4)), classes=2)
    with torch.no_grad():
        net.classifier.weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 8))
    return net


def pairs(n=96, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    at = (2.0 * y - 1)[:, None] / 8
    audio = at + 0.03 * torch.randn(n, 4, generator=g)
    visual = 0.5 + at + 0.03 * torch.randn(n, 4, generator=g)
    frames = torch.zeros(n, 1, 3, 1, 4)
    frames[:, 0, 0, 0] = visual
    return Batch(AV(audio, frames.clamp(0, 1)), y, tuple(f"{seed}-{i}" for i in range(n)))


THREATS = Threat.linf(audio=0.2, visual=0.2).subsets()
LEARNED = Learned(PGD(steps=3), THREATS, steps=150)


@pytest.mark.parametrize(
    "detection", [Distance(), LEARNED, replace(LEARNED, rounds=2)], ids=["distance", "learned", "hidden"]
)
def test_the_attacked_modality_is_suspected(detection):
    net, batch, fresh = pair().eval(), pairs(400), pairs(seed=1)
    detector = detection.fill(net, [batch], seed=0).detector
    with torch.no_grad():
        clean = detector(net.embed(fresh.x))
        assert all((s > 0).float().mean() < 0.2 for s in clean)  # 5 %, known from 100 clips
        for threat in THREATS[:2]:
            there = Threat.map(threat, lambda b: b.active)
            far = threat.map(
                lambda b, s: s + 0.18 * b.active * torch.ones_like(s) * (-1) ** torch.arange(s.shape[-1]), fresh.x
            )
            for s, before, attacked in zip(detector(net.embed(far)), clean, there, strict=True):
                if attacked:
                    assert s.mean() > before.mean() + 0.5
                elif detection == Distance():  # which looks at each modality by itself
                    assert torch.allclose(s, before)


def test_heads_that_contradict_each_other_are_suspected():
    net, fresh = pair().eval(), pairs(seed=1)
    detector = Disagreement().fill(net, [pairs(400)], seed=0).detector
    with torch.no_grad():
        f = net.embed(fresh.x)
        clean, turned, both = (detector(g) for g in (f, AV(-2 * f.audio, f.visual), f.map(torch.neg)))
    assert (turned.audio > clean.audio + 0.5).all() and turned.audio.mean() > turned.visual.mean() > 0  # sure and wrong
    assert max(s.mean() for s in both) < 0  # both wrong alike
    with pytest.raises(ValueError, match="a decay above 0"):
        Disagreement(decay=0.0)


class Bent(Line):
    """Steep away from clean clips, as a network is where an attack leads."""

    def forward(self, signal):
        f = super().forward(signal)
        return f + torch.relu(f.abs() - 1.5).square()


SENSITIVITY = Sensitivity(audio=0.02, visual=0.02)


def bent():
    net = AVNet(AV(Bent(0.0), Bent(0.5)), Concat(AV(4, 4)), classes=2).eval()
    net.classifier.load_state_dict(pair().classifier.state_dict())
    return net


def test_what_moves_far_in_noise_is_suspected():
    net, fresh, threat = bent(), pairs(seed=1), Threat.linf(audio=0.2, visual=0.2).only("A")
    gate = Gate(SENSITIVITY).fill(net, [pairs(400)], seed=0)
    net.feature_defense = gate
    far = AV(fresh.x.audio + 0.15 * torch.tensor([1.0, -1, 1, -1]), fresh.x.visual)
    with torch.no_grad():
        clean, attacked = (gate.suspicion(net.embed(x)) for x in (fresh.x, far))
        assert all((s > 0).float().mean() < 0.2 for s in clean)
        assert attacked.audio.mean() > clean.audio.mean() + 2 and torch.equal(attacked.visual, clean.visual)
        alone = torch.cat([gate.suspicion(net.embed(far.map(lambda s, i=i: s[i : i + 1]))).audio for i in range(9)])
        assert torch.allclose(alone, attacked.audio[:9], atol=1e-4)  # the same noise, whatever the batch
        again = rebuild(describe(gate))
        again.load_state_dict(gate.state_dict())
        assert torch.equal(again.eval()(net.embed(far)).audio, gate(net.embed(far)).audio)
    victim = as_victim(net, fresh.x)
    fixed, runs = victim.fix_unattacked(fresh.x, threat), []
    net.visual.register_forward_hook(lambda *_: runs.append(1))
    objective, label = Undetected(margin), fresh.label
    (value, grad, _), (there, found, _) = (
        v.value_and_grad(objective, far, label, threat) for v in (fixed, victim.without_cache())
    )
    assert runs == [1] * 3  # what is known of the stream that is left alone: features, and how they move
    assert torch.allclose(value, there, atol=1e-4) and torch.allclose(grad.audio, found.audio, atol=1e-4)
    assert grad.audio.abs().amax(1).gt(0).all()
    straight, past = (way(victim) for way in victim.ways(far))
    with torch.no_grad():
        assert torch.allclose(straight.output(far).logits, net(far), atol=1e-5)
        assert torch.allclose(past.output(far).logits, net.decide(gate.plain(net.embed(far))), atol=1e-5)
    with pytest.raises(ValueError, match="noise above 0"):
        Sensitivity(audio=0.0)


def test_it_is_the_same_for_the_same_seed():
    net, batch = pair().eval(), pairs()
    one, again = (LEARNED.fill(net, [batch], seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], again[name]) for name in one)


@pytest.mark.parametrize("defense", [Gate(), Distance(), ExFMem(4)], ids=str)
def test_a_clip_without_finite_features_is_named(defense):
    batch = clips(16)
    batch.x.audio[3] = torch.nan
    with pytest.raises(ValueError, match=r"expected finite features .* 1 of 16 clips: clip/3\. Look at"):
        defense.fill(network(), [batch], 0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    "defense",
    [
        *(Gate(d) for d in (Learned(steps=3), Distance(), Disagreement(), Sensitivity())),
        Distance(), ExFMem(4), Broken("saturated", 2.0), Prototypes(),
    ],
    ids=str,
)  # fmt: skip
def test_defenses_that_are_filled_without_gradients_have_some(defense, mode):
    nets = []
    for context in (nullcontext, mode):
        net = network()
        with context():
            net.feature_defense = defense.fill(net, [clips(16)], 0)
        nets.append(net)
    for net in nets:
        x = clips().x.map(torch.Tensor.requires_grad_)
        net(x).sum().backward()
        assert x.audio.grad.abs().max() > 0
    assert torch.equal(nets[0](x), nets[1](x))
    with torch.inference_mode():
        assert torch.equal(copy.deepcopy(nets[1])(x), nets[0](x))


@pytest.mark.parametrize("detection", [Distance(), Learned(steps=50)], ids=["distance", "odd one out"])
def test_the_gate_falls_back_on_the_other_modality(detection):
    net, batch = pair().eval(), pairs()
    gate = Gate(detection, sharpness=4.0).fill(net, [batch], seed=0)
    again = rebuild(describe(gate))
    again.load_state_dict(gate.state_dict())
    f = net.embed(batch.x)
    strange = AV(audio=f.audio * torch.tensor([6.0, -6, 6, -6]), visual=f.visual)
    with torch.no_grad():
        left = gate.left_out(strange)
        assert torch.equal(gate(strange).audio, again.eval()(strange).audio)
        if isinstance(detection, Distance):
            assert left.audio.mean() > 0.9 and left.visual.mean() < 0.1
            assert torch.allclose(gate(strange).audio.mean(0), gate.mean_audio, atol=0.6)
        assert (gate.left_out(f).audio < 0.5).float().mean() > 0.8


def test_an_attack_that_hides_from_the_detector_is_suspected_less():
    net, batch = pair().eval(), pairs(48)
    net.feature_defense = Distance().fill(net, [pairs()], seed=0)
    threat, seen = Threat.linf(audio=0.2), {}
    for objective in (margin, Undetected(margin)):
        rows = evaluate(net, batch, PGD(steps=10, objective=objective), threat)
        seen[objective] = next(s for s in suspicion(rows) if s.condition.subset == "A")
        attacked = rows.where(subset="A").column("suspicion_audio")
        x = PGD(steps=10, objective=objective)(net, batch.x, batch.label, threat, Seeds(0, batch.ids))
        with torch.no_grad():
            out = as_victim(net, x).output(x, ("suspicion",))
        assert np.allclose(suspicion_of(out)[0], attacked, atol=1e-4)
    knows, blind = seen[Undetected(margin)], seen[margin]
    assert blind.auc["audio"].value > 0.9 and blind.auc["audio"].n == 48
    assert knows.auc["audio"].value < blind.auc["audio"].value and knows.unnoticed.value >= blind.unnoticed.value
    assert sum(e.value for e in blind.called.values()) == pytest.approx(1)
    ((_, *tables, curves),) = section.data(read(rows))["models"]  # of the attack that hides
    suspects, abstains = (next(row for row in t.rows if row[0].text == "Audio attacked") for t in tables)
    assert suspects[2].number.value == pytest.approx(100 * knows.auc["audio"].value)
    assert abstains[-1].number.value == pytest.approx(100 * knows.unnoticed.value)
    assert [f.title for f in curves] == ["ROC, audio attacked"]
    assert all(f.svg().startswith("<svg") for f in curves)


def test_every_budget_of_an_attack_has_its_curves():
    def rows(attack, audio):
        draws = np.random.default_rng(0).normal(100 * audio, 1, 20)
        about = {"model": "m", "seed": 0, "attack": attack, "subset": "A" if audio else "clean", "status": "ok"}
        clips = {"clip": [str(i) for i in range(20)], "correct_clean": True, "correct": True, "suspicion_visual": -1.0}
        return Rows.of(about | budget_of(audio).columns() | clips | {"suspicion_audio": draws})

    found = suspicion(Rows.concat([rows("none", 0.0), rows("PGD-10", 0.01), rows("PGD-10", 0.02)]))
    (curves,) = [f for f in section.figures(found, "m") if f.title == "ROC, audio attacked"]
    assert {row["attack"] for row in curves.rows} == {"PGD-10, audio linf 0.01", "PGD-10, audio linf 0.02", "chance"}


def test_success_is_a_wrong_answer_that_is_trusted():
    logits, y = torch.tensor([[0.0, 2.0], [0.0, 2.0], [2.0, 0.0]]), torch.zeros(3, dtype=torch.long)
    out = Output(logits, suspicion=AV(torch.tensor([-1.0, -1.0, -1.0]), torch.tensor([-0.5, 3.0, -1.0])))
    assert (Undetected().success(out, y) > 0).tolist() == [True, False, False]
    with pytest.raises(InputError, match="says which modality it takes for attacked"):
        Undetected().value(Output(logits), y)


def test_settings_that_teach_nothing_are_refused():
    with pytest.raises(ValueError, match="learns from clips that are not clean"):
        Learned(mismatch=False)
    with pytest.raises(ValueError, match="an attack with threats"):
        Learned(PGD())
    with pytest.raises(ValueError, match="could not hide from the detector"):
        Learned(PGD(objective=margin), THREATS, rounds=2)
    with pytest.raises(ValueError, match="rounds should be at least 1, got 0"):
        Learned(PGD(), THREATS, rounds=0)
    with pytest.raises(ValueError, match="at least 8 clips to fit a detector, got 4"):
        Distance().fill(pair().eval(), [pairs(4)], seed=0)


@pytest.mark.parametrize("suspects", [Distance(), SENSITIVITY, None], ids=["distance", "sensitivity", "says nothing"])
def test_the_worst_case_hides_from_a_detector_that_there_is(suspects, monkeypatch):
    raised = []

    class Recorded(Undetected):
        def value(self, out, y):
            raised.append(len(y))
            return super().value(out, y)

    monkeypatch.setattr("avrobust.attacks.autoattack.Undetected", Recorded)
    net, batch = pair().eval(), pairs(16)
    if suspects:
        net.feature_defense = Gate(suspects).fill(net, [pairs()], seed=0)
    rows = evaluate(net, batch, AVAutoAttack(steps=2, targets=0, queries=1), Threat.linf(audio=0.01))
    assert bool(raised) == bool(suspects)
    assert np.isfinite(rows.column("suspicion_audio").astype(float)).all() == bool(suspects)


def test_who_abstains_where_it_is_suspicious_errs_less():
    about = {"model": "m", "seed": 0, "attack": "none", "subset": "clean", "status": "ok", **Budget().columns()}
    clips = {"clip": list("abcd"), "correct_clean": True, "correct": [True, True, False, False]}
    suspects = {"suspicion_audio": [-2.0, -1.0, 1.0, 2.0], "suspicion_visual": -3.0}
    confident = {"confidence": [0.2, 0.3, 0.8, 0.9]}
    (told,), (silent,) = (suspicion(Rows.of(about | clips | suspects | more)) for more in (confident, {}))
    assert told.risk["suspicion"].value == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert told.risk["confidence"].value == pytest.approx((1 + 1 + 2 / 3 + 1 / 2) / 4)
    assert silent.risk["confidence"].n == 0 and "confidence" not in silent.coverage  # of another version
    assert told.coverage["suspicion"][1].tolist() == pytest.approx([0, 0, 1 / 3, 1 / 2])
