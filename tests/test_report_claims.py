"""Claims follow the rows: their verdicts, the comparisons and margins behind them, and the headline above them."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from avrobust import report
from avrobust.cli.show import described
from avrobust.evaluation.comparison import mcnemar
from avrobust.evaluation.conditions import Condition, Predictions, shared
from avrobust.evaluation.flags import Flag
from avrobust.evaluation.stats import estimate, percent
from avrobust.facts import Budget
from avrobust.papers.tian2021.claims import pretraining_weakens
from avrobust.papers.tian2021.printed import PAPER
from avrobust.report import page
from avrobust.report.claims import Claim, Comparison, compare, families
from avrobust.report.load import read as read_run
from avrobust.report.run import Run
from avrobust.report.sections import modality, summary
from avrobust.report.sections.claims import claims, joint_attack_is_stronger
from fake_run import fake_run
from report_page import Page, read


@pytest.fixture(scope="module")
def whole(whole_run):
    return whole_run


def comparison(difference, p):
    gap = replace(mcnemar(np.ones(4, bool), np.ones(4, bool)), difference=difference, centre=difference)
    some = estimate(np.ones((1, 4), bool))
    return Comparison("low", "high", some, some, gap, p)


AS_CLAIMED, AGAINST, UNSURE = comparison(0.2, 0.01), comparison(-0.2, 0.01), comparison(0.2, 0.2)


# Headlines


def alarm(name, level="alarm", model=""):
    return Flag(name, level, "Because.", model)


@pytest.mark.parametrize(
    ("raised", "voids"),
    [
        (alarm("few clips"), True),
        (alarm("clean accuracy near chance", model="V"), True),
        (alarm("clean accuracy near chance", model="MinSim"), False),  # the answer does not speak of it
        (alarm("few clips", "warning"), False),
    ],
)
def test_no_headline_stands_above_an_alarm_that_voids_it(raised, voids, run_dir, monkeypatch):
    monkeypatch.setattr(Run, "flags", (raised,))
    said = summary.headline(read(run_dir))
    assert (said == f"No answer: these alarms make the numbers unreliable ({raised.name}).") == voids
    assert report.summary(run_dir).splitlines()[0] == said and said in Page(page.html(read(run_dir))).text


def test_an_unfinished_run_says_so_and_nothing_else(tmp_path):
    folder = fake_run(tmp_path / "r", clips=40, attacked=40, gallery=0, samples=0)
    asked = sum(1 for _ in folder.glob("cells/*"))
    for there in (asked, asked - 1):
        about = json.loads((folder / "run.json").read_text()) | {"cells": asked}
        (folder / "run.json").write_text(json.dumps(about))
        text, lines = Page(page.html(read(folder))).text, report.summary(folder).splitlines()
        missing = f"1 of {asked} conditions are missing"
        assert (missing in text) == any(missing in line for line in lines) == (there < asked)
        raised = {f["name"] for f in described(folder)[1]["flags"]}
        assert ("unfinished" in raised) == (there < asked)
        assert any("in the worst case" in line for line in lines) == (there == asked)
        shutil.rmtree(next(folder.glob("cells/*")))


def test_flags_that_are_alike_share_a_place(run_dir, monkeypatch):
    blind = [Flag("a modality is ignored", "warning", f"m{i} is blind.", f"m{i}") for i in range(3)]
    monkeypatch.setattr(Run, "flags", (Flag("few clips", "alarm", "Few."), *blind))
    text = page.html(read(run_dir))
    assert text.count('data-flag="a modality is ignored"') == text.count('data-flag="few clips"') == 1
    assert "A modality is ignored (m0, m1, m2)" in text and all(f.text in text for f in blind)
    lines = report.summary(run_dir).splitlines()
    assert "alarm: Few." in lines and "warning: m0 is blind. And 2 more like it." in lines


def test_the_headline_says_something_of_both_attacked_whatever_was_measured(run_dir, tmp_path):
    for folder in (run_dir, fake_run(tmp_path / "r", without=(("FGSM", "AV"), ("PGD-10", "AV"), ("MIM-10", "AV")))):
        said = summary.answer(claims(read(folder)))
        assert "when both are attacked" in said, said
    assert "was not tested when both are attacked" in said


@pytest.mark.parametrize(
    ("signs", "says"),
    [
        ({}, "helps on clean clips and when both are attacked; it hurts when audio is attacked and when the visual input is attacked"),
        ({"clean": (0, 0)}, "makes no clear difference on clean clips"),
        ({"clean": (1, 0)}, "beats only the weaker unimodal model on clean clips"),
        ({"company": (1, -1)}, "is behind the better unimodal model when both are attacked"),
        ({"company": (0, -1)}, "is behind the better unimodal model when both are attacked"),
        ({"company": (-1, -1)}, "hurts when audio is attacked, when the visual input is attacked and when both are attacked"),
        ({"A": (-1,)}, "helps on clean clips, when audio is attacked and when both are attacked"),
        ({"V": ()}, "was not tested when the visual input is attacked"),
        ({"V": (0,)}, "makes no clear difference when the visual input is attacked"),
    ],
)  # fmt: skip
def test_the_headline_says_what_the_comparisons_below_it_say(signs, says):
    made = {1: AS_CLAIMED, -1: AGAINST, 0: UNSURE}
    every = {"clean": (1, 1), "A": (1,), "V": (1,), "company": (1, 1)} | signs
    assert says in summary.answer([Claim(name, "", tuple(made[s] for s in of)) for name, of in every.items()])


# Verdicts and what they rest on


@pytest.mark.parametrize(
    "found, every, verdict",
    [
        ((), True, "not tested"),
        ((AS_CLAIMED, AS_CLAIMED), True, "holds"),
        ((AS_CLAIMED, UNSURE), True, "undecided"),
        ((AS_CLAIMED, UNSURE), False, "holds in part"),
        ((AS_CLAIMED, AS_CLAIMED), False, "holds"),
        ((UNSURE, UNSURE), False, "undecided"),
        ((AS_CLAIMED, AGAINST), True, "does not hold"),
        ((AS_CLAIMED, AGAINST), False, "does not hold"),
    ],
)
def test_verdicts(found, every, verdict):
    assert Claim("x", "", found, every).verdict == verdict


def test_three_clips_do_not_show_that_clean_accuracy_is_kept():
    def answers(right):
        condition = Condition("m", "none", "clean", Budget())
        return Predictions(condition, "corrected", (0,), ("a", "b", "c"), 3, {"correct": np.array([right])})

    (found,) = compare("None", answers([False] * 3), "full", answers([True] * 3), margin=0.03)
    assert found.p > 0.05 and found.sign == 0


def test_too_few_clips_decide_nothing(tmp_path):
    folder = fake_run(tmp_path / "r", clips=12, attacked=12, unread=0, gallery=0, samples=0)
    assert {c.verdict for c in claims(read(folder))} - {"not tested"} <= {"undecided", "holds"}
    assert "few clips" in {f.name for f in read(folder).flags}


def test_a_margin_is_a_claim_of_not_much_less():
    ours, theirs = np.zeros((1, 400)), np.zeros((1, 400))
    ours[0, :200], theirs[0, :200] = 1, 1
    ours[0, :4] = 0  # one point less, with little doubt
    made = [_compared(theirs, ours, margin) for margin in (0.0, 0.005, 0.05)]
    assert [c.gap.difference for c in made] == [-0.01] * 3
    assert [c.sign for c in made] == [0, 0, 1]


def _compared(low, high, margin):
    def answers(values):
        clips = tuple(map(str, range(values.shape[1])))
        nothing = Condition("a", "none", "clean", Budget())
        return Predictions(nothing, "corrected", (0,), clips, len(clips), {"correct": values})

    (made,) = compare("low", answers(low), "high", answers(high), margin=margin)
    return made


def test_what_is_said_beside_an_interval_is_what_it_says(whole, run_dir):
    shown = 0
    for run in (read(whole), read(run_dir)):
        for claim in claims(run):
            for k in claim.comparisons:
                decided = k.gap.low > -k.margin or k.gap.high < -k.margin
                assert decided == (k.p < 0.05) == (k.sign != 0)
                shown += 1
            assert claim.verdict != "holds" or all(k.sign == 1 for k in claim.comparisons)
            assert claim.verdict != "does not hold" or any(k.sign == -1 for k in claim.comparisons)
    assert shown > 20


def test_one_clean_number_per_model_and_the_clips_it_is_of(run_dir, parsed):
    run = read(run_dir)
    clean = {m: estimate(run.clean(m)["correct"]) for m in ("AV", "A", "V")}
    table = {row.kind: row for row in modality.rows(run)}
    assert clean["AV"].n == 327 and {kind: row.clean for kind, row in table.items()} == clean
    seen = 0
    for claim in claims(run):
        for k in claim.comparisons:
            for name, here, whole in ((k.low_name, k.low, k.low_whole), (k.high_name, k.high, k.high_whole)):
                if name in (
                    "audio-only, clean",
                    "visual-only, clean",
                ):  # against attacked clips, of which there are fewer
                    assert here.n == 217 and whole == clean["A" if name == "audio-only, clean" else "V"]
                    assert f"({percent(whole.value)} of all 327)" in parsed.text
                    seen += 1
    assert seen == 2
    (against,) = next(c for c in claims(run) if c.name == "A").comparisons
    ours, other = table["AV"].attacked["A"], table["V"].attacked["A"]
    assert (ours.value, other.value, other.n) == (against.low.value, against.high.value, 217)
    assert table["V"].untouched == {"A"} and "not attacked" in parsed.cell(
        "by modality", "visual-only", "Audio attacked"
    )
    assert "over all 327 readable test clips, robust accuracy over 217 of them" in parsed.text
    assert "Differences and means are over the clips that both sides share" in parsed.text


# Claims


def test_claims_follow_the_rows(tmp_path):
    folder = fake_run(tmp_path / "r", clips=900, attacked=900, gallery=0, samples=0)
    run = read(folder)
    found = {c.name: c for c in claims(run)}
    assert found["clean"].verdict == "holds"
    assert found["A"].verdict == "holds"
    assert found["MIM"].verdict in (
        "undecided",
        "does not hold",
    )  # the fake MIM is a little weaker than its PGD
    assert found["leaving"].verdict == "holds"
    (k,) = found["A"].comparisons
    worst = run.worst_case([("AV", "A", run.levels[-1]["A"])])[0]["correct"]
    reference = mcnemar(run.clean("V")["correct"][0], worst[0])
    assert (k.gap.better, k.gap.worse, k.gap.difference) == (
        reference.better,
        reference.worse,
        reference.difference,
    )
    size = families(claims(run))["integration"]
    assert size == 6  # two each on clean clips and when both are attacked, one for either modality
    assert k.gap == reference.as_one_of(size) and k.p == k.gap.p
    assert "helps on clean clips" in summary.answer(claims(run))
    assert "hurts when audio is attacked" in summary.answer(claims(run))


def test_claims_on_video_compare_equal_budgets_only(tmp_path):
    """The larger of its tables has four times the budget on video: there, nothing is said about the weaker modality."""
    run = read(fake_run(tmp_path / "r", clips=900, attacked=900, gallery=0, samples=0))
    found = {c.name: c for c in claims(run)}
    audio, video = run.worst_case([("AV", s, run.levels[0][s]) for s in ("A", "V")])
    (k,) = found["weaker"].comparisons
    reference = mcnemar(audio["correct"][0], video["correct"][0])
    assert (k.gap.better, k.gap.worse) == (reference.better, reference.worse)
    assert k.gap.difference == pytest.approx(audio["correct"].mean() - video["correct"].mean())
    assert found["one step"].verdict == "holds" and "0.048" in found["one step"].comparisons[0].low_name
    assert found["pretraining"].verdict == "not tested"  # nothing says what its models started from


def test_a_run_without_a_paper_tests_the_general_claims(whole, tmp_path):
    """The headline and the verdicts on integration are those with the paper, and nothing of it stands beside."""
    alone, beside = read_run(whole), read(whole)
    mine, theirs = ({c.name: c for c in claims(run)} for run in (alone, beside))
    assert set(mine) == {"clean", "A", "V", "joint", "company"} < set(theirs)
    assert summary.answer(tuple(mine.values())) == summary.answer(tuple(theirs.values()))
    assert all(theirs[name].printed and not claim.printed for name, claim in mine.items())
    assert alone.printed is None and beside.printed is PAPER.printed["MIT-MUSIC"]
    text = Page(page.html(alone)).text
    assert "paper" not in text.lower()
    assert PAPER.citation in Page(page.html(beside)).text


def test_a_joint_attack_is_compared_with_its_parts_at_half_their_budgets_only(whole):
    run = read(whole)
    (half,) = [c for c in claims(run) if c.name == "joint"]
    assert half.verdict != "not tested"
    level = run.levels[0]
    full = level | {"AV": replace(level["AV"], audio=level["A"].audio)}
    assert not joint_attack_is_stronger(run, full).comparisons and joint_attack_is_stronger(run, level).comparisons


def test_defenses_are_compared_over_the_attacks_that_all_of_them_met(whole):
    """An attack that only some met would make those look weaker."""
    run = read(whole)
    table = dict(run.table)
    for c, a in run.table.items():
        if c.model == "MinSim+ExFMem" and c.attack == "PGD-10":
            table[replace(c, attack="PGD-10 from AV")] = replace(
                a, columns=dict(a.columns) | {"correct": a["correct"] & False}
            )
    found = [{c.name: c for c in claims(r)} for r in (run, replace(run, table=table))]
    for name in ("RI", "MinSim"):
        before, after = (c[name].comparisons for c in found)
        assert before and [c.gap for c in before] == [c.gap for c in after]


def test_claims_about_defenses_follow_the_rows(whole):
    found = {c.name: c for c in claims(read(whole))}
    assert found["MinSim"].verdict == "holds"
    assert found["RI"].verdict == "holds" and len(found["RI"].comparisons) == 4
    assert found["kept"].verdict == "holds"
    assert found["fusion"].verdict == "holds"
    assert found["listening"].verdict == "holds"
    weaker = replace(read(whole), table={c: a for c, a in read(whole).table.items() if c.model != "MinSim+ExFMem"})
    assert {c.name: c.verdict for c in claims(weaker)}["RI"] == "not tested"


def test_pretrained_weights_are_compared_with_random_ones(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "r")
    told = json.loads((folder / "run.json").read_text())
    told["models"]["AV"]["visual_weights"] = "efficientnet-lite0"
    (folder / "run.json").write_text(json.dumps(told))
    run = read(folder)
    level = run.defense_levels[0]
    k, other = pretraining_weakens(run, level).comparisons
    ours, theirs = shared(*run.worst_case([(m, "V", level["V"]) for m in ("AV", "Sum")]))
    assert (k.low.value, k.high.value) == (ours["correct"].mean(), theirs["correct"].mean())
    assert k.low_name == other.low_name and k.low_name.startswith("AV, visual attacked")
    assert (k.high_name, other.high_name) == ("Sum", "FiLM")
