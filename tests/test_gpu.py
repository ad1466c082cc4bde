"""The same on a GPU: attacks keep their promises there, and its rows are those of the CPU.  `pytest -m gpu`.

Without CUDA these tests compare the CPU with itself: so they can be tried anywhere before a GPU is at hand.
"""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

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
    Square,
    Threat,
    cross_entropy,
    engine,
    evaluate,
)
from avrobust.attacks import ANYTHING, Elsewhere, Mute, Noise, Quantized, Swap, Transfer
from avrobust.corruptions import KINDS, Corruption
from avrobust.corruptions.missing import Gap, Missing
from avrobust.evaluation.budget_grid import BudgetGrid, evaluate_budgets
from avrobust.evaluation.channels import Coarser, Lossless, Sent
from avrobust.evaluation.evaluator import Evaluator
from avrobust.evaluation.localisation import Localisation
from avrobust.models import NetSpec
from avrobust.papers.tian2021 import budgets as tian2021
from avrobust.report.record import read
from avrobust.study.runner import run
from avrobust.training import load
from nets import clips, defended, in_batches, network, pointing_net, reordered
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
    assert rows[0].accuracy() == rows[1].accuracy()


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


def test_controls_channels_transfer_and_heat_maps():
    model, batch = network().to(GPU), clips(8).to(GPU)
    batches = in_batches(batch, 4)
    controls = [Mute(), Noise(), Swap(batches), Elsewhere(batches), Gap(0.3), Missing(0.5)]
    assert len(evaluate(model, batches, controls, ANYTHING).data) == 8 * (1 + 3 * len(controls))
    there = network(1).to(GPU)
    evaluate(model, batches, [Transfer("other", PGD(steps=2), there), Sent(Coarser(), PGD(steps=2))], LINF)
    evaluate(model, batches, [Sent(Lossless(), PGD(steps=2), known=True)], LINF)
    evaluate(model, batches, [Published("PGD"), Published("MIM")], tian2021.threat(0.01, 0.01))
    places = Localisation(dict.fromkeys(batch.ids, (0.0, 0.0, 0.5, 0.5)))
    rows = Evaluator(pointing_net().to(GPU), batches, also=places).under(PGD(steps=2), LINF)
    assert np.isfinite(rows.column("pointing")).all()


@pytest.mark.parametrize("attack", [PGD, MIM, lambda steps: APGD(steps, stop=False)], ids=["PGD", "MIM", "APGD"])
def test_a_step_waits_for_the_gpu_twice(attack):
    if GPU.type == "cpu":
        pytest.skip("a CPU does not wait; see test_devices")
    net, batch = network().to(GPU), clips(6).to(GPU)
    surrogate = engine.surrogate(net, batch.x.map(lambda s: s[:1])).cache_embeddings(batch.x)

    def waits(steps):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                attack(steps=steps)(surrogate, batch.x, batch.label, LINF, Seeds(0, batch.ids))
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(warning.message) for warning in seen)

    waits(6)  # sets up what is set up once
    assert waits(8) - waits(7) == 2


def test_a_search_that_does_not_fit_goes_on_with_fewer_clips():
    if GPU.type == "cpu":
        pytest.skip("needs a device whose memory ends; see test_attacks")
    net = NetSpec(classes=4, width=16).build(seed=0).eval().to(GPU)
    draw = torch.Generator().manual_seed(0)
    x = AV(torch.rand(96, 16_000, generator=draw) - 0.5, torch.rand(96, 1, 3, 96, 96, generator=draw))
    batch = Batch(x, torch.arange(96) % 4).to(GPU)
    surrogate = engine.surrogate(net, batch.x.map(lambda s: s[:1]))

    def crafted(share):
        victim = replace(surrogate, chunk_size=engine.ChunkSize())
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(share)
        try:
            return PGD(steps=2)(victim, batch.x, batch.label, LINF, Seeds(0, batch.ids)), victim.chunk_size.numbers
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)

    crafted(1.0)
    torch.cuda.reset_peak_memory_stats()
    kept = torch.cuda.memory_allocated()
    whole, numbers = crafted(1.0)
    assert numbers == math.inf
    allowed = kept + 0.6 * (torch.cuda.max_memory_allocated() - kept)
    fewer, numbers = crafted(allowed / torch.cuda.get_device_properties(0).total_memory)
    assert numbers < math.inf
    for a, b, ball in zip(fewer, whole, LINF, strict=True):
        assert (a - b).abs().mean() < 0.02 * ball.eps


def test_sparse_codes_are_those_of_the_cpu():
    net = defended()
    with torch.no_grad():
        f = net.embed(clips(12).x)
        here = net.feature_defense.codes(f)
        there = net.feature_defense.to(GPU).codes(f.map(lambda s: s.to(GPU)))
    for a, b in zip(here, there, strict=True):
        assert torch.allclose(a.codes, b.codes.cpu(), atol=1e-4)


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
