"""What was asked: data, models, attacks, budgets and seeds."""

from collections.abc import Mapping
from typing import Any

from avrobust.progress import duration
from avrobust.report.formatting import MODALITY, MODEL, at, joined, listing, named
from avrobust.report.run import SUBSETS, Run
from avrobust.report.section import Section


def facts(run: Run) -> list[tuple[str, str]]:
    """What was asked, as (name, text)."""
    record = run.record
    splits = [f"{readable} {name}" for name, (readable, _) in record.data.counts.items()]
    clips = f"{listing(splits)} clips" if splits else ""
    models = [f"{m} ({_model(run, m)})" for kind in MODEL for m in run.models(kind)]
    found = [
        ("Data", joined(record.data.name, f"{run.classes} classes" if run.table and run.classifies else "", clips)),
        ("Clip", _clip(record.data.spec)),
        ("Model input", seen(run)),
        ("Models", listing(models)),
        ("Attacks", listing(list(run.infos))),
        ("Budgets", _budgets(run)),
        ("Seeds", listing([str(s) for s in run.seeds])),
        ("Started", (record.started or "").replace("T", " ")[:16]),
        ("Time", duration(sum(record.seconds.values())) if record.seconds else ""),
    ]
    return [(name, text) for name, text in found if text]


def seen(run: Run) -> str:
    """What of a clip the models get, as recorded: how much of its audio, how many frames."""
    view, spec = run.record.asked.get("view"), run.record.data.spec
    found = [*(view.get(n) for n in ("samples", "frames", "size"))] if isinstance(view, Mapping) else []
    known = [float(v) for v in (*found, spec.get("rate"), spec.get("seconds")) if isinstance(v, int | float) and v > 0]
    if len(known) < 5:
        return ""
    samples, frames, size, rate, whole = known
    shown = "one frame" if frames == 1 else f"{frames:g} frames"
    return f"{samples / rate:.2f} s of the {whole:g} s of audio, and {shown} of {size:g} × {size:g} pixels, from the centre"


def _clip(spec: Mapping[str, Any]) -> str:
    if not spec:
        return ""
    seconds, rate, fps, size = (spec.get(name, "?") for name in ("seconds", "rate", "fps", "size"))
    return f"{seconds} s of audio at {rate} Hz, and of video at {fps} frames per second, {size} × {size} pixels"


def _model(run: Run, name: str) -> str:
    about = run.about(name)
    return joined(
        MODEL[run.kind(name)],
        about.fusion if run.kind(name) == "AV" else "",
        named("loss", about.loss if about.loss != "cross_entropy" else ""),
        named("feature defense", about.feature_defense),
        named("from", about.start),
        named("recipe", about.recipe),
    )


def _budgets(run: Run) -> str:
    """The budgets that were tried, per subset, from the smallest to the largest."""
    parts = []
    for subset in SUBSETS:
        tried = sorted({c.budget for c in run.table if c.subset == subset})
        if tried:
            first, last = at(subset, tried[0]), at(subset, tried[-1])
            size = f"{len(tried)}, from {first} to {last}" if len(tried) > 1 else first
            parts.append(f"{MODALITY[subset]}: {size}")
    return "; ".join(parts)


def data(run: Run) -> Mapping[str, Any] | None:
    found = facts(run)
    return {"facts": found, "result": joined(run.record.data.name, seen(run))} if found else None


SECTION = Section("setup", "Setup", data)
