"""Tables and curves show the numbers of the rows, with the paper's own beside them, wherever a table goes."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avrobust import report
from avrobust.cli import main
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.stats import estimate, percent, proportion
from avrobust.facts import AttackInfo
from avrobust.papers.tian2021.printed import TABLE_1
from avrobust.report import export, table
from avrobust.report.load import read as read_run
from avrobust.report.measured import heading
from avrobust.report.sections import accuracy, classes, curves, defenses, fusions, localisation, modality
from avrobust.report.sections.claims import claims
from facts_of import budget_of
from fake_run import CLASSES, TABLES, fake_run
from report_page import MEAN, OTHER_BUDGETS, PAPERS_BUDGETS, ROBUST, Page, carried, read, write


@pytest.fixture(scope="module")
def whole(whole_run):
    return whole_run


def rows(folder):
    return [r for f in folder.glob("cells/*/rows.parquet") for r in pq.read_table(f).to_pylist()]


# Attacks and the paper's numbers


def test_every_number_of_table_1_is_that_of_the_rows(run_dir, parsed):
    every, checked = rows(run_dir), 0
    for title, level in ((PAPERS_BUDGETS, TABLES[0]), (OTHER_BUDGETS, TABLES[0][:1] + TABLES[1])):
        (table,) = [t for t in parsed.tables if t["title"].endswith(title)]
        attacks = {row[0]["text"] for row in table["rows"]}
        assert attacks == {r["attack"] for r in every if (r["eps_audio"], r["eps_visual"]) == level[-1][1:]}
        for attack in attacks:
            right = {}
            for subset, audio, visual in level:
                mine = [
                    r
                    for r in every
                    if (r["model"], r["attack"], r["subset"], r["eps_audio"], r["eps_visual"])
                    == ("AV", attack, subset, audio, visual)
                ]
                ok = [r for r in mine if r["status"] == "ok"]
                right[subset] = {r["clip"]: r["correct"] for r in ok}
                p = proportion(sum(right[subset].values()), len(ok))
                number, interval = parsed.cell(title, attack, ROBUST[subset])[:2]
                assert number == percent(p.value)
                assert interval == f"of {p.n} [{percent(p.low)}, {percent(p.high)}]"
                checked += 1
            average = np.mean([list(v.values()) for v in right.values()])
            assert parsed.cell(title, attack, MEAN)[0] == percent(average)
    assert checked == 27
    for model, name in (("AV", "audio-visual"), ("A", "audio-only"), ("V", "visual-only")):
        ok = [r for r in every if (r["model"], r["subset"], r["status"]) == (model, "clean", "ok")]
        assert parsed.cell("by modality", name, "Clean")[0] == percent(np.mean([r["correct"] for r in ok]))


def test_the_papers_numbers_stand_beside(parsed):
    for family, row in TABLE_1["MIT-MUSIC"].items():
        name = family if family == "FGSM" else f"{family}-10"
        for column, value in ((ROBUST["A"], row.a), (ROBUST["V"], row.v), (ROBUST["AV"], row.av), (MEAN, row.avg)):
            assert parsed.cell(PAPERS_BUDGETS, name, column)[-1] == f"paper {value:.1f}"
    # At other budgets there are none.
    assert "paper" not in " ".join(parsed.cell(OTHER_BUDGETS, "FGSM", ROBUST["V"]))


@pytest.mark.parametrize(
    "told",
    [
        {"benchmark": None},
        {"paper": None},
        {"data": {"classes": [*CLASSES, "harp"]}},
        {"benchmark": "?"},
        {"paper": "?"},
    ],
)
def test_the_papers_numbers_stand_beside_its_own_data_only(told, tmp_path):
    """Where the study does not say that the data are the paper's, or their classes are others."""
    folder = fake_run(tmp_path / "r", clips=60, attacked=60, unread=0, gallery=0, samples=0, whole=True, **told)
    run = read(folder)
    cells = [c for t in accuracy.attack_tables(run) for row in t.rows for c in row.cells.values()]
    cells += [
        c
        for t in (*defenses.defense_tables(run), *fusions.fusion_tables(run))
        for r in t.rows
        for c in r.cells.values()
    ]
    assert len(cells) > 50 and all(c.printed is None for c in cells) and not run.printed_clean
    assert all(row.printed_ri is None for t in defenses.defense_tables(run) for row in t.rows)
    page = Page(write(folder).read_text())
    assert page.crossed == [] and "as printed in the paper" not in page.text
    assert ("on other data than the paper's" in page.text) == (run.paper is not None)


