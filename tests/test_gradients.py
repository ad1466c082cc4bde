"""A gradient that is needed and not there, or not finite, is never "robust"."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

from avrobust import APGD, AV, FGSM, MIM, PGD, AVAutoAttack, Batch, Published, Seeds, Square, Threat, engine, evaluate
from avrobust.attacks import Quantized, Transfer, by_name
from avrobust.engine import GradientError
from avrobust.evaluation.probe import probe
from avrobust.models.fusion import Concat
from avrobust.models.network import Absent, AVNet
from avrobust.papers.tian2021 import budgets as tian2021
from avrobust.types import InputError
from nets import clips, deaf, linear, network

BATCH = clips(8)
BOTH = Threat.linf(audio=0.02, visual=0.02)
SEARCHES = [FGSM(), PGD(steps=3), MIM(steps=3), APGD(steps=4), AVAutoAttack(steps=3, targets=1, queries=5)]


def attacked(attack, model, threat=BOTH, batch=BATCH):
    return attack(model, batch.x, batch.label, threat, Seeds(0, batch.ids))


@torch.no_grad()
def _still(s):
    return s * 1.0


def _through_numpy(s):
    return torch.from_numpy(s.detach().numpy().copy())


class _Severed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, s):
        return s.clone()

    @staticmethod
    def backward(ctx, g):
        return None


class _Refusing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, s):
        return s.clone()

    @staticmethod
    def backward(ctx, g):
        raise RuntimeError("there is no derivative here")


def _in_inference_mode(s):
    with torch.inference_mode():
        return s * 1.0


CUTS = {
    "no_grad": _still, "detach": torch.Tensor.detach, "numpy": _through_numpy, "a backward of None": _Severed.apply,
    "no derivative": _Refusing.apply, "inference mode": _in_inference_mode, "item": lambda s: torch.tensor(s.tolist()),
    "numpy without detach": lambda s: torch.from_numpy(np.array(s.numpy())), "data": lambda s: s.data + 0,
}  # fmt: skip


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_a_path_that_is_cut_is_refused_with_its_modality(cut, modality):
    def model(x):
        return linear(AV(**(dict(x.items()) | {modality: cut(getattr(x, modality))})))

    threat = Threat.linf(**{modality: 0.02})
    for attack in SEARCHES[1:4]:
        with pytest.raises(GradientError, match=rf"gradients reach the {modality}.*got.*Square"):
            attacked(attack, model, threat)
    with pytest.raises(InputError, match=modality):
        evaluate(model, [BATCH], [FGSM()], BOTH)
    # Without gradients it is attacked all the same, and what the model says of itself stays in the rows.
    rows = evaluate(model, [BATCH], [Square(queries=5)], BOTH)
    assert len(rows.cells()) == 4
    assert probe(model, BATCH)["flat"][modality] == 1


PARTIAL = {
    "a faint path beside": lambda s: 1e-6 * s.flip(1) + s.detach(),
    "a path that cancels": lambda s: s.detach() + 0.1 * (s.flip(1) - s.flip(1).detach()),
    "half of the clip": lambda s: torch.cat([s[:, : s.shape[1] // 2].detach(), s[:, s.shape[1] // 2 :]], 1),
    "rounded to 16 bits": lambda s: (s * 32767).round() / 32767,
}  # fmt: skip


@pytest.mark.parametrize("cut", PARTIAL.values(), ids=PARTIAL)
def test_a_path_of_which_a_part_is_cut_raises_an_alarm(cut):
    net = network()

    def alarms(model):
        rows = evaluate(model, [BATCH], [PGD(steps=1)], BOTH)
        return {f.name for f in rows.flags() if f.level == "alarm"} & {"gradients mislead", "gradients vanish"}

    assert alarms(lambda x: net(AV(cut(x.audio), x.visual)))
    # What passes the whole gradient through a rounding has the gradient of the model beneath.
    assert not alarms(net)
    assert not alarms(lambda x: net(AV(x.audio + (x.audio.mul(32767).round() / 32767 - x.audio).detach(), x.visual)))


def test_logits_that_ask_for_no_gradient_at_all():
    for model in (torch.no_grad()(linear), functools.partial(torch.inference_mode()(linear))):
        for attack in SEARCHES:
            with pytest.raises(GradientError, match="audio"):
                attacked(attack, model)


def test_weights_that_learn_do_not_stand_in_for_a_path():
    head = nn.Linear(24, 4)
    with pytest.raises(GradientError, match="audio"):
        attacked(PGD(), lambda x: head(x.audio.detach()[:, :24]), Threat.linf(audio=0.1))


@pytest.mark.parametrize("attack", [*SEARCHES, Published("PGD"), Quantized(PGD(steps=2))], ids=repr)
def test_a_network_whose_encoder_cuts_the_path(attack):
    class Cut(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        @torch.no_grad()
        def forward(self, s):
            return self.inner(s)

    net = network()
    net.visual = Cut(net.visual)
    threat = tian2021.threat(0.02, 0.1) if isinstance(attack, Published) else BOTH
    for model in (net, engine.surrogate(net, BATCH.x), lambda x: net(x)):
        with pytest.raises(GradientError, match="the visual"):
            attacked(attack, model, threat)
    with pytest.raises(GradientError, match="the visual"):
        attacked(Transfer("other", attack, model=net), network(), threat)


def test_a_model_that_ignores_a_modality_keeps_its_clean_accuracy():
    sees = network()
    blind = AVNet(AV(sees.audio, Absent()), Concat(AV(12, 0)), 4, classifier_std=1.0).eval()
    random = lambda x: deaf(x) + 0.01 * torch.randn(len(x.audio), 1)  # noqa: E731
    for model, threat in ((deaf, Threat.linf(audio=0.1)), (blind, Threat.linf(visual=0.1)), (random, Threat.linf(audio=0.1))):  # fmt: skip
        rows = evaluate(model, [BATCH], [FGSM(), PGD(steps=2), Square(queries=2)], threat)
        assert [c.accuracy() for c in rows.cells()] == [rows.cells()[0].accuracy()] * 4
        assert model is random or not [f for f in rows.flags() if f.name == "gradients vanish"]


def test_a_gradient_of_zero_is_a_matter_for_flags():
    for model in (
        lambda x: (linear(x) * 10).round(),
        lambda x: linear(x) * 1e30,
        lambda x: linear(x).detach() + 0 * linear(x),
    ):
        rows = evaluate(model, [BATCH], [PGD(steps=2)], BOTH)
        assert len([f for f in rows.flags() if f.name == "gradients vanish"]) == 2


def test_nobody_asks_twice_whether_a_modality_is_ignored():
    seen = []
    attacked(PGD(steps=30), lambda x: seen.append(1) or deaf(x), Threat.linf(audio=0.1))
    assert len(seen) < 40


class Turned:
    """Away from the clean clip's logits, and features."""

    name, needs = "turned", ("clean",)

    def value(self, out, y):
        now, then = ([o.logits, *(o.features or ())] for o in (out, out.clean))
        return -sum((s * c).sum(1) for s, c in zip(now, then, strict=True))

    def success(self, out, y):
        return None


