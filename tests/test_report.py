"""The page needs nothing but itself, no name or file breaks it, and what is missing stays missing."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html import unescape

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from avrobust import report
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.stats import percent
from avrobust.report import media, page
from avrobust.report.figures import library
from avrobust.report.load import RunError
from avrobust.report.load import read as read_run
from avrobust.report.sections import (
    accuracy,
    curves,
    defenses,
    features,
    gallery,
    localisation,
    modality,
    samples,
    summary,
)
from avrobust.report.sections.claims import claims
from fake_run import CLASSES, fake_run
from report_page import MEAN, PAPERS_BUDGETS, ROBUST, Page, read, write


@pytest.fixture(scope="module")
def whole(whole_run):
    return whole_run


# A page


def test_it_is_well_formed(parsed):
    assert parsed.crossed == [] and parsed.open == []


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


def test_a_run_of_three_models_has_no_section_for_others(html):
    for words in (
        "One clip, clean and attacked",
        "Fusions",
        "Models and defenses",
        "Sound source localisation",
        "Feature space",
    ):
        assert words not in html


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
    assert len(drawn) > 6 and all(len(a["aria-label"]) > 15 for a in drawn)


def test_it_is_small_and_the_same_every_time(run_dir, html):
    assert len(html) < 8_000_000
    write(run_dir)
    assert (run_dir / "report.html").read_text() == html


def test_it_never_imports_torch(tmp_path):
    (tmp_path / "run.json").write_text('{"version": 2}')
    code = "import pathlib, sys, avrobust.report as r; r.write(pathlib.Path(sys.argv[1])); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)


# Names and files cannot break it


def test_names_from_files_cannot_break_the_page(tmp_path):
    folder = fake_run(tmp_path / "r", clips=30, attacked=30, title="<script>alert(1)</script> & co")
    text = write(folder).read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in text


def test_dollar_signs_and_markup_in_names_are_text(tmp_path):
    names = {"kind": "AV", "curve": [{"epoch": 1, "val_accuracy": 0.5}]}
    told = {"models": {"$\\frac{$ <b>x</b>": names, 'A" onload="y': names}}
    folder = fake_run(tmp_path / "r", clips=30, attacked=30, gallery=0, samples=0, **told)
    text = write(folder).read_text()
    assert "$\\frac{$ &lt;b&gt;x&lt;/b&gt;" in text
    parsed = Page(text)
    assert parsed.crossed == [] and not any("onload" in attrs for _, attrs in parsed.elements)
    assert "<b>x</b>" not in text


def test_no_name_turns_the_text_after_it_around(tmp_path):
    name = "AV\u202e, \u2067better"
    folder = fake_run(
        tmp_path / "r", clips=30, attacked=30, gallery=0, samples=0, title=name, models={name: {"kind": "AV"}}
    )
    page = Page(write(folder).read_text())
    assert not {"\u202e", "\u2067"} & set(page.text) and page.text.count("AV\\u202e, \\u2067better") > 3


def test_a_models_name_leads_nowhere_else(whole, tmp_path):
    secret = tmp_path / "secret"
    shutil.copytree(whole / "strips" / "Attention", secret)
    for name in (str(secret), "../../secret", ".."):
        assert localisation.strips(replace(read(whole), path=tmp_path / "runs" / "r"), name) == []


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


def test_a_model_without_answers_is_not_taken_for_another(whole):
    run = read(whole)
    later = replace(run, table={c: a for c, a in run.table.items() if c.model != "AV"})
    assert later.model("AV") == "AV" and later.clean(later.model("AV")) is None
    assert not defenses.defense_tables(later) and not accuracy.attack_tables(later)
    parsed = Page(page.html(later))
    assert parsed.open == [] and "does not compare audio-visual with unimodal models yet" in parsed.text


def test_cells_that_are_being_written_do_not_count(tmp_path):
    folder = fake_run(tmp_path / "r", clips=40, attacked=40, gallery=0, samples=0)
    before = report.summary(folder)
    cell = next(folder.glob("cells/*"))
    shutil.copytree(cell, cell.with_name(f".{cell.name}.part"))
    assert report.summary(folder) == before


def test_rows_of_machines_that_give_other_numbers_are_said_to_be(tmp_path):
    told = {"torch": "2.9.0", "precision": "float32", "threads": 1, "features": ["avx2"]}
    same, other = {"a": told}, {"a": told, "b": told | {"precision": "bfloat16", "features": ["avx2", "amx_tile"]}}
    for i, worlds in enumerate((same, other)):
        folder = fake_run(tmp_path / str(i), clips=30, attacked=30, gallery=0, samples=0, worlds=worlds)
        said = "come from machines that give different numbers: CPU features avx2 or avx2, amx_tile; precision float32 or bfloat16"
        assert (said in Page(write(folder).read_text()).text) == (worlds is other)
        assert (said in report.summary(folder)) == (worlds is other)


# What is damaged


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


# Pictures and sounds


def test_features_are_drawn_and_measured(whole):
    near, far = features.clouds(read(whole))
    assert (near.model, far.model) == ("AV", "MinSim")
    assert near.figure.spec["encoding"]["shape"]["legend"]["orient"] == "top"  # both legends in one row cut each other
    assert far.audio.silhouette > near.audio.silhouette and far.visual.within < near.visual.within
    assert len(near.figure.rows) == 88 and {row["class"] for row in near.figure.rows} == {
        c.replace("_", " ") for c in CLASSES
    }


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


def test_examples_say_how_they_were_chosen_and_their_model(parsed, run_dir, whole):
    found = gallery.data(read(run_dir))
    assert found["result"] == "4 examples, chosen among clips that the attack fools"
    assert "both attacked at 0.012 (−38.4 dBFS) and 0.048 normalised" in (said := "; ".join(found["others"]))
    assert "here, at 0.006 (−44.4 dBFS) and 0.006 normalised" in said and "audio attacked" not in said
    assert "PGD-10 on AV, both attacked at 0.012" in parsed.text
    assert "PGD-10 on both modalities of the model Attention at" in Page(page.html(read(whole))).text


def test_small_spectrograms_have_no_axes_that_nobody_could_read(html):
    for name in ("gallery", "samples"):
        section = html[html.index(f'id="{name}"') :].split("</details>")[0]
        assert '<img class="spectrogram" src="data:image/png' in section and "<svg" not in section


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


# Rows of a user's own


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


# In a browser


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


def in_a_browser(html, script, tmp_path):
    """What a script makes the title of a page on a narrow screen, as JSON."""
    page, _, rest = html.rpartition("</body>")  # the library of figures has another
    (tmp_path / "page.html").write_text(page + script + rest)
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
    return json.loads(unescape(re.search(r"<title>(.*?)</title>", dom.stdout)[1]))


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_long_words_make_no_page_wider_than_a_phone(tmp_path):
    long = "W" * 200
    folder = fake_run(
        tmp_path / "r", clips=30, attacked=30, gallery=0, samples=0, title=long, models={long: {"kind": "AV"}}
    )
    said = "document.title = JSON.stringify(document.documentElement.scrollWidth <= innerWidth)"
    script = f'<script>addEventListener("load", () => {{ {said} }});</script></body>'
    assert in_a_browser(write(folder).read_text(), script, tmp_path) is True


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_in_a_browser_sections_open_and_tables_sort(html, tmp_path):
    found = in_a_browser(html, CLICKS, tmp_path)
    before, up, rising, down, falling, none, after = found[:7]
    numbers = [float(n) for n in before.split()]
    assert (up, down, none) == ("ascending", "descending", "none") and before == after
    assert [float(n) for n in rising.split()] == sorted(numbers) == [float(n) for n in falling.split()][::-1]
    # A link opens its section alone, printing opens all but the record for programs, and three formats are copied or saved.
    assert found[7:12] == [True, False, True, False, False] and found[12] == 6
    assert found[13] is True  # nothing is wider than the window
