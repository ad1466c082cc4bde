import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from functools import cached_property, partial, wraps
from importlib import import_module
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from avrobust import FGSM, PGD, Rows, Threat
from avrobust.attacks import Transfer
from avrobust.cli import study as cli_study
from avrobust.cli.studies import named
from avrobust.config import to_plain
from avrobust.data.manifest import Manifest
from avrobust.data.source import Source
from avrobust.data.store import Store
from avrobust.data.workers import Lost
from avrobust.defenses import PCL, Prototypes
from avrobust.locks import Lock, LockError
from avrobust.models import NetSpec, PairSpec
from avrobust.report.load import read
from avrobust.report.worlds import worlds_apart
from avrobust.study import showcase
from avrobust.study.jobs import Job, weights_of
from avrobust.study.machines import Machines
from avrobust.study.plan import Cell, ModelConfig, Study, Sweep
from avrobust.study.record import Notes, RunExistsError, world_name
from avrobust.study.runner import run
from avrobust.study.tasks import drive, plan
from avrobust.study.worker import Parcel, WorkerError
from avrobust.training import batches, checkpoint, load
from own_study import TwoStreams
from tiny_study import BOTH, study


def rows_of(out: Path) -> dict[str, list[dict]]:
    return {f.parent.name: Rows.load(f).data.to_pylist() for f in sorted(out.glob("cells/[!.]*/rows.parquet"))}


def same(a: object, b: object) -> bool:
    return repr(a) == repr(b)  # nan is nan


def same_rows(a: Path, b: Path) -> bool:
    return same(rows_of(a), rows_of(b))  # without the thousands of rows in a message


def test_a_run_holds_what_it_promises(done):
    about = json.loads((done / "run.json").read_text())
    assert about["data"]["counts"] == {"train": [33, 33], "val": [11, 11], "test": [22, 22]}
    assert list(about["models"]) == [c.name for c in study.models]
    assert about["models"]["A"]["parameters"] < about["models"]["AV"]["parameters"]
    assert about["code"]["version"]
    cells = [json.loads(f.read_text()) for f in done.glob("cells/*/cell.json")]
    # Clean ones, and one per model x attack x threat: the first three, the attacker's losses, the one that points,
    # the strongest attack on two, and on the one that is broken what else there is.
    assert about["cells"] == len(cells) == 8 + (9 + 1 + 1) + (3 + 3 * 6) + 6 + (3 + 3) + (3 + 3)
    (memory,) = (m["memory"] for m in about["models"].values() if "memory" in m)
    assert 0 < memory["audio"]["nonzero"] <= 22 and memory["visual"]["gap"] < 1e-2
    assert about["baselines"]["centre"]["clips"] == 22
    (pointing,) = (r for r in rows_of(done).values() if r[0]["attack"] == "none" and r[0]["model"] == "Attention")
    assert [r["attack"] for r in pointing] == [
        name for name in ("none", "swapped", "muted", "noise", "elsewhere") for _ in range(22)
    ]
    assert all(r["heat_moved"] == 0 for r in pointing[:22]) and any(r["heat_moved"] > 0 for r in pointing[22:])
    assert sorted(f.name for f in (done / "features").iterdir()) == ["AV-0.safetensors", "MinSim-0.safetensors"]
    clean = next(r for r in rows_of(done).values() if r[0]["attack"] == "none" and r[0]["model"] == "AV")
    controls = [(r["attack"], r["subset"]) for r in clean[22:]]
    assert controls == [(name, m) for name in ("swapped", "muted") for m in ("A", "V") for _ in range(16)]
    clean = clean[:22]
    assert all(r["attack"] == "none" for r in clean)
    broken = about["models"]["Rounded"]
    assert broken["epochs"] == 0 and broken["val"] is None and broken["probe"]["flat"] == {"audio": 1.0, "visual": 1.0}
    assert about["models"]["AV"]["probe"]["flat"] == {"audio": 0.0, "visual": 0.0}
    foreign = next(r for r in rows_of(done).values() if r[0]["attack"] == "FGSM from AV" and r[0]["subset"] == "A")
    own = next(
        r for r in rows_of(done).values() if (r[0]["model"], r[0]["attack"], r[0]["subset"]) == ("AV", "FGSM", "A")
    )
    assert [r["linf_audio"] for r in foreign] == [r["linf_audio"] for r in own]  # the same clips, to another model
    attacked = next(r for r in rows_of(done).values() if r[0]["attack"] == "PGD-2")
    assert len(attacked) == 16
    page = (done / "report.html").read_text()
    k = sum(r["correct"] for r in clean)
    assert f"{100 * k / 22:.1f}" in page
    assert len(list(done.glob("gallery/*/clip.json"))) > 0
    assert len(list(done.glob("strips/Attention/*/clip.json"))) == len(list(done.glob("strips/Attention/*/AV.wav")))
    assert len(json.loads((done / "samples/samples.json").read_text())) == 22
    assert not list(done.glob("**/*.part")) and not (done / "crafted").exists()


