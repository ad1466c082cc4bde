"""Benchmarks compare like with like (the same start, budgets and steps), and the README has the measured numbers."""

import doctest
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from avrobust import AV, cross_entropy
from avrobust.papers.tian2021.budgets import TABLE1
from avrobust.types import RANGE, Output

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import figures
import measure
import methods
import roofline
import streaming
import table1

A, V, BOTH = TABLE1


@pytest.fixture(scope="module")
def problem() -> methods.Problem:
    """Small clips and a small network."""
    return methods.Problem.make(samples=2341, pixels=32, clips=4, width=16)


@pytest.mark.parametrize("name", ["methods", "measure", "roofline", "figures"])
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_a_problem_is_right_on_its_clips_and_travels_whole(problem: methods.Problem, tmp_path: Path) -> None:
    logits = problem.net(problem.x)
    assert torch.equal(logits.argmax(1), torch.arange(4))
    top = logits.topk(2, dim=1).values
    assert torch.allclose((top[:, 0] - top[:, 1]).sort().values, torch.tensor([0.01, 0.1, 1.0, 10.0]), rtol=0.05)
    problem.save(tmp_path / "problem.pt")
    again = methods.Problem.load(tmp_path / "problem.pt", torch.device("cpu"))
    assert torch.equal(again.net(again.x), logits)


@pytest.mark.parametrize("threat", TABLE1, ids=lambda t: t.subset)
def test_packed_numbers_are_the_ball(problem: methods.Problem, threat: Any) -> None:
    """0.5 is the clean clip, 0 and 1 are the ends of the budget or of the signal's range, and nothing else is touched."""
    packed = methods.Packed(problem.net, problem.x, threat)
    assert all(torch.allclose(a, s, atol=1e-7) for a, s in zip(packed.signals(packed.start()), problem.x, strict=True))
    for end, sign in ((0.0, -1), (1.0, 1)):
        ends = packed.signals(torch.full_like(packed.start(), end))
        budget = AV(0.012 if threat is A else 0.006, 0.012 if threat is V else 0.006)
        std = AV(torch.ones(1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))
        for name, s in problem.x.items():
            touched = name in {"A": "audio", "V": "visual", "AV": "audio visual"}[threat.subset]
            wanted = (s + touched * sign * getattr(budget, name) * getattr(std, name)).clamp(*getattr(RANGE, name))
            assert torch.allclose(getattr(ends, name), wanted, atol=1e-6)


@pytest.mark.parametrize("kind", ["FGSM", "PGD-3", "MIM-3"])
@pytest.mark.parametrize("threat", TABLE1, ids=lambda t: t.subset)
def test_all_methods_do_the_same(problem: methods.Problem, kind: str, threat: Any) -> None:
    """From the same start by the same steps to the same loss; whoever does not is not being compared."""
    loss = {}
    for name in methods.available(torch.device("cpu")):
        if (name, kind) == ("foolbox", "MIM-3"):
            continue  # its momentum adds gradients as they are
        if name.endswith("bfloat16"):
            continue  # the tolerances are those of float32
        x = methods.METHODS[name](problem.net, methods.Search.parse(kind), problem.x, problem.y, threat)
        loss[name] = cross_entropy.value(Output(problem.net(x)), problem.y)
    clean = cross_entropy.value(Output(problem.net(problem.x)), problem.y)
    assert {"plain loop", "any callable", "engine"} <= loss.keys()
    for name, reached in loss.items():
        # Signs of gradients near 0 are up to rounding, and packing rounds otherwise.
        assert torch.allclose(reached, loss["plain loop"], rtol=0.08, atol=0.02), name
        assert (reached > clean).all(), name


def test_the_table_of_a_library_user_is_ours(problem: methods.Problem) -> None:
    few = problem.first(3)
    by_loop = table1.METHODS["plain loop"](few, 2)
    assert len(by_loop) == 10 and by_loop[0] == 3
    assert by_loop == table1.METHODS["engine"](few, 2)


