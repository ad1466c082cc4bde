"""A model that is there already, evaluated into a run's folder: the cells, the gallery and the report of a study."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avrobust import engine, report
from avrobust.config import digest
from avrobust.data.manifest import Manifest
from avrobust.data.store import Store
from avrobust.evaluation.evaluator import Evaluator
from avrobust.evaluation.localisation import Localisation, baselines
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.tasks import Classification, Task
from avrobust.models.zoo import count_parameters
from avrobust.objectives import display_name
from avrobust.progress import part, track_progress
from avrobust.sources import sources
from avrobust.study import showcase
from avrobust.study.cells import cell_folder, compute_missing, unreadable
from avrobust.study.jobs import controls, localisation
from avrobust.study.plan import Cell, Study
from avrobust.study.record import RunFile, code, driven, world, world_name
from avrobust.study.runner import about_data, describe_study, levels, refuse_other_clips
from avrobust.training import StoredBatches, View
from avrobust.types import Attack, Model

CLASSES = Classification()


@dataclass(frozen=True, eq=False)
class Given:
    """A model and the clips that it is evaluated on, on one device: those of a split of prepared clips.

    `task` is what the model is for.
    """

    model: Model
    clips: StoredBatches
    manifest: Manifest
    store: Store
    view: View
    split: str
    device: torch.device
    task: Task = CLASSES


def evaluate_into(out: Path, given: Given, study: Study, *, asked: Mapping[str, Any], command: str = "") -> Rows:
    """Compute what the run in `out` lacks of the cells of a study's one model; returns the rows of all of them.

    What is finished is kept while it is still the same model, which its answers to the clean clips tell.  `asked` says
    what the study does not, such as where the model is from.  Raises `RunExistsError` where the folder holds another run.
    """
    with driven(out, {**describe_study(study), **asked}) as record:
        return _evaluate(record, given, study, command)


def _evaluate(record: RunFile, given: Given, study: Study, command: str) -> Rows:
    ((config,), (seed,)), store, here = (study.models, study.seeds), given.store, world(given.device)
    out = record.path.parent
    refuse_other_clips(record, store, given.manifest)
    record.update(
        name=study.name, title=study.title, command=command, code=code(), world=here, worlds={world_name(here): here},
        started=record.about.get("started", datetime.now(UTC).isoformat(timespec="seconds")),
        tables=levels(study.tables), data=about_data(store, given.manifest), models={config.name: {}},
        cells=sum(1 for _ in study.cells(config.name, seed)),
    )  # fmt: skip
    places = localisation(given.manifest, store, study.view, given.split) if has_heat(given) else None
    with track_progress("evaluating the clean clips", 1, count=False):
        evaluator = Evaluator(
            given.model, given.clips, name=config.name, also=places, task=given.task, rate=store.spec.rate
        )
        clean = evaluator.clean(seed)
    answers = [*(clean.column(name).tolist() for name in ("clip", "label")), evaluator.answers]
    cells = {c.key(answers, sources(_code(given.model)), places): c for c in study.cells(config.name, seed)}

    def rows_of(cell: Cell) -> Rows:
        if cell.attack is None:
            return _clean(evaluator, given, cell, clean, places)
        return evaluator.under(cell.attack, cell.threat, seed, sent=cell.sent)

    with record.timed("attacking"):
        compute_missing(out, cells, rows_of, record, title=f"attacking {config.name}", world=lambda: world_name(here))
    record.update(models={config.name: _about(given.model, evaluator, places)})
    if places and (boxes := [box for box in places.boxes.values() if box]):
        record.update(baselines=baselines(boxes))
    return Rows.concat([Rows.load(cell_folder(out, key) / "rows.parquet") for key in cells], evaluator.about)


def illustrate(out: Path, given: Given, study: Study, rows: Rows) -> Path:
    """Draw the clips of a run that `evaluate_into` finished, under the strongest of its attacks; write and return its page."""
    attacks = [attack for sweep in study.sweeps for attack in sweep.attacks]

    def left(attack: Attack) -> float:
        found = [cell.accuracy().value for cell in rows.where(attack=display_name(attack)).cells()]
        return sum(found) / len(found) if found else math.nan

    strongest = min(attacks, key=left)
    shown = showcase.Shown.of(given.model, given.clips, study.showcase, study.seeds[0], given.store)
    shown = replace(shown, attack=strongest)
    key = digest(sorted(folder.name for folder in out.glob("cells/[!.]*")))  # which say all that rows depend on
    with track_progress("drawing clips", 1, count=False), part(1):
        showcase.attacked(shown, out / "gallery", key)
    if has_heat(given):
        places = localisation(given.manifest, given.store, study.view, given.split)
        showcase.located(shown, places, out / "strips" / study.models[0].name, key)
    showcase.samples(given.store, out / "samples")
    return report.write(out)


def has_heat(given: Given) -> bool:
    """Whether the model says where in the frames it looks."""
    one = given.clips.pick([0]).x
    with torch.no_grad():
        return engine.as_judge(given.model, one).output(one, ("heat",)).heat is not None


def _clean(evaluator: Evaluator, given: Given, cell: Cell, clean: Rows, places: Localisation | None) -> Rows:
    parts = [clean, unreadable(given.store, cell, given.split)]
    return Rows.concat(parts + controls(evaluator, given.clips, cell.seed, localises=places is not None))


def _about(model: Model, evaluator: Evaluator, places: Localisation | None) -> dict[str, Any]:
    """The model for run.json."""
    parameters = count_parameters(model) if isinstance(model, nn.Module) else None
    probes = evaluator.about["probes"][evaluator.name]
    return {
        "localises": places is not None,
        "parameters": parameters,
        "probe": probes,
        "sources": sources(_code(model)),
    }


def _code(model: Model) -> Any:
    return {type(module) for module in model.modules()} if isinstance(model, nn.Module) else model
