"""Two or more models on the same clips: what is paired, what is corrected, what is refused."""

import numpy as np
import pytest

import avrobust as avr
from avrobust.cli import main
from avrobust.evaluation.comparison import mcnemar
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.versus import WORST
from avrobust.report import versus_page
from facts_of import budget_of, facts_of

N = 120
ORDER = np.random.default_rng(0).permutation(N)


def cell(model, accuracy, attack="none", audio=0.0, *, clips=range(N), seed=0, **columns):
    """Rows of one condition: the clips are right in one order, so that a better model is right on all of a worse one's."""
    right = [bool(ORDER[i % N] < accuracy * N) for i in clips]
    subset = "A" if audio else "clean"
    full = {
        "model": model, "seed": seed, "attack": attack, "mode": "corrected", "subset": subset, **budget_of(audio, 0.0).columns(),
        "clip": [f"clip{i}" for i in clips], "label": [i % 4 for i in clips], "status": "ok", "pred_clean": 0, "pred": 0,
        "correct_clean": [bool(ORDER[i % N] < 0.9 * N) for i in clips], "correct": right, "finite": True,
        "used_audio": 1.0 if audio else np.nan, "used_visual": np.nan,
    }  # fmt: skip
    return Rows.of(full | facts_of(attack) | columns)


def model(name, clean, pgd, fgsm=0.8, **more):
    cells = [(clean, "none", 0.0), (fgsm, "FGSM", 0.01), (pgd, "PGD-10", 0.01)]
    return Rows.concat([cell(name, accuracy, attack, audio, **more) for accuracy, attack, audio in cells])


def test_differences_are_paired_and_corrected_for_their_number():
    versus = avr.compare(model("early", 0.9, 0.3), model("late", 0.9, 0.6))
    clean, fgsm, pgd, worst = versus.contests
    assert [c.attack for c in versus.contests] == ["none", "FGSM", "PGD-10", WORST]
    own = mcnemar(ORDER < 0.6 * N, ORDER < 0.3 * N)
    (gap,) = pgd.gaps
    assert (gap.better, gap.worse, gap.difference) == (36, 0, pytest.approx(0.3))
    assert own.p < gap.p <= 4 * own.p and gap.low < own.low < own.high < gap.high
    assert pgd.better == worst.better == (1,) and clean.better == fgsm.better == (0,)
    assert worst.accuracy[1].value == pytest.approx(0.6)  # of what FGSM and PGD leave
    assert pgd.success[0].value == pytest.approx(1 - 0.3 / 0.9)
    assert versus.answer == "late is more robust than early with audio attacked." and versus.doubts == []
    text = versus.table()
    assert "+30.0 [" in text and "60.0 % of 120" in text and "note" not in text


def test_clips_and_attacks_of_one_side_only_are_counted_and_left_out():
    few = Rows.concat(
        [model("b", 0.9, 0.3, clips=range(20, N + 10)), cell("b", 0.1, "MIM-10", 0.01, clips=range(20, N))]
    )
    versus = avr.compare(model("a", 0.9, 0.6, clips=range(100)), few)
    assert versus.clips == 80 and versus.only == (20, 30)
    assert all(gap.n == 80 for c in versus.contests for gap in c.gaps)
    assert versus.apart == ((), ("MIM-10 within audio linf 0.01",))
    assert "80 clips that all have; 20 of a and 30 of b are left out" in versus.table()


def test_one_seed_each_is_paired_whichever_it_is():
    versus = avr.compare(model("a", 0.9, 0.6), model("b", 0.9, 0.3, seed=7))
    assert versus.contests[2].gaps[0].n == N and versus.contests[2].better == (-1,)


def test_seeds_that_are_not_the_same_are_paired_where_there_are_as_many():
    a, b, c = (
        Rows.concat([model(name, 0.9, pgd, seed=seed) for seed in seeds])
        for name, pgd, seeds in (("a", 0.6, (0, 1)), ("b", 0.3, (2, 3)), ("c", 0.3, (4, 5, 6)))
    )
    versus = avr.compare(a, b)
    assert versus.contests[2].better == (-1,) and versus.contests[2].accuracy[1].seeds == 2
    with pytest.raises(ValueError, match=r"as many seeds of each, got \(0, 1\) and \(4, 5, 6\)"):
        avr.compare(a, c)


def test_an_attack_that_left_its_budget_is_not_in_the_worst_case():
    far = [cell(m, 0.1, "MIM-10", 0.01, used_audio=1.2) for m in "ab"]
    versus = avr.compare(*(Rows.concat([model(m, 0.9, 0.6), more]) for m, more in zip("ab", far, strict=True)))
    assert {c.attack: c.accuracy[0].value for c in versus.contests}[WORST] == pytest.approx(0.6)


