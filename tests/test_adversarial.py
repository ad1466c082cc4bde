"""Adversarial training: what clips become, what is left of the network, and what it is good for."""

import copy
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avrobust import AV, FGSM, PGD, Batch, BudgetError, Seeds, Threat
from avrobust.cli.studies import STUDIES, named
from avrobust.config import from_plain, parse, to_plain
from avrobust.corruptions import Corruption
from avrobust.defenses import FAST, MIN_SIM, PCL, Adversarial, Centres, ExFMem, Recombined, WeightsAttacked
from avrobust.evaluation.conditions import Condition, Predictions
from avrobust.report.record import RunRecord
from avrobust.report.run import Run
from avrobust.report.sections.defenses import defense_tables
from avrobust.study.record import about_model
from avrobust.training import cross_entropy, load
from nets import clips, network
from test_training import RECIPE, Counted, assert_same, killed_at, run, weights

BOTH = Threat.linf(audio=0.02, visual="4/255")
THREATS = (Threat.linf(), *Threat.linf(audio=0.04, visual="8/255").subsets()[:2], BOTH)
LOSS = Adversarial(cross_entropy, THREATS)


def of(batch, order, seed=0):
    """Some of the clips in some order, and their seeds."""
    ids = tuple(batch.ids[i] for i in order)
    return Batch(batch.x.map(lambda s: s[order]), batch.label[order], ids), Seeds(seed, ids)


def moved(batch, made):
    """By clip id: how far each modality went at most."""
    far = made.x.map(lambda a, s: (a - s).flatten(1).abs().amax(1), batch.x)
    return {id: (float(a), float(v)) for id, a, v in zip(made.ids, far.audio, far.visual, strict=True)}


def test_training_fills_in_the_rate_of_the_clips(tmp_path):
    @dataclass(frozen=True)
    class Heard:
        rates: tuple[int, ...] = ()

        def at_rate(self, rate):
            return Heard((rate,))

        def __call__(self, net, batch, seeds):
            assert self.rates == (8000,)
            return cross_entropy(net, batch, seeds)

    run(tmp_path, loss=Heard())
    rain, masked = Corruption("rain"), Threat.linf(audio="masking threshold", visual="4/255")
    for loss, made in (
        (
            Adversarial(Heard(), (masked,), rain),
            Adversarial(Heard((8000,)), (masked.at_rate(8000),), replace(rain, rate=8000)),
        ),
        (Recombined(masked, rain), Recombined(masked.at_rate(8000), replace(rain, rate=8000))),
        (WeightsAttacked(Recombined(masked)), WeightsAttacked(Recombined(masked.at_rate(8000)))),
    ):
        assert loss.at_rate(8000) == made


# --- which clip meets what


def test_each_clip_meets_one_of_the_threats():
    batch = clips(60)
    made = LOSS.training_batch(network(), batch, Seeds(0, batch.ids))
    assert (made.ids, made.label.tolist()) == (batch.ids, batch.label.tolist())
    met = Counter()
    for audio, visual in moved(batch, made).values():
        # Every clip goes further in one of its modalities than a smaller threat would let it.
        if audio == 0 or visual == 0:
            met["A" if audio else "V" if visual else "clean"] += 1
            assert audio == 0 or 0.02 < audio <= 0.04 + 1e-6
            assert visual == 0 or 4 / 255 < visual <= 8 / 255 + 1e-6
        else:
            met["AV"] += 1
            assert audio <= 0.02 + 1e-6 and visual <= 4 / 255 + 1e-6
    assert set(met) == {"clean", "A", "V", "AV"} and min(met.values()) >= 6  # 15 each, give or take


