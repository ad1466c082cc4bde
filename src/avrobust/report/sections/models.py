"""The models, how they were trained, and their validation accuracy over epochs."""

import math
from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.ticker import MaxNLocator

from avrobust.evaluation.stats import percent
from avrobust.progress import duration
from avrobust.report.formatting import MODEL, joined, listing
from avrobust.report.plots import MARK, ROLE, STYLE, Panel, as_svg, canvas, name_lines, percent_axis
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.table import Line, Table, number, percentage, table


def training(run: Run) -> Panel | None:
    """Validation accuracy after each epoch, a line per model; None when no model left a curve."""
    known = {name: m.curve for name, m in run.record.models.items() if m.curve}
    if not known:
        return None
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "training"}):
        figure, axes = canvas(5.6, 3.2)
        ends = []
        for name, curve in known.items():
            epochs, values = [e.epoch for e in curve], [e.val_accuracy for e in curve]
            colour = ROLE[run.kind(name)]
            axes.plot(epochs, values, color=colour, lw=1.6, marker=MARK[run.kind(name)], ms=3.5)
            ends.append((values[-1], name, colour))
        last = max(e.epoch for curve in known.values() for e in curve)
        percent_axis(axes)
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation accuracy")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        name_lines(axes, last, ends)
        svg = as_svg(figure, "training")
    text = "; ".join(f"{name} ends at {percent(c[-1].val_accuracy)} %" for name, c in known.items())
    return Panel("Validation accuracy over epochs", svg, f"Validation accuracy over epochs: {text}.")


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
            joined(*(part.replace("_", " ") for part in (m.loss or "", m.feature_defense or ""))) or "—",
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
        "Model", "Input", "Fusion", "Loss, feature defense", "Initial weights", "Parameters", "Epochs", "Training time",
        "Validation accuracy, %", "Recipe",
    ]  # fmt: skip
    return table("Models and training", heads, body) if body else None


SECTION = Section("models", "Models and training", data)
