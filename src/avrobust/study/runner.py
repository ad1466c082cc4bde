"""Runs a study: check it, prepare its clips, train and attack its models, write its report.  Finished work is kept.

Several processes may run the same study in the same folder, on one machine or on several that share it: each takes jobs
that no other process holds, and ends when all jobs are done.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch

from avrobust import report
from avrobust.config import digest, to_plain
from avrobust.data import orchestra
from avrobust.data.entry import SPLITS
from avrobust.data.manifest import Manifest
from avrobust.data.orchestra import Orchestra
from avrobust.data.orchestra.dataset import EDITION
from avrobust.data.prepare import prepare
from avrobust.data.store import Store
from avrobust.locks import LOOK_S, Lock, LockError
from avrobust.progress import Advance, track_progress
from avrobust.sources import sources
from avrobust.study import showcase
from avrobust.study.checks import check
from avrobust.study.cost import announced, counted
from avrobust.study.failures import writing
from avrobust.study.jobs import Job
from avrobust.study.plan import Study
from avrobust.study.record import RunExistsError, RunFile, about_config, code, world, world_name
from avrobust.threat import Threat


def run(
    study: Study,
    out: Path,
    *,
    data: Path = Path("data"),
    command: str = "",
    progress: bool = True,
    tracker: str | None = None,
) -> Path:
    """Run `study` in the folder `out`; returns the report's path.

    `data` is the folder of the orchestra's videos and of prepared clips, which runs share.  An interrupted run goes on:
    datasets clip by clip, trainings from their last state, sweeps cell by cell.

    A model or an attack that fails is left out, recorded in run.json and in the folder `failures`, and tried again by the
    next run.  Raises `ValueError` for a study or clips that cannot be used, before anything is written, and `OSError` that
    names the place where nothing can be written.
    """
    with writing(out):
        listed = None if isinstance(study.data, Orchestra) else study.data.manifest()
        check(study, counted(listed) if listed else announced(study) or {}, out, data=data, tracker=tracker)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        record = _begin(study, listed, out, device, command)
        manifest, store = _clips(study, listed, data, record, progress)
        run_jobs(
            [
                Job(study, config, seed, out, manifest, store, record, device, progress, tracker)
                for seed in study.seeds
                for config in study.models
            ]
        )
        with Lock(out / ".report.lock"):
            with record.timed("showcase"):
                showcase.samples(store, out / "samples")
            return report.write(out, papers={study.paper.name: study.paper} if study.paper else {})


def _begin(study: Study, listed: Manifest | None, out: Path, device: torch.device, command: str) -> RunFile:
    """The record of a run that begins or goes on."""
    record, here = RunFile(out, describe_study(study)), world(device)
    record.update(
        name=study.name, title=study.title or f"{study.question} {listed.name if listed else 'The orchestra'}",
        paper=study.paper and study.paper.name, benchmark=study.benchmark, command=command, code=code(),
        world=here, worlds={world_name(here): here}, sources=sources(study),
        started=record.about.get("started", datetime.now(UTC).isoformat(timespec="seconds")),
        tables=levels(study.tables), defenses=levels(study.defenses),
    )  # fmt: skip
    # Before any cells, so that a report of a running study knows every model.
    record.begin("models", {config.name: about_config(config) for config in study.models})
    return record


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


def run_jobs(jobs: Sequence[Job]) -> None:
    """Run all jobs; wait for those that other processes hold, and take over those that they leave unfinished.

    Raises `ValueError` if a job needs weights that no earlier job makes.
    """
    made: set[tuple[str, int]] = set()
    for job in jobs:
        if missing := [name for name in job.sources if (name, job.seed) not in made]:
            raise ValueError(
                f"{job.config.name} needs the weights of {missing[0]}, expected {missing[0]} before it in the study's models. "
                "Move it to the front."
            )
        made.add((job.config.name, job.seed))
    for job in jobs:
        job.folder.mkdir(parents=True, exist_ok=True)
    todo = [(job, Lock(job.folder / ".lock")) for job in jobs]
    with track_progress("jobs", len(jobs), visible=any(job.progress for job in jobs)) as advance:
        _run_free(todo, advance)


def _run_free(todo: list[tuple[Job, Lock]], advance: Advance) -> None:
    """Run the jobs whose locks are free, one after the other, until none is left."""
    while todo:
        abandoned: LockError | None = None
        for number, (job, lock) in enumerate(todo):
            try:
                if not (job.ready and lock.try_acquire()):
                    continue
            except LockError as error:  # the others first
                abandoned = error
                continue
            try:
                job.run()
            finally:
                lock.release()
            del todo[number]
            advance()
            break
        else:
            if abandoned is not None:
                raise abandoned
            time.sleep(LOOK_S)


def levels(tables: tuple[tuple[Threat, ...], ...]) -> list[dict[str, list[float]]]:
    """The budgets that stand together in tables, for run.json."""
    return [{t.subset: [t.audio.eps, t.visual.eps] for t in level} for level in tables]


def describe_study(study: Study) -> dict[str, object]:
    """The parts of a study that its numbers depend on, as plain data: without titles and printed numbers."""
    asked: dict[str, object] = to_plain(study)
    return {
        k: v
        for k, v in asked.items()
        if k not in ("class", "name", "title", "question", "listed", "paper", "benchmark")
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