def test_a_clip_s_threat_and_start_belong_to_seed_and_clip():
    net, batch = network(), clips(12)
    whole = LOSS.training_batch(net, *of(batch, range(12)))
    order = [7, 2, 11, 0, 5]
    some = LOSS.training_batch(net, *of(batch, order))
    assert some.ids == tuple(batch.ids[i] for i in order)
    for a, b, s in zip(some.x, whole.x, batch.x, strict=True):
        # A sign may turn where a gradient is nothing but rounding.
        assert ((a - b[order]).abs() > 1e-5).float().mean() < 0.01
        assert torch.equal((a != s[order]).flatten(1).any(1), (b != s)[order].flatten(1).any(1))
    other = LOSS.training_batch(net, *of(batch, range(12), seed=1))
    assert [v == (0, 0) for v in moved(batch, other).values()] != [v == (0, 0) for v in moved(batch, whole).values()]


def test_the_fast_variant_by_hand():
    """One step of 1.25 budgets along the gradient's sign, from a random place, back into the budget (Wong et al. 2020)."""
    net, batch, eps = network(), clips(), AV(audio=0.02, visual=4 / 255)
    seeds = Seeds(3, batch.ids)
    x = AV(*(s.clone() for s in batch.x))
    start = AV(
        *(e * seeds.uniform(s, "start", name, 0) for s, e, name in zip(x, eps, ("audio", "visual"), strict=True))
    )
    at = AV(
        audio=(x.audio + start.audio).clamp(-1, 1).requires_grad_(),
        visual=(x.visual + start.visual).clamp(0, 1).requires_grad_(),
    )
    grads = torch.autograd.grad(F.cross_entropy(net(at), batch.label), tuple(at))
    made = Adversarial(cross_entropy, (BOTH,), attack=FAST).training_batch(net, batch, seeds)
    for found, s, a, e, g, low in zip(made.x, x, at, eps, grads, (-1, 0), strict=True):
        delta = (a.detach() - s + 1.25 * e * g.sign()).clamp(-e, e)
        torch.testing.assert_close(found, (s + delta).clamp(low, 1), rtol=0, atol=1e-6)


def test_an_attack_that_leaves_its_budget_is_refused():
    def far(model, x, y, threat, seeds):
        return x.map(lambda s: s * 0)

    batch = clips()
    with pytest.raises(BudgetError, match=r"adversarial, <function .*far.* left its audio budget on clip 'clip/"):
        Adversarial(cross_entropy, (BOTH,), attack=far).training_batch(network(), batch, Seeds(0, batch.ids))


# --- the network is as it was


def test_the_loss_is_the_inner_one_on_clips_crafted_in_evaluation_mode():
    net, batch = network().train(), clips()
    seeds, twin = Seeds(0, batch.ids), copy.deepcopy(net)
    made = LOSS.training_batch(twin.eval(), batch, seeds)
    expected = F.cross_entropy(twin.train()(made.x), made.label)
    expected.backward()
    value = LOSS(net, batch, seeds)
    value.backward()
    assert torch.equal(value, expected)
    assert_same(weights(net), weights(twin))  # running statistics saw the adversarial batch, once
    assert not torch.equal(net.audio.norm.running_mean, network().audio.norm.running_mean)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert p.grad is not None and torch.equal(p.grad, q.grad)


@pytest.mark.parametrize("fails", [False, True])
def test_modes_and_frozen_weights_come_back(fails):
    def attack(model, x, y, threat, seeds):
        assert not any(m.training for m in net.modules())
        assert not any(p.requires_grad for p in net.parameters())
        if fails:
            raise RuntimeError("no more memory")
        return FGSM()(model, x, y, threat, seeds)

    net, batch = network().train(), clips()
    net.visual.norm.eval()  # as someone would who keeps its statistics
    net.audio.conv.requires_grad_(False)
    before = weights(net)
    loss = Adversarial(cross_entropy, (BOTH,), attack=attack)
    if fails:
        with pytest.raises(RuntimeError, match="no more memory"):
            loss.training_batch(net, batch, Seeds(0, batch.ids))
    else:
        loss.training_batch(net, batch, Seeds(0, batch.ids))
    assert [name for name, m in net.named_modules() if not m.training] == ["visual.norm"]
    assert {n for n, p in net.named_parameters() if not p.requires_grad} == {"audio.conv.weight", "audio.conv.bias"}
    assert all(p.grad is None for p in net.parameters())
    assert_same(weights(net), before)


