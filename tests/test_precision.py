"""An attack is never weaker for being cheap: on every machine it is crafted in float32, unless somebody asks for less."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from avrobust import APGD, AV, PGD, Batch, Seeds, Threat, engine, evaluate
from avrobust.engine import lowprecision
from avrobust.engine.packed import Packed
from avrobust.evaluation.precision import compare, is_low
from avrobust.evaluation.prepared import PreparedBatch
from avrobust.evaluation.tasks import Classification, Gallery
from avrobust.evaluation.untouched import Untouched
from avrobust.models.fusion import Concat
from avrobust.models.network import AVNet
from avrobust.papers.tian2021 import budgets as tian2021
from nets import clips, linear, network

# The paper's smaller budget: 0.35 of 255 grey levels.
SMALL = tian2021.threat(visual=0.006)


class Sharp(nn.Module):
    """A picture encoder that such a budget hurts, and that is curved within it: its input is scaled, and folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 16, 4, stride=4), nn.Linear(16 * 16 * 16, 12)
        nn.init.normal_(self.conv.weight)
        self.conv.weight.data -= self.conv.weight.data.mean((1, 2, 3), keepdim=True)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.last((400 * self.conv(frames[:, 0])).sin().flatten(1))


def sharp() -> tuple[AVNet, Batch]:
    """The network, and smooth pictures on which it is right."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = AVNet(AV(network().audio, Sharp()), Concat(AV(12, 12)), 4, classifier_std=1.0).eval()
        blobs = F.interpolate(torch.rand(32, 3, 8, 8), size=(64, 64), mode="bilinear")[:, None]
        x = AV(torch.rand(32, 96) - 0.5, ((0.6 + 0.3 * blobs) * 255).round() / 255)
    with torch.no_grad():
        return net, Batch(x, net(x).argmax(1))


@pytest.mark.parametrize("attack", [PGD(), APGD(steps=10)], ids=repr)
def test_small_budgets_are_as_strong_by_default_as_in_float32(attack):
    net, batch = sharp()
    standing, levels = {}, {}
    for precision in ("auto", "float32", "bfloat16"):
        rows = evaluate(net, [batch], [attack], SMALL, precision=precision)
        standing[precision] = rows.where(attack=attack.name).column("correct")
        levels[precision] = [f.level for f in rows.flags() if f.name == "crafted in low precision"]
    assert np.array_equal(standing["auto"], standing["float32"])
    assert standing["auto"].mean() < 0.2
    assert standing["bfloat16"].sum() <= standing["float32"].sum() + 1
    assert levels == {"auto": [], "float32": [], "bfloat16": ["note"]}


def test_the_first_layers_stay_in_float32_as_far_as_gradients_need_it():
    net, batch = sharp()
    low = engine.surrogate(net, batch.x.map(lambda s: s[:1]), "bfloat16")
    assert low.precision == torch.bfloat16
    assert (low.net.visual.conv.weight.dtype, low.net.visual.last.weight.dtype) == (torch.float32, torch.bfloat16)
    assert all(m.weight.dtype == torch.float32 for m in net.modules() if hasattr(m, "weight"))


def test_what_runs_in_low_precision_is_found_once_until_the_model_changes():
    net, batch = sharp()
    runs: list[int] = []
    net.visual.register_forward_hook(lambda *_: runs.append(1))

    def low() -> engine.Victim:
        runs.clear()
        return engine.surrogate(net, batch.x.map(lambda s: s[:1]), "bfloat16")

    first, measured = low(), len(runs)
    second = low()
    assert measured > len(runs) == 0 and second.rounding == first.rounding > 0
    for craft in (first, second):
        assert [m.weight.dtype for m in (craft.net.visual.conv, craft.net.visual.last)] == [
            torch.float32,
            torch.bfloat16,
        ]
    with torch.no_grad():
        net.visual.last.weight *= 0.5
    assert low().rounding != first.rounding and len(runs) == measured


@pytest.mark.parametrize("one_trunk", [True, False], ids=["one trunk", "one weight in two layers"])
def test_layers_that_share_their_weights_have_a_precision(one_trunk, monkeypatch):
    gains = iter([AV(0.0, 0.0)] * 2)  # the first quarter of the layers stays in float32
    monkeypatch.setattr(lowprecision, "gained", lambda *_: next(gains, AV(1.0, 1.0)))
    layers = lambda: nn.Sequential(*(m for _ in range(4) for m in (nn.Linear(16, 16), nn.ReLU())))  # noqa: E731
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = layers()
        encoders = AV(
            *(nn.Sequential(nn.Flatten(), nn.Linear(n, 16), trunk if one_trunk else layers()) for n in (64, 48))
        )
        net = AVNet(encoders, Concat(AV(16, 16)), 4, classifier_std=1.0).eval()
        x = AV(torch.rand(8, 64), torch.rand(8, 1, 3, 4, 4))
    if not one_trunk:
        net.visual[2][6].weight = net.visual[2][0].weight
    low = engine.surrogate(net, x, "bfloat16")
    assert low.precision == torch.bfloat16
    assert (low(x) - net(x)).abs().max() < 0.1 * net(x).abs().max()


def test_a_low_precision_that_would_weaken_attacks_is_left_out(monkeypatch):
    net, batch = sharp()
    monkeypatch.setattr(lowprecision, "ENOUGH", 2.0)
    craft = engine.surrogate(net, batch.x.map(lambda s: s[:1]), "bfloat16")
    assert craft.precision == torch.float32 and "forward" not in vars(craft.net.visual.last)
    assert isinstance(craft.net.visual.conv.forward, Packed)


def test_a_low_precision_that_weakens_attacks_is_an_alarm(monkeypatch):
    monkeypatch.setattr(lowprecision, "ENOUGH", -1.0)
    net, batch = sharp()
    rows = evaluate(net, [batch], [PGD()], SMALL, precision="bfloat16")
    assert [f.level for f in rows.flags() if f.name == "crafted in low precision"] == ["alarm"]


def test_what_a_low_precision_costs_is_measured(monkeypatch):
    monkeypatch.setattr(lowprecision, "ENOUGH", -1.0)
    net, batch = sharp()
    low = engine.surrogate(net, batch.x, "bfloat16")
    assert is_low(low) and not is_low(engine.surrogate(net, batch.x)) and not is_low(engine.BlackBox(linear))
    clean, judge = net(batch.x), engine.as_judge(net, batch.x)
    judge, low = (engine.Deferred(lambda v=v: v) for v in (judge, low))
    prepared = PreparedBatch(batch, clean, judge, low, Classification(), Untouched(net))
    found = compare(net, prepared, SMALL, Gallery(batch.ids, clean))
    assert found["clips"] == 8 and found["standing"] > found["standing_float32"] and found["gained"] < 0.5


def test_a_large_budget_in_low_precision_is_a_note():
    batch = clips(16)
    rows = evaluate(network(), [batch], [PGD()], Threat.linf(audio=0.05, visual=0.1), precision="bfloat16")
    found = [f for f in rows.flags() if f.name == "crafted in low precision"]
    assert [f.level for f in found] == ["note"] * 3
    assert "within audio linf 0.05, visual linf 0.1 were crafted in bfloat16: on 8 clips" in found[2].text


def test_a_success_that_low_precision_may_have_rounded_is_none():
    """Features far from 0 lose their differences, which are all that a classifier may look at."""
    net, batch = sharp()
    with torch.no_grad():
        net.visual.last.weight *= 0.3
        net.visual.last.bias += 50
        net.classifier.weight[:, :12] = 0
        net.classifier.weight[:, 12:] -= net.classifier.weight[:, 12:].mean(1, keepdim=True)
        logits = net(batch.x)
    full, low = (engine.surrogate(net, batch.x.map(lambda s: s[:1]), p) for p in ("float32", "bfloat16"))
    with torch.no_grad():
        off = float((low(batch.x) - logits).abs().max())
    assert (full.rounding, low.precision) == (0, torch.bfloat16)
    assert 0.1 * float(logits.abs().amax(1).min()) < off < low.rounding
    standing = {}
    for craft in (full, low):
        x = PGD(stop=True)(craft, batch.x, logits.argmax(1), SMALL, Seeds(0, batch.ids))
        with torch.no_grad():
            standing[craft.precision] = int((net(x).argmax(1) == logits.argmax(1)).sum())
    assert standing[torch.bfloat16] <= standing[torch.float32] + 1