def test_an_attack_that_left_its_budget_decides_nothing():
    def rows(name, fgsm, mim):
        far = cell(name, mim, "MIM-10 published", 0.01, used_audio=1.2, mode="published")
        return Rows.concat([cell(name, 0.9), cell(name, fgsm, "FGSM", 0.01), far])

    versus = avr.compare(rows("a", 0.7, 0.1), rows("b", 0.4, 0.35))
    assert versus.answer == "a is more robust than b with audio attacked."
    assert [c.attack for c in versus_page.final(versus).values()] == ["none", "FGSM"]
    gone = avr.compare(*(rows(name, 0.7, 0.1).where(mode="published") for name in "ab"))
    assert gone.answer == "No attack that kept its budget ran on all models."


def test_no_answer_stands_above_an_alarm_that_voids_it(tmp_path):
    good, chance = model("good", 0.9, 0.6), model("chance", 0.25, 0.0, fgsm=0.1)
    versus = avr.compare(good, chance)
    assert versus.answer == "No answer: these alarms make the numbers unreliable (clean accuracy near chance)."
    assert versus.answer in versus_page.html(versus) and "is more robust than" not in versus_page.html(versus)


def test_what_cannot_be_compared_is_refused():
    a = model("a", 0.9, 0.6)
    with pytest.raises(ValueError, match=r"one model on each side, got a, b\. Choose one"):
        avr.compare(a, Rows.concat([a, model("b", 0.9, 0.6)]))
    with pytest.raises(ValueError, match=r"one label for the clip 'clip0', got 0 and 3"):
        avr.compare(a, model("b", 0.9, 0.6, label=3))
    with pytest.raises(ValueError, match=r"one model on each side, got none"):
        avr.compare(a, Rows.concat([]))
    with pytest.raises(ValueError, match="one condition that all models have, got none in common"):
        avr.compare(a, cell("b", 0.3, "PGD-10", 0.02))
    with pytest.raises(ValueError, match="two models or more, got 1"):
        avr.compare(a)


def test_three_models_are_one_family_and_each_meets_the_first():
    three = [model(name, 0.9, pgd) for name, pgd in (("base", 0.3), ("one", 0.6), ("two", 0.3))]
    versus, pair = avr.compare(*three), avr.compare(*three[:2])
    assert [len(c.gaps) for c in versus.contests] == [2] * 4 and versus.contests[2].better == (1, 0)
    assert versus.contests[2].gaps[0].low < pair.contests[2].gaps[0].low  # of eight comparisons, not of four
    assert "one is more robust than base with audio" in versus.answer
    assert "No clear difference between base and two with audio" in versus.answer
    accuracy, gaps = versus_page.accuracies(versus), [*versus_page.differences(versus)]
    shown = [(row["model"], row["accuracy, %"]) for row in accuracy.rows if "Audio" in row["attacked"]]
    assert shown == [("base", 30.0), ("one", 60.0), ("two", 30.0)]
    assert [row["difference, points"] for row in gaps[0].rows] == [0.0, 0.0, 30.0, 0.0]


def test_models_on_other_clips_stand_beside_each_other_untested():
    other = model("b", 0.9, 0.3, clips=range(N, 2 * N))
    versus = avr.compare(model("a", 0.9, 0.6), other)
    assert versus.clips == 0 and all(not c.gaps and c.accuracy[0].n == N for c in versus.contests)
    assert "no clip in common" in versus.table() and "attacked on different clips" in versus.answer
    assert [*versus_page.differences(versus)] == [] and "no difference is tested" in versus_page.html(versus)


def test_the_command_compares_runs_files_and_models_of_one_file(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = {name: model(name, 0.9, pgd) for name, pgd in (("late", 0.6), ("<b>early", 0.3))}
    for name, mine in rows.items():
        mine.save(tmp_path / f"{name[-5:].strip()}.parquet")
    Rows.concat(list(rows.values())).save(tmp_path / "both.parquet")
    assert main(["compare", "late.parquet", "early.parquet", "--html", "pages/versus.html"]) == 0
    printed = capsys.readouterr().out
    assert "late.parquet" not in printed and "late is more robust than <b>early with audio attacked." in printed
    html = (tmp_path / "pages/versus.html").read_text()
    assert (
        "<b>early" not in html
        and "&lt;b&gt;early" in html
        and 'class="better"' in html
        and "avrobust compare late" in html
    )
    assert main(["compare", "both.parquet", "--models", "late", "<b>early"]) == 0
    assert "late is more robust" in capsys.readouterr().out
    assert main(["compare", "late.parquet", "late.parquet"]) == 0
    assert (
        "No clear difference between late.parquet (1) and late.parquet (2) with audio attacked."
        in capsys.readouterr().out
    )
    for words, says in (
        (["both.parquet"], "expected one model, got late, <b>early. Name one of each run: --models"),
        (["both.parquet", "--models", "late", "lite"], "got 'lite'. Did you mean late?"),
        (["late.parquet", "early.parquet", "--models", "late"], "one model of each of the 2 runs, got 1"),
        (["nowhere"], "expected a run directory, found no run.json"),
        (["late.parquet", "early.parquet", "--html", "pages/versus.html"], "expected a new file"),
    ):
        assert main(["compare", *words]) == 1
        assert says in capsys.readouterr().err
    assert versus_page.html(avr.compare(*rows.values())).count("<section>") == 2