BLOCKS = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("model", [linear, network()], ids=["linear", "network"])
def test_a_block_around_an_evaluation_changes_nothing(block, model):
    attacks = [FGSM(), PGD(steps=3, stop=True), APGD(steps=4), PGD(steps=2, objective=Turned()), Square(queries=3)]
    wanted = evaluate(model, [BATCH], attacks, BOTH)
    with block():
        inside = evaluate(model, [Batch(BATCH.x.map(torch.clone), BATCH.label.clone(), BATCH.ids)], attacks, BOTH)
        craft = engine.surrogate(model, BATCH.x.map(torch.clone)).cache_embeddings(BATCH.x)
        for attack in attacks[:4]:
            assert not torch.equal(attacked(attack, craft).audio, BATCH.x.audio)
    for column in ("correct", "linf_audio", "linf_visual"):
        np.testing.assert_array_equal(inside.column(column), wanted.column(column))


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("model", [linear, network()], ids=["linear", "network"])
def test_an_attack_of_ones_own_has_its_gradients_in_such_a_block(block, model):
    def mine(model, x, y, threat, seeds):
        x = x.map(lambda s: s.requires_grad_())
        grads = torch.autograd.grad(torch.nn.functional.cross_entropy(model(x), y), list(x))
        return threat.map(
            lambda ball, s, g: (s + ball.eps * g.sign()).clamp(ball.low, ball.high).detach(), x, AV(*grads)
        )

    wanted = evaluate(model, [BATCH], [mine], BOTH.only("AV"))
    with block():
        inside = evaluate(model, [Batch(BATCH.x.map(torch.clone), BATCH.label + 0, BATCH.ids)], [mine], BOTH.only("AV"))
    assert inside.column("correct").tolist() == wanted.column("correct").tolist()
    assert (inside.where(attack="mine").column("linf_audio") > 0.01).any()


