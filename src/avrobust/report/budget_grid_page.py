"""A budget grid → one self-contained HTML page."""

from pathlib import Path

from avrobust.evaluation.stats import estimate
from avrobust.files import write_bytes
from avrobust.report import budget_grid as numbers
from avrobust.report.budget_grid import GridResult
from avrobust.report.budget_grid_figures import growth, landscape, spread
from avrobust.report.export import PageTables
from avrobust.report.figures import figures_in
from avrobust.report.page import environment
from avrobust.report.sections.doubts import alike


def html(grid: GridResult) -> str:
    """The page as text."""
    cells = grid.cells
    corners = {"clean": cells[0][0], "A": cells[0][-1], "V": cells[-1][0], "AV": cells[-1][-1]}
    content = {
        "about": grid.about,
        "title": f"What budget fools {numbers.name(grid.about['model'])}?",
        "answer": numbers.answer(grid),
        "unread": numbers.unread(grid),
        "flags": alike(grid.flags),
        "corners": {s: (p.condition.budget, estimate(p["correct"])) for s, p in corners.items()},
        "budgets": {modality: grid.budgets(modality) for modality in ("audio", "visual")},
        "cells": [[estimate(p["correct"]) for p in row] for row in cells],
        "half": numbers.half(grid),
        "known": numbers.known(grid),
        "checked": numbers.checked(grid),
        "missed": grid.about["missed"],
        "panels": [growth(grid), spread(grid)],
        "landscape": landscape(grid),
        "facts": numbers.facts(grid),
    }
    return (
        environment()
        .get_template("templates/budget_grid.html.j2")
        .render(content, shown=PageTables(), drawn=[*figures_in(content)])
    )


def write(rows: Path, page: Path) -> Path:
    """The page of a grid's rows, whole or not at all."""
    return write_bytes(page, html(GridResult.read(rows)).encode())
