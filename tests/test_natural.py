"""Summaries of robustness to natural corruptions."""

import re
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

import avrobust
from avrobust import AV, Batch, Rows, Threat, evaluate
from avrobust.attacks import ANYTHING
from avrobust.corruptions import Gap, Missing, corruptions
from avrobust.evaluation.natural import missing_robustness, natural_robustness
from avrobust.report.load import read
from avrobust.report.sections import natural
from nets import clips, linear

ASKED = corruptions(["gaussian", "rain"], (1, 3, 5), rate=8000)


def loud(threshold: float):
    """Two classes: quieter or louder than so many dB below full scale."""
    return lambda x: torch.stack(
        [torch.full((len(x.audio),), threshold), 10 * x.audio.square().mean(1).clamp_min(1e-9).log10()], 1
    )


@pytest.fixture(scope="module")
def rows():
    g = torch.Generator().manual_seed(0)
    size = torch.linspace(0.01, 0.3, 24)[:, None]
    x = AV(
        audio=(size * torch.randn((24, 800), generator=g)).clamp(-1, 1),
        visual=torch.rand((24, 1, 3, 8, 8), generator=g),
    )
    models = {"sturdy": loud(-20.0), "frail": loud(-19.0)}
    label = models["sturdy"](x).argmax(1)
    return Rows.concat(
        [evaluate(model, Batch(x, label), ASKED, ANYTHING.only("A"), name=name) for name, model in models.items()]
    )


def test_means_are_those_of_the_rows(rows):
    for found in natural_robustness(rows, baseline="frail"):
        own = [rows.where(model=found.model, attack=c.name).accuracy().value for c in ASKED]
        assert found.accuracy.value == pytest.approx(np.mean(own))
        assert found.by_severity[5].value == pytest.approx(np.mean([own[2], own[5]]))
        assert found.by_kind["rain"].value == pytest.approx(np.mean(own[3:]))
        assert found.relative.value == pytest.approx(np.mean(own) / found.clean.value)
        assert found.accuracy.low <= found.accuracy.value <= found.accuracy.high
        assert found.accuracy.n == 24
        # Where all are right, or wrong, as few clips say no more than they do.
        assert str(found.clean) == str(rows.where(model=found.model, attack="none").accuracy())
        assert found.clean.low < found.clean.high


def test_compared_with_a_baseline(rows):
    sturdy, frail = sorted(natural_robustness(rows, baseline="frail"), key=lambda r: r.model, reverse=True)
    assert frail.mce.value == pytest.approx(1) and frail.effective.value == 0
    clean = {m: rows.where(model=m, attack="none").accuracy().value for m in ("sturdy", "frail")}
    errors = {m: [1 - rows.where(model=m, attack=c.name).accuracy().value for c in ASKED] for m in ("sturdy", "frail")}
    ratios = [sum(errors["sturdy"][i : i + 3]) / sum(errors["frail"][i : i + 3]) for i in (0, 3)]
    assert sturdy.mce.value == pytest.approx(np.mean(ratios))
    drops = {m: clean[m] - 1 + np.mean(errors[m]) for m in errors}
    assert sturdy.effective.value == pytest.approx(drops["frail"] - drops["sturdy"])
    assert natural_robustness(rows)[0].mce is None


def test_a_mean_over_others_is_no_mean_of_these(rows):
    lacking = rows.where(model="sturdy", attack="rain 3")
    others = Rows(rows.data.filter(~((pc.field("model") == "sturdy") & (pc.field("attack") == "rain 3"))))
    assert len(lacking) == 24 and len(others) == len(rows) - 24
    with pytest.raises(ValueError, match="rows of sturdy under every corruption on A, got none for rain 3"):
        natural_robustness(others)
    with pytest.raises(ValueError, match="frail, sturdy, got 'nobody'"):
        natural_robustness(rows, baseline="nobody")


def test_accuracy_by_the_share_that_is_missing():
    asked = [Missing(0.0), Missing(0.5), Missing(1.0), Gap(0.25), Gap(0.25, together=False)]
    batch = clips(12)
    rows = evaluate(linear, batch, asked, ANYTHING)
    found = {(f.subset, f.what, f.apart): f for f in missing_robustness(rows)}
    assert len(found) == 3 * 3  # A, V and AV; missing, gaps together and apart
    whole = found["AV", "missing", False]
    assert list(whole.by_share) == [0.0, 0.5, 1.0] and whole.by_share[0.0] == whole.clean
    for share, accuracy in whole.by_share.items():
        assert accuracy.value == rows.where(attack=Missing(share).name, subset="AV").accuracy().value
    # missing clips are no corruption: they are in no mean of those
    assert natural_robustness(rows) == []


def test_a_report_shows_them(rows):
    gone = evaluate(linear, clips(8), [Missing(0.5), Gap(0.25)], ANYTHING.only("V"), name="linear")
    found = natural.data(read(Rows.concat([rows, gone])))
    assert [t.title for t in (*found["tables"], *found["kinds"])] == [
        "Accuracy under natural corruptions", "Audio corrupted, by kind",
    ]  # fmt: skip
    own = [rows.where(model="sturdy", attack=c.name).accuracy().value for c in ASKED]
    (line,) = (row for row in found["tables"][0].rows if row[1].text == "sturdy")
    assert line[3].number.value == pytest.approx(100 * np.mean(own)) and line[3].number.n == 24
    assert list(found["panels"]) == ["By severity", "Gaps within clips", "Clips without a modality"]
    severity, gap = found["panels"]["By severity"][0], found["panels"]["Gaps within clips"][0]
    drawn = {(row["model"], row["severity"]): row["accuracy, %"] for row in severity.rows}
    hard = [rows.where(model="frail", attack=c.name).accuracy().value for c in ASKED if c.severity == 5]
    assert sorted({at for _, at in drawn}) == [0, 1, 3, 5] and drawn["frail", 5] == pytest.approx(
        100 * np.mean(hard), abs=0.01
    )
    assert [row["share"] for row in gap.rows] == [0.0, 25.0] and severity.svg() != gap.svg()
    assert next(iter(natural.data(read(gone))["panels"])) == "Gaps within clips"
    assert natural.data(read(evaluate(linear, clips(4), [], Threat.linf()))) is None


def test_the_guide_s_code_runs(capsys):
    guide = (Path(__file__).parents[1] / "docs/guide/corruptions.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", guide, re.S)
    exec(block, {"avr": avrobust, "model": linear, "batch": clips(6)})
    assert len(capsys.readouterr().out.splitlines()) == 3
