"""Runs a study: data, training, cells, showcase, report.  Whatever is finished is never computed again."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import torch

from avrobust import report
from avrobust.attacks import ANYTHING, Mute, Swap, Transfer
from avrobust.attacks.engine import exact
from avrobust.data import orchestra
from avrobust.data.manifest import Box, Manifest
from avrobust.data.orchestra import Orchestra
from avrobust.data.prepare import prepare
from avrobust.data.store import Store, box_in_window
from avrobust.defenses import Memory, diagnosis
from avrobust.evaluation.embedding import embed
from avrobust.evaluation.localisation import Localisation, centre
from avrobust.evaluation.probe import probe
from avrobust.evaluation.record import Rows
from avrobust.evaluation.run import Measure, Subject
from avrobust.models.network import AVNet
from avrobust.models.zoo import NetSpec, build, count_parameters
from avrobust.objectives import objective_name
from avrobust.progress import bar
from avrobust.study import showcase
from avrobust.study.plan import Cell, Contestant, Study
from avrobust.study.record import RunFile, code, describe, world
from avrobust.threat import Threat
from avrobust.training import RECIPES, Trained, batches, checkpoint, load, train, weights_sha256, window
from avrobust.types import AV, Batch

DRAWN = 400  # test clips in a picture of features: more of them hide each other


def run(
    study: Study,
    out: Path,
    *,
    data: Path = Path("data"),
    command: str = "",
    progress: bool = True,
    tracker: str | None = None,
) -> Path:
    """Do what `study` asks, in the folder `out`; returns the report's path.

    `data` is where the orchestra's videos and prepared clips are kept, for other runs to share.  An interrupted
    run goes on where it was: datasets clip by clip, trainings from their last state, cells one by one.
    """
    # What is wrong with a user's clips is said before the folder is taken.
    listed = None if isinstance(study.data, Orchestra) else study.data.manifest()
    record = RunFile(out, describe_study(study))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    record.update(
        name=study.name, title=study.title, command=command, code=code(), world=world(device),
        started=record.about.get("started", datetime.now(UTC).isoformat(timespec="seconds")),
        tables=levels(study.tables), defenses=levels(study.defenses),
    )  # fmt: skip

    with timed(record, "videos"):
        manifest = _orchestra(study, data, progress) if listed is None else listed
    with timed(record, "preparing"):
        store = prepare(manifest, study.clip, data / "prepared" / _folder(manifest, study), progress=progress)
    record.update(data=about_data(store, manifest))

    for seed in study.seeds:
        for contestant in study.contestants:
            with timed(record, f"training {contestant.name}"):
                trained = _train(study, contestant, seed, store, out, progress, tracker)
            told = record.about.get("models", {}).get(contestant.name, {})
            about = about_model(study, contestant, trained)
            known = told if told.get("sha256") == about["sha256"] else {}
            record.update(models={contestant.name: about})
            # The weights as they are on disk: a network that was just trained lies in memory in another layout,
            # and its last bits would differ from those of a run that was taken up again.
            net = load(trained.path)[0].to(device)
            with timed(record, f"attacking {contestant.name}"):
                places = localisation(study, manifest, store) if contestant.points else None
                measure(study, contestant, seed, net, store, out, device, progress, also=places)
            if places:
                record.update(centre=centre([box for box in places.boxes.values() if box]))
            about["probe"] = known.get("probe") or probe(exact(net), tested(study, store, device, study.attacked)[0])
            if isinstance(net.guard, Memory):
                about["memory"] = known.get("memory") or diagnosis(net, tested(study, store, device, study.attacked))
            record.update(models={contestant.name: about})
            if contestant.name in study.embedded:
                with timed(record, "features"):
                    write_features(study, contestant, seed, net, store, out, device)
            if seed == study.seeds[0]:
                with timed(record, "showcase"):
                    if contestant == study.contestants[0]:
                        showcase.attacked(study, net, store, out / "gallery", device)
                    if places:
                        showcase.located(study, net, store, places, out / "strips" / contestant.name, device)
    with timed(record, "showcase"):
        showcase.samples(store, out / "samples")
    return report.write(out)


def levels(tables: tuple[tuple[Threat, ...], ...]) -> list[dict[str, list[float]]]:
    """The budgets that stand together in tables, as run.json tells of them."""
    return [{t.subset: [t.audio.eps, t.visual.eps] for t in level} for level in tables]


def describe_study(study: Study) -> dict[str, object]:
    """What decides the numbers, as plain data; the showcase and the title do not."""
    asked: dict[str, object] = describe(study)
    return {k: v for k, v in asked.items() if k not in ("class", "name", "title")}


def measure(
    study: Study,
    contestant: Contestant,
    seed: int,
    net: AVNet,
    store: Store,
    out: Path,
    device: torch.device,
    progress: bool,
    *,
    also: Measure | None = None,
) -> None:
    """Compute the cells of one trained model that are not there yet."""
    about = (weights_sha256(net), store.sha256, describe(study.view), study.attacked, study.batch)
    source = cache(lambda name: load(_folder_of(name, seed, out) / "net.safetensors")[0].to(device))

    def key(cell: Cell) -> str:
        foreign = (weights_sha256(source(cell.attack.source)),) if isinstance(cell.attack, Transfer) else ()
        return cell.key(*about, *foreign)

    todo = {key(c): c for c in study.cells(contestant.name, seed) if not cell_folder(out, key(c)).exists()}
    if not todo:
        return

    attacked = cache(
        lambda: Subject(net, tested(study, store, device, study.attacked), name=contestant.name, also=also)
    )
    total = sum(cell.steps + 1 for cell in todo.values())
    with bar(f"attacking {contestant.name} (seed {seed})", total, visible=progress, count=False) as advance:
        for name, cell in todo.items():
            advance(0, note=f"{cell.attack_name} {cell.threat.subset}")
            if cell.attack is None:
                everyone = Subject(net, every := tested(study, store, device, None), name=cell.model, also=also)
                parts = [everyone.clean(seed), unreadable(store, cell)]
                if contestant.modality == "AV":  # a heat map, and answers, should move with what is heard and seen
                    asked, parts_of_clips = (everyone, "A") if also else (attacked(), "AV")
                    controls = (Swap(every), Mute())
                    parts += [asked.under(c, ANYTHING.only(m), seed) for c in controls for m in parts_of_clips]
                rows = Rows.concat(parts)
            else:
                attack = cell.attack
                if isinstance(attack, Transfer):
                    attack = replace(attack, model=source(attack.source))
                rows = attacked().under(attack, cell.threat, seed, sent=cell.sent)
            write_cell(out, name, cell, rows)
            advance(cell.steps + 1)


def tested(study: Study, store: Store, device: torch.device, limit: int | None) -> list[Batch]:
    """The first `limit` test clips, or all of them."""
    return [b.to(device) for b in batches(store, "test", study.view, study.batch, limit=limit)]


def unreadable(store: Store, cell: Cell) -> Rows:
    """A row with the reason for every listed test clip that could not be prepared: missing is not zero."""
    tested = {
        row["id"]: row
        for row in store.table.select(["id", "split", "label", "status"]).to_pylist()
        if row["split"] == "test"
    }
    failed = [id for id, _, _ in store.failures if id in tested]
    columns = {
        "model": cell.model, "seed": cell.seed, "attack": cell.attack_name, "mode": "corrected", "subset": cell.threat.subset,
        "eps_audio": cell.threat.audio.eps, "eps_visual": cell.threat.visual.eps, "threat": str(cell.threat),
        "clip": failed, "label": [store.classes.index(tested[id]["label"]) for id in failed],
        "status": [tested[id]["status"] for id in failed],
    }  # fmt: skip
    return Rows.of(columns)


def cell_folder(out: Path, key: str) -> Path:
    """Where a finished cell lies."""
    return out / "cells" / key


def write_cell(out: Path, key: str, cell: Cell, rows: Rows) -> None:
    """Write a cell whole, then give it its name: a kill loses at most the cell it was in."""
    draft = out / "cells" / f".{key}.part"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    about = {
        "model": cell.model, "seed": cell.seed, "attack": cell.attack_name, "settings": describe(cell.attack),
        "subset": cell.threat.subset, "eps_audio": cell.threat.audio.eps, "eps_visual": cell.threat.visual.eps,
        "threat": describe(cell.threat), "n": len(rows),
    }  # fmt: skip
    (draft / "cell.json").write_text(json.dumps(about, indent=1))
    rows.save(draft / "rows.parquet")
    draft.replace(cell_folder(out, key))


def about_data(store: Store, manifest: Manifest) -> dict[str, object]:
    """The clips, as run.json tells of them."""
    return {
        "name": store.name, "root": str(store.root), "store": str(store.path), "classes": list(store.classes),
        "counts": {split: list(store.counts(split)) for split in ("train", "val", "test")},
        "failures": [{"id": id, "file": file, "reason": reason} for id, file, reason in store.failures],
        "sha256": store.sha256, "spec": asdict(store.spec),
    }  # fmt: skip


def about_model(study: Study, contestant: Contestant, trained: Trained) -> dict[str, object]:
    """A trained model, as run.json tells of it."""
    best = trained.curve[trained.best_epoch - 1] if trained.curve else None
    return {
        "kind": contestant.modality, "fusion": contestant.fusion, "recipe": contestant.recipe,
        "loss": objective_name(contestant.loss), "guard": contestant.guard and type(contestant.guard).__name__,
        "start": contestant.start,
        "parameters": count_parameters(trained.net), "sha256": weights_sha256(trained.net),
        "seconds": round(trained.seconds, 1), "epochs": len(trained.curve), "best_epoch": trained.best_epoch,
        "val": best and best.val_accuracy,
        "curve": [asdict(e) for e in trained.curve],
    }  # fmt: skip


@contextmanager
def timed(record: RunFile, stage: str) -> Iterator[None]:
    """Add the seconds of a stage to run.json; a resumed run adds to what was spent before."""
    began = time.monotonic()
    try:
        yield
    finally:
        seconds = record.about.get("seconds", {}).get(stage, 0.0) + time.monotonic() - began
        record.update(seconds={stage: round(seconds, 1)})


def _orchestra(study: Study, data: Path, progress: bool) -> Manifest:
    assert isinstance(study.data, Orchestra)
    key = hashlib.sha256(json.dumps(describe(study.data)).encode()).hexdigest()[:8]
    return orchestra.write(study.data, data / f"orchestra-{key}", progress=progress)


def _folder(manifest: Manifest, study: Study) -> str:
    """Clips of one dataset in one form share a folder, whichever study asked."""
    about = json.dumps([str(manifest.root.resolve()), describe(study.clip), [e.id for e in manifest.entries[:1]]])
    return f"{manifest.name}-{hashlib.sha256(about.encode()).hexdigest()[:8]}"


def _train(
    study: Study, contestant: Contestant, seed: int, store: Store, out: Path, progress: bool, tracker: str | None
) -> Trained:
    if contestant.epochs == 0:
        path = _folder_of(contestant.name, seed, out) / "net.safetensors"
        checkpoint.save(net := start(study, contestant, seed, store, out), path, {})
        return Trained(path, net, curve=(), best_epoch=0, seconds=0.0)
    recipe = RECIPES[contestant.recipe]
    if epochs := contestant.epochs or study.epochs:
        # Where the rate falls goes along with how long it takes.
        drops = tuple(round(d * epochs / recipe.epochs) for d in recipe.drops)
        recipe = replace(recipe, epochs=epochs, drops=drops)
    return train(
        start(study, contestant, seed, store, out), store, recipe, view=study.view, loss=contestant.loss,
        out=_folder_of(contestant.name, seed, out), seed=seed, progress=progress, tracker=tracker,
    )  # fmt: skip


def start(study: Study, contestant: Contestant, seed: int, store: Store, out: Path) -> AVNet:
    """The network that a contestant's training starts from: new, or an earlier contestant's; with its guard filled."""
    spec = NetSpec(
        len(store.classes), contestant.modality, contestant.fusion, contestant.visual_weights, contestant.width,
        contestant.classifier_std,
    )  # fmt: skip
    net = build(spec, seed)
    if contestant.start is not None:
        path = _folder_of(contestant.start, seed, out) / "net.safetensors"
        tensors = {name: t for name, t in checkpoint.read(path)[0].items() if not name.startswith("guard.")}
        checkpoint.put(tensors, net, path)
    if contestant.guard is not None:
        # Kept: a run that is taken up again starts from the same guard, to the last bit.
        kept = _folder_of(contestant.name, seed, out) / "start.safetensors"
        if kept.exists():
            return load(kept)[0]
        net.guard = contestant.guard.fill(net.eval(), batches(store, "train", study.view, study.batch), seed)
        checkpoint.save(net, kept, {})
    return net


def _folder_of(name: str, seed: int, out: Path) -> Path:
    """Where a contestant's training lies."""
    return out / "models" / f"{name}-{seed}"