def test_a_stream_that_nobody_touches_is_run_once():
    net, batch = network(), clips()
    calls = Counter()
    for name in ("audio", "visual"):
        getattr(net, name).register_forward_hook(lambda *_, name=name: calls.update([name]))
    steps = PGD(steps=4, keep="last")
    Adversarial(cross_entropy, (BOTH.only("A"),), attack=steps).training_batch(net, batch, Seeds(0, batch.ids))
    assert calls["visual"] == 1 and calls["audio"] >= 4


def test_low_precision_leaves_every_weight_its_gradient():
    """Casts that an autocast keeps from crafting must not stand in for weights afterwards."""
    net, batch = network().train(), clips()
    twin, seeds = copy.deepcopy(net), Seeds(0, batch.ids)
    seen = set()

    def attack(model, x, y, threat, seeds):
        seen.add(model.precision)
        return FAST(model, x, y, threat, seeds)

    loss = Adversarial(cross_entropy, (BOTH, BOTH.only("A")), attack=attack)
    with torch.autocast("cpu", torch.bfloat16):
        loss(net, batch, seeds).backward()
    assert seen == {torch.bfloat16}
    F.cross_entropy(twin(loss.training_batch(twin, batch, seeds).x), batch.label).backward()
    assert seen == {torch.bfloat16, torch.float32}
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert p.grad is not None
        assert F.cosine_similarity(p.grad.flatten(), q.grad.flatten(), dim=0) > 0.9 or q.grad.norm() < 1e-3


# --- with feature defenses and other losses


def test_it_attacks_through_a_memory_and_trains_with_another_loss():
    net, batch = network(), clips(8)
    net.feature_defense = ExFMem(columns=8).fill(net, [clips(16, seed=7)], 0)
    seeds, banks = Seeds(0, batch.ids), net.feature_defense.audio.clone()
    made = Adversarial(MIN_SIM, (BOTH,), attack=PGD(steps=5, keep="last")).training_batch(net, batch, seeds)
    for name, ball in BOTH.items():
        delta = getattr(made.x, name) - getattr(batch.x, name)
        assert delta.abs().amax() <= ball.eps + 1e-6
    with torch.no_grad():
        assert F.cross_entropy(net(made.x), made.label) > F.cross_entropy(net(batch.x), batch.label) + 0.05
    loss = Adversarial(MIN_SIM, (BOTH,), attack=PGD(steps=5, keep="last"))
    assert torch.equal(loss(net, batch, seeds), MIN_SIM(net, made, seeds))
    loss(net.train(), batch, seeds).backward()
    assert all(p.grad is not None for p in net.parameters())
    assert torch.equal(net.feature_defense.audio, banks)


def test_centres_follow_adversarial_clips_only():
    """Crafting shows the network many a clip; the centres of PCL see those that it is trained on, once."""
    net, batch = network().train(), clips(8)
    net.feature_defense = Centres.of(net, clips(1).x).train()
    twin, seeds = copy.deepcopy(net), Seeds(0, batch.ids)
    loss = Adversarial(PCL(), THREATS)
    PCL()(twin, loss.training_batch(twin, batch, seeds), seeds)
    loss(net, batch, seeds)
    assert net.feature_defense.begun.all()
    assert torch.equal(net.feature_defense.centres, twin.feature_defense.centres)


def test_names():
    assert LOSS.name == "adversarial, PGD-3"
    assert Adversarial(MIN_SIM, THREATS, attack=FAST).name == "adversarial MinSim, PGD-1"
    with pytest.raises(ValueError, match=r"expected threats with a budget, got \(Threat.*Give Threat\.linf"):
        Adversarial(cross_entropy, (Threat.linf(),))
    with pytest.raises(ValueError, match="expected threats with a budget, got \\(\\)"):
        Adversarial(cross_entropy, ())
    with pytest.raises(ValueError, match=r"a ramp in \[0, 1\), got 1"):
        replace(LOSS, ramp=1.0)


