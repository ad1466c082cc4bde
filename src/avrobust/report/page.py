"""Everything a run has to say → one self-contained HTML page, and a few lines for the terminal."""

import json
import math
import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from avrobust.evaluation.comparison import p_value
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.stats import columns, percent
from avrobust.files import write_bytes
from avrobust.progress import duration
from avrobust.report import formatting
from avrobust.report.export import PageTables
from avrobust.report.figures import LIGHT, Figure, embed, figures_in, library
from avrobust.report.load import NO_PAPERS, read
from avrobust.report.measured import clips_differ, measure
from avrobust.report.media import check_inside
from avrobust.report.paper import Paper
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.sections import OF_OTHER_TASKS, SECTIONS, accuracy, doubts, modality, task
from avrobust.report.sections.summary import SECTION as SUMMARY
from avrobust.report.sections.summary import alarms, clean_sentence, headline

PAGE = "report.html"


def write(source: Path | str | Rows, page: Path | str | None = None, papers: Mapping[str, Paper] = NO_PAPERS) -> Path:
    """Write the report of a run's folder, of a Parquet file of rows, or of rows in memory; returns the page's path.

    `page` is `report.html` in the run's folder where it is not given; rows need one.  Missing conditions show as a
    dash.  `papers` are those whose numbers may stand beside a run's.  Raises `RunError` when there is no run.
    """
    if page is None:
        if isinstance(source, Rows) or Path(source).suffix == ".parquet":
            raise ValueError(
                "rows have no folder of their own to write their page to. Say where: write(rows, 'report.html')."
            )
        page = Path(source) / PAGE
    write_bytes(Path(page), html(read(source, papers)).encode())
    return Path(page)


def html(run: Run) -> str:
    """The page as text.  Raises `RunError` where what it shows lies outside the run's folder, or is damaged."""
    if run.path:
        check_inside(run.path)
    contents = contents_of(run)
    results = {section.name: content.get("result", "") for section, content in contents.items()}
    leading = next((content for section, content in contents.items() if section.name == run.record.section), {})
    common = {
        "run": run, "paper": run.paper, "seeds": len(run.seeds), "shown": PageTables(),
        "results": results, "leading": run.record.section, "lead": "" if alarms(run) else _answer(leading),
    }  # fmt: skip
    parts = {}
    for section, content in contents.items():
        template = environment().get_template(f"sections/{section.name}.html.j2")
        parts[section.name] = Markup(template.render(common, section=section, **content))
    first, *sections = [section for section in contents if section != SUMMARY]
    sections.sort(
        key=lambda section: section.name != run.record.section
    )  # the one that answers stands before the others
    page = environment().get_template("templates/page.html.j2")
    return page.render(common, sections=[first, *sections], parts=parts, drawn=[*figures_in(contents)])


def contents_of(run: Run) -> dict[Section, Mapping[str, Any]]:
    """What the sections of a page show of a run, in their order; without those that it has nothing for."""
    every = SECTIONS if run.classifies else OF_OTHER_TASKS
    return {section: content for section in every if (content := section.data(run)) is not None}


def figures_of(source: Path | str | Rows, papers: Mapping[str, Paper] = NO_PAPERS) -> list[Figure]:
    """The figures of a run's page, in its order."""
    return [*figures_in(contents_of(read(source, papers)))]


def led(run: Run) -> str:
    """What the section that answers the study's question says in a line."""
    section = next((s for s in SECTIONS if s.name == run.record.section and not alarms(run)), None)
    return _answer(section.data(run) or {}) if section else ""


def _answer(content: Mapping[str, Any]) -> str:
    """What a section answers where it leads: its answer, else its result."""
    return str(content.get("answer") or content.get("result", ""))


@cache
def environment() -> jinja2.Environment:
    """The templates, which escape whatever a run's files say."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("avrobust.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        finalize=formatting.upright,
    )  # fmt: skip
    made.filters |= {
        "percent": percent,
        "p_value": p_value,
        "duration": duration,
        "decibel": formatting.decibel,
        "listing": formatting.listing,
        "anchor": formatting.anchor,
        "signed": formatting.signed,
        "interval": formatting.interval,
        "json": lambda value: json.dumps(value, indent=1, ensure_ascii=False, default=str),
        "two": lambda value: "—" if math.isnan(value) else f"{value:.2f}",
        "quoted": lambda path: shlex.quote(str(path)),
        "spaced": formatting.spaced,
        "share": lambda value: f"{value:.2f}".rstrip("0").rstrip("."),
    }
    made.globals |= {
        "at": formatting.at,
        "size": formatting.size,
        "ATTACKED": formatting.ATTACKED,
        "MODEL": formatting.MODEL,
        "MODALITY": formatting.MODALITY,
        "figure_library": library,
        "figure_colours": embed(LIGHT),
    }
    return made


def summary(source: Path | str | Rows) -> str:
    """A run in a few lines: the answer, robust accuracy at each set of budgets, and what raises doubt.

    Accuracy in per cent; a dash is a condition that was not evaluated.
    """
    run = read(source)
    said = [led(run), headline(run), clean_sentence(run) if run.classifies and not alarms(run) else ""]
    lines = [*dict.fromkeys(filter(None, said)), ""]
    for measured in task.tables(run):
        heads = ("attack", "attacked", *measured.names)
        rows = [(r.attack, r.attacked, *map(str, r.numbers.values())) for r in measured.rows]
        lines += [measured.model, *columns([heads, *rows], right=True), *measured.notes, ""]
    clean = modality.rows(run)
    for table in accuracy.attack_tables(run) if run.classifies else ():
        lines.append(
            "; ".join(f"{formatting.ATTACKED[s]} ({s}) at {formatting.at(s, b)}" for s, b in table.level.items())
        )
        rows = [("attack", "clean", "A", "V", "AV", "mean")]
        for row in table.rows:
            numbers = (measure(run.clean(run.subject)).ours, *(c.ours for c in row.cells.values()))
            rows.append((row.attack, *(percent(e.value) for e in numbers)))
        lines += columns(rows, right=True)
        lines += [f"clean: {'; '.join(f'{formatting.MODEL[row.kind]} {row.clean}' for row in clean)}", ""]
    for flag, more in doubts.alike(run.flags):
        if flag.level != "note":
            lines.append(f"{flag.level}: {flag.text}{f' And {len(more)} more like it.' if more else ''}")
    lines += [line for line in (clips_differ(run), *doubts.notes(run)) if line]
    notes = sum(flag.level == "note" for flag in run.flags)
    if notes:
        lines.append(f"{notes} note{'s' if notes > 1 else ''} in the report.")
    return "\n".join(lines).rstrip()