def test_the_papers_numbers_stand_beside_its_own_budgets_only(whole):
    run = read(whole)

    def elsewhere(c):
        b = c.budget
        return replace(c, budget=replace(b, visual=replace(b.visual, unit="linear") if b.visual.eps else b.visual))

    pixels = replace(run, table={elsewhere(c): a for c, a in run.table.items()})
    for r, there in ((run, True), (pixels, False)):
        (first, *_), (attacks, *_) = defenses.defense_tables(r), accuracy.attack_tables(r)
        assert (first.rows[0].cells["A"].printed is not None) == there
        assert (attacks.rows[0].cells["A"].printed is not None) == there
        assert (heading(r, first.level, defenses=True) == "At the paper's budgets") == there


@pytest.mark.parametrize("name", ["PGD by Anna", "PGD-10 (mine)", "PGD"])
def test_somebody_else_s_attack_is_not_taken_for_ours_by_its_name(name, run_dir):
    run = read(run_dir)

    def theirs(c, a):
        return (replace(c, attack=name), replace(a, info=AttackInfo())) if c.attack == "PGD-10" else (c, a)

    hers = replace(run, table=dict(theirs(c, a) for c, a in run.table.items()))
    (ours,), (anna,) = (
        [row for row in accuracy.attack_tables(r)[0].rows if row.attack == n]
        for r, n in ((run, "PGD-10"), (hers, name))
    )
    assert ours.cells["A"].printed == 13.46 and anna.cells["A"].printed is None
    assert anna.cells["A"].ours == ours.cells["A"].ours
    before, after = ({c.name: c for c in claims(r)} for r in (run, hers))
    assert {k.high_name for k in before["MIM"].comparisons} == {"PGD-10"}
    assert name not in {k.high_name for k in after["MIM"].comparisons}
    # An attack is an attack: it counts in the worst case.
    assert [c.gap.difference for c in after["A"].comparisons] == [c.gap.difference for c in before["A"].comparisons]


def test_what_left_its_budget_says_so(parsed, html):
    assert "up to 11.25 × its budget" in parsed.text
    assert html.count("its budget</small>") == 1


def test_attack_success_is_over_the_clips_that_were_correct(run_dir, parsed):
    run = read(run_dir)
    level = run.levels[0]
    row = next(r for r in accuracy.attack_tables(run)[0].rows if r.attack == "PGD-10")
    found = run.attacked("AV", "PGD-10", "A", level["A"])
    right = found["correct_clean"][0]
    assert row.cells["A"].success.value == pytest.approx(1 - found["correct"][0][right].mean())
    assert row.cells["A"].success.n == right.sum() < 217
    shown = parsed.cell(PAPERS_BUDGETS, "PGD-10", "Audio attacked: attack success")
    assert shown[0] == percent(row.cells["A"].success.value) and shown[1].startswith(f"of {right.sum()} [")


def test_corrupted_clips_are_no_attack_s(run_dir):
    rows = Rows.concat([Rows.load(f) for f in sorted(run_dir.glob("cells/*/rows.parquet"))])
    attacked = rows.where(attack="FGSM", model="AV")
    columns = {"attack": pa.array(["rain 5"] * len(attacked)), "mode": pa.array(["corruption"] * len(attacked))}
    rained = attacked.data
    for name, values in columns.items():
        rained = rained.set_column(rained.column_names.index(name), name, values)
    run = read(Rows.concat([rows, Rows(rained)]))
    assert "rain 5" not in run.infos and run.infos.keys() == read(rows).infos.keys()


def test_the_first_table_is_the_worst_case(run_dir):
    run = read(run_dir)
    ours, budget = modality.subject(run).attacked["A"], run.levels[-1]["A"]
    # Not among them is the one that leaves its budget.
    attacks = ("FGSM", "PGD-10", "MIM-10", "FGSM published", "PGD-10 published")
    found = [run.attacked("AV", a, "A", budget)["correct"] for a in attacks]
    assert ours.value == np.logical_and.reduce(found).mean()
    assert ours.value <= min(f.mean() for f in found)