def test_weights_made_in_inference_mode():
    with torch.inference_mode():
        net = network()
        head = nn.Linear(24, 4)
    evaluate(net, [BATCH], [FGSM()], BOTH)  # a copy is attacked
    with pytest.raises(GradientError, match=r"audio.*Inference tensors"):
        attacked(PGD(), lambda x: head(x.audio[:, :24]).sigmoid() * 4, Threat.linf(audio=0.1))


@pytest.mark.parametrize("attack", [*SEARCHES, by_name("DI-MIM-3"), by_name("NI-MIM-3"), Published("FGSM")], ids=repr)
def test_a_gradient_that_is_not_finite_names_its_clip(attack):
    """The square root of silence: the value is 0, the gradient is not."""
    x = BATCH.x.map(torch.clone)
    x.audio[3] = 0
    batch = Batch(x, BATCH.label, tuple("abcdefgh"))

    def model(x):
        return linear(x) + x.audio.square().sum(1, keepdim=True).sqrt() * torch.tensor([1.0, 0, 0, 0])

    threat = tian2021.threat(0.0, 0.1) if isinstance(attack, Published) else Threat.linf(visual=0.1)
    attacked(attack, model, threat, batch)  # nobody asks for it
    threat = tian2021.threat(0.1) if isinstance(attack, Published) else Threat.linf(audio=0.1)
    start = AVAutoAttack, PGD, APGD
    if type(attack) in start:
        return  # they begin somewhere else
    with pytest.raises(GradientError, match=r"gradient for the audio.*clip 'd'.*sqrt"):
        attacked(attack, model, threat, batch)


def test_clips_without_an_answer_are_won_and_kept():
    """Logits that are not finite are no answer: whoever finds such a place has won, and does not lose it again."""

    x = BATCH.x.map(lambda s: (s * 32).round() / 32)
    batch = Batch(x, linear(x).argmax(1), BATCH.ids)

    def model(x):
        far = (x.audio * 32 - (x.audio * 32).round()).abs().amax(1, keepdim=True) > 0.1
        return torch.where(far, torch.nan, linear(x))

    for attack in (PGD(steps=4), PGD(steps=4, keep="last"), PGD(steps=4, stop=True), MIM(steps=4), APGD(steps=6),
                   APGD(steps=6, stop=False), Square(queries=4), AVAutoAttack(steps=4, queries=4)):  # fmt: skip
        made = attacked(attack, model, Threat.linf(audio=0.01), batch)
        assert all(s.isfinite().all() for s in made), attack
        assert model(made).isnan().any(1).all(), attack