def localisation(study: Study, manifest: Manifest, store: Store) -> Localisation:
    """The boxes of the test clips as the models see them: of what sounds, and of a silent thing of its size."""
    shown = window(store.spec, study.view)

    def seen(id: str, box: Box | None) -> Box | None:
        kept = store.seen(id, box) if box else None
        return box_in_window(kept, shown) if kept else None

    tested = {e.id: e for e in manifest.entries if e.split == "test" and e.id in store}
    return Localisation(
        boxes={id: seen(id, e.box) for id, e in tested.items()},
        rivals={id: seen(id, e.rival) for id, e in tested.items()},
    )


def write_features(
    study: Study, contestant: Contestant, seed: int, net: AVNet, store: Store, out: Path, device: torch.device
) -> None:
    """Both features of some test clips, and where t-SNE puts them, as one safetensors file."""
    path = out / "features" / f"{contestant.name}-{seed}.safetensors"
    if path.exists():
        return
    found, labels = [], []
    with torch.no_grad():
        for batch in batches(store, "test", study.view, study.batch, limit=DRAWN):
            found.append(net.represent(batch.to(device).x).map(lambda f: f.float().cpu()))
            labels.append(batch.label)
    f = AV(*(torch.cat(parts) for parts in zip(*(tuple(f) for f in found), strict=True)))
    places = AV(*map(torch.from_numpy, embed(f.audio.numpy(), f.visual.numpy(), seed)))
    tensors = {"audio": f.audio, "visual": f.visual, "label": torch.cat(labels)}
    checkpoint.write(
        tensors | {f"tsne_{m}": xy for m, xy in places.items()}, path, {"model": contestant.name, "seed": seed}
    )