def test_several_seeds_are_averaged_and_said(tmp_path):
    folder = fake_run(tmp_path / "r", clips=60, attacked=60, seeds=(0, 1, 2), gallery=0, samples=0)
    parsed = Page(write(folder).read_text())
    assert "means over 3 seeds, and intervals range over clips and seeds" in parsed.text
    every = rows(folder)
    ok = [r["correct"] for r in every if (r["model"], r["subset"], r["status"]) == ("V", "clean", "ok")]
    assert len(ok) == 3 * 57
    number, interval = parsed.cell("by modality", "visual-only", "Clean")[:2]
    assert number == percent(np.mean(ok))
    assert interval.startswith("of 57 × 3 [")


# Curves


def test_curves_show_the_rows(run_dir):
    run = read(run_dir)
    curve = run.curves("A")["PGD-10"]
    both, audio, visual = curves.lines(run, "PGD-10", "A", curve)
    names = ["audio-visual", "audio-only, attacked", "visual-only, clean"]
    assert [line.name for line in (both, audio, visual)] == names
    assert len(both.values) == 7 and visual.level
    assert both.values[3] == estimate(run.table[curve[2]]["correct"])
    assert visual.values[0] == estimate(run.clean("V")["correct"])
    joint = run.curves("AV")["PGD-10"]
    assert [c.budget.audio.eps for c in joint] == [0.001, 0.003, 0.006, 0.012, 0.024, 0.048]
    assert [c.budget.visual.eps for c in joint] == [0.003, 0.006, 0.012, 0.048, 0.192, 0.384]
    assert len(curves.lines(run, "PGD-10", "AV", joint)) == 3


@pytest.mark.parametrize(
    ("subset", "budget", "title", "tick"),
    [
        ("A", budget_of(0.012), "audio budget (dBFS)", "−38.4"),
        ("V", budget_of(0, 0.048, visual_unit="normalised"), "visual budget (grey levels of 255)", "2.8"),
        ("V", budget_of(0, 0.5, "l2"), "visual budget (L2)", "0.5"),
    ],
)
def test_budgets_stand_in_the_unit_that_is_easiest_to_picture(subset, budget, title, tick):
    axis = curves._budget_axis(subset, [budget])["axis"]
    assert axis["title"] == [title] and json.loads(axis["labelExpr"].removesuffix("[datum.value]")) == [["0"], [tick]]


# Fusions, defenses, places, classes


def answers(run, model, subset):
    """Under FGSM at the budgets of Table 3."""
    return run.attacked(model, "FGSM", subset, run.defense_levels[0][subset])


def test_table_2_has_both_means(whole):
    run = read(whole)
    table = fusions.fusion_tables(run)[0]
    assert [row.model for row in table.rows] == ["AV", "Sum", "FiLM"]
    for row in table.rows:
        clean, *attacked = (row.cells[s].ours.value for s in ("clean", "A", "V", "AV"))
        assert row.cells["Avg"].ours.value == pytest.approx(np.mean(attacked), abs=0.01)
        # The clean column holds more clips than the attacked ones: means are over the clips that all share.
        assert row.cells["Avg with clean"].ours.value == pytest.approx(np.mean([clean, *attacked]), abs=0.05)
    assert table.rows[0].cells["Avg with clean"].printed == pytest.approx(50.24, abs=0.01)
    assert table.rows[0].cells["Avg"].printed == pytest.approx(37.50, abs=0.01)