# --- losses that change over training, and clips of their own


@dataclass(frozen=True)
class Fading:
    """Cross entropy that keeps for which share of training it was called; the list is not part of its settings."""

    progress: float | None = None
    calls: list = field(default_factory=list, init=False, compare=False)

    def at_progress(self, progress):
        if len(self.calls) == KILLED["at"]:
            raise KeyboardInterrupt
        now = Fading(progress)
        object.__setattr__(now, "calls", self.calls)
        return now

    def __call__(self, net, batch, seeds):
        self.calls.append(self.progress)
        return (1 + self.progress) * cross_entropy(net, batch, seeds)


KILLED = {"at": -1}


def test_the_loop_asks_for_the_loss_of_each_step(tmp_path, monkeypatch):
    recipe = replace(RECIPE, epochs=2)
    whole = run(tmp_path / "fading", recipe, loss=(fading := Fading()))
    assert fading.calls == [step / 6 for step in range(6)]  # 13 clips in batches of 4, what is left over left out
    monkeypatch.setitem(KILLED, "at", 4)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", recipe, loss=(killed := Fading()), save_every_s=0.0)
    monkeypatch.setitem(KILLED, "at", -1)
    resumed = run(tmp_path / "killed", recipe, loss=(rest := Fading()))
    assert killed.calls + rest.calls == fading.calls
    assert_same(weights(whole.net), weights(resumed.net))


def test_budgets_grow_and_so_does_what_is_inside():
    loss = Adversarial(Fading(), (BOTH, Threat.l2(audio=3.0)), ramp=0.5)
    half = loss.at_progress(0.25)
    assert [(t.audio.eps, t.visual.eps) for t in half.threats] == [(0.01, 2 / 255), (1.5, 0.0)]
    assert half.loss.progress == 0.25 and half.at_progress(0.9).threats == half.threats
    assert loss.at_progress(0.5).threats == loss.at_progress(0.99).threats == loss.threats
    assert loss.at_progress(0.0) == Fading(0.0)  # no budget yet, no attack
    assert replace(loss, ramp=0.0).at_progress(0.0).threats == loss.threats


