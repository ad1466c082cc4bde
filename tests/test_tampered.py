"""Run folders that somebody else wrote, or that were damaged: a clear error, no traceback, no file from elsewhere."""

import copy
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avrobust import Rows
from avrobust.report import RunError, media, summary
from avrobust.report.load import read
from avrobust.report.page import html
from avrobust.report.record import RunRecord
from avrobust.report.record import read as read_record
from avrobust.report.run import Run
from avrobust.report.sections.gallery import examples
from avrobust.report.sections.localisation import baselines, strips
from avrobust.report.sections.models import training
from avrobust.report.sections.samples import samples
from avrobust.report.sections.setup import facts
from avrobust.study.record import RunExistsError, RunFile
from fake_run import fake_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A small run with all that a folder may hold."""
    return fake_run(
        tmp_path_factory.mktemp("whole") / "run", clips=24, attacked=12, unread=1, gallery=1, samples=2, whole=True
    )


@pytest.fixture
def run(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def show(run: Path) -> None:
    """What a page takes from the files of clips."""
    media.check_inside(run)
    examples(run, media.Room())
    samples(run, media.Room())
    strips(Run(RunRecord(), {}, path=run), "Attention")


def edit(file: Path, change) -> None:
    about = json.loads(file.read_text())
    file.write_text(json.dumps(change(about) or about))


@pytest.mark.parametrize("where", ["../secret", "/etc/hostname", "sub/../../secret", "{outside}", "..", "", "x\0"])
@pytest.mark.parametrize("what", ["image", "sound"])
def test_samples_name_files_beside_them_only(run, tmp_path, where, what):
    suffix = ".png" if what == "image" else ".wav"
    for name in ("secret.png", "secret.wav"):
        (tmp_path / name).write_bytes(b"\x89PNG a secret" if name.endswith("png") else b"RIFF a secret")
    named = (where.format(outside=tmp_path / "secret") + suffix) if where not in ("", "..") else where

    def change(listed):
        listed[0][what] = named

    edit(run / "samples/samples.json", change)
    if what == "sound" and not named:
        return  # no sound
    with pytest.raises(RunError, match=r"samples\.json: expected the name of a .* file beside it, got "):
        show(run)


def test_a_picture_that_is_none_is_refused(run):
    (run / "samples/00.png").write_bytes(b"root:x:0:0")
    edit(run / "samples/samples.json", lambda listed: listed[0].update(image="00.png"))
    with pytest.raises(RunError, match=r"00\.png: expected a \.png file, got another"):
        show(run)


@pytest.mark.parametrize("file", ["samples/samples.json", "gallery/00/clip.json", "strips/Attention/01/clip.json"])
@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "[[]]", '[{"label": 1, "image": "a.png"}]', '{"label": "x"}', "[" * 10**5]
)
def test_odd_words_of_clips_are_refused_with_the_file(run, file, text):
    (run / file).write_text(text)
    with pytest.raises(RunError, match=rf"{file}: expected "):
        show(run)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"models": []}', '{"data": {"classes": 5}}', '{"tables": [{"A": [1]}]}',
    '{"data": {"counts": {"test": [1]}}}', '{"models": {"AV": {"kind": "T"}}}', '{"models": {"AV": {"probe": {}}}}',
    '{"models": {"AV": {"probe": null}}}', '{"seconds": {"x": "y"}}', '{"world": {"threads": "2"}}', '{"failures": [1]}',
    '{"code": {"commit": 7}}', '{"models": {"AV": {"curve": [{}]}}}', "[" * 10**5, '{"asked":' * 2000])  # fmt: skip
def test_a_tampered_record_is_refused_with_the_file(run, text):
    (run / "run.json").write_text(text.replace('{"', '{"version": 2, "', 1))
    for use in (read, summary, lambda run: RunFile(run, {})):
        with pytest.raises((RunError, RunExistsError), match=r"run\.json: expected "):
            use(run)


def test_records_changed_at_random_are_shown_or_refused(run):
    """Sixty records with a value replaced or taken out, at any depth."""
    draws, good = random.Random(0), json.loads((run / "run.json").read_text())
    values = [
        None,
        True,
        -1,
        0,
        10**15,
        0.5,
        float("nan"),
        float("inf"),
        "",
        "x" * 2000,
        [],
        [[]],
        {},
        {"kind": 1},
        "AV",
    ]
    seen, before = {"shown": 0, "refused": 0}, read(run)
    for _ in range(60):
        about = copy.deepcopy(good)
        at, key = about, draws.choice(sorted(about))
        while isinstance(at[key], dict | list) and at[key] and draws.random() < 0.75:
            at = at[key]
            key = draws.choice(sorted(at) if isinstance(at, dict) else range(len(at)))
        if draws.random() < 0.25:
            del at[key]
        else:
            at[key] = draws.choice(values)
        (run / "run.json").write_text(json.dumps(about))
        try:
            found = replace(before, record=read_record(run / "run.json")[0])
            assert found.flags and facts(found) and found.levels and found.defense_levels
            training(found), baselines(found)
        except ValueError as error:
            assert str(run / "run.json") in str(error)
            seen["refused"] += 1
        else:
            seen["shown"] += 1
            if seen["shown"] == 8:
                html(found)
    assert min(seen.values()) > 10


@pytest.fixture
def cell(run) -> Path:
    return next(f for f in sorted(run.glob("cells/*/rows.parquet")) if Rows.load(f).column("status")[0] == "ok")


def rewrite(file: Path, change) -> None:
    pq.write_table(change(pq.read_table(file)), file)


@pytest.mark.parametrize(
    "name",
    [
        "model",
        "seed",
        "clip",
        "label",
        "status",
        "correct",
        "eps_visual",
        "norm_audio",
        "unit_visual",
        "threat",
        "psnr_db",
    ],
)
def test_rows_without_a_column_are_refused_with_file_and_column(run, cell, name):
    rewrite(cell, lambda table: table.drop_columns([name]))
    with pytest.raises(RunError, match=rf"{cell.parent.name}/rows\.parquet: .*a column '{name}' of \w+, got none"):
        read(run)


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("correct", pa.array(["yes"]), "a column 'correct' of bool, got string"),
        ("correct", pa.array([1]), "a column 'correct' of bool, got int64"),
        ("seed", pa.array([0.5]), "a column 'seed' of int64, got double"),
        ("label", pa.array(["tuba"]), "a column 'label' of int64, got string"),
        ("eps_audio", pa.array(["0.1"]), "a column 'eps_audio' of double, got string"),
        ("clip", pa.array([7]), "a column 'clip' of string, got int64"),
        ("clip", pa.array([None], pa.string()), "a value for 'clip' in each row"),
        ("eps_audio", pa.array([None], pa.float64()), "a value for 'eps_audio' in each row"),
        ("correct", pa.array([None], pa.bool_()), "a value for 'correct' in each row"),
        ("subset", pa.array(["VA"]), "subsets clean, A, V and AV"),
        ("label", pa.array([99]), "labels of 11 classes"),
    ],
)  # fmt: skip
def test_rows_of_other_types_are_refused_with_file_and_column(run, cell, name, values, says):
    def change(table):
        at = table.column_names.index(name)
        return table.set_column(at, name, pa.concat_arrays([values] * len(table)))

    rewrite(cell, change)
    with pytest.raises(RunError, match=rf"{cell.parent.name}/rows\.parquet: .*{says}"):
        read(run)


def test_rows_of_an_older_version_lack_only_what_some_measure(run, cell):
    before = Rows.load(cell)
    rewrite(cell, lambda table: table.drop_columns(["slope_audio"]))
    assert np.isnan(Rows.load(cell).column("slope_audio").astype(float)).all()
    assert len(Rows.load(cell)) == len(before)
    read(run)


def test_a_damaged_sound_is_refused_with_its_name(run):
    (run / "gallery/00/adv.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVE")
    with pytest.raises(RunError, match=r"gallery/00/adv\.wav: expected audio, got"):
        show(run)


def test_links_to_elsewhere_are_refused(run, tmp_path):
    (tmp_path / "mine.png").touch()
    (run / "gallery/00/adv.png").unlink()
    (run / "gallery/00/adv.png").symlink_to(tmp_path / "mine.png")
    with pytest.raises(RunError, match="a link to"):
        show(run)
