"""The same on a GPU: attacks keep their promises there, and its rows are those of the CPU.  `pytest -m gpu`.

Without CUDA these tests compare the CPU with itself: so they can be tried anywhere before a GPU is at hand.
"""

import numpy as np
import pytest
import torch
from torch import nn

from avrobust import APGD, AV, FGSM, MIM, PGD, AVAutoAttack, Seeds, Square, Threat, cross_entropy, engine, evaluate
from avrobust.attacks import ANYTHING, Quantized
from avrobust.corruptions import KINDS, Corruption
from avrobust.evaluation.budget_grid import BudgetGrid, evaluate_budgets
from avrobust.evaluation.evaluator import Evaluator
from avrobust.report.record import read
from avrobust.study.runner import run
from avrobust.training import load
from nets import clips, defended, network, reordered
from test_victims import BATCH as VICTIMS
from test_victims import Theirs
from tiny_study import study

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LINF = Threat.linf(audio=0.02, visual="4/255")
L2 = Threat.l2(audio="30 dB SNR", visual=0.5)
ATTACKS = [
    FGSM(), PGD(steps=5), PGD(steps=5, restarts=2, stop=True), MIM(steps=5), APGD(steps=6), Square(queries=20),
    Quantized(PGD(steps=3)), AVAutoAttack(steps=4, targets=1, queries=5),
]  # fmt: skip
MODELS = {"network": network, "defended": defended, "two streams of one's own": Theirs}


@pytest.fixture(autouse=True)
def float32():
    """Convolutions in float32: by default, PyTorch rounds their inputs to TF32 on a GPU."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize(
    ("attack", "threat"),
    [(attack, LINF) for attack in ATTACKS] + [(attack, L2) for attack in (FGSM(), PGD(steps=5), APGD(steps=6))],
    ids=str,
)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_attacks_keep_their_budgets_and_what_is_not_attacked(attack, make, threat):
    batch, net = clips(6).to(GPU), make().to(GPU)
    seeds = Seeds(0, batch.ids)
    for subset in ("A", "V", "AV"):
        allowed = threat.only(subset)
        adversarial = attack(net, batch.x, batch.label, allowed, seeds)
        for ball, before, after in zip(allowed, batch.x, adversarial, strict=True):
            assert after.device == before.device
            assert after.dtype == torch.float32
            assert ball.active or torch.equal(before, after)
            assert bool((after >= ball.low).all() and (after <= ball.high).all())
    evaluate(net, [batch], [attack], threat)  # refuses what leaves its budget


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_rows_are_those_of_the_cpu(make):
    batch = clips(12)
    there, here = (
        evaluate(make().to(d), [batch.to(d)], [FGSM(), PGD(steps=5), APGD(steps=6)], LINF)
        for d in (torch.device("cpu"), GPU)
    )
    assert there.data.select(["attack", "subset", "clip"]).equals(here.data.select(["attack", "subset", "clip"]))
    clean = there.column("attack") == "none"
    a, b = there.column("margin"), here.column("margin")
    assert np.allclose(a[clean], b[clean], rtol=1e-3, atol=1e-3)
    # Signs of gradients near 0 may differ, and steps with them: searches arrive nearby, not at the same place.
    assert np.abs(a - b).mean() < 0.05 * np.abs(a).mean()
    assert (there.column("correct") == here.column("correct")).mean() > 0.95


def test_a_clip_does_not_depend_on_its_batch():
    batch, net, order = clips(8).to(GPU), network().to(GPU), [3, 1, 7, 0, 2, 6, 5, 4]
    attack = PGD(steps=5, restarts=2)
    whole = attack(net, batch.x, batch.label, LINF, Seeds(0, batch.ids))
    other = reordered(batch, order)
    again = attack(net, other.x, other.label, LINF, Seeds(0, other.ids))
    for s, t in zip(whole, again, strict=True):
        assert (s[order] - t).abs().mean() < 1e-3 * LINF.audio.eps


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_surrogates_run(make, precision):
    batch = VICTIMS.to(GPU)
    victim = engine.surrogate(make().to(GPU), batch.x, precision)
    assert victim.precision == getattr(torch, precision)
    value, grad, _ = victim.value_and_grad(cross_entropy, batch.x, batch.label, LINF)
    assert value.isfinite().all()
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in grad)


def test_any_callable_and_any_module():
    batch = clips(6).to(GPU)
    net = network().to(GPU)

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return {"logits": self.net(x)}

    rows = [evaluate(m, [batch], [PGD(steps=3)], LINF) for m in (Wrapped().eval(), lambda x: net(x))]
    assert rows[0].accuracy().k == rows[1].accuracy().k


def test_a_model_and_clips_on_two_devices_are_refused():
    if GPU.type == "cpu":
        pytest.skip("needs two devices")
    with pytest.raises(ValueError, match=r"cuda|device"):
        evaluate(network().to(GPU), [clips(4)], [FGSM()], LINF)


def test_the_plane_of_budgets():
    batch = clips(8).to(GPU)
    found = evaluate_budgets(Evaluator(network().to(GPU), [batch]), PGD(steps=3), BudgetGrid(LINF, levels=3).cells)
    assert found.attacks > 0


@pytest.mark.parametrize("kind", KINDS)
def test_corruptions_are_those_of_the_cpu(kind):
    batch = clips(3)
    corrupt, seeds = Corruption(kind), Seeds(0, batch.ids)
    here, there = (corrupt(None, batch.to(d).x, batch.label, ANYTHING, seeds) for d in (torch.device("cpu"), GPU))
    for a, b in zip(here, there, strict=True):
        assert b.device.type == GPU.type
        assert torch.equal(a, b.cpu())


def test_a_study_trains_attacks_and_goes_on(tmp_path, cache):
    out = tmp_path / "run"
    run(study, out, data=cache, progress=False)
    assert read(out / "run.json")[0].failures == {}
    weights = sorted(out.glob("models/*/net.safetensors"))
    assert len(weights) == len(study.models)
    cells = {f: f.stat().st_mtime_ns for f in out.glob("cells/*/rows.parquet")}
    run(study, out, data=cache, progress=False)
    assert cells == {f: f.stat().st_mtime_ns for f in out.glob("cells/*/rows.parquet")}
    x = AV(torch.rand(2, 4096) - 0.5, torch.rand(2, 1, 3, 32, 32))
    for path in weights:
        on_cpu, on_gpu = load(path)[0], load(path)[0].to(GPU)
        with torch.no_grad():
            assert torch.allclose(on_cpu(x), on_gpu(x.map(lambda s: s.to(GPU))).cpu(), atol=1e-2)
