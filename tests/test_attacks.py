"""One table of properties: every attack × threat × model."""

import itertools
import math
from dataclasses import dataclass, replace

import pytest
import torch

from avrobust import (
    APGD,
    AV,
    FGSM,
    MIM,
    PGD,
    AVAutoAttack,
    Batch,
    Published,
    Seeds,
    Threat,
    cross_entropy,
    engine,
    margin,
)
from avrobust.attacks.base import check_settings
from avrobust.budget_check import check
from avrobust.engine.outcome import outcome
from avrobust.models.audio import Conv1dNet
from avrobust.models.fusion import FUSIONS
from avrobust.models.network import AVNet
from avrobust.models.visual import FrameNet, resnet18
from avrobust.objectives import WithSimilarity, as_objective, margins
from avrobust.papers.tian2021 import budgets as tian2021
from avrobust.types import Output
from nets import clips, deaf, defended, linear, network

ATTACKS = [
    FGSM(),
    PGD(steps=5),
    PGD(steps=3, restarts=2, objective=margin),
    MIM(steps=5),
    PGD(steps=4, momentum=0.75, keep="last"),
]
THREATS = [
    Threat.linf(audio=0.01), Threat.linf(visual="4/255"), Threat.linf(audio=0.01, visual="4/255"),
    Threat.l2(audio=0.1), Threat.l2(audio="30 dB SNR", visual=0.5), tian2021.threat(0.006, 0.024),
]  # fmt: skip
MODELS = {"network": network(), "linear": linear, "deaf": deaf}
table = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def victim(net):
    return engine.as_victim(net, clips(1).x)


def loss(model, x, y):
    return cross_entropy.value(Output(model(x)), y)


def attack_on(attack, model, batch, threat, seed=0):
    return attack(model, batch.x, batch.label, threat, Seeds(seed, batch.ids))


@table
@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_properties(attack, threat, model):
    batch = clips()
    adv = attack_on(attack, model, batch, threat)
    # stays in budget and range; a modality without a budget is untouched bit for bit
    check(threat, batch.x, adv, batch.ids, attack.name)
    # same seed, same result
    again = attack_on(attack, model, batch, threat)
    assert torch.equal(adv.audio, again.audio)
    assert torch.equal(adv.visual, again.visual)
    # a clip does not depend on its neighbours (to the rounding of a product with other rows beside it)
    order = torch.tensor([4, 0, 2])
    some = Batch(batch.x.map(lambda s: s[order]), batch.label[order], tuple(batch.ids[i] for i in order))
    for a, b in zip(attack_on(attack, model, some, threat), adv, strict=True):
        assert ((a - b[order]).abs() > 1e-5).float().mean() < 0.01
    # and it is an attack: the loss rises
    with torch.no_grad():
        gain = loss(model, adv, batch.label) - loss(model, batch.x, batch.label)
    if model is deaf and threat.subset == "A":
        assert (gain == 0).all()
    else:
        assert gain.mean() > 0


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_no_budget_no_change(attack):
    batch = clips()
    adv = attack_on(attack, linear, batch, Threat.linf())
    assert adv.audio is batch.x.audio
    assert adv.visual is batch.x.visual


@pytest.mark.parametrize("make", [lambda e: Threat.linf(audio=e, visual=e), lambda e: Threat.l2(audio=e, visual=e)])
@pytest.mark.parametrize("attack", [PGD(steps=20), MIM(steps=20), FGSM()], ids=repr)
def test_a_larger_budget_is_never_weaker_where_the_best_point_is_known(attack, make):
    batch = clips(16)
    losses = []
    for eps in (0.0, 0.01, 0.03, 0.1):
        adv = attack_on(attack, linear, batch, make(eps))
        losses.append(margins(linear(adv), batch.label))
    for small, large in itertools.pairwise(losses):
        assert (large >= small - 1e-4).all()


def test_more_steps_reach_the_optimum_of_a_linear_model():
    batch = clips(8)
    eps = 0.02
    x = batch.x.map(lambda s: s * 0.5 + 0.25)  # away from the ends of the range
    adv = PGD(steps=40, objective=margin, restarts=2)(
        linear, x, batch.label, Threat.linf(audio=eps, visual=eps), Seeds(0, batch.ids)
    )
    # 20 mean over 24 samples and 20 mean over 48 pixels: the margin can rise by 2 * 20 eps from each modality
    rise = margins(linear(adv), batch.label) - margins(linear(x), batch.label)
    assert torch.allclose(rise, torch.full((8,), 4 * 20 * eps), atol=1e-3)


