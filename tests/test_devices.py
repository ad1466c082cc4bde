"""Devices other than a CPU, emulated: Apple's MPS, on which any tensor of doubles raises, and a GPU, which should not wait."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tiny_study
from avrobust import APGD, FGSM, MIM, PGD, AVAutoAttack, Published, Seeds, Square, Threat, cli, engine, evaluate
from avrobust.attacks import Quantized
from avrobust.budget_check import check
from avrobust.cli.model import moved
from avrobust.evaluation import evaluator
from avrobust.evaluation.budget_grid import BudgetGrid, evaluate_budgets
from avrobust.evaluation.checks import InputError
from avrobust.evaluation.door import check_answer
from avrobust.evaluation.evaluator import Evaluator
from avrobust.evaluation.perception import perceived
from avrobust.evaluation.probe import probe
from avrobust.models import NetSpec
from avrobust.papers.tian2021 import budgets as tian2021
from avrobust.report.load import read
from avrobust.study import ModelConfig, Sweep
from avrobust.study.runner import run
from avrobust.threat import Ball
from nets import clips, linear, network

LINF = Threat.linf(audio=0.02, visual="4/255")


class NoDoubles(TorchDispatchMode):
    on = True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if self.on and getattr(made, "dtype", None) == torch.float64:
            raise TypeError(f"Cannot convert a MPS Tensor to float64 dtype ({func})")
        return made

    def allowed_to(self, measure):
        """A function that brings clips to the CPU first, where there are doubles."""

        def measured(*args):
            self.on = False
            try:
                return measure(*args)
            finally:
                self.on = True

        return measured


def test_the_emulation_notices():
    with NoDoubles(), pytest.raises(TypeError, match="float64"):
        torch.ones(1).double()


@pytest.mark.parametrize("model", [linear, network()], ids=["callable", "network"])
def test_everything_that_attacks_and_measures_needs_no_doubles(model, monkeypatch):
    batch = clips(6)
    attacks = [
        FGSM(),
        PGD(steps=2, stop=True),
        MIM(steps=2),
        APGD(steps=3),
        Square(queries=3),
        Quantized(PGD(steps=2)),
    ]
    attacks += [AVAutoAttack(steps=2, targets=1, queries=2)]
    with NoDoubles() as emulated:
        monkeypatch.setattr(evaluator, "perceived", emulated.allowed_to(perceived))
        evaluate(model, [batch], attacks, LINF)
        evaluate(model, [batch], [PGD(steps=2), APGD(steps=2)], Threat.l2(audio="30 dB SNR", visual=0.5))
        evaluate(model, [batch], [Published("MIM")], tian2021.threat(0.01, 0.01))
        probe(model, batch)
        found = evaluate_budgets(Evaluator(model, [batch]), PGD(steps=2), BudgetGrid(LINF, levels=2).cells)
    assert found.attacks > 0


def test_distances_are_those_of_doubles():
    batch = clips(5)
    for threat in (LINF, Threat.l2(audio="30 dB SNR", visual=0.5), tian2021.threat(0.01, 0.01)):
        for ball, s in zip(threat, batch.x, strict=True):
            moved = (s + 0.01 * torch.rand_like(s)).clamp(0, 1)
            wanted = ball.size(moved.double() - s.double(), s.double()).numpy()
            assert np.allclose(ball.distance(moved, s), wanted, rtol=1e-12)
    assert Ball(0.1).distance(batch.x.audio[:0], batch.x.audio[:0]).shape == (0,)


def test_a_budget_is_held_to_five_digits_whatever_the_device():
    batch = clips(3)
    over = batch.x.map(lambda s: s * 0.5 + 0.25)
    with NoDoubles():
        moved = over.map(lambda s: s + 0.02 * (1 + 5e-5))
        with pytest.raises(ValueError, match="left its audio budget"):
            check(Threat.linf(audio=0.02, visual=0.03), over, moved, batch.ids, "mine")
        check(Threat.linf(audio=0.02001, visual=0.03), over, moved, batch.ids, "mine")


class Questions(TorchDispatchMode):
    """What makes a GPU wait for all that it was asked to do: its numbers are wanted here, or some of ours there."""

    WAIT = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "lift_fresh", "lift_fresh_copy")

    def __init__(self):
        super().__init__()
        self.asked = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, parts = func._schema.name.removeprefix("aten::"), [a for a in args if isinstance(a, list | tuple)]
        by_mask = name.startswith("index") and any(
            getattr(s, "dtype", None) == torch.bool for part in parts for s in part
        )
        if name in self.WAIT or by_mask:
            self.asked.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("attack", [PGD, MIM, lambda steps: APGD(steps, stop=False)], ids=["PGD", "MIM", "APGD"])
@pytest.mark.parametrize("threat", [LINF, tian2021.threat(0.01, 0.01)], ids=["linf", "normalised"])
def test_a_step_makes_a_gpu_wait_once(attack, threat, monkeypatch):
    batch, net = clips(6), network()
    surrogate, read = surrogates_for(net, batch), torch.Tensor.tolist

    def asked(steps):
        with Questions() as questions, monkeypatch.context() as patched:
            # Of several numbers at once, which no dispatcher sees.
            patched.setattr(torch.Tensor, "tolist", lambda s: questions.asked.append("tolist") or read(s))
            attack(steps=steps)(surrogate, batch.x, batch.label, threat, Seeds(0, batch.ids))
        return len(questions.asked)

    assert asked(8) - asked(7) == asked(7) - asked(6) == 1


def surrogates_for(net, batch):
    surrogate = engine.surrogate(net, batch.x.map(lambda s: s[:1]))
    return surrogate.cache_embeddings(batch.x).cache_clean_gradients(batch.x, batch.label)


class Stays(torch.nn.Module):
    def to(self, *args, **kwargs):
        raise RuntimeError("quantized weights stay where they are")


class Moves:
    """A model that is no module, with weights of its own."""

    def __init__(self):
        self.weight = torch.ones(4)

    def to(self, device):
        self.weight = self.weight.to(device)
        return self

    def __call__(self, x):
        return x.audio[:, :4] * self.weight


def test_a_model_is_moved_where_it_can_be_and_else_it_is_said():
    where = torch.device("meta")
    assert moved(Moves(), where).weight.device == where
    assert moved(linear, where) is linear
    with pytest.raises(
        ValueError, match=r"expected a model .* to meta, got RuntimeError: quantized .* Give the --device"
    ):
        moved(Stays(), where)
    with pytest.raises(InputError, match=r"The clips are on meta: move what the model holds there \(--device cpu"):
        check_answer(Moves(), clips(1).x.map(lambda s: s.to("meta")))


def test_a_device_that_is_not_there_is_said_by_every_verb(tmp_path, capsys):
    for verb in (["study", "quick"], ["selftest"], ["train", "--data", "x", "--out", str(tmp_path / "out")]):
        assert cli.main([*verb, "--device", "cuda:77"]) == 1
        assert "expected a device that PyTorch can use here, got 'cuda:77'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class Greedy(torch.nn.Module):
    """Runs out of memory as soon as its gradients are asked for: in the middle of a search."""

    def __init__(self, classes=2):
        super().__init__()
        self.head = torch.nn.Linear(4, classes)

    def forward(self, x):
        if x.audio.requires_grad:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total of 8 GiB.")
        return self.head(x.audio[:, :4])


ADVICE = "expected a batch of clips to fit into memory, got: CUDA out of memory. Tried to allocate 20.00 GiB"


def test_a_study_goes_on_when_memory_runs_out_in_a_search(tmp_path, cache):
    greedy, other = ModelConfig("Greedy", Greedy, epochs=0), ModelConfig("A", NetSpec(modality="A", width=16), epochs=0)
    sweeps = (Sweep(("Greedy", "A"), (FGSM(),), tiny_study.BOTH[:1]),)
    asked = replace(
        tiny_study.study, models=(greedy, other), sweeps=sweeps, embedded=(), tables=(), defenses=(), attacked=4,
        showcase=Threat.linf(visual=0.01),
    )  # fmt: skip
    out = run(asked, tmp_path / "run", data=cache, progress=False).parent
    told = read(out).missing
    assert {f.model for f in told} == {"Greedy"}
    assert all(f.error.startswith(f"OutOfMemoryError: {ADVICE}") and "smaller batch" in f.error for f in told)
    assert len(list(out.glob("cells/*/rows.parquet"))) == 3


def test_a_verb_says_what_to_do_when_memory_runs_out(monkeypatch, capsys):
    def attacking(argv):
        Greedy()(clips(1).x.map(lambda s: s.requires_grad_()))

    monkeypatch.setattr("avrobust.cli.evaluate.main", attacking)
    assert cli.main(["evaluate", "m:x"]) == 1
    said = capsys.readouterr().err
    assert f"avrobust evaluate: {ADVICE}" in said and "Take a smaller batch (--batch" in said
