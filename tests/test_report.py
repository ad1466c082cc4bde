"""The page: what it says is what the rows say, what is missing stays missing, and it needs nothing but itself."""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from avrobust import report
from avrobust.cli import main
from avrobust.evaluation.comparison import mcnemar
from avrobust.evaluation.conditions import Condition, Predictions, shared
from avrobust.evaluation.flags import Flag
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.stats import Proportion, estimate, percent
from avrobust.facts import AttackInfo, Budget
from avrobust.papers.tian2021.claims import pretraining_weakens
from avrobust.papers.tian2021.printed import PAPER, TABLE_1
from avrobust.report import export, media, page, table
from avrobust.report.claims import Claim, Comparison, compare, families
from avrobust.report.figures import library
from avrobust.report.load import RunError
from avrobust.report.load import read as read_run
from avrobust.report.measured import heading
from avrobust.report.run import Run
from avrobust.report.sections import (
    accuracy,
    classes,
    curves,
    defenses,
    features,
    fusions,
    localisation,
    modality,
    samples,
    summary,
)
from avrobust.report.sections.claims import claims, joint_attack_is_stronger
from facts_of import budget_of
from fake_run import CLASSES, TABLES, fake_run

PAPERS = {PAPER.name: PAPER}
read, write = partial(read_run, papers=PAPERS), partial(report.write, papers=PAPERS)

VOID = {"meta", "link", "img", "br", "input", "hr", "path", "use"}