def test_validation_is_on_clips_as_the_loss_trains_on_them(tmp_path):
    drawn = []

    class Blank:
        """Trains on the clips as they are, in the end on silence in the dark."""

        def __call__(self, net, batch, seeds):
            return cross_entropy(net, batch, seeds)

        def training_batch(self, net, batch, seeds):
            assert not net.training
            drawn.append((seeds.seed, *seeds.ids))
            return Batch(batch.x.map(torch.zeros_like), batch.label, batch.ids)

    seen = run(tmp_path / "seen", replace(RECIPE, epochs=2))
    blank = run(tmp_path / "blank", replace(RECIPE, epochs=2), loss=Blank())
    assert [e.train_loss for e in blank.curve] == [e.train_loss for e in seen.curve]
    assert {e.val_accuracy for e in blank.curve} == {1 / 3}  # one answer for all, of three classes
    assert drawn[: len(drawn) // 2] == drawn[len(drawn) // 2 :]  # the same draws after each epoch


def test_a_killed_adversarial_training_ends_as_if_nothing_had_happened(tmp_path):
    """Within the ramp, between attacks of all subsets."""
    recipe = replace(RECIPE, epochs=2)

    def loss(inner):
        return Adversarial(inner, THREATS, attack=FAST, ramp=0.9)

    whole = run(tmp_path / "whole", recipe, loss=loss(cross_entropy))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", recipe, loss=loss(killed_at(4)), save_every_s=0.0)
    resumed = run(tmp_path / "killed", recipe, loss=loss(Counted()))
    assert_same(weights(resumed.net), weights(whole.net))
    assert [replace(e, seconds=0.0) for e in resumed.curve] == [replace(e, seconds=0.0) for e in whole.curve]
    assert from_plain(load(whole.path)[1]["loss"]) == loss(cross_entropy)


# --- what it is good for


def lessons(n, seed):
    """Clips whose class is a tone and a tint, in noise."""
    g, y = torch.Generator().manual_seed(seed), torch.arange(n) % 4
    tones = torch.sin(2 * torch.pi * torch.arange(96) / 96 * torch.tensor([[6], [12], [20], [28]]))
    tints = torch.tensor([[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, -1]])
    wave = 0.25 * tones[y] + 0.1 * torch.randn(n, 96, generator=g)
    frames = 0.5 + 0.075 * tints[y][:, None, :, None, None] + 0.05 * torch.randn(n, 2, 3, 8, 8, generator=g)
    return Batch(AV(wave.clamp(-1, 1), frames.clamp(0, 1)), y, tuple(f"{seed}/{i}" for i in range(n)))


def test_the_trained_network_stands_where_another_falls():
    """Under an attacker of twenty steps, trained with one; both know the clean clips."""
    lesson, exam = lessons(128, 0), lessons(64, 1)
    threat = Threat.linf(audio=0.08, visual="12/255")

    def right(net, x):
        with torch.no_grad():
            return float((net(x).argmax(1) == exam.label).float().mean())

    found = []
    for loss in (cross_entropy, Adversarial(cross_entropy, threat.subsets(), attack=FAST)):
        net = network().train()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
        for step in range(40):
            optimizer.zero_grad()
            loss(net, lesson, Seeds(step, lesson.ids)).backward()
            optimizer.step()
        net.eval()
        attacked = PGD(steps=20)(net, exam.x, exam.label, threat, Seeds(0, exam.ids))
        found.append((right(net, exam.x), right(net, attacked)))
    (plain, fallen), (adversarial, standing) = found
    assert min(plain, adversarial) > 0.95
    assert standing > fallen + 0.3


# --- in studies


def test_it_has_its_row_and_its_cost_beside_the_papers_defenses(tmp_path):
    config = next(c for c in named("standard").models if c.name == "Adversarial")
    recipe = replace(RECIPE, epochs=1, batch=9)
    trained = run(tmp_path, recipe, loss=config.loss)
    about = {"models": {"AV": {"kind": "AV"}, "Adversarial": about_model(config, trained)}}
    told = about["models"]["Adversarial"]
    assert (told["loss"], told["start"], told["seconds"]) == ("adversarial, PGD-1", "AV", round(trained.seconds, 1))
    table = {}
    for model in about["models"]:
        for threat in (Threat.linf(), *BOTH.subsets()):
            budget = threat.budget
            met = Condition(model, "none" if threat.subset == "clean" else "FGSM", threat.subset, budget)
            columns = {"correct": np.array([[model == "Adversarial" or threat.subset == "clean", True]])}
            columns |= {"correct_clean": np.ones((1, 2), bool)}
            columns |= {f"used_{m}": np.ones((1, 2)) for m in ("audio", "visual")}
            table[met] = Predictions(met, "corrected", (0,), ("a", "b"), 2, columns)
    record = parse(RunRecord, about, extra="ignore")
    (found,) = defense_tables(Run(record, table))
    assert [row.model for row in found.rows] == ["AV", "Adversarial"]
    assert found.rows[1].ri.value == pytest.approx(0.5)


@pytest.mark.parametrize("name", [n for n in STUDIES if n == "standard" or n.startswith("tian2021")])
def test_every_full_study_trains_it_at_the_budgets_of_its_table(name):
    study = named(name)
    config = next(c for c in study.models if c.name == "Adversarial")
    longer = next(c for c in study.models if c.name == "AV, extra epochs")
    assert (
        replace(longer, name="Adversarial", loss=config.loss, role=config.role) == config
    )  # nothing else is different
    assert set(config.loss.threats) == {Threat.linf(), *study.tables[-1]}
    met = [t for t in study.sweeps if "Adversarial" in t.models]
    assert {t.models for t in met} == {t.models for t in study.sweeps if "MinSim" in t.models}


# --- recombined streams


def test_recombined_by_hand():
    """Four pairs of clean and attacked streams, then each attacked stream alone, as separate passes give them."""
    net, batch, loss = network(), clips(6), Recombined(BOTH, alone=0.5)
    seeds = Seeds(0, batch.ids)
    attacked = Adversarial(cross_entropy, (BOTH,), FAST).training_batch(net, batch, seeds)
    clean, bad = (net.embed(b.x) for b in (batch, attacked))
    none = clean.map(lambda c, b: torch.cat([c, b]).mean(0).expand_as(c), bad)
    pairs = [AV(a, v) for a in (clean.audio, bad.audio) for v in (clean.visual, bad.visual)]
    each = [
        F.cross_entropy(net.decide(f), batch.label)
        for f in (*pairs, AV(bad.audio, none.visual), AV(none.audio, bad.visual))
    ]
    expected = torch.stack(each[:4]).mean() + 0.5 * (each[4] + each[5])
    assert torch.allclose(loss(net, batch, seeds), expected, atol=1e-5)
    answers = [net.decide(f).softmax(1) for f in pairs]
    apart = [(answers[0] * (answers[0] / p).log()).sum(1).mean() for p in answers[1:]]
    agreeing = replace(loss, agreement=2.0)(net, batch, seeds)
    assert torch.allclose(agreeing, expected + 2 * torch.stack(apart).mean(), atol=1e-5)
    assert not torch.allclose(replace(loss, alone=0.0)(net, batch, seeds), expected, atol=1e-3)
    loss(net, batch, seeds).backward()
    assert all(p.grad is not None for p in net.parameters())
    begun = replace(loss, ramp=0.5).at_progress(0.0)(net, batch, seeds)
    assert torch.allclose(begun, F.cross_entropy(net(batch.x), batch.label))


def test_recombined_validates_on_one_subset_per_clip():
    batch = clips(30)
    made = moved(batch, Recombined(BOTH).training_batch(network(), batch, Seeds(0, batch.ids)))
    assert {(a > 0, v > 0) for a, v in made.values()} == {(True, False), (False, True), (True, True)}
    with pytest.raises(ValueError, match="budgets of both modalities"):
        Recombined(BOTH.only("A"))
    with pytest.raises(ValueError, match="a ramp in"):
        Recombined(BOTH, ramp=1.0)
    with pytest.raises(ValueError, match="weights of 0 or more"):
        Recombined(BOTH, agreement=-1.0)


# --- attacked weights


@pytest.mark.parametrize("inner", [cross_entropy, Recombined(BOTH)], ids=["cross entropy", "recombined"])
def test_attacked_weights_by_hand(inner):
    net, batch, size = network().train(), clips(8), 0.05
    seeds, loss = Seeds(0, batch.ids), WeightsAttacked(inner, size)
    before, twin = copy.deepcopy(net.state_dict()), copy.deepcopy(net)
    inner(copied := copy.deepcopy(net), batch, seeds).backward()
    with torch.no_grad():
        for p, q in zip(twin.parameters(), copied.parameters(), strict=True):
            if p.ndim > 1:
                p.add_(size * p.norm() * q.grad / q.grad.norm())
    expected = inner(twin, batch, seeds)
    expected.backward()
    value = loss(net, batch, seeds)
    value.backward()
    assert torch.allclose(value, expected, atol=1e-5) and value > inner(copied, batch, seeds)
    for (name, p), q in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, before[name]) and torch.allclose(p.grad, q.grad, atol=1e-4)
    assert_same(dict(net.named_buffers()), dict(twin.named_buffers()))  # statistics of the second look only


def test_attacked_weights_change_nothing_else():
    loss = WeightsAttacked(Recombined(BOTH, ramp=0.5))
    assert loss.at_progress(0.25).loss == loss.loss.at_progress(0.25)
    batch = clips(6)
    made, plain = (each.training_batch(network(), batch, Seeds(0, batch.ids)) for each in (loss, loss.loss))
    assert torch.equal(made.x.audio, plain.x.audio) and from_plain(to_plain(loss)) == loss
    with pytest.raises(ValueError, match="a size in"):
        WeightsAttacked(cross_entropy, 0.0)