def test_ratios_are_to_the_best_peer() -> None:
    rows: list[dict[str, Any]] = [
        {"method": "ART", "seconds": 4.0, "memory_mb": 100.0},
        {"method": "foolbox", "seconds": 2.0, "memory_mb": 200.0},
        {"method": "torchattacks", "failed": "out of memory"},
        {"method": "engine", "seconds": 0.5, "memory_mb": 50.0},
        {"method": "any callable", "seconds": 1.0, "memory_mb": None},
    ]
    found = {r["method"]: (r.get("faster"), r.get("memory")) for r in measure.with_ratios(rows)}
    assert found == {
        "ART": (0.5, 1), "foolbox": (1, 2), "torchattacks": (None, None), "engine": (4, 0.5), "any callable": (2, None),
    }  # fmt: skip


def test_the_peak_counts_what_was_held_in_between() -> None:
    held = measure.reset_memory()
    if held is None:
        pytest.skip("this system does not tell its peak memory")
    torch.ones(2**25)  # 128 MB, dropped at once
    assert 120 * measure.MB <= measure.peak() - held < 160 * measure.MB  # the system counts in portions
    held = measure.reset_memory()
    assert held is not None and measure.peak() - held < 32 * measure.MB


def test_a_process_that_dies_is_an_answer(problem: methods.Problem, tmp_path: Path) -> None:
    problem.save(tmp_path / "problem.pt")
    process = measure.Process(tmp_path / "problem.pt", ready)
    assert process(count) == {"clips": 4}
    assert "failed" in process(die)
    process.end()


def ready(problem: methods.Problem) -> None:
    """Nothing to warm up."""


def count(state: measure.State) -> dict[str, Any]:
    return {"clips": len(state.problem.y)}


def die(state: measure.State) -> dict[str, Any]:
    import os

    os._exit(9)  # as the system ends a process that wants too much memory


def test_work_is_counted_forward_and_backward() -> None:
    conv = torch.nn.Conv2d(4, 8, 3, bias=False).requires_grad_(False)
    x = torch.rand(1, 4, 5, 5, requires_grad=True)
    with roofline.Work() as counter:
        torch.autograd.grad(conv(x).sum(), x)
    one = 2 * 8 * 4 * 9 * 9 / 1e9
    assert dict(counter.done) == pytest.approx({"convolution, forward": one, "convolution, backward": one})


def test_readme_says_what_the_results_say() -> None:
    """Nobody types figures."""
    folders = [f for f in figures.RESULTS.iterdir() if f.is_dir()] if figures.RESULTS.is_dir() else []
    machines = sorted((figures.load(f) for f in folders), key=figures.newest, reverse=True)
    text = figures.README.read_text()
    assert figures.readme(text, machines) == text


def test_clips_of_the_streaming_benchmark_are_a_store(tmp_path: Path) -> None:
    store = streaming.written(tmp_path, 3)
    assert store.ids("test") == ("clip/0", "clip/1", "clip/2") and store.label("clip/2") == 2
    assert (store["clip/1"].wave == streaming.drawn(1).wave).all()
    net = streaming.small()
    assert net(streaming.StoredBatches(store, "test", streaming.VIEW, 3).pick([0, 1]).x).shape == (2, 309)


def test_figures_become_tables_and_an_image(tmp_path: Path) -> None:
    row = {"seconds": 2.0, "clips_per_s": 4.0, "memory_mb": 123.4, "loss": 1.5, "correct": 3}
    rows = measure.with_ratios(
        [
            {"method": w, "on": s} | row | {"seconds": t}
            for s in ("A", "AV")
            for w, t in (("ART", 2.0), ("engine", 0.5))
        ][:2]
    )
    asked = {"size": "quick", "batch": 8, "attack": "PGD-10", "repeats": 3}
    measure.write(tmp_path / "attacks.json", "attacks", asked, rows)
    runs = figures.load(tmp_path)
    assert "| engine | 4.00 (4.00) | 123 (1.00) | 1.500, 3 of 8 |" in figures.section(runs)
    figures.draw(runs, tmp_path / "a.svg")
    figures.draw(runs, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "PGD-10, audio" in (tmp_path / "a.svg").read_text()
    whole = json.loads((tmp_path / "attacks.json").read_text())
    assert whole["machine"]["threads"] == torch.get_num_threads()