def test_a_run_tells_of_the_machines_that_numbers_depend_on(done):
    (here,) = read(done).worlds
    assert here["instructions"] == torch.backends.cpu.get_cpu_capability() and here["threads"] == 1
    assert here["torch"] == torch.__version__ and here["precision"] in ("float32", "bfloat16")
    assert worlds_apart(here, here) == {} and world_name(here) == world_name(dict(here, cores=999))
    other = dict(here, threads=2, features=["avx2"], python="4.0")
    assert worlds_apart(here, other) == {"features": [here["features"], ["avx2"]], "threads": [1, 2]}
    assert world_name(here) != world_name(other)
    assert worlds_apart(here, {})["torch"] == [torch.__version__, None]  # an older record does not say


def test_a_finished_run_computes_nothing(done, cache, monkeypatch):
    kept = [p for part in ("cells", "gallery", "strips", "samples", "features") for p in done.glob(f"{part}/**/*")]
    kept += done.glob("models/*/start.safetensors")
    before = {p: p.stat().st_mtime_ns for p in kept}
    monkeypatch.setattr("avrobust.study.jobs.Evaluator", None)
    monkeypatch.setattr("avrobust.training.loop._Objective", None)
    run(study, done, data=cache, progress=False)
    assert {p: p.stat().st_mtime_ns for p in kept} == before


def test_what_was_made_of_another_model_is_made_anew(tmp_path, done, cache):
    """Of other weights, and of the same weights behind a feature defense."""
    out, manifest = tmp_path / "run", Manifest.read(next(cache.glob("orchestra-*/manifest.csv")))
    store = Store.open(next(cache.glob("prepared/*")))
    models = plain, _ = study.models[0], replace(study.models[4], epochs=0)
    few = replace(study, models=models, sweeps=(), embedded=(plain.name,))
    first, second = (Job(few, c, 0, out, manifest, store, torch.device("cpu"), progress=False) for c in models)

    def made(model: str, gain: float) -> dict[str, object]:
        net, told = load(done / f"models/{model}-0/net.safetensors")
        net.classifier.weight.data *= gain
        net.audio.layers[0].weight.data *= gain
        checkpoint.save(net, weights_of(out, plain.name, 0), told)
        first.examine()
        second.train()
        return {
            "gallery": [file.read_text() for file in sorted(out.glob("gallery/*/clip.json"))],
            "features": checkpoint.read(out / "features/AV-0.safetensors")[0]["audio"].tolist(),
            "probe": first.notes.about["models"]["AV"]["probe"],
            "start": checkpoint.read(weights_of(out, "PCL", 0))[0]["classifier.weight"].tolist(),
        }

    one, other, rounded = made("AV", 1.0), made("AV", 1.5), made("Rounded", 1.0)
    assert not [name for name in one if one[name] == other[name]]
    assert [name for name in one if one[name] == rounded[name]] == ["start"]


def test_a_lost_cell_is_computed_again_the_same(done, cache):
    before = rows_of(done)
    for folder in sorted((done / "cells").iterdir())[:3]:
        (folder / "rows.parquet").unlink()
        (folder / "cell.json").unlink()
        folder.rmdir()
    run(study, done, data=cache, progress=False)
    assert same(rows_of(done), before)