def test_table_3_is_that_of_the_rows(whole):
    run = read(whole)
    fgsm, pgd = defenses.defense_tables(run)
    assert (fgsm.attack, pgd.attack) == ("FGSM", "PGD-10")
    rows = {row.model: row for row in fgsm.rows}
    assert list(rows) == [
        "AV",
        "A",
        "V",
        "MaxSim",
        "MinSim",
        "AV, extra epochs",
        "MinSim+ExFMem",
    ]
    for name, model in (("AV", "AV"), ("MinSim", "MinSim")):
        a, v, av = (answers(run, model, s) for s in ("A", "V", "AV"))
        cells = rows[name].cells
        assert (cells["A"].ours.value, cells["V"].ours.value) == (a["correct"].mean(), v["correct"].mean())
        wanted = np.mean([a["correct"].mean(), v["correct"].mean(), av["correct"].mean()])
        assert cells["Avg"].ours.value == pytest.approx(wanted)
    # RI is paired: on the clips that both models could read.
    clips = sorted(set(answers(run, "AV", "AV").clips) & set(answers(run, "MinSim", "AV").clips))
    assert 0 < len(clips) < 150

    def worth(model):
        attacked = [answers(run, model, s).subset((0,), clips)["correct"].mean() for s in ("A", "V", "AV")]
        return run.clean(model).subset((0,), clips)["correct"].mean() + np.mean(attacked)

    assert rows["MinSim"].ri.value == pytest.approx(worth("MinSim") - worth("AV"))
    assert rows["AV"].ri.n == 0
    below = defenses.under_attack(fgsm, "RI").below
    assert (
        f"{rows['MinSim'].ri.n} clips, those that were attacked" in below
        and f"is over {rows['AV'].cells['clean'].ours.n}" in below
    )
    assert defenses.under_attack(fgsm, "Avg with clean").below == ""
    assert rows["AV"].cells["clean"].printed == 88.46 and rows["MinSim"].printed_ri == 16.35
    assert rows["AV, extra epochs"].cells["A"].printed is None
    assert pgd.rows[0].cells["clean"].printed is None  # the paper's defenses met FGSM only


def test_a_model_of_one_modality_does_not_notice_attacks_on_the_other(whole):
    run = read(whole)
    rows = {row.model: row for row in defenses.defense_tables(run)[0].rows}
    cells = rows["A"].cells
    assert cells["V"].ours == cells["clean"].ours and cells["AV"].ours == cells["A"].ours
    assert cells["A"].ours != cells["clean"].ours


def test_where_it_looks_is_that_of_the_rows(whole):
    run = read(whole)
    (table,) = localisation.tables(run).values()
    rows = {(r.condition, r.subset): r for r in table}
    clean = run.clean("Attention")
    boxed = ~np.isnan(clean["pointing"][0])
    assert rows["Clean", "clean"].pointing.n == boxed.sum() == 180  # every tenth clip has no box: left out, not zero
    assert rows["Clean", "clean"].pointing.value == pytest.approx(clean["pointing"][0][boxed].mean())
    both = boxed & ~np.isnan(clean["rival_mass"][0])
    wanted = (clean["mass"][0] > clean["rival_mass"][0])[both].mean()
    assert rows["Clean", "clean"].prefers.value == pytest.approx(wanted)
    assert rows["Clean", "clean"].moved.value == 0
    assert rows["Audio of another clip", "control"].moved.value == pytest.approx(0.1)
    blind = run.clean("Attention, no sound")["pointing"][0][boxed]
    assert rows["Trained without audio", "control"].pointing.value == pytest.approx(blind.mean())
    assert run.model("V") == "V"
    assert rows["PGD-10", "AV"].pointing.value < rows["Clean", "clean"].pointing.value
    assert [(b.name, b.pointing.value) for b in localisation.baselines(run)] == [
        ("The whole frame", 0.0),
        ("A box at the centre", 0.5),
    ]
    clean_peaks, half = np.arange(1.0, 201), np.arange(1.0, 201) / 2
    assert rows["Silence", "control"].sees.value == (half >= np.quantile(clean_peaks, 0.05)).mean()
    assert rows["Clean", "clean"].sees.n == rows["Audio of another clip", "control"].sees.n == 0


def test_controls_are_no_attacks(whole):
    run = read(whole)
    assert "swapped" not in run.infos and len(run.controls) == 2
    assert "swapped" not in " ".join(f.text for f in run.flags)


