"""The claims of the study of attacked-modality-aware models, on drawn answers whose verdict is known."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from avrobust.attacks.base import attack_info
from avrobust.cli.studies import PAPERS
from avrobust.corruptions import Missing
from avrobust.evaluation.schema import Rows
from avrobust.report import page
from avrobust.report.load import read
from avrobust.report.sections.claims import claims
from avrobust.study.aware import study
from avrobust.study.record import about_config
from facts_of import budget_of, facts_of

N = 1200
EPS = {"A": (0.012, 0.0), "V": (0.0, 0.048), "AV": (0.012, 0.048)}
CLEAN, KEEPS = 0.8, 0.7
MODELS = {
    "AV": 0.3, "AV, extra epochs": 0.3, "Adversarial": KEEPS, "Adversarial, twice the budget": KEEPS, "Recombined": KEEPS,
    "Recombined, twice the budget": 0.78, "Recombined, gate (distance)": KEEPS,
    "Recombined, gate (sensitivity)": 0.4, "Recombined + ExFMem": 0.69, "AV, gate (sensitivity)": 0.1,
}  # fmt: skip


def cell(model, subset, share, attack="AVAutoAttack", facts=None, mode="corrected"):
    draw = np.random.default_rng(len(model) + len(subset))
    noise = draw.normal(0, 0.03, N) if subset != "clean" else 0.0
    right = np.linspace(0, 1, N, endpoint=False) + noise < share
    a, v = EPS.get(subset, (0.0, 0.0))
    return Rows.of(
        (facts or facts_of(attack))
        | {
            "model": model, "seed": 0, "attack": attack, "mode": mode, "subset": subset, **budget_of(a, v).columns(),
            "clip": [f"c{i:03d}" for i in range(N)], "label": [i % 11 for i in range(N)], "status": "ok",
            "pred_clean": 0, "pred": 0, "margin_clean": 0.0, "margin": 0.0, "correct_clean": True,
            "correct": right.tolist(), "linf_audio": a, "linf_visual": v, "l2_audio": 1.0, "l2_visual": 1.0,
            "used_audio": 1.0, "used_visual": 1.0, "snr_db": 20.0, "psnr_db": 40.0,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "aware"
    for model, share in MODELS.items():
        parts = [cell(model, "clean", CLEAN, attack="none")]
        parts += [cell(model, subset, share) for subset in EPS]
        if model == "Recombined":
            gone, facts = Missing(1.0), asdict(attack_info(Missing(1.0)))
            parts += [cell(model, s, kept, gone.name, facts, gone.mode) for s, kept in (("A", 0.9), ("V", 0.1))]
        folder = path / "cells" / model
        folder.mkdir(parents=True)
        Rows.concat(parts).save(folder / "rows.parquet")
    told = {
        "version": 2, "name": "aware", "paper": study.paper.name, "data": {"classes": list("abcdefghijk")},
        "models": {c.name: about_config(c) for c in study.models if c.name in MODELS},
        "defenses": [{s: list(e) for s, e in EPS.items()}], "asked": {"seeds": [0], "attacked": N},
    }  # fmt: skip
    (path / "run.json").write_text(json.dumps(told))
    return read(path, PAPERS)


def test_verdicts(run):
    found = {c.name: c for c in claims(run) if c.comparisons}
    assert {name: c.verdict for name, c in found.items()} == {
        "training": "holds in part",
        "budget": "holds in part",
        "both": "holds",
        "clean accuracy": "holds",
        "memory": "undecided",
        "gates": "does not hold",
        "perfect gate": "does not hold",
    }
    assert [c.sign for c in found["training"].comparisons] == [1, 0]  # over extra epochs, over adversarial training
    assert [c.sign for c in found["gates"].comparisons] == [0, -1, -1]
    assert [c.low_name.split(",")[0] for c in found["gates"].comparisons] == ["Recombined", "Recombined", "AV"]
    assert [c.sign for c in found["perfect gate"].comparisons] == [1, -1]  # without audio better, without video worse


def test_the_page_has_them(run):
    assert "A gate that never errs would help" in page.html(run)


def test_without_the_networks_nothing_is_claimed(run, tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / "run.json").write_text(json.dumps({"version": 2, "name": "aware", "paper": study.paper.name}))
    assert {c.verdict for c in claims(read(tmp_path, PAPERS))} == {"not tested"}


def test_a_guide_is_written_from_runs(run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "docs"))
    import measured

    monkeypatch.setattr(measured, "DOCS", tmp_path)
    guide = tmp_path / "guide" / "aware.md"
    guide.parent.mkdir()
    guide.write_text(f"Before.\n\n{measured.BEGIN}\noutdated text\n{measured.END}\n\nAfter.\n")
    measured.main([f"{run.path}=instruments", str(run.path)])
    text = guide.read_text()
    assert text.startswith("Before.") and text.endswith("After.\n") and "outdated text" not in text
    assert (
        text.count(f"### Instruments\n\n{N} clips attacked, 1 seed")
        == text.count(f"### The orchestra\n\n{N} clips")
        == 1
    )
    for rows in re.findall(r"(?:^\|.*\n?)+", text, re.M):
        assert len({line.replace("\\|", "").count("|") for line in rows.splitlines()}) == 1
    assert "**does not hold**" in text
