"""Runs a study: check it, prepare its clips, train and attack its models, write its report.  Finished work is kept.

One process drives a run: it alone writes run.json, and hands out tasks to this or other processes.
"""

import json
import shutil
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from avrobust import report
from avrobust.config import digest, to_plain
from avrobust.data import orchestra
from avrobust.data.entry import SPLITS
from avrobust.data.manifest import Manifest
from avrobust.data.orchestra import Orchestra
from avrobust.data.orchestra.dataset import EDITION
from avrobust.data.prepare import prepare
from avrobust.data.store import Store
from avrobust.data.workers import Lost
from avrobust.locks import Lock
from avrobust.sources import sources
from avrobust.study import crafted, showcase
from avrobust.study.checks import check
from avrobust.study.cost import announced, counted
from avrobust.study.failures import failure, words, writing
from avrobust.study.jobs import weights_of
from avrobust.study.machines import ALONE, Machines
from avrobust.study.plan import Study
from avrobust.study.record import (
    Notes,
    RunExistsError,
    RunFile,
    about_config,
    code,
    driven,
    world,
)
from avrobust.study.tasks import Task, drive, plan
from avrobust.study.worker import Bench
from avrobust.threat import Threat


def run(
    study: Study,
    out: Path,
    *,
    data: Path = Path("data"),
    command: str = "",
    progress: bool = True,
    tracker: str | None = None,
    machines: Machines = ALONE,
) -> Path:
    """Run `study` in the folder `out`; returns the report's path.

    `data` is the folder of the orchestra's videos and of prepared clips, which runs share.  An interrupted run goes on:
    datasets clip by clip, trainings from their last state, sweeps cell by cell.

    A model or an attack that fails is left out, recorded in run.json and in the folder `failures`, and tried again by the
    next run.  Raises `ValueError` for a study or clips that cannot be used, before anything is written, `LockError` where
    another process drives a run in this folder, and `OSError` that names the place where nothing can be written.
    """
    with writing(out):
        listed = None if isinstance(study.data, Orchestra) else study.data.manifest()
        check(study, counted(listed) if listed else announced(study) or {}, out, data=data, tracker=tracker)
        tasks = plan(study)
        with driven(out, describe_study(study)) as record, machines.connected(study, out, data):
            _describe(record, study, listed, command, world(machines.here))
            manifest, store = _clips(study, listed, data, record, progress)
            with machines.executor(Bench(study, out, manifest, store, machines.device, progress, tracker)) as executor:
                drive(tasks, executor, partial(_finish, record, out), progress=progress)
            shutil.rmtree(out / crafted.FOLDER, ignore_errors=True)
            with record.timed("showcase"):
                showcase.samples(store, out / "samples")
            return report.write(out, papers={study.paper.name: study.paper} if study.paper else {})


def _finish(record: RunFile, out: Path, task: Task, result: Notes | Lost) -> bool:
    """Record what a task told, and print what failed; returns whether the task did not."""
    name = weights_of(out, task.model, task.seed).parent.name
    if isinstance(result, Lost):
        reason = f"{result.reason}, twice; memory may have run out"
        lost, result = result, Notes()
        result.update(
            failures={name: failure(out, name, task.model, task.seed, f"{task.stage} it", reason, lost.reason)}
        )
    told = result.about.get("failures", {})
    for failed in told.values():
        print(words(failed, out), file=sys.stderr, flush=True)
    record.add(result, task.model, task.seed)
    return name not in told


def _describe(record: RunFile, study: Study, listed: Manifest | None, command: str, here: dict[str, Any]) -> None:
    """Record a run that begins or goes on; `here` is the world of the process that drives it."""
    record.update(
        name=study.name, title=study.title or f"{study.question} {listed.name if listed else 'The orchestra'}",
        question=study.question, section=study.section, paper=study.paper and study.paper.name, benchmark=study.benchmark, command=command, code=code(),
        world=here, sources=sources(study),
        started=record.about.get("started", datetime.now(UTC).isoformat(timespec="seconds")),
        tables=levels(study.tables), defenses=levels(study.defenses),
        cells=sum(1 for config in study.models for seed in study.seeds for _ in study.cells(config.name, seed)),
    )  # fmt: skip
    # Before any cells, so that a report of a running study knows every model.
    listed_models = {config.name: about_config(config) for config in study.models}
    record.update(models=listed_models | record.about.get("models", {}))


def _clips(
    study: Study, listed: Manifest | None, data: Path, record: RunFile, progress: bool
) -> tuple[Manifest, Store]:
    """The study's clips, listed and prepared; recorded, and refused where the run began with others."""
    data.mkdir(parents=True, exist_ok=True)
    with writing(data), Lock(data / ".lock"):
        with record.timed("videos"):
            manifest = _orchestra(study, data, progress) if listed is None else listed
        with record.timed("preparing"):
            store = prepare(manifest, study.clip, data / "prepared" / _folder(manifest, study), progress=progress)
    if progress and store.failures:  # a bar that is full does not say so
        print(store.summary(), file=sys.stderr)
    store.require_classes(*SPLITS)
    refuse_other_clips(record, store, manifest)
    record.update(data=about_data(store, manifest))
    return manifest, store


def levels(tables: tuple[tuple[Threat, ...], ...]) -> list[dict[str, list[float]]]:
    """The budgets that stand together in tables, for run.json."""
    return [{t.subset: [t.audio.eps, t.visual.eps] for t in level} for level in tables]


def describe_study(study: Study) -> dict[str, object]:
    """The parts of a study that its numbers depend on, as plain data: without titles and printed numbers."""
    asked: dict[str, object] = to_plain(study)
    return {
        k: v
        for k, v in asked.items()
        if k not in ("class", "name", "title", "question", "section", "listed", "paper", "benchmark")
    }


def about_data(store: Store, manifest: Manifest) -> dict[str, object]:
    """The clips, for run.json."""
    return {
        "name": store.name, "root": str(store.root), "store": str(store.path), "classes": list(store.classes),
        "counts": {split: list(store.counts(split)) for split in ("train", "val", "test")},
        "failures": [{"id": id, "file": file, "reason": reason} for id, file, reason in store.failures],
        "sha256": store.sha256, "spec": asdict(store.spec),
    }  # fmt: skip


def refuse_other_clips(record: RunFile, store: Store, manifest: Manifest) -> None:
    """Raise a RunExistsError where a run was begun with other clips: its cells would not belong together."""
    there, here = record.about.get("data"), json.loads(json.dumps(about_data(store, manifest)))
    if there is None or there.get("sha256") == here["sha256"]:
        return
    seen = [name for name in ("classes", "counts", "failures") if there.get(name) != here[name]]
    raise RunExistsError(
        f"{record.path}: expected the clips that the run was begun with, got clips from {store.root} that differ in "
        f"{', '.join(seen) or 'labels, splits or what they hold'}. Give another --out, or delete the folder."
    )


def _orchestra(study: Study, data: Path, progress: bool) -> Manifest:
    assert isinstance(study.data, Orchestra)
    key = digest(EDITION, study.data)[:8]  # clips of another edition lie beside these
    return orchestra.write(study.data, data / f"orchestra-{key}", progress=progress)


def _folder(manifest: Manifest, study: Study) -> str:
    """Clips of one dataset in one form share a folder, whichever study asked."""
    return f"{manifest.name}-{digest(manifest.root.resolve(), study.clip, [e.id for e in manifest.entries[:1]])[:8]}"