def test_accuracy_by_class_and_confusions_add_up(run_dir):
    run = read_run(run_dir)
    level = run.levels[-1]
    found, clean = classes.rows(run, level), run.clean(run.subject)
    assert [row.name for row in found] == CLASSES
    assert sum(row.clean.ours.n for row in found) == clean["correct"].size
    assert sum(row.clean.ours.value * row.clean.ours.n for row in found) == pytest.approx(clean["correct"].sum())
    worst = run.worst_case_at(level)["V"]
    for row, k in zip(found, range(len(CLASSES)), strict=True):
        right = worst["correct_clean"] & (worst["label"] == k)
        assert row.attacked["V"].success.value == pytest.approx((right & ~worst["correct"]).sum() / right.sum())
    for c in classes.confusions(run, level):
        p = clean if c.subset == "clean" else run.attacked(run.subject, c.attack, c.subset, level[c.subset])
        assert c.counts.sum() + c.outside == p["pred"].size and np.diag(c.counts).sum() == p["correct"].sum()
        assert all(n <= total for *_, n, total in c.most(CLASSES))
    nameless = classes.names(replace(run, record=replace(run.record, data=type(run.record.data)())))
    assert nameless == [str(k) for k in range(len(nameless))]


# Tables elsewhere than on the page


def test_summary_has_the_table(run_dir):
    text = report.summary(run_dir)
    line = next(line for line in text.splitlines() if line.startswith("PGD-10 "))
    run = read(run_dir)
    level = run.levels[0]
    assert line.split()[2] == percent(estimate(run.attacked("AV", "PGD-10", "A", level["A"])["correct"]).value)
    assert "warning: MIM-10 published" in text
    assert max(len(line) for line in text.splitlines()) < 500


def test_every_table_is_written_for_papers_and_programs(run_dir, tmp_path, capsys):
    assert (
        main(["report", str(run_dir), "--html", str(tmp_path / "page.html"), "--tables", str(tmp_path / "tables")]) == 0
    )
    text = (tmp_path / "page.html").read_text()
    files = sorted((tmp_path / "tables").iterdir())
    whole = text.count('<div class="table"')
    assert f"{whole} tables" in capsys.readouterr().out and len(files) == 3 * whole > 10
    assert {f.read_text() for f in files} == {
        own[kind] for own in carried(text).values() for kind in ("csv", "json", "tex")
    }
    mine = next(f for f in files if "robust-accuracy-at-the-paper" in f.name and f.suffix == ".csv")
    fgsm = next(row for row in csv.DictReader(mine.read_text().splitlines()) if row["Attack"] == "FGSM")
    run = read(run_dir)
    cells = accuracy.attack_tables(run)[0].rows[0].cells
    for s, column in ROBUST.items():
        ours = cells[s].ours
        found = [float(fgsm[column + part]) / 100 for part in ("", ": low", ": high")]
        assert found == pytest.approx([ours.value, ours.low, ours.high], abs=1e-6)
        assert int(fgsm[f"{column}: clips"]) == ours.n and float(fgsm[f"{column}: paper"]) == cells[s].printed
    told = json.loads(mine.with_suffix(".json").read_text())
    assert told["title"].startswith("Robust accuracy by attack") and told["rows"][0][0] == {"text": "FGSM"}
    tex = mine.with_suffix(".tex").read_text()
    assert (
        tex.count(r"\\") == len(told["rows"]) + 2
        and r"\toprule" in tex
        and "%" not in tex.split("tabular", 1)[1].replace(r"\%", "")
    )


def test_names_from_files_are_text_wherever_a_table_goes():
    """HTML is the templates' concern; here are the script element, spreadsheets and LaTeX."""
    name = "</script><b>=cmd()&_%"
    shown = export.PageTables()
    shown.add(
        table.table(
            name, ["=Class", name], [["@SUM(1)", name], ["-1", table.percentage(0.5)], ["[1cm]", "*"], ["*", "b"]]
        )
    )
    embedded = str(shown.embedded())
    assert not {"<", ">", "&"} & set(embedded)
    (own,) = json.loads(embedded).values()
    assert next(csv.reader(own["csv"].splitlines()[1:]))[0] == "'@SUM(1)" and own["csv"].startswith("'=Class")
    assert json.loads(own["json"])["columns"][1] == name
    assert r"$<$/script$>$$<$b$>$=cmd()\&\_\%" in own["tex"]
    # LaTeX takes these, in a line of their own too, for arguments of the \\ before.
    assert not re.search(r"\\\\\s*[\[*]", own["tex"]) and "\n{}[1cm] & " in own["tex"] and "\n{}* & " in own["tex"]
