import numpy as np
import pytest

from avrobust.evaluation.conditions import tabulate
from avrobust.evaluation.matched import HEARD, ladders, matched, pairs
from avrobust.evaluation.schema import Rows
from avrobust.facts import Budget, ModalityBudget
from avrobust.report.run import Run, RunRecord
from avrobust.report.sections import perception

CLIPS = 40


def rung(budget: ModalityBudget, fooled: int, nmr: float, seed: int = 0) -> Rows:
    """So many of 40 clips are misclassified, at this noise-to-mask ratio."""
    columns = {
        "model": "m",
        "seed": seed,
        "attack": "PGD",
        "mode": "corrected",
        "subset": "A",
        "status": "ok",
        "family": "PGD",
    }
    wrong = np.arange(CLIPS) < fooled
    return Rows.of(
        columns | Budget(audio=budget).columns() | {
            "clip": [str(i) for i in range(CLIPS)], "label": [0] * CLIPS, "pred": wrong.astype(int).tolist(),
            "correct_clean": [True] * CLIPS, "correct": (~wrong).tolist(), "used_audio": [1.0] * CLIPS,
            "used_visual": [np.nan] * CLIPS, "linf_audio": [0.01] * CLIPS, "snr_db": [20.0] * CLIPS,
            "nmr_db": (nmr + 0.01 * np.arange(CLIPS)).tolist(),
        }
    )  # fmt: skip


def table():
    linf = [(0.001, 0, -10.0), (0.002, 10, 0.0), (0.004, 30, 10.0)]
    mask = [(0.1, 10, -20.0), (0.2, 20, -10.0), (0.4, 40, 5.0)]
    rows = [rung(ModalityBudget(eps, "linf", "linear"), f, nmr) for eps, f, nmr in linf]
    rows += [rung(ModalityBudget(eps, "masking", "masking threshold"), f, nmr) for eps, f, nmr in mask]
    return tabulate(Rows.concat(rows).data)


def test_kinds_of_budgets_are_compared_where_both_reach():
    found = ladders(table(), "m", "A")["PGD"]
    assert [ladder.kind for ladder in found] == ["linf", "masking threshold"]
    [(linf, mask)] = pairs(found)
    m = matched(linf, mask, HEARD[0])
    # both fool between 25 and 75 %: at 50 %, linf is midway between its rungs, and the mask on its own one
    assert m.success == pytest.approx(0.5)
    assert (m.first, m.second) == pytest.approx((5.19, -9.81), abs=0.02)
    assert m.difference.value == pytest.approx(-15.0)
    assert m.difference.low < m.difference.value < m.difference.high < 0
    # both are between -10 and 5 dB: at -2.5 dB, linf fools 18.75 % and the mask 75 %
    assert m.distance == pytest.approx(-2.3, abs=0.1)
    assert m.gain.value == pytest.approx(0.75 - 0.1875, abs=0.02)
    assert m.gain.low > 0


def test_ladders_that_do_not_overlap_are_not_compared():
    rows = [rung(ModalityBudget(eps, "linf", "linear"), f, nmr) for eps, f, nmr in ((0.1, 0, 0.0), (0.2, 5, 1.0))]
    rows += [rung(ModalityBudget(eps, "linf", "texture"), f, nmr) for eps, f, nmr in ((0.1, 20, 5.0), (0.2, 30, 6.0))]
    [(one, other)] = pairs(ladders(tabulate(Rows.concat(rows).data), "m", "A")["PGD"])
    m = matched(one, other, HEARD[0])
    assert not m.difference.n
    assert not m.gain.n


def test_where_a_seed_does_not_reach_the_others_nothing_is_compared():
    rows = []
    for seed, fooled in ((0, (0, 10, 30)), (1, (0, 1, 2))):  # the second network is hardly ever fooled within linf
        rows += [rung(ModalityBudget(0.1 * i, "linf", "linear"), f, i, seed) for i, f in enumerate(fooled, start=1)]
        rows += [rung(ModalityBudget(0.1 * i, "linf", "texture"), 10 * i, i, seed) for i in (1, 2, 3)]
    found = tabulate(Rows.concat(rows).data)
    [(one, other)] = pairs(ladders(found, "m", "A")["PGD"])
    m = matched(one, other, HEARD[0])
    assert m.success == m.success and not m.difference.n
    shown = perception.data(Run(RunRecord(), found))
    assert shown is not None and "nan" not in shown["result"]
    assert all(
        "nan" not in text for row in shown["tables"][0].rows for cell in row for text in (cell.text, *cell.small)
    )


def test_the_report_shows_distances_with_intervals_and_kinds_compared():
    shown = perception.data(Run(RunRecord(), table()))
    assert shown is not None
    compared, distances = shown["tables"]
    assert "difference from linf at the same success (noise-to-mask ratio, dB, of 40 clips): −15.0" in shown["result"]
    assert [row[1].text for row in distances.rows][:2] == ["audio linf 0.001", "audio linf 0.002"]
    nmr = [c.name for c in distances.columns].index("NMR, dB")
    assert distances.rows[2][nmr].text == "10.2"
    assert distances.rows[2][nmr].small[0].startswith("of 40 [10.1")
    assert [row[0].text for row in compared.rows] == ["masking threshold"]
    assert compared.rows[0][5].text == "−15.0"
    assert len(shown["figures"]) == 1
    nothing = tabulate(rung(ModalityBudget(0.01, "linf", "linear"), 3, float("nan")).data)
    [only] = perception.data(Run(RunRecord(), nothing))[
        "tables"
    ]  # rows of an unknown rate: what is not measured has no column
    assert "NMR, dB" not in [c.name for c in only.columns]