@pytest.mark.parametrize("moment", [0.3, 0.7])
def test_killed_and_taken_up_again(tmp_path, done, cache, moment):
    kill_and_resume(tmp_path / "run", cache, moment, rows_of(done))


@pytest.mark.slow
def test_killed_at_ten_random_moments(tmp_path, done, cache):
    moments = random.Random(0)
    for i in range(10):
        kill_and_resume(tmp_path / f"run{i}", cache, moments.random(), rows_of(done))


def kill_and_resume(out: Path, cache: Path, moment: float, expected: dict) -> None:
    """`kill -9` somewhere in the course of the run, then run it to its end: same rows, no cell computed twice."""
    command = [sys.executable, str(Path(__file__).with_name("tiny_study.py")), str(out), str(cache)]
    victim = subprocess.Popen(command)
    # Moments are shares of the run's own course: by how much of it is on disk.
    wanted = moment * len(expected)
    while victim.poll() is None and len(list(out.glob("cells/[!.]*/rows.parquet"))) < wanted:
        time.sleep(0.005)
    time.sleep(0.05 * moment)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    finished = {p: p.stat().st_mtime_ns for p in out.glob("cells/[!.]*/rows.parquet")}
    subprocess.run(command, check=True)
    assert same(rows_of(out), expected)
    assert all(p.stat().st_mtime_ns == t for p, t in finished.items())


# What Ctrl-C may fall into, in the order of a run, and how often that is passed before.
STAGES = (
    ("avrobust.study.runner.prepare", 0),
    ("avrobust.study.jobs.train", 1),
    ("avrobust.study.jobs.StoredBatches", 2),
    ("avrobust.study.cells.write_cell", 1),
    ("avrobust.study.jobs.embed", 0),
    ("avrobust.study.showcase.attacked", 0),
    ("avrobust.study.showcase.located", 0),
    ("avrobust.study.showcase.samples", 0),
    ("avrobust.report.page.html", 0),
)


def test_interrupted_in_every_stage_and_taken_up_again(tmp_path, done, cache, monkeypatch):
    out, stopped = tmp_path / "run", []
    for target, passed in STAGES:
        module, name = target.rsplit(".", 1)
        whole, visits = getattr(import_module(module), name), count()

        def stopping(*args, whole=whole, visits=visits, passed=passed, **kwargs):
            if next(visits) == passed:
                raise KeyboardInterrupt
            return whole(*args, **kwargs)

        with monkeypatch.context() as patched:
            patched.setattr(target, stopping)
            try:
                run(study, out, data=cache, progress=False)
            except KeyboardInterrupt:
                stopped.append(target)
                assert not (out / "report.html").exists()
    assert stopped == [target for target, _ in STAGES]
    run(study, out, data=cache, progress=False)
    assert same(rows_of(out), rows_of(done))
    assert not list(out.glob("**/*.part")) and (out / "report.html").exists()