def test_best_is_never_worse_than_last_or_clean():
    batch, threat = clips(16), Threat.linf(audio=0.05, visual=0.05)
    net = network()
    with torch.no_grad():
        best, last = (
            loss(net, attack_on(PGD(steps=8, keep=k), net, batch, threat), batch.label) for k in ("best", "last")
        )
    assert (best >= last - 1e-5).all()


def counting(model):
    """The model, and how many clips it was shown."""
    seen = []

    def count(x):
        seen.append(len(x.audio))
        return model(x)

    return count, seen


@table
@pytest.mark.parametrize("attack", [PGD(steps=6), MIM(steps=6), PGD(steps=4, restarts=3, keep="last")], ids=repr)
def test_stopping_spares_clips_that_are_wrong_and_no_others(attack, model):
    batch, threat = clips(40), Threat.linf(audio=0.02, visual="4/255")
    whole, all_seen = counting(model)
    spared, seen = counting(model)
    adv = attack_on(attack, whole, batch, threat)
    stopped = attack_on(replace(attack, stop=True), spared, batch, threat)
    check(threat, batch.x, stopped, batch.ids, "stopped")
    with torch.no_grad():
        after, after_stopped = (margins(model(x), batch.label) for x in (adv, stopped))
    # Nobody survives because of it; whom the whole search leaves wrong at its end, it may have left wrong before.
    if attack.keep == "best":
        assert ((after_stopped > 0) >= (after > 1e-2)).all()
    assert sum(seen) < sum(all_seen)
    right = after_stopped <= 0
    if attack.keep == "best" and right.any():
        for a, b in zip(adv, stopped, strict=True):
            assert ((a - b)[right].abs() > 1e-5).float().mean() < 0.01


def test_stopping_with_nothing_left_to_do():
    batch = clips()
    with torch.no_grad():
        wrong = replace(batch, label=(network()(batch.x).argmax(1) + 1) % 4)
    adv = attack_on(PGD(steps=3, random_start=False, stop=True), network(), wrong, Threat.linf(audio=0.01))
    assert torch.equal(adv.audio, wrong.x.audio)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        PGD(steps=0)
    with pytest.raises(ValueError, match="random_start"):
        PGD(restarts=3, random_start=False)


def wavy(x: AV) -> torch.Tensor:
    """Logits whose gradient changes its signs from step to step, in whatever precision the signals have."""
    wave, frames = 300 * x.audio, 100 * x.visual.flatten(1)
    return torch.stack([(k * wave).sin().mean(1) + (k * frames).sin().mean(1) for k in range(1, 5)], 1)


