"""Studies in which something fails: a bug of one model or attack, a full disk, other code, damaged cells."""

import errno
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import avrobust
import tiny_study
from avrobust import FGSM, Rows
from avrobust.attacks import Transfer
from avrobust.cli.study import complete
from avrobust.data.source import Source
from avrobust.models import NetSpec
from avrobust.report.load import read
from avrobust.study import ModelConfig, Study, Sweep
from avrobust.study.runner import run
from their_defense import Faded


def boom(net, batch, seeds):
    raise RuntimeError("a bug in this model's own loss")


def broken_search(model, x, y, threat, seeds):
    raise KeyError("a bug in this attack")


class Fade:
    """A user's own feature defense: settings, and what they make."""

    def fill(self, net, clips, seed):
        return Faded(0.5)


def small(*models: ModelConfig, sweeps: tuple[Sweep, ...]) -> Study:
    return replace(
        tiny_study.study,
        models=models,
        sweeps=sweeps,
        embedded=(),
        epochs=1,
        tables=(),
        defenses=(),
        attacked=4,
    )


def cells(out: Path) -> dict[tuple[str, str], Path]:
    return {
        (t["model"], t["attack"]): f.parent for f in out.glob("cells/*/cell.json") for t in [json.loads(f.read_text())]
    }


A, SOUND = ModelConfig("A", NetSpec(modality="A", width=16), epochs=0), tiny_study.BOTH[:1]


@pytest.fixture(scope="module")
def broken(tmp_path_factory, cache) -> tuple[Study, Path]:
    """A run in which a loss and an attack have bugs, and others lean on those."""
    study = small(
        ModelConfig("Bad", NetSpec(modality="A", width=16), loss=boom),
        A,
        ModelConfig("After", NetSpec(modality="A", width=16), start="Bad", epochs=0),
        ModelConfig("Z", NetSpec(modality="A", width=16), epochs=0),
        sweeps=(Sweep(("A", "Z"), (broken_search, FGSM(), Transfer("Bad", FGSM())), SOUND),),
    )
    out = tmp_path_factory.mktemp("broken") / "run"
    return study, run(study, out, data=cache, progress=False).parent


def test_what_fails_is_left_out_and_the_rest_is_done(broken, capsys):
    _, out = broken
    assert set(cells(out)) == {("A", "none"), ("A", "FGSM"), ("Z", "none"), ("Z", "FGSM")}
    missing = {(f.model, f.doing.split(" on ")[0]): f for f in read(out).missing}
    assert set(missing) == {
        ("Bad", "training it"), ("After", "training it"),
        ("A", "broken_search"), ("A", "FGSM from Bad"), ("Z", "broken_search"), ("Z", "FGSM from Bad"),
    }  # fmt: skip
    told = missing["Bad", "training it"]
    assert told.seed == 0 and told.error == "RuntimeError: a bug in this model's own loss"
    assert "in boom" in (out / told.log).read_text()
    assert "the weights of 'Bad', which failed" in missing["After", "training it"].error
    page = (out / "report.html").read_text()
    assert "Missing: Bad (seed 0), training it" in page and "a bug in this attack" in page
    assert not complete(out)
    assert re.search(
        r"got 6 failed jobs, of A \(seed 0\), After \(seed 0\), Bad .*tries again", capsys.readouterr().err
    )


def test_the_next_run_tries_again_what_failed_and_forgets_it(broken, cache, tmp_path, monkeypatch):
    study, before = broken
    out = tmp_path / "run"
    shutil.copytree(before, out)
    finished = {p: p.stat().st_mtime_ns for p in out.glob("cells/*/*")}
    # The bug is mended: in the loss, whose name is the same, and its text here too.
    monkeypatch.setattr(
        "avrobust.training.loop.loss_at_progress", lambda loss, at: lambda net, b, s: net(b.x).logsumexp(1).mean()
    )
    monkeypatch.setattr("avrobust.evaluation.evaluator.check", lambda *args: None)
    monkeypatch.setattr("test_failures.broken_search.__code__", (lambda model, x, y, threat, seeds: x).__code__)
    run(study, out, data=cache, progress=False)
    assert len(cells(out)) == 10 and not read(out).missing
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    assert complete(out)