def test_a_disk_that_is_full_is_said_and_what_was_done_is_kept(tmp_path, done, cache, monkeypatch):
    out, written = tmp_path / "run", iter(range(100))
    whole = Rows.save

    def filling(rows, path):
        if next(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        whole(rows, path)

    monkeypatch.setattr(Rows, "save", filling)
    with pytest.raises(OSError, match="No space left"):
        run(study, out, data=cache, progress=False)
    assert len(rows_of(out)) == 3
    run(study, out, data=cache, progress=False)
    assert same(rows_of(out), rows_of(done))


def test_worker_processes_give_the_same_rows_also_when_one_is_killed(tmp_path, done, cache):
    """Killed once, a task is done again; the driver's threads are divided, and it alone writes run.json."""
    out, killed = tmp_path / "run", []

    def kill():
        while not (found := list(out.glob("cells/[!.]*/rows.parquet"))):
            time.sleep(0.01)
        (worker, *_) = multiprocessing.active_children()
        os.kill(worker.pid, signal.SIGKILL)
        killed.append(len(found))

    killer = threading.Thread(target=kill)
    killer.start()
    run(study, out, data=cache, progress=False, machines=Machines(workers=2, device="cpu"))
    killer.join()
    assert killed
    assert same_rows(out, done)
    about = json.loads((out / "run.json").read_text())
    assert list(about["models"]) == [c.name for c in study.models]
    assert "failures" not in about and not multiprocessing.active_children()


def test_a_task_whose_process_dies_twice_is_recorded_and_the_study_goes_on(tmp_path, cache):
    models = (ModelConfig("Dies", dies, epochs=0), ModelConfig("A", NetSpec(modality="A", width=16), epochs=0))
    dying = replace(study, models=models, sweeps=(), embedded=(), tables=(), defenses=())
    out = tmp_path / "run"
    run(dying, out, data=cache, progress=False, machines=Machines(workers=2, device="cpu"))
    (missing,) = read(out).missing
    assert (missing.model, missing.doing) == ("Dies", "training it")
    assert missing.error == "killed its process, twice; memory may have run out"
    assert [rows[0]["model"] for rows in rows_of(out).values()] == ["A"]


def test_a_folder_has_one_driver(tmp_path, cache):
    (tmp_path / "run").mkdir()
    says = rf"run: expected .* got one that process {os.getpid()} on .* is at work on"
    with Lock(tmp_path / "run/.driver.lock"), pytest.raises(LockError, match=says):
        run(study, tmp_path / "run", data=cache, progress=False)


class Orderly:
    """An executor that finishes tasks one by one, the last one first, and writes down what ran beside what."""

    def __init__(self, slots, lose=()):
        self.slots, self.lose, self.began, self.running = slots, lose, [], []

    def submit(self, task):
        self.began.append(task.name)
        self.running.append((task, future := Future()))
        assert len(self.running) <= self.slots
        return future

    def status(self):
        if self.running:
            task, future = self.running.pop()
            future.set_result(Lost("killed") if task.name in self.lose else Notes())
        return ""


def driven(executor):
    over = []

    def finish(task, result):
        assert task.after <= set(over)
        over.append(task.name)
        return not isinstance(result, Lost)

    drive(plan(study), executor, finish, progress=False)
    return over


def test_tasks_wait_for_what_they_need_and_a_lost_model_is_not_measured(monkeypatch):
    monkeypatch.setattr("avrobust.study.tasks.LOOK_S", 0.001)
    names = {task.name for task in plan(study)}
    assert len(names) == 2 * len(study.models)
    for slots in (1, 3, 100):
        assert set(driven(Orderly(slots))) == names
    lost = Orderly(2, lose=("training MinSim (seed 0)",))
    assert names - set(driven(lost)) == {"measuring MinSim (seed 0)"}
    (foreign,) = (task for task in plan(study) if task.name == "measuring Rounded (seed 0)")
    assert foreign.after == {"training Rounded (seed 0)", "training AV (seed 0)"}
    with pytest.raises(ValueError, match="attacks on A transfer from B, expected a model of the study"):
        plan(replace(study, sweeps=(Sweep(("A",), (Transfer("B", FGSM()),), BOTH),)))


def scaled(step):
    def attack(model, x, y, threat, seeds):
        return x.map(lambda s: s * step)

    return attack


def test_what_another_process_cannot_have_is_said_before_any_work(tmp_path, monkeypatch):
    inner = replace(study, sweeps=(Sweep(("AV",), (scaled(1.0),), BOTH),))
    assert to_plain(Parcel.of(inner).open()) == to_plain(inner)
    unable = replace(study, sweeps=(Sweep(("AV",), (scaled((tmp_path / "file").open("w")),), BOTH),))
    with pytest.raises(WorkerError, match=r"expected a study that can be sent .* got one that cannot: .*--workers 1"):
        Parcel.of(unable)
    (tmp_path / "their_losses.py").write_text("def loss(net, batch, seeds):\n    return net(batch.x).sum()\n")
    monkeypatch.syspath_prepend(tmp_path)
    theirs = import_module("their_losses")
    parcel = Parcel.of(replace(study, models=(ModelConfig("AV", loss=theirs.loss),), sweeps=(), embedded=()))
    monkeypatch.delitem(sys.modules, "their_losses")
    (tmp_path / "their_losses.py").write_text("def loss(net, batch, seeds):\n    return net(batch.x).mean()\n")
    with pytest.raises(WorkerError, match=r"own code .* on \S+ \(process \d+\).* got other ones"):
        parcel.open()
    monkeypatch.delitem(sys.modules, "their_losses")
    (tmp_path / "their_losses.py").unlink()
    with pytest.raises(
        WorkerError, match=r"modules of the study on \S+ .* ModuleNotFoundError: .*their_losses.* Install"
    ):
        parcel.open()


def untrained(folder: Path, videos: Path) -> tuple[Study, list[Path]]:
    """A study of a network as it was drawn, and its clips, copied into `folder`: one to test, one to validate, ten more."""
    clips = [f.relative_to(videos) for f in sorted(videos.glob("*/*.mp4"))[:12]]
    for clip in clips:
        (folder / clip).parent.mkdir(exist_ok=True)
        shutil.copy(videos / clip, folder / clip)
    splits = ["test", "val"] + ["train"] * 10
    lines = [f"{i},{clip},{clip.parent.name},{splits[i]}" for i, clip in enumerate(clips)]
    (folder / "clips.csv").write_text("\n".join(["id,video,label,split", *lines]))
    alone, sweep = ModelConfig("AV", NetSpec(width=16), epochs=0), Sweep(("AV",), (FGSM(),), BOTH)
    data = Source(folder / "clips.csv")
    return replace(study, models=(alone,), sweeps=(sweep,), embedded=(), data=data), clips


def test_networks_of_one_s_own_are_trained_defended_attacked_and_reported(tmp_path, cache, capsys):
    """`avrobust study own_study.py`: all that fits runs, what does not fit says why and is left out."""
    out, file = tmp_path / "run", Path(__file__).with_name("own_study.py")
    command = [str(file), "--out", str(out), "--cache", str(cache), "--workers", "1", "--quiet"]
    assert cli_study.main(command).status == 1
    assert "got 1 failed job, of Block, MinSim (seed 0)" in capsys.readouterr().err
    models = json.loads((out / "run.json").read_text())["models"]
    assert models["Mine"]["network"] == "own_study:TwoStreams" and models["Mine"]["fusion"] is None
    assert models["MinSim+ExFMem"]["memory"]["audio"]["nonzero"] > 0
    (failure,) = read(out).missing
    assert failure.model == "Block, MinSim" and "expected a network with embed()" in failure.error
    tried = {(r[0]["model"], r[0]["attack"], r[0]["subset"]) for r in rows_of(out).values()}
    assert len(tried) == 4 * (1 + 2 * 3) + 2 * 2
    told = {name: about["probe"].get("black_box") for name, about in models.items() if about.get("probe")}
    assert "the other's input" in told.pop("Mixed") and not any(told.values()) and len(told) == 5
    page = (out / "report.html").read_text()
    assert all(name in page for name in ("Mine", "MinSim+ExFMem", "Block"))
    before = {p: p.stat().st_mtime_ns for p in out.glob("cells/*/*")}
    assert cli_study.main(command).status == 1
    assert {p: p.stat().st_mtime_ns for p in out.glob("cells/*/*")} == before


def fails_on_eleven_classes(classes):
    if classes == 11:
        raise RuntimeError("no room for eleven")
    return TwoStreams(classes)


def test_a_pair_of_encoders_in_a_study(tmp_path, cache):
    """Trained, defended, attacked, reported; a factory that fails after the study's checks is left out with its reason."""
    from test_hf import ast, hf, vit

    for name, tiny in (("ears", ast), ("eyes", vit)):
        config, processor = tiny()
        hf.AutoModel.from_config(config).save_pretrained(tmp_path / name)
        processor.save_pretrained(tmp_path / name)
    pair = PairSpec(tmp_path / "ears", tmp_path / "eyes")
    models = (
        ModelConfig("Pair", pair, role="baseline"),
        ModelConfig("PCL", pair, start="Pair", epochs=1, loss=PCL(), feature_defense=Prototypes()),
        ModelConfig("Late", fails_on_eleven_classes),
    )
    sweep = Sweep(("Pair", "PCL"), (FGSM(),), BOTH[2:])
    asked = replace(study, name="pairs", models=models, sweeps=(sweep,), embedded=(), epochs=1, attacked=4)
    page = run(asked, tmp_path / "run", data=cache, progress=False).read_text()
    told = json.loads((tmp_path / "run/run.json").read_text())["models"]
    assert (
        told["Pair"]["network"] == pair.name and pair.name.endswith("eyes, concat") and told["Pair"]["fusion"] is None
    )
    assert (told["Pair"]["recipe"], told["Pair"]["epochs"]) == ("fine-tune", 1)
    tried = {(r[0]["model"], r[0]["attack"], r[0]["subset"]) for r in rows_of(tmp_path / "run").values()}
    assert len(tried) == 2 * 2 and "PCL" in page
    (failure,) = read(tmp_path / "run").missing
    assert failure.model == "Late" and "got RuntimeError: no room for eleven" in failure.error
    shutil.rmtree(tmp_path / "ears")
    shutil.rmtree(tmp_path / "eyes")
    net, _ = load(tmp_path / "run/models/PCL-0/net.safetensors")
    assert (net.classes, net.rate) == (11, study.clip.rate)


def test_a_single_test_clip_is_enough(tmp_path, videos):
    alone, _ = untrained(tmp_path, videos)
    assert run(alone, tmp_path / "run", data=tmp_path / "data", progress=False).exists()
    clean = next(rows for rows in rows_of(tmp_path / "run").values() if rows[0]["attack"] == "none")
    assert [row["attack"] for row in clean] == ["none", "muted", "muted"]


def test_another_study_in_the_same_folder_is_refused(done, cache):
    with pytest.raises(RunExistsError, match=r"asked for something else \(attacked\)"):
        run(replace(study, attacked=5), done, data=cache, progress=False)


def test_clips_that_changed_since_a_run_was_begun_are_refused(tmp_path, videos):
    alone, listed = untrained(tmp_path, videos)
    run(alone, tmp_path / "run", data=tmp_path / "data", progress=False)
    before = rows_of(tmp_path / "run")
    tested, _, other = listed[:3]
    shutil.copy(tmp_path / other, tmp_path / tested)
    with pytest.raises(
        RunExistsError, match=r"run\.json: .* differ in labels, splits or what they hold\. Give another"
    ):
        run(alone, tmp_path / "run", data=tmp_path / "data", progress=False)
    (tmp_path / listed[-1]).unlink()
    with pytest.raises(RunExistsError, match=r"differ in counts, failures"):
        run(alone, tmp_path / "run", data=tmp_path / "data", progress=False)
    assert same(rows_of(tmp_path / "run"), before)


def test_a_folder_with_other_files_is_refused(tmp_path, cache):
    (tmp_path / "thesis.tex").write_text("do not lose me")
    with pytest.raises(RunExistsError, match="a folder with other files"):
        run(study, tmp_path, data=cache, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "do not lose me"


def test_a_network_that_is_always_wrong_leaves_an_empty_gallery(tmp_path, done, cache):
    store = Store.open(next(cache.glob("prepared/*")))
    of_class = [store.classes[0] == label for label in store.table.column("label").to_pylist()]
    store = replace(store, table=store.table.filter(of_class))
    net, _ = load(done / "models/AV-0/net.safetensors")
    with torch.no_grad():
        net.classifier.bias[1] = 1e4
    shown = showcase.Shown.of(net, batches(store, "test", study.view, 4), study.showcase, 0, store)
    showcase.attacked(shown, tmp_path / "gallery", "key")
    assert [file.name for file in tmp_path.glob("gallery/*")] == ["key.json"]


def dies(classes):
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return Flat(classes)


class Flat(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def forward(self, x):
        return x.audio[:, : self.classes]


def test_studies_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="different names"):
        replace(study, models=(ModelConfig("AV"), ModelConfig("AV")))
    for name in ("AV w/o audio", "../AV", "..", ""):  # failures and figures of such a model were lost
        with pytest.raises(ValueError, match="expected a name of a model that a folder can have, got"):
            ModelConfig(name)
    with pytest.raises(ValueError, match="not models"):
        replace(study, sweeps=(Sweep(("MAV",), (), ()),))
    with pytest.raises(ValueError, match=r"'Flat': expected logits \(1, 2\) .* got \(1, 5\)"):
        run(
            replace(study, models=(ModelConfig("Flat", network=lambda classes: Flat(5)),), sweeps=(), embedded=()),
            Path("no"),
        )
    with pytest.raises(ValueError, match=r"expected a study \(quick, .*, got 'slow'"):
        named("slow")
    with pytest.raises(ValueError, match="expected module:name with"):
        named("no_such_module:study")


def test_named_studies():
    assert isinstance(named("quick"), Study)
    assert named("tiny_study:study") is study


def test_a_cell_s_key_says_all_that_its_rows_depend_on():
    cell = Cell("AV", 0, PGD(), Threat.linf(audio=0.01))
    others = [
        Cell("A", 0, PGD(), Threat.linf(audio=0.01)),
        Cell("AV", 1, PGD(), Threat.linf(audio=0.01)),
        Cell("AV", 0, PGD(steps=11), Threat.linf(audio=0.01)),
        Cell("AV", 0, None, Threat.linf(audio=0.01)),
        Cell("AV", 0, PGD(), Threat.linf(audio=0.011)),
        Cell("AV", 0, PGD(), Threat.l2(audio=0.01)),
    ]
    assert cell.key("w") != cell.key("v")
    assert len({c.key("w") for c in [cell, *others]}) == 7
    assert "0x" not in json.dumps(to_plain(PGD()))  # no address of this process


class Push:
    """An attack as a user may write one: an object that can be called."""

    name = "push"

    def __init__(self, step):
        self.step, self.pattern = step, torch.full((2,), step)

    def __call__(self, model, x, y, threat, seeds):
        return x

    def halved(self, model, x, y, threat, seeds):
        return x

    @cached_property
    def found(self):
        return object()


def pushing(step):
    def attack(model, x, y, threat, seeds):
        return attack and x.map(lambda s: s + 0 * step)

    return attack


def defaulted(step):
    return lambda model, x, y, threat, seeds, step=step: x


def renamed(step):
    """Under the name of another function, as decorators leave it."""

    @wraps(pushing)
    def attack(*args):
        return step

    return attack


@pytest.mark.parametrize(
    "make",
    [
        Push,
        pushing,
        defaulted,
        renamed,
        lambda step: Push(step).halved,
        lambda step: partial(pushing(1.0), model=step),
        lambda step: pushing(torch.tensor(step, dtype=torch.bfloat16)),
        lambda step: pushing(np.full(3, step)),
        lambda step: pushing({Push(step)}),
        lambda step: pushing((json, Push, torch.float16, Push(step))),
    ],
)
def test_one_s_own_attacks_are_told_apart_by_what_they_were_made_with(make):
    told = [json.dumps(to_plain(make(step))) for step in (0.1, 0.1, 0.2)]
    assert told[0] == told[1] != told[2]
    assert "0x" not in told[0]
    sweep = Sweep(("AV",), (make(0.1), make(0.2), make(0.2)), BOTH[:1])
    assert len(list(replace(study, sweeps=(sweep,), embedded=()).cells("AV", 0))) == 1 + 2


def test_what_was_only_looked_up_changes_no_description():
    attack = Push(0.1)
    before = to_plain(attack)
    assert attack.found is attack.found and to_plain(attack) == before
    assert to_plain(pushing) == {"function": f"{__name__}:pushing"}  # by name alone, where that says which