class Page(HTMLParser):
    """Elements of a page as they open, its text, its tables, and whether every element is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.crossed, self.words = [], [], [], []
        self.tables = [json.loads(own["json"]) for own in carried(text).values()]
        self.feed(text)
        self.close()

    def cell(self, title, row, column):
        """What a cell says, and the lines below it; `title` ends that of the table."""
        (table,) = [t for t in self.tables if t["title"].endswith(title)]
        (cells,) = [cells for cells in table["rows"] if cells[0]["text"] == row]
        cell = cells[table["columns"].index(column)]
        return [cell["text"], *cell.get("small", [])]

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.crossed.append(tag)

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def carried(html):
    """The files of the tables of a page, by their place in it."""
    return json.loads(re.search(r'<script type="application/json" id="table-files">(.*?)</script>', html, re.DOTALL)[1])


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = fake_run(tmp_path_factory.mktemp("runs") / "quick")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def html(run_dir):
    return (run_dir / "report.html").read_text()


@pytest.fixture(scope="module")
def parsed(html):
    return Page(html)


def rows(folder):
    return [r for f in folder.glob("cells/*/rows.parquet") for r in pq.read_table(f).to_pylist()]


def comparison(difference, p):
    gap = replace(mcnemar(np.ones(4, bool), np.ones(4, bool)), difference=difference, centre=difference)
    some = estimate(np.ones((1, 4), bool))
    return Comparison("low", "high", some, some, gap, p)


AS_CLAIMED, AGAINST, UNSURE = comparison(0.2, 0.01), comparison(-0.2, 0.01), comparison(0.2, 0.2)


# A page


def test_it_is_well_formed(parsed):
    assert parsed.crossed == [] and parsed.open == []


def test_ids_are_unique_and_the_navigation_leads_to_each_heading(parsed, html):
    html = html.replace(str(library()), "")
    ids = Counter(a["id"] for _, a in parsed.elements if "id" in a)
    assert [i for i, n in ids.items() if n > 1] == []
    inside = [a[k] for _, a in parsed.elements for k in ("href", "xlink:href") if a.get(k, "").startswith("#")]
    assert len(inside) > 8
    headings = re.findall(r"<h2>(.*?)</h2>", html.split("<nav")[1])
    assert re.findall(r'<a href="#\w+">(.*?)</a>', html) == headings
    assert (
        html.count('<details class="section"') == len(headings) - 2
    )  # what raises doubt and the first table stay open
    assert 'aria-label="Sections"' in html and html.index("<h1>") < html.index("What raises doubt</h2>")
    assert {i[1:] for i in inside} <= set(ids)


def test_it_loads_nothing_from_elsewhere(html, parsed):
    for tag, attrs in parsed.elements:
        for name in ("src", "href", "xlink:href", "poster", "data", "srcset", "action"):
            assert attrs.get(name, "#").startswith(("data:", "#")), (tag, name)
    html = html.replace(str(library()), "")
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]
    assert "@import" not in style and "url(" not in style
    assert all(u.startswith("#") for u in re.findall(r"url\(([^)]*)\)", html))


def test_it_can_be_read_without_seeing_or_hearing(parsed):
    images = [a for tag, a in parsed.elements if tag == "img"]
    assert len(images) > 15 and all(a.get("alt") for a in images)
    assert all(a.get("aria-label") for tag, a in parsed.elements if tag == "audio")
    assert all("scope" in a for tag, a in parsed.elements if tag == "th")
    drawn = [a for _, a in parsed.elements if a.get("role") == "img"]
    assert len(drawn) > 7 and all(len(a["aria-label"]) > 15 for a in drawn)


def test_it_is_small_and_the_same_every_time(run_dir, html):
    assert len(html) < 8_000_000
    write(run_dir)
    assert (run_dir / "report.html").read_text() == html


def test_it_never_imports_torch(tmp_path):
    (tmp_path / "run.json").write_text('{"version": 2}')
    code = "import pathlib, sys, avrobust.report as r; r.write(pathlib.Path(sys.argv[1])); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)


def test_names_from_files_cannot_break_the_page(tmp_path):
    folder = fake_run(tmp_path / "r", clips=30, attacked=30, title="<script>alert(1)</script> & co")
    text = write(folder).read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in text


# Numbers


ROBUST = {s: f"{name} attacked: robust accuracy" for s, name in (("A", "Audio"), ("V", "Visual"), ("AV", "Both"))}
MEAN = "Mean robust accuracy"
PAPERS_BUDGETS, OTHER_BUDGETS = "Robust accuracy, at the paper's budgets", "Robust accuracy, at other budgets"


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
                p = Proportion(sum(right[subset].values()), len(ok))
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
    assert "RI are over the clips that both sides share" in parsed.text


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


def test_rows_of_machines_that_give_other_numbers_are_said_to_be(tmp_path):
    told = {"torch": "2.9.0", "precision": "float32", "threads": 1, "features": ["avx2"]}
    same, other = {"a": told}, {"a": told, "b": told | {"precision": "bfloat16", "features": ["avx2", "amx_tile"]}}
    for i, worlds in enumerate((same, other)):
        folder = fake_run(tmp_path / str(i), clips=30, attacked=30, gallery=0, samples=0, worlds=worlds)
        said = "come from machines that give different numbers: CPU features avx2 or avx2, amx_tile; precision float32 or bfloat16"
        assert (said in Page(write(folder).read_text()).text) == (worlds is other)
        assert (said in report.summary(folder)) == (worlds is other)


def test_what_left_its_budget_says_so(parsed, html):
    assert "up to 11.25 × its budget" in parsed.text
    assert html.count("its budget</small>") == 1


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


# Fusions, defenses, places, features


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fake_run(tmp_path_factory.mktemp("whole") / "r", clips=200, attacked=150, gallery=0, samples=0, whole=True)


def answers(run, model, subset):
    """Under FGSM at the budgets of Table 3."""
    return run.attacked(model, "FGSM", subset, run.defense_levels[0][subset])


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
        "AV, trained as long",
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
    assert rows["AV"].cells["clean"].printed == 88.46 and rows["MinSim"].printed_ri == 16.35
    assert rows["AV, trained as long"].cells["A"].printed is None
    assert pgd.rows[0].cells["clean"].printed is None  # the paper's defenses met FGSM only


def test_a_model_of_one_modality_does_not_notice_attacks_on_the_other(whole):
    run = read(whole)
    rows = {row.model: row for row in defenses.defense_tables(run)[0].rows}
    cells = rows["A"].cells
    assert cells["V"].ours == cells["clean"].ours and cells["AV"].ours == cells["A"].ours
    assert cells["A"].ours != cells["clean"].ours


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


def test_rows_of_a_user_s_own_have_the_same_page(run_dir, tmp_path):
    """No run.json, models of other names, no paper: what the harness found about the models is their record."""
    names = {"AV": "late fusion", "A": "wav2vec", "V": "resnet"}
    data = Rows.concat([Rows.load(f) for f in sorted(run_dir.glob("cells/*/rows.parquet"))]).data
    models = pa.array([names[m] for m in data["model"].to_pylist()])
    data = data.set_column(data.column_names.index("model"), "model", models)
    none = {"audio": 0.0, "visual": 0.0}
    probe = {"clips": 8, "random": 0.0, "sociable": 0.0, "faint": none, "flat": none}
    ignores = {"late fusion": (False, False), "wav2vec": (False, True), "resnet": (True, False)}
    probes = {m: probe | {"ignores": dict(zip(("audio", "visual"), i, strict=True))} for m, i in ignores.items()}
    mine = Rows(data, {"classes": dict.fromkeys(ignores, 11), "probes": probes})
    mine.save(tmp_path / "rows.parquet")
    page = mine.report(tmp_path / "mine.html")
    assert report.write(tmp_path / "rows.parquet", tmp_path / "again.html").read_text() == page.read_text()
    run, theirs = read_run(mine), read_run(run_dir)
    assert [run.model(kind) for kind in ("AV", "A", "V")] == list(names.values())
    assert summary.answer(claims(run)) == summary.answer(claims(theirs))
    parsed = Page(page.read_text())
    assert parsed.crossed == [] and "paper" not in parsed.text.lower() and "late fusion" in parsed.text
    assert summary.headline(run) in parsed.text.replace("\xa0", " ") and summary.headline(run) in report.summary(mine)
    with pytest.raises(ValueError, match="Say where"):
        report.write(mine)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"classes": 3}, "at classes: expected an object"),
        ({"probes": {"late fusion": [1]}}, "at probes.late fusion: expected an object"),
        ([1], "expected facts by model"),
        ({"probes": {"late fusion": {"clips": "many"}}}, "at models.late fusion.probe"),
    ],
)
def test_facts_beside_a_stranger_s_rows_are_refused_by_the_file_s_name(about, said, run_dir, tmp_path):
    rows = Rows.load(next(run_dir.glob("cells/*/rows.parquet")))
    models = pa.array(["late fusion"] * len(rows))
    data = rows.data.set_column(rows.data.column_names.index("model"), "model", models)
    pq.write_table(data.replace_schema_metadata({b"avrobust": json.dumps(about).encode()}), tmp_path / "rows.parquet")
    with pytest.raises(RunError, match=rf"rows\.parquet: .*{said}"):
        read(tmp_path / "rows.parquet")


def test_corrupted_clips_are_no_attack_s(run_dir):
    rows = Rows.concat([Rows.load(f) for f in sorted(run_dir.glob("cells/*/rows.parquet"))])
    attacked = rows.where(attack="FGSM", model="AV")
    columns = {"attack": pa.array(["rain 5"] * len(attacked)), "mode": pa.array(["corruption"] * len(attacked))}
    rained = attacked.data
    for name, values in columns.items():
        rained = rained.set_column(rained.column_names.index(name), name, values)
    run = read(Rows.concat([rows, Rows(rained)]))
    assert "rain 5" not in run.infos and run.infos.keys() == read(rows).infos.keys()


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


def test_a_model_without_answers_is_not_taken_for_another(whole):
    run = read(whole)
    later = replace(run, table={c: a for c, a in run.table.items() if c.model != "AV"})
    assert later.model("AV") == "AV" and later.clean(later.model("AV")) is None
    assert not defenses.defense_tables(later) and not accuracy.attack_tables(later)
    parsed = Page(page.html(later))
    assert parsed.open == [] and "does not compare audio-visual with unimodal models yet" in parsed.text


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


def test_three_clips_do_not_show_that_clean_accuracy_is_kept():
    def answers(right):
        condition = Condition("m", "none", "clean", Budget())
        return Predictions(condition, "corrected", (0,), ("a", "b", "c"), 3, {"correct": np.array([right])})

    (found,) = compare("None", answers([False] * 3), "full", answers([True] * 3), margin=0.03)
    assert found.p > 0.05 and found.sign == 0


def test_claims_about_defenses_follow_the_rows(whole):
    found = {c.name: c for c in claims(read(whole))}
    assert found["MinSim"].verdict == "holds"
    assert found["RI"].verdict == "holds" and len(found["RI"].comparisons) == 4
    assert found["kept"].verdict == "holds"
    assert found["fusion"].verdict == "holds"
    assert found["listening"].verdict == "holds"
    weaker = replace(read(whole), table={c: a for c, a in read(whole).table.items() if c.model != "MinSim+ExFMem"})
    assert {c.name: c.verdict for c in claims(weaker)}["RI"] == "not tested"


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


def test_features_are_drawn_and_measured(whole):
    near, far = features.clouds(read(whole))
    assert (near.model, far.model) == ("AV", "MinSim")
    assert far.audio.silhouette > near.audio.silhouette and far.visual.within < near.visual.within
    assert len(near.figure.rows) == 88 and {row["class"] for row in near.figure.rows} == {
        c.replace("_", " ") for c in CLASSES
    }


@pytest.mark.parametrize(
    "broken",
    [
        {"label": np.arange(44)},  # classes that there are none of
        {"label": np.zeros(44)},
        {"tsne_audio": np.zeros((44, 3))},
        {"audio": np.full((44, 16), np.nan)},
        {"visual": np.zeros((43, 16))},
        {"visual": None},
        {},
    ],
    ids=["labels", "labels as numbers", "no plane", "nan", "too few", "missing", "cut short"],
)
def test_features_that_are_damaged_are_named(broken, whole, tmp_path):
    folder = tmp_path / "r"
    shutil.copytree(whole, folder)
    file = folder / "features" / "MinSim-0.safetensors"
    tensors = {k: v for k, v in (load_file(file) | broken).items() if v is not None}
    save_file(tensors, file)
    if not broken:
        file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(RunError, match=r"MinSim-0\.safetensors: expected .*features.*Delete it and run"):
        write(folder)


@pytest.mark.parametrize("part", ["gallery/00", "gallery/00/adv.png", "samples", "strips/Attention/01/AV.wav"])
def test_a_page_holds_files_of_its_run_only(part, tmp_path):
    folder = fake_run(tmp_path / "r", clips=30, attacked=30, gallery=1, samples=1, whole=True)
    here, there = folder / part, tmp_path / "elsewhere"
    here.rename(there)
    here.symlink_to(there)
    with pytest.raises(RunError, match=f"{part}.*: expected a file of this run, got a link to .*elsewhere"):
        write(folder)
    here.unlink()
    there.rename(here)
    moved = tmp_path / "link"
    moved.symlink_to(folder)  # the run itself may be reached through a link
    assert write(moved).exists()


def test_a_models_name_leads_nowhere_else(whole, tmp_path):
    secret = tmp_path / "secret"
    shutil.copytree(whole / "strips" / "Attention", secret)
    for name in (str(secret), "../../secret", ".."):
        assert localisation.strips(replace(read(whole), path=tmp_path / "runs" / "r"), name) == []


@pytest.mark.parametrize(
    "told", [{"box": ["0;background:url(//x)", 0, 1, 1]}, {"box": [0, 1]}, {"pred": "tuba"}, {"budget": "a"}, None]
)
def test_a_strip_that_is_damaged_is_named(told, whole, tmp_path):
    folder = tmp_path / "r"
    shutil.copytree(whole, folder)
    file = folder / "strips/Attention/01/clip.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | told) if told else "{")
    with pytest.raises(RunError, match=r"01/clip\.json: expected"):
        write(folder)


def test_dollar_signs_and_markup_in_names_are_text(tmp_path):
    names = {"kind": "AV", "curve": [{"epoch": 1, "val_accuracy": 0.5}]}
    told = {"models": {"$\\frac{$ <b>x</b>": names, 'A" onload="y': names}}
    folder = fake_run(tmp_path / "r", clips=30, attacked=30, gallery=0, samples=0, **told)
    text = write(folder).read_text()
    assert "$\\frac{$ &lt;b&gt;x&lt;/b&gt;" in text
    parsed = Page(text)
    assert parsed.crossed == [] and not any("onload" in attrs for _, attrs in parsed.elements)
    assert "<b>x</b>" not in text


def test_the_whole_page_is_well_formed(whole):
    text = write(whole).read_text()
    parsed = Page(text)
    assert not parsed.open and not parsed.crossed
    for words in (
        "Fusions",
        "Models and defenses",
        "Sound source localisation",
        "Feature space",
        "Sparse codes of the feature memories",
    ):
        assert words in text
    assert text.count('class="rival"') == 8 and len(text) < 3_000_000
    links = {a["href"][1:] for tag, a in parsed.elements if tag == "a" and a["href"].startswith("#")}
    assert links <= {a.get("id") for _, a in parsed.elements}


def test_one_clip_is_seen_heard_and_looked_at_before_and_after(whole):
    text = write(whole).read_text()
    section = text[text.index('id="one_clip"') :].split("</details>")[0]
    clean, attacked = section.split("<figure data-condition=")[1:]
    for side, condition, said in ((clean, "clean", "tuba"), (attacked, "AV", "erhu")):
        wav = whole / f"strips/Attention/01/{condition}.wav"
        assert "Waveform: one clip" in side and "Spectrogram: one clip" in side
        assert media.uri(wav) in side and "<audio controls" in side and "<svg" in side
        for name in (condition, f"{condition}-heat"):
            assert media.uri(wav.with_name(f"{name}.png")) in side
        assert f">{said}</p>" in side
    assert 'says right">tuba' in clean and 'says wrong">erhu' in attacked
    assert "0.012 (−38.4 dBFS) and 0.048 normalised" in section


def test_a_run_of_three_models_has_no_section_for_others(html):
    for words in (
        "One clip, clean and attacked",
        "Fusions",
        "Models and defenses",
        "Sound source localisation",
        "Feature space",
    ):
        assert words not in html


# What is missing


def test_a_missing_cell_is_a_dash_and_never_zero(tmp_path):
    folder = fake_run(tmp_path / "r", clips=40, attacked=40, without=(("PGD-10", "A"), ("MIM-10 published", "AV")))
    parsed = Page(write(folder).read_text())
    for attack, column in (
        ("PGD-10", ROBUST["A"]),
        ("PGD-10", MEAN),
        ("MIM-10 published", ROBUST["AV"]),
        ("MIM-10 published", MEAN),
    ):
        assert parsed.cell(PAPERS_BUDGETS, attack, column)[0] == "—"
        assert not any(word.startswith("of ") for word in parsed.cell(PAPERS_BUDGETS, attack, column))
    assert parsed.cell(PAPERS_BUDGETS, "PGD-10", ROBUST["V"])[0] != "—"
    assert "—" in report.summary(folder)


def test_unreadable_clips_are_counted_and_named(parsed):
    assert "3 of 330 test clips could not be read: counted 327." in parsed.text
    assert "tuba/clip000.mp4" in parsed.text and "no audio stream" in parsed.text
    assert any(w.startswith("of 327 ") for w in parsed.cell("by modality", "audio-visual", "Clean"))


def test_a_run_without_anything_still_has_its_page(tmp_path):
    (tmp_path / "run.json").write_text('{"version": 2}')
    text = write(tmp_path).read_text()
    parsed = Page(text)
    assert parsed.crossed == [] and parsed.open == []
    assert "does not compare audio-visual with unimodal models yet" in parsed.text
    # What the run has nothing for is not there.
    there = set(re.findall(r"<h2>(.*?)</h2>", text))
    assert not {"Robust accuracy by attack", "Tested claims", "Models and training", "Setup"} & there and len(there) < 4
    assert not parsed.tables
    assert report.summary(tmp_path)


@pytest.mark.parametrize("model", ["AV", "A", "V"])
def test_a_run_without_one_of_its_models(tmp_path, model):
    folder = fake_run(tmp_path / "r", clips=40, attacked=40, gallery=0, samples=0)
    for f in folder.glob("cells/*/rows.parquet"):
        if Rows.load(f).data["model"][0].as_py() == model:
            shutil.rmtree(f.parent)
    parsed = Page(write(folder).read_text())
    assert parsed.crossed == [] and parsed.open == []
    assert ("not tested" in parsed.text) == (model != "AV")  # without it, nothing is compared


def test_cells_that_are_being_written_do_not_count(tmp_path):
    folder = fake_run(tmp_path / "r", clips=40, attacked=40, gallery=0, samples=0)
    before = report.summary(folder)
    cell = next(folder.glob("cells/*"))
    shutil.copytree(cell, cell.with_name(f".{cell.name}.part"))
    assert report.summary(folder) == before


def test_what_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"found no run\.json"):
        write(tmp_path)
    (tmp_path / "run.json").write_text("{ half")
    with pytest.raises(RunError, match="expected JSON"):
        write(tmp_path)
    (tmp_path / "run.json").write_text('{"models": {}}')
    with pytest.raises(RunError, match=r"of version 2, got version 1: .* an earlier release.*\. Put back"):
        write(tmp_path)
    (tmp_path / "run.json").write_text('{"version": 2}')
    (tmp_path / "cells" / "x").mkdir(parents=True)
    (tmp_path / "cells" / "x" / "rows.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(RunError, match=r"rows\.parquet: expected rows"):
        write(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_boxes_are_drawn_where_they_are_known(parsed, tmp_path):
    assert any(tag == "i" and "left:20.0%;top:30.0%" in a.get("style", "") for tag, a in parsed.elements)
    folder = fake_run(tmp_path / "r", clips=30, attacked=30, samples=2)
    index = folder / "samples" / "samples.json"
    index.write_text(re.sub(r'"box": \[[^]]*\]', '"box": null', index.read_text()))
    assert "the outline is the thing that sounds" not in write(folder).read_text()


def test_sounds_that_do_not_fit_are_left_out_and_said(run_dir):
    full, none = samples.samples(run_dir, media.Room(10**9)), samples.samples(run_dir, media.Room(0))
    assert all(s.audio.wav for s in full) and not any(s.audio.wav for s in none)
    assert all(s.audio.spectrogram for s in none)


def test_gallery_shows_what_was_before_and_after(parsed):
    assert f"{CLASSES[0]} → {CLASSES[3]}" in parsed.text
    assert "PGD-10, visual attacked at 0.048 normalised (2.8 of 255 grey levels)" in parsed.text
    assert (
        f"({CLASSES[0]} 93.0 %)" in parsed.text and "visual × 32" in parsed.text and "audio not attacked" in parsed.text
    )


# Claims


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


def test_too_few_clips_decide_nothing(tmp_path):
    folder = fake_run(tmp_path / "r", clips=12, attacked=12, unread=0, gallery=0, samples=0)
    assert {c.verdict for c in claims(read(folder))} - {"not tested"} <= {"undecided", "holds"}
    assert "few clips" in {f.name for f in read(folder).flags}


def test_flags_that_are_alike_share_a_place(run_dir, monkeypatch):
    blind = [Flag("a modality is ignored", "warning", f"m{i} is blind.", f"m{i}") for i in range(3)]
    monkeypatch.setattr(Run, "flags", (Flag("few clips", "alarm", "Few."), *blind))
    text = page.html(read(run_dir))
    assert text.count('data-flag="a modality is ignored"') == text.count('data-flag="few clips"') == 1
    assert "A modality is ignored (m0, m1, m2)" in text and all(f.text in text for f in blind)
    lines = report.summary(run_dir).splitlines()
    assert "alarm: Few." in lines and "warning: m0 is blind. And 2 more like it." in lines


# In the terminal


def test_summary_has_the_table(run_dir):
    text = report.summary(run_dir)
    line = next(line for line in text.splitlines() if line.startswith("PGD-10 "))
    run = read(run_dir)
    level = run.levels[0]
    assert line.split()[2] == percent(estimate(run.attacked("AV", "PGD-10", "A", level["A"])["correct"]).value)
    assert "warning: MIM-10 published" in text
    assert max(len(line) for line in text.splitlines()) < 500


# One model of a user's own


def alone(run_dir, model):
    """The rows of one model of a run, without the record of the run."""
    every = Rows.concat([Rows.load(f) for f in sorted(run_dir.glob("cells/*/rows.parquet"))])
    none = {"audio": 0.0, "visual": 0.0}
    ignores = {"audio": model == "V", "visual": model == "A"}
    probe = {"clips": 8, "random": 0.0, "sociable": 0.0, "faint": none, "flat": none, "ignores": ignores}
    return Rows(every.where(model=model).data, {"classes": {model: len(CLASSES)}, "probes": {model: probe}})


@pytest.mark.parametrize("model", ["AV", "A", "V"])
def test_one_model_is_compared_with_nothing_and_all_tables_are_about_it(model, run_dir, tmp_path):
    mine = alone(run_dir, model)
    run = read_run(mine)
    assert run.alone and run.subject == model
    parsed = Page(mine.report(tmp_path / "mine.html").read_text())
    assert parsed.crossed == [] and "integration" not in parsed.text and "Tested claims" not in parsed.text
    kind = {"AV": "audio-visual", "A": "audio-only", "V": "visual-only"}[model]
    clean = mine.where(attack="none", status="ok").accuracy()
    assert f"The {kind} model classifies {percent(clean.value)} % of the clean clips" in summary.headline(run)
    assert [row.kind for row in modality.rows(run)] == [model]
    assert len(accuracy.attack_tables(run)[0].rows) >= 2 and curves.curves(run)


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
    shown.add(table.table(name, ["=Class", name], [["@SUM(1)", name], ["-1", table.percentage(0.5)]]))
    embedded = str(shown.embedded())
    assert not {"<", ">", "&"} & set(embedded)
    (own,) = json.loads(embedded).values()
    assert next(csv.reader(own["csv"].splitlines()[1:]))[0] == "'@SUM(1)" and own["csv"].startswith("'=Class")
    assert json.loads(own["json"])["columns"][1] == name
    assert r"$<$/script$>$$<$b$>$=cmd()\&\_\%" in own["tex"]


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CLICKS = """<script>
addEventListener("load", () => {
  const box = [...document.querySelectorAll(".table")].find(b => b.closest("#classes"));
  const column = () => [...box.querySelectorAll("tbody tr")].map(r => r.cells[1].dataset.sort).join(" ");
  const head = box.querySelectorAll("th[scope=col]")[1], sort = head.querySelector("button"), said = [column()];
  for (let i = 0; i < 3; i++) { sort.click(); said.push(head.getAttribute("aria-sort"), column()); }
  said.push(document.getElementById("classes").open, document.getElementById("setup").open);
  dispatchEvent(new Event("beforeprint"));
  said.push(document.getElementById("setup").open, document.querySelector(".whole")?.open ?? false);
  dispatchEvent(new Event("afterprint"));
  said.push(document.getElementById("setup").open, box.querySelectorAll(".menu button").length);
  said.push(document.documentElement.scrollWidth <= innerWidth);
  document.title = JSON.stringify(said);
});
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_in_a_browser_sections_open_and_tables_sort(run_dir, html, tmp_path):
    page, _, rest = html.rpartition("</body>")  # the library of figures has another
    (tmp_path / "page.html").write_text(page + CLICKS + rest)
    words = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=500,800",
        f"--user-data-dir={tmp_path}/profile",
        "--dump-dom",
    ]
    dom = subprocess.run(
        [CHROMIUM, *words, f"file://{tmp_path}/page.html#classes"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = json.loads(unescape(re.search(r"<title>(.*?)</title>", dom.stdout)[1]))
    before, up, rising, down, falling, none, after = found[:7]
    numbers = [float(n) for n in before.split()]
    assert (up, down, none) == ("ascending", "descending", "none") and before == after
    assert [float(n) for n in rising.split()] == sorted(numbers) == [float(n) for n in falling.split()][::-1]
    # A link opens its section alone, printing opens all but the record for programs, and three formats are copied or saved.
    assert found[7:12] == [True, False, True, False, False] and found[12] == 6
    assert found[13] is True  # nothing is wider than the window
