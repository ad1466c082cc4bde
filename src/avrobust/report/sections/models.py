"""The models, how they were trained, and their validation accuracy over epochs."""

import math
from collections.abc import Mapping
from typing import Any

from avrobust.evaluation.stats import percent
from avrobust.progress import duration
from avrobust.report import charts
from avrobust.report.figures import WIDE, Figure
from avrobust.report.formatting import MODEL, joined, listing
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.table import Line, Table, number, percentage, table


def training(run: Run) -> Figure | None:
    """Validation accuracy after each epoch, a line per model; None when no model left a curve."""
    known = {name: m.curve for name, m in run.record.models.items() if m.curve}
    if not known:
        return None
    accuracy = charts.SHARES[0]
    rows = [
        {"model": name, "epoch": e.epoch, accuracy: round(100 * e.val_accuracy, 2)}
        for name, curve in known.items()
        for e in curve
    ]
    epoch = {"field": "epoch", "type": "quantitative", "axis": {"title": "epoch", "tickMinStep": 1, "format": "d"}}
    look = charts.looks({name: run.kind(name) for name in known})
    spec = charts.lines(epoch, ["model", "epoch", accuracy], look, band=False, title="validation accuracy (%)")
    text = "; ".join(f"{name} ends at {percent(c[-1].val_accuracy)} %" for name, c in known.items())
    title = "Validation accuracy over epochs"
    return Figure("training", title, f"{title}: {text}.", rows, spec, WIDE, f"{title}, by model.")


def data(run: Run) -> Mapping[str, Any] | None:
    found = {"training": training(run), "models": described(run), "result": listing(list(run.record.models))}
    return found if found["models"] else None


def described(run: Run) -> Table | None:
    """What is recorded of each model; None without a record."""
    body: list[Line] = [
        [
            name,
            MODEL[run.kind(name)],
            (m.fusion or "—") if run.kind(name) == "AV" else "—",
            joined(*(part.replace("_", " ") for part in (m.loss or "", m.feature_defense or "", m.adaptation or "")))
            or "—",
            m.start or "random",
            number(m.parameters or math.nan, f"{m.parameters or 0:,}"),
            number(m.epochs or math.nan, f"{m.epochs}"),
            number(m.seconds or math.nan, duration(m.seconds or 0)),
            percentage(math.nan if m.val is None else m.val),
            m.recipe or "—",
        ]
        for name, m in run.record.models.items()
    ]
    heads = [
        "Model", "Input", "Fusion", "Loss, defense", "Initial weights", "Parameters", "Epochs", "Training time",
        "Validation accuracy, %", "Recipe",
    ]  # fmt: skip
    return table("Models and training", heads, body) if body else None


SECTION = Section("models", "Models and training", data)