def test_a_failure_is_forgotten_also_where_other_code_has_mended_it(tmp_path, cache, monkeypatch):
    study, out = small(A, sweeps=(Sweep(("A",), (broken_search,), SOUND),)), tmp_path / "run"
    run(study, out, data=cache, progress=False)
    assert [failed.model for failed in read(out).missing] == ["A"] and not complete(out)
    # Cells of other code have other names.
    monkeypatch.setattr(avrobust, "__version__", "9.9.9")
    run(study, out, data=cache, progress=False)
    assert len(read(out).missing) == 1
    monkeypatch.setattr("test_failures.broken_search.__code__", (lambda model, x, y, threat, seeds: x).__code__)
    monkeypatch.setattr("avrobust.evaluation.evaluator.check", lambda *args: None)
    run(study, out, data=cache, progress=False)
    assert len(cells(out)) == 2 and not read(out).missing and complete(out)


def test_ctrl_c_stops(tmp_path, cache, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("avrobust.study.jobs.train", stop)
    with pytest.raises(KeyboardInterrupt):
        run(small(replace(A, epochs=1), sweeps=()), tmp_path / "run", data=cache, progress=False)


def test_a_disk_that_is_full_or_closed_is_named_and_stops_the_run(tmp_path, cache, monkeypatch):
    study = small(A, sweeps=(Sweep(("A",), (FGSM(),), SOUND),))
    run(study, tmp_path / "run", data=cache, progress=False)
    before = (tmp_path / "run/run.json").read_bytes()
    shutil.rmtree(cells(tmp_path / "run")["A", "FGSM"])
    for code, says in ((errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")):

        def full(rows, path, code=code, says=says):
            raise OSError(code, says)  # as writing says it, without the name

        monkeypatch.setattr(Rows, "save", full)
        with pytest.raises(
            OSError, match=rf"{tmp_path}/run/cells/\w+: expected to write there, got: {says}\. Make room"
        ):
            run(study, tmp_path / "run", data=cache, progress=False)
    assert json.loads(before)["models"] == json.loads((tmp_path / "run/run.json").read_text())["models"]
    assert "failures" not in json.loads((tmp_path / "run/run.json").read_text())


def test_cells_of_another_version_are_kept_named_and_not_counted(tmp_path, cache, monkeypatch):
    study = small(A, sweeps=(Sweep(("A",), (FGSM(),), SOUND),))
    out = tmp_path / "run"
    run(study, out, data=cache, progress=False)
    before = cells(out)
    version = avrobust.__version__
    monkeypatch.setattr(avrobust, "__version__", "9.9.9")
    run(study, out, data=cache, progress=False)
    after = cells(out)
    assert after.keys() == before.keys() and not {*after.values()} & {*before.values()}
    kept = {f.parent.name for f in out.glob("cells_of_other_versions/*/rows.parquet")}
    assert kept == {folder.name for folder in before.values()} == read(out).record.set_aside.keys()
    assert f"2 finished cells of other code, weights or clips ({version})" in (out / "report.html").read_text()


@pytest.mark.parametrize("damage", [Path.unlink, lambda rows: rows.write_bytes(rows.read_bytes()[:-40])])
def test_a_cell_without_rows_that_can_be_read_is_computed_again(tmp_path, cache, damage):
    study = small(A, sweeps=(Sweep(("A",), (FGSM(),), SOUND),))
    out = tmp_path / "run"
    run(study, out, data=cache, progress=False)
    rows = cells(out)["A", "FGSM"] / "rows.parquet"
    before = Rows.load(rows).data
    damage(rows)
    run(study, out, data=cache, progress=False)
    assert Rows.load(rows).data.equals(before) or repr(Rows.load(rows).data) == repr(before)  # nan is nan


def test_a_feature_defense_of_one_s_own_is_the_one_that_is_measured(tmp_path, cache):
    plain, faded = (
        ModelConfig("Plain", NetSpec(width=16), epochs=0),
        ModelConfig("Faded", NetSpec(width=16), start="Plain", epochs=0, feature_defense=Fade()),
    )
    study = small(plain, faded, sweeps=())
    out = tmp_path / "run"
    run(study, out, data=cache, progress=False)
    margins = {model: Rows.load(f / "rows.parquet").column("margin") for (model, _), f in cells(out).items()}
    assert len(margins) == 2 and not np.array_equal(margins["Plain"], margins["Faded"])
    assert not read(out).missing


def test_clips_that_cannot_be_read_are_said_once_they_are_prepared(tmp_path, videos, capsys):
    data = tmp_path / "clips"
    shutil.copytree(videos, data)
    broken = sorted(data.glob("*/*.mp4"))[0]
    broken.write_bytes(b"no film")
    run(replace(small(A, sweeps=()), data=Source(data)), tmp_path / "run", data=tmp_path / "cache", progress=True)
    said = capsys.readouterr().err
    assert f"({broken.relative_to(data)}): " in said and "of 33 clips" in said