def mim_written_out(model, x, y, eps_a, eps_v, steps=10):
    """The MIM of the paper's code in plain lines: frames are attacked normalised, sound as it is."""
    mean, std = (x.visual.new_tensor(c).view(-1, 1, 1) for c in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    v, a = (x.visual - mean) / std, x.audio.clone()
    g_v, g_a = torch.zeros_like(v), torch.zeros_like(a)
    for _ in range(steps):
        v, a = v.detach().requires_grad_(), a.detach().requires_grad_()
        torch.nn.functional.cross_entropy(model(AV(audio=a, visual=v * std + mean)), y).backward()
        g_v, g_a = g_v + v.grad / v.grad.abs().sum(), g_a + a.grad / a.grad.abs().sum()
        with torch.no_grad():
            if eps_v:
                v = v + eps_v / 8 * g_v.sign()
                low = (v - eps_v).clamp(min=0)
                v = torch.where(v >= low, v, low).minimum(v + eps_v)
                v = ((v * std + mean).clamp(0, 1) - mean) / std
            if eps_a:
                a = a + eps_a / 8 * g_a.sign()
                low = (a - eps_a).clamp(min=-1)
                a = torch.where(a >= low, a, low).minimum(a + eps_a).clamp(-1, 1)
    return a.detach(), (v * std + mean).detach()


class TestPublished:
    """The published behaviour, checked against what its code is known to do."""

    batch, eps = clips(8), 0.006

    def normalised_move(self, adv: AV) -> torch.Tensor:
        std = torch.tensor([0.229, 0.224, 0.225]).view(-1, 1, 1)
        return (adv.visual - self.batch.x.visual) / std

    def test_fgsm_and_pgd_keep_the_budget(self):
        for method in ("FGSM", "PGD"):
            adv = attack_on(Published(method), network(), self.batch, tian2021.threat(self.eps, self.eps))
            assert self.normalised_move(adv).abs().max() <= self.eps + 1e-5
            assert (adv.audio - self.batch.x.audio).abs().max() <= self.eps + 1e-6

    def test_mim_goes_to_11_times_its_budget_and_a_quarter(self):
        adv = attack_on(Published("MIM"), network(), self.batch, tian2021.threat(self.eps, self.eps))
        move = self.normalised_move(adv)
        mean = torch.tensor([0.485, 0.456, 0.406]).view(-1, 1, 1)
        dark = (self.batch.x.visual < mean - 0.03).expand_as(move)
        assert (move[dark] >= 8.7 * self.eps).all()  # raised by at least 7/8 at each step, whatever the gradient
        assert move.max() == pytest.approx(11.25 * self.eps, abs=1e-5)  # and by 9/8 where the gradient agrees
        assert (adv.audio - self.batch.x.audio).abs().max() == pytest.approx(1.25 * self.eps, abs=1e-6)

    @pytest.mark.parametrize("threat", [tian2021.threat(0.006, 0.006), tian2021.threat(0.0, 0.012)], ids=str)
    def test_mim_is_the_published_one_step_for_step(self, threat):
        x = self.batch.x.map(lambda s: s.double())
        adv = attack_on(Published("MIM"), wavy, replace(self.batch, x=x), threat)
        wave, frames = mim_written_out(wavy, x, self.batch.label, threat.audio.eps, threat.visual.eps)
        assert (adv.audio - wave).abs().max() < 1e-12
        assert (adv.visual - frames).abs().max() < 1e-12

    def test_mim_leaves_an_untouched_modality_alone(self):
        adv = attack_on(Published("MIM"), network(), self.batch, tian2021.threat(audio=self.eps))
        assert torch.equal(adv.visual, self.batch.x.visual)

    def test_mim_depends_on_its_batch_and_ours_does_not(self):
        threat, net = tian2021.threat(0.5, 0.5), network()
        one = Batch(self.batch.x.map(lambda s: s[:2]), self.batch.label[:2], self.batch.ids[:2])
        for attack, same in ((MIM(steps=10), True), (Published("MIM"), False)):
            whole = attack_on(attack, net, self.batch, threat).audio[:2]
            alone = attack_on(attack, net, one, threat).audio
            assert torch.allclose(whole, alone, atol=1e-5) == same

    def test_other_budgets_are_refused(self):
        with pytest.raises(ValueError, match="tian2021"):
            attack_on(Published("PGD"), network(), self.batch, Threat.linf(visual=0.01))


class TestReference:
    """Against an independent implementation."""

    @pytest.mark.parametrize("modality", ["audio", "visual"])
    @pytest.mark.parametrize("steps", [1, 10])
    def test_pgd_finds_foolbox_s_clips(self, modality, steps):
        foolbox = pytest.importorskip("foolbox")
        batch, eps, net = clips(8), 0.02, network()
        low, high = (-1, 1) if modality == "audio" else (0, 1)

        class One(torch.nn.Module):
            def forward(self, s):
                return net(AV(**(dict(batch.x.items()) | {modality: s})))

        fmodel = foolbox.PyTorchModel(One().eval(), bounds=(low, high), device="cpu")
        theirs = foolbox.attacks.LinfPGD(rel_stepsize=0.25, steps=steps, random_start=False)
        _, expected, _ = theirs(fmodel, getattr(batch.x, modality), batch.label, epsilons=eps)
        ours = PGD(steps=steps, step=0.25, random_start=False, keep="last")
        adv = attack_on(ours, net, batch, Threat.linf(**{modality: eps}))
        assert torch.allclose(getattr(adv, modality), expected, atol=1e-6)


class TestEngine:
    def test_gradient_equals_plain_autograd(self):
        batch, net = clips(), network()
        x = batch.x.map(lambda s: s.clone().requires_grad_())
        expected = torch.autograd.grad(loss(net, x, batch.label).sum(), list(x))
        craft = engine.surrogate(net, batch.x, "float32")
        _, grad = engine.gradient(craft, cross_entropy, batch.x, batch.label, Threat.linf(audio=1.0, visual=1.0))
        for g, e in zip(grad, expected, strict=True):
            assert torch.allclose(g, e, atol=1e-5 * float(e.abs().max()))

    def test_folding_removes_every_batchnorm_and_leaves_the_model_alone(self):
        batch, net = clips(), network()
        before = {k: v.clone() for k, v in net.state_dict().items()}
        craft = engine.surrogate(net, batch.x, "float32")
        assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in craft.net.modules())
        assert torch.allclose(craft(batch.x), net(batch.x), atol=1e-5)
        assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())

    def test_relus_write_over_what_a_convolution_gave_them(self):
        net, x = (
            AVNet(AV(Conv1dNet(4), FrameNet(resnet18(4))), FUSIONS["concat"](AV(32, 32)), 4).eval(),
            AV(torch.rand(2, 4096), torch.rand(2, 1, 3, 32, 32)),
        )
        craft = engine.surrogate(net, x, "float32")
        every = [m.inplace for e in craft.net.encoders for m in e.modules() if isinstance(m, torch.nn.ReLU)]
        assert (
            all(every)
            and len(every) >= 16
            and not any(m.inplace for m in net.modules() if isinstance(m, torch.nn.ReLU))
        )
        assert torch.allclose(craft(x), net(x), atol=1e-5)

    def test_relus_leave_alone_what_something_else_reads(self):
        class Twice(torch.nn.Module):
            width = 24

            def __init__(self):
                super().__init__()
                self.conv, self.relu, self.first = torch.nn.Conv1d(1, 12, 5), torch.nn.ReLU(), torch.nn.ReLU()

            def forward(self, wave):
                maps = self.conv(self.first(wave)[:, None])
                return torch.cat([self.relu(maps), maps.neg()], 1).amax(2)

        plain, batch = network(), clips()
        net = AVNet(AV(Twice(), plain.visual), FUSIONS["concat"](AV(24, 12)), 4, classifier_std=1.0).eval()
        clean = batch.x.audio.clone()
        craft = engine.surrogate(net, batch.x, "float32")
        assert torch.allclose(craft(batch.x), net(batch.x), atol=1e-5)
        adv = attack_on(PGD(), craft, batch, Threat.linf(audio=0.1))
        assert torch.equal(batch.x.audio, clean) and not torch.equal(adv.audio, clean)

    @pytest.mark.parametrize("size", [0.3, 1.0, 30.0])
    def test_low_precision_is_sure_of_no_answer_that_is_close_by_its_own_measure(self, size):
        out = Output(size * torch.tensor([[1.0, 0.97], [1.0, 0.5]]))
        _, won = outcome(torch.zeros(2), out, margin, torch.tensor([1, 1]), torch.bfloat16)
        assert won.tolist() == [False, True]

    def test_the_untouched_stream_is_run_once(self):
        batch, net = clips(), network()
        craft = engine.surrogate(net, batch.x, "float32")
        runs = []
        craft.net.visual.register_forward_hook(lambda *_: runs.append(1))
        attack_on(PGD(steps=7, restarts=2), craft, batch, Threat.linf(audio=0.01))
        assert len(runs) == 1

    def test_pinned_clips_are_those_of_the_whole_model(self):
        batch, net, threat = clips(), network(), Threat.linf(audio=0.01)
        fast = attack_on(PGD(), engine.surrogate(net, batch.x, "float32"), batch, threat)
        plain = attack_on(PGD(), lambda x: net(x), batch, threat)
        assert ((fast.audio - plain.audio).abs() > 1e-5).float().mean() < 0.01

    def test_low_precision_crafts_attacks_of_the_same_strength(self):
        batch, net, threat = clips(64), network(), Threat.linf(audio=0.05, visual=0.05)
        with torch.no_grad():
            losses = [
                loss(net, attack_on(PGD(), engine.surrogate(net, batch.x, p), batch, threat), batch.label).mean()
                for p in ("float32", "bfloat16")
            ]
        assert losses[1] > 0.97 * losses[0]

    @pytest.mark.parametrize("attack", [PGD(steps=4, restarts=2, stop=True), APGD(steps=6), Published("MIM")], ids=repr)
    def test_a_network_takes_as_many_clips_as_it_has_room_for(self, attack):
        batch, net, threat = clips(10), network(), tian2021.threat(0.01, 0.01)
        net.audio.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
        size = sum(s[0].numel() for s in batch.x)
        found = {}
        for room in (math.inf, 4 * size, 0.0):
            seen: list[int] = []
            found[room] = (
                attack_on(attack, replace(victim(net), chunk_size=engine.ChunkSize(room)), batch, threat),
                seen,
            )
        whole = found[math.inf][0]
        for room, most in ((4 * size, 4), (0.0, 1)):
            made, sizes = found[room]
            assert max(sizes) == most and min(sizes) < len(batch)
            assert torch.allclose(made.audio, whole.audio, atol=1e-6)
            assert torch.allclose(made.visual, whole.visual, atol=1e-6)

    def test_a_network_takes_fewer_clips_where_memory_runs_out(self):
        batch, net = clips(10), network()
        whole = attack_on(PGD(steps=3), victim(net), batch, Threat.linf(audio=0.01))
        seen: list[int] = []

        def small(_, args):
            if len(args[0]) > 3:
                raise torch.OutOfMemoryError
            seen.append(len(args[0]))

        hook = net.audio.register_forward_pre_hook(small)
        made = attack_on(
            PGD(steps=3), replace(victim(net), chunk_size=engine.ChunkSize()), batch, Threat.linf(audio=0.01)
        )
        assert torch.allclose(made.audio, whole.audio, atol=1e-6)
        assert set(seen) == {2}  # 10 do not fit, 5 do not fit
        hook.remove()

        def none(_, args):
            raise torch.OutOfMemoryError

        net.audio.register_forward_pre_hook(none)
        with pytest.raises(torch.OutOfMemoryError):
            attack_on(PGD(steps=3), victim(net), batch, Threat.linf(audio=0.01))

    def test_batches_are_full_although_clips_leave(self):
        batch, net = clips(40), network()
        size = sum(s[0].numel() for s in batch.x)
        model, runs = replace(victim(net), chunk_size=engine.ChunkSize(4 * size)), []
        net.audio.register_forward_hook(lambda _, args, __: runs.append(len(args[0])))
        attack_on(PGD(steps=10, stop=True), model, batch, Threat.linf(audio=0.02))
        assert sum(runs) < 11 * len(batch)  # some left
        assert len(runs) <= sum(runs) / 4 + 11  # no more than one piece that is not full for each step

    @pytest.mark.parametrize(
        "attack", [FGSM(), MIM(steps=3), FGSM(objective=WithSimilarity()), Published("PGD")], ids=repr
    )
    def test_the_gradient_at_the_clean_clips_is_computed_once_for_every_threat(self, attack):
        batch, net = clips(10), network()
        craft = victim(net).cache_embeddings(batch.x)
        known = craft.cache_clean_gradients(batch.x, batch.label)
        runs: list[str] = []
        for name, encoder in (("audio", net.audio), ("visual", net.visual)):
            encoder.register_forward_hook(lambda *_, name=name: runs.append(name))
        threats = [t for eps in (0.004, 0.008) for t in tian2021.threat(eps, eps).subsets()]
        for threat in threats:
            made = attack_on(attack, known, batch, threat)
            spent, runs[:] = len(runs), []
            plain = attack_on(attack, craft, batch, threat)
            more = threat is threats[0] or threat is threats[1]  # the first that asks for sound, and for picture
            assert len(runs) - spent == (0 if more else len(threat.subset))
            runs.clear()
            # Where a gradient is 0 to rounding, its sign may differ.
            for m, p in zip(made, plain, strict=True):
                assert ((m - p).abs() > 1e-5).float().mean() < 0.01

    def test_gradients_elsewhere_are_not_taken_for_those_at_the_clean_clips(self):
        batch, net, both = clips(10), network(), Threat.linf(audio=0.01, visual=0.02)
        craft = victim(net).cache_embeddings(batch.x)
        known = craft.cache_clean_gradients(batch.x, batch.label)
        others = batch.label.roll(1)
        moved = batch.x.map(lambda s: (s * 0.9).contiguous())
        past = replace(known, feature_defense="bypass")
        for model, x, y in ((known, batch.x, batch.label), (known, batch.x, others), (known, moved, batch.label)):
            for one, objective in ((model, cross_entropy), (model, margin), (past, margin)):
                value, grad = engine.gradient(one, objective, x, y, both)
                wanted, expected = engine.gradient(replace(one, clean_gradients=None), objective, x, y, both)
                assert torch.allclose(value, wanted, atol=1e-6)
                for g, e in zip(grad, expected, strict=True):
                    assert torch.allclose(g, e, atol=1e-5 * float(e.abs().max()))
        _, nothing = engine.gradient(known, cross_entropy, batch.x, batch.label, both.only("A"))
        assert not nothing.visual.any()
        some = known.subset(slice(2, 5))
        value, _ = engine.gradient(some, margin, batch.x.map(lambda s: s[2:5]), batch.label[2:5], both)
        assert torch.allclose(value, margins(net(batch.x), batch.label)[2:5], atol=1e-6)

    def test_objectives_that_hold_tensors_are_told_apart(self):
        @dataclass(frozen=True)
        class Away:
            start: torch.Tensor

            def value(self, out, y):
                return (out.logits - self.start).square().sum(1)

            def success(self, out, y):
                return None

        batch, known = clips(3), victim(network()).cache_embeddings(clips(3).x)
        known = known.cache_clean_gradients(batch.x, batch.label)
        for start in (torch.zeros(4), torch.ones(4)):
            value, _ = engine.gradient(known, Away(start), batch.x, batch.label, Threat.linf(audio=0.01))
            torch.testing.assert_close(value, (network()(batch.x) - start).square().sum(1))

    def test_a_feature_defense_is_part_of_what_is_known_at_the_clean_clips(self):
        batch, net = clips(10), defended()
        known = victim(net).cache_embeddings(batch.x).cache_clean_gradients(batch.x, batch.label)
        values = [
            engine.gradient(replace(known, feature_defense=way), margin, batch.x, batch.label, Threat.linf(audio=0.01))[
                0
            ]
            for way in ("exact", "bypass", "exact")
        ]
        assert torch.equal(values[0], values[2]) and not torch.allclose(values[0], values[1], atol=1e-3)

    def test_a_network_that_redefines_forward_is_not_taken_apart(self):
        class Other(type(network())):
            def forward(self, x):
                return -super().forward(x)

        other = network()
        other.__class__ = Other
        assert isinstance(engine.surrogate(other, clips().x), engine.BlackBox)
        batch, threat = clips(), Threat.linf(audio=0.05)
        made, plain = (attack_on(PGD(stop=True), m, batch, threat) for m in (other, lambda x: other(x)))
        assert torch.equal(made.audio, plain.audio) and not torch.equal(made.audio, batch.x.audio)


NO_SETTINGS = [
    (lambda: PGD(step=-1.0), "share of the budget that is above 0"),
    (lambda: PGD(steps=20, step=2 / 255), "not in the signal's units"),
    (lambda: MIM(step=0.002), "not in the signal's units"),
    (lambda: AVAutoAttack(targets=-1), "targets should be at least 0"),
    (lambda: check_settings(steps=(2.0, 1)), "steps should be a whole number, got 2.0"),
    (lambda: check_settings(queries=("9", 1)), "queries should be a whole number, got '9'"),
    (lambda: as_objective("ce"), "objective should be a function"),
    (lambda: as_objective(lambda model, x, y: x), r"objective should be a function \(out, labels\)"),
    (lambda: as_objective(WithSimilarity), "objective should be a function"),
    (lambda: Published("PGD", steps=0), "steps should be at least 1"),
]


@pytest.mark.parametrize(("make", "match"), NO_SETTINGS)
def test_settings_that_cannot_be_meant_are_refused_before_any_search(make, match):
    with pytest.raises(ValueError, match=match):
        make()
