"""Figures: the specification is valid and says what the rows say, names are only names, files are vector files."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import altair
import numpy as np
import pytest

from avrobust import report
from avrobust.cli import main
from avrobust.media.colour import magma
from avrobust.report import charts, export, spectrogram
from avrobust.report.figures import LIGHT, Figure, embed, figures_in, library
from fake_run import MORE, about, fake_run

HOSTILE = "</script><b>$_%&\\"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of few clips, with a model whose name breaks whatever it is put into unescaped."""
    hostile = {HOSTILE: {"kind": "AV", "curve": [{"epoch": 1, "val_accuracy": 0.5}] * 2}}
    models = (
        about(40, (0,), 0, "")["models"] | {name: {"kind": "AV"} | own for name, (own, _) in MORE.items()} | hostile
    )
    folder = tmp_path_factory.mktemp("runs") / "run"
    return fake_run(folder, clips=40, attacked=30, gallery=1, samples=2, whole=True, models=models)


@pytest.fixture(scope="module")
def figures(run):
    found = report.figures_of(run)
    return {figure.name: figure for figure in found}


def parts(spec):
    """A specification and the layers in it."""
    yield spec
    for layer in spec.get("layer", ()):
        yield from parts(layer)


def test_every_specification_is_valid_vega_lite_and_has_axes_and_words(figures):
    names = " ".join(figures)
    assert all(kind in names for kind in ("curve", "training", "spectrogram", "waveform", "features"))
    for figure in figures.values():
        altair.Chart.from_dict(figure.whole() | {"config": {}}, validate=True)
        assert len(figure.alt) > 20 and figure.title and figure.caption.endswith(".")
        channels = [
            c for part in parts(figure.spec) for name, c in part.get("encoding", {}).items() if name in ("x", "y")
        ]
        assert channels and all(c["axis"]["title"] for c in channels if c.get("type") == "quantitative")


def test_the_table_behind_a_figure_is_what_is_drawn(figures):
    for figure in figures.values():
        drawn, names = figure.whole()["data"]["values"], [c.name for c in figure.table.columns]
        for row, cells in zip(drawn, figure.table.rows, strict=True):
            said = {n: c.number.value if c.number else c.text for n, c in zip(names, cells, strict=True)}
            assert {n: v for n, v in said.items() if v == v} == row


def test_a_name_is_only_a_name(figures, run, tmp_path):
    drawn = figures["training"]
    assert HOSTILE in {row["model"] for row in drawn.rows}
    assert "<b>" not in drawn.drawing and "&lt;/script&gt;" in drawn.drawing
    assert "<" not in drawn.embedded() and json.loads(drawn.embedded()) == drawn.whole()
    page = report.write(run, tmp_path / "page.html").read_text()
    scripts = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert len(scripts) == sum(f.live for f in figures.values()) and all(json.loads(s)["data"] for s in scripts)
    assert HOSTILE not in page
    assert page.count(str(library())) == 1

    class Ids(HTMLParser):
        seen: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag, attrs):
            self.seen += [value for name, value in attrs if name == "id"]

    Ids().feed(page)
    assert len(Ids.seen) == len(set(Ids.seen))


def test_figures_are_written_for_papers(run, figures, tmp_path, capsys):
    figure = Figure(
        "a/../b", f"Title {HOSTILE}", "alt", figures["training"].rows, figures["training"].spec, caption=HOSTILE
    )
    for columns, points in ((1, 234), (2, 495)):
        written = export.write_figures([figure], tmp_path / str(columns), columns)
        assert [p.name for p in written] == [f"01-a-b.{kind}" for kind in ("pdf", "svg", "tex", "csv")]
        pdf, svg, tex, _ = (p.read_bytes() for p in written)
        box = re.search(rb"MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)
        assert pdf.startswith(b"%PDF") and float(box[1]) == pytest.approx(points, abs=1)
        assert (
            b"/Subtype /Image" not in pdf and b"<text" in svg and b"var(--" not in svg
        )  # vectors, text, colours of paper
        assert tex.decode() == r"\caption{$<$/script$>$$<$b$>$\$\_\%\&\textbackslash{}}\label{fig:01-a-b}" + "\n"
    assert main(["report", str(run), "--html", str(tmp_path / "p.html"), "--figures", str(tmp_path / "all")]) == 0
    assert f"{len(figures)} figures as .pdf and .svg" in capsys.readouterr().out
    assert len([*(tmp_path / "all").glob("*.pdf")]) == len(figures)


def test_without_the_library_it_is_said_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['vl_convert'] = None\n"
        "from avrobust.cli import main\n"
        "sys.exit(main(['report', 'nowhere']))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "avrobust[report]"' in found.stderr


def test_colours_of_files_are_those_of_the_page_on_paper():
    from avrobust.report.page import environment

    styles = "".join(environment().get_template(f"templates/{name}.css").render() for name in ("report", "figures"))
    paper = dict(reversed(re.findall(r"--(\w+): (#\w+);", styles)))  # the first of each: dark comes second
    assert {name: paper[name] for name in LIGHT} == LIGHT


def test_variants_of_one_modality_differ_in_more_than_one_way():
    looks = charts.looks({f"m{i}": "AV" for i in range(12)} | {"a": "A", "v": "V"})
    assert len({json.dumps(own) for own in looks.values()}) == 14
    assert looks["a"]["colour"] == "var(--audio)" and looks["v"]["colour"] == "var(--visual)"


def test_a_spectrogram_has_axes_and_a_scale():
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)
    figure = spectrogram.spectrogram("tone", tone, 8000)
    assert "1 s, 0 to 4 kHz, 80 dB" in figure.alt
    drawn = figure.svg()
    assert all(f">{text}</text>" in drawn for text in ("time (s)", "kHz", "dB")) and drawn.count("data:image/png") == 1
    for wave in (np.zeros(3), np.full(10, 7.0)):
        rows = spectrogram.waveform("w", wave, 10).rows
        assert all(-1 <= row["lowest"] <= row["highest"] <= 1 for row in rows)
    grey = magma(np.linspace(0, 1, 50)).mean(-1)
    assert (np.diff(grey) > 0).all()


def test_figures_are_found_wherever_they_are():
    one = Figure("a", "A", "alt", [], {})
    assert [*figures_in({"x": [1, (one,)], "y": {"z": one}})] == [one, one]
    assert str(embed({"a": "<&>"})) == '{"a":"\\u003c\\u0026\\u003e"}'
