"""Which defense stands: drawn answers whose verdict is known."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from avrobust.evaluation.comparison import clips_needed, paired
from avrobust.evaluation.schema import Rows
from avrobust.report import page
from avrobust.report.load import read
from avrobust.report.sections import robustness
from facts_of import budget_of, facts_of

N = 400
EPS = {"A": (0.006, 0.0), "V": (0.0, 0.024), "AV": (0.006, 0.024)}
# model: what run.json says of it, and the share that it keeps under FGSM and under AVAutoAttack
MODELS = {
    "AV": ({}, 0.6, 0.4),
    "AV, extra epochs": ({"start": "AV", "role": "baseline"}, 0.65, 0.45),
    "PCL": ({"loss": "PCL", "start": "AV"}, 0.9, 0.40),
    "Masked": ({"feature_defense": "Broken", "start": "AV"}, 0.9, 0.6),
    "Adversarial": ({"loss": "adversarial, PGD-3"}, 0.75, 0.7),
    "Close": ({"loss": "MinSim"}, 0.64, 0.47),
}


def cell(model, attack, subset, share, mode="corrected"):
    draw = np.random.default_rng([[*MODELS].index(model), len(attack), len(subset)])
    right = (np.linspace(0, 1, N, endpoint=False) + draw.normal(0, 0.1, N)) < share
    a, v = EPS.get(subset, (0.0, 0.0))
    return Rows.of(
        facts_of(attack)
        | {
            "model": model, "seed": 0, "attack": attack, "mode": mode, "subset": subset, **budget_of(a, v).columns(),
            "clip": [f"c{i:03d}" for i in range(N)],
            "label": [i % 11 for i in range(N)], "status": "ok", "pred_clean": 0, "pred": 0, "margin_clean": 0.0, "margin": 0.0,
            "correct_clean": True, "correct": right.tolist(), "linf_audio": a, "linf_visual": v, "l2_audio": 1.0,
            "l2_visual": 1.0, "used_audio": 1.0, "used_visual": 1.0, "snr_db": 20.0, "psnr_db": 40.0,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    for model, (_, weak, strong) in MODELS.items():
        parts = [cell(model, "none", "clean", 0.9)]
        parts += [cell(model, "FGSM", s, weak) for s in EPS] + [cell(model, "AVAutoAttack", s, strong) for s in EPS]
        folder = path / "cells" / model
        folder.mkdir(parents=True)
        Rows.concat(parts).save(folder / "rows.parquet")
    flat = {"clips": 64, "random": 0.0, "sociable": 0.0, "faint": {"audio": 0.0, "visual": 0.0}, "flat": {"audio": 1.0, "visual": 1.0}}  # fmt: skip
    about = {
        name: {"kind": "AV", "fusion": "concat", "loss": "cross_entropy", "feature_defense": None} | told
        for name, (told, *_) in MODELS.items()
    }
    about["Masked"]["probe"] = flat
    told = {
        "version": 2,
        "models": about,
        "defenses": [{s: list(e) for s, e in EPS.items()}],
        "data": {"classes": list("abcdefghijk")},
    }
    (path / "run.json").write_text(json.dumps(told))
    return read(path)


def test_verdicts(run):
    (table,) = robustness.tables(run)
    assert table.baseline == "AV, extra epochs"
    verdicts = {r.model: r.verdict for r in table.rows}
    assert verdicts == {
        "AV": "baseline",
        "AV, extra epochs": "baseline",
        "PCL": "not more robust",
        "Masked": "not reliable",
        "Adversarial": "more robust",
        "Close": "undecided",
    }
    rows = {r.model: r for r in table.rows}
    assert rows["PCL"].weak.value > 0.8 > 0.5 > rows["PCL"].strong.value
    assert rows["Masked"].alarms == ("gradients vanish",)
    assert table.words == "Of 4 defenses, 1 is more robust than AV, extra epochs in the worst case: Adversarial."


def test_it_stands_on_the_page(run):
    html = page.html(run)
    assert 'id="robustness"' in html and '<td class="word">more robust</td>' in html
    assert "1 is more robust than AV, extra epochs in the worst case: Adversarial" in html


def test_a_run_that_is_still_going_has_its_table(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    file = folder / "cells" / "Adversarial" / "rows.parquet"
    rows = Rows.load(file)
    file.unlink()
    Rows.concat([rows.where(subset=s) for s in ("clean", "V", "AV")]).save(file)
    part = read(folder)
    (table,) = robustness.tables(part)
    assert {r.model: r.verdict for r in table.rows}["Adversarial"] == "undecided"
    assert table.words.startswith("None of the 3 defenses")
    text = page.html(part)
    assert (
        "0 clips would show" not in text
        and "nan" not in text[text.index('id="robustness"') :].split('class="section"')[0]
    )


def test_defenses_are_compared_where_the_first_model_is_not_attacked(run):
    (whole,) = robustness.tables(run)
    table = {c: p for c, p in run.table.items() if c.model != run.subject or c.subset == "clean"}
    (some,) = robustness.tables(replace(run, table=table))
    assert {r.model: r.strong for r in some.rows} == {r.model: r.strong for r in whole.rows if r.model != run.subject}
    assert whole.rows != some.rows and 'class="answer">Of ' in page.html(replace(run, table=table))


def test_no_table_without_the_strongest_attack(run, tmp_path):
    from fake_run import fake_run

    assert robustness.tables(read(fake_run(tmp_path / "run", whole=True))) == []


@pytest.mark.parametrize("holds, deceived", [("Adversarial", False), ("PCL", True)])
def test_the_selftest_fails_where_something_else_stands_than_should(run, monkeypatch, capsys, holds, deceived):
    from avrobust.cli import selftest

    monkeypatch.setattr(selftest, "run", lambda *_, **__: run.path / "report.html")
    monkeypatch.setattr(selftest, "HOLDS", holds)
    words = ["--out", str(run.path), "--workers", "1"]
    answer = selftest.main(words)
    assert answer.status == deceived and answer.data["passed"] == (not deceived)
    said = capsys.readouterr().err
    assert bool(re.search(r"expected PCL alone .* got unexpected verdicts: PCL.*Adversarial", said)) == deceived
    assert "gradients vanish" in answer.text and "more robust" in answer.text


def test_the_selftest_holds_every_broken_defense():
    from avrobust.certificates import Smoothed
    from avrobust.cli.studies import named
    from avrobust.study.selftest import BROKEN, BROKEN_CERTIFICATES, BROKEN_DETECTOR, CERTIFICATE, DETECTOR, HOLDS

    study = named("selftest")
    names = {c.name for c in study.models}
    assert {*BROKEN, "PCL", HOLDS, BROKEN_DETECTOR, DETECTOR} < names
    tried = {type(cell.attack): cell.attack for cell in study.cells("AV", 0)}
    assert {*BROKEN_CERTIFICATES, CERTIFICATE} <= {cell.attack for cell in study.cells("AV", 0)} and Smoothed in tried
    assert {c.epochs for c in study.models if c.name in BROKEN} == {0}


def test_the_selftest_judges_certificates_and_detectors(monkeypatch):
    from avrobust import PGD, Threat, evaluate
    from avrobust.certificates import Gaussian, Smoothed
    from avrobust.certificates.broken import BrokenCertificate
    from avrobust.cli import selftest
    from avrobust.defenses import Distance
    from avrobust.defenses.broken import BrokenDetection
    from avrobust.report.load import read
    from nets import clips, in_batches, network
    from test_certificates import line, near

    right = Gaussian(audio=0.5, visual=0.5, select=10, draws=60)
    broken = [BrokenCertificate(audio=0.5, visual=0.5, select=10, draws=60, how=how) for how in ("fixed", "estimate")]
    monkeypatch.setattr(selftest, "CERTIFICATE", right)
    monkeypatch.setattr(selftest, "BROKEN_CERTIFICATES", tuple(broken))
    tried = [right, *broken, *(Smoothed(PGD(steps=5), c, copies=4, votes=40) for c in (right, broken[0]))]
    judged = selftest.certificates(read(evaluate(line, near(), tried, [Threat.l2(audio=0.4, visual=0.4)])))
    assert {j.name: j.verdict for j in judged} == {right.name: "reliable"} | {c.name: "not reliable" for c in broken}
    assert not any(j.wrong for j in judged)

    rows = []
    for name, detection in ((selftest.BROKEN_DETECTOR, BrokenDetection()), (selftest.DETECTOR, Distance())):
        net, batch = network(), clips(48)
        with torch.no_grad():
            net.classifier.bias -= net(batch.x).mean(0)
            batch = replace(batch, label=net(batch.x).argmax(1))
        net.feature_defense = detection.fill(net, in_batches(batch, 16), 0)
        rows.append(evaluate(net.eval(), batch, PGD(steps=3), Threat.linf(audio=0.05, visual=0.05), name=name))
    judged = selftest.detectors(read(Rows.concat(rows)))
    assert [j.verdict for j in judged] == ["not reliable", "reliable"] and not any(j.wrong for j in judged)
    assert judged[0].alarms == ("a detector hides its gradient",)


def test_verdicts_agree_with_the_intervals_beside_them(run):
    (table,) = robustness.tables(run)
    family = [r for r in table.rows if r.gap]
    assert len(family) == 4
    for r in family:
        assert (r.gap.low > 0 or r.gap.high < 0) == (r.gap.p < 0.05)
        if r.verdict == "more robust":
            assert r.gap.low > 0
        if r.verdict == "undecided":
            assert r.gap.low <= 0 and r.gap.high >= robustness.POINTS
    close = next(r for r in family if r.model == "Close")
    assert close.gap == close.gap.as_one_of(4) and close.gap.as_one_of(1).high < close.gap.high


@pytest.mark.parametrize("points", [0.03, 0.1])
def test_so_many_clips_would_do(points):
    """Drawn anew that many times over, a difference of this size is found in four of five draws."""
    rng = np.random.default_rng(0)

    def draw(n):
        second = rng.random(n) < 0.5
        flips = rng.random(n)
        # Of all answers, 10 % + points turn right and 10 % turn wrong.
        first = np.where(second, flips >= 0.2, flips < 0.2 + 2 * points)
        return first[None], second[None]

    a, b = draw(20_000)
    n = clips_needed(a.astype(float) - b, points)
    found = np.mean([paired(*draw(n)).p < 0.05 for _ in range(400)])
    assert found == pytest.approx(0.8, abs=0.09)
