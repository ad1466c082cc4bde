"""Write what finished studies found into the pages of the documentation: the tables of their reports, as Markdown.

avrobust study quick
avrobust study aware --seeds 0 1 2 --data instruments/ --out runs/aware_instruments
python docs/measured.py runs/quick runs/aware "runs/aware_instruments=instruments with photos"

Each page has a place for it, between two comments.  Every run of the same study goes there, one after the other, so all of them
are given at once; what follows a `=` is what the page calls the clips, else they are the orchestra's.  The README has the answer
of each study on the orchestra; it is written where all of these are given.
"""

import re
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from avrobust.cli.studies import PAPERS
from avrobust.report.load import read
from avrobust.report.page import led
from avrobust.report.run import Run
from avrobust.report.sections import SECTIONS
from avrobust.report.sections.claims import claims
from avrobust.report.sections.summary import headline
from avrobust.report.table import Cell, Table

DOCS = Path(__file__).parent
README, ORCHESTRA = DOCS.parent / "README.md", "the orchestra"
BEGIN, END = "<!-- written by docs/measured.py: begin -->", "<!-- written by docs/measured.py: end -->"
# The page of each study; of its report, the sections whose tables stand there, and how many tables of each.
PAGES = {
    "quick": ("paper.md", {}),
    "aware": ("guide/aware.md", {"robustness": 1, "suspicion": 1}),
    "corruptions": ("guide/corruptions.md", {"natural": 1}),
    "temporal": ("guide/temporal.md", {"transfer": 2, "robustness": 1}),
    "perceptual": ("guide/perceptual.md", {"perception": 4}),
    "certificates": ("guide/certificates.md", {"certified": 2}),
}
# What a reader of the answer alone would not know.
GLOSSES = {"temporal": " AcA: AlexNet for video and for audio, concatenated."}


def tables(found: Any) -> Iterator[Table]:
    """All tables in what a section shows, in its order."""
    if isinstance(found, Table):
        yield found
    elif isinstance(found, dict):
        yield from tables([*found.values()])
    elif isinstance(found, list | tuple):
        for part in found:
            yield from tables(part)


def markdown(table: Table) -> str:
    """A table with its title above it."""
    heads = [f"{c.group}: {c.name}" if c.group else c.name for c in table.columns]
    above = " ".join(filter(None, [f"**{table.title}.**", table.above, table.below]))
    return f"{above}\n\n{lines(heads, [[said(cell) for cell in row] for row in table.rows])}"


def lines(heads: list[str], rows: list[list[str]]) -> str:
    """The lines of a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows])


def said(cell: Cell) -> str:
    """What a cell says, its small print below it."""
    text = f"**{cell.text}**" if cell.role == "strong" and cell.text else cell.text
    return "<br>".join([text, *(f"<small>{line}</small>" for line in cell.small)]).replace("|", "\\|")


def claimed(run: Run) -> str:
    """One line per claim that this run can test: what is claimed, what a paper prints, the verdict, and its evidence."""
    found = [c for c in claims(run) if c.comparisons or c.printed]
    printed = any(c.printed for c in found)
    rows = [
        [
            c.text,
            *([c.printed] if printed else []),
            f"**{c.verdict}**",
            "<br>".join(f"{k.high_name} − {k.low_name}: {k.gap}" for k in c.comparisons),
        ]
        for c in found
    ]
    return lines(["claim", *(["the paper prints"] if printed else []), "here", "evidence here"], rows) if rows else ""


def asked(run: Run, clips: str) -> str:
    """Which clips, how many, on which machine."""
    seeds, attacked = len(run.record.asked["seeds"]), run.record.asked["attacked"]
    world, code = run.record.world, run.record.code
    by = [f"{world.cpu} ({world.instructions})", f"torch {world.torch}", f"{world.precision}", f"commit {code.commit}"]
    return (
        f"### {clips[0].upper()}{clips[1:]}\n\n{attacked} clips attacked, {seeds} seed{'s' if seeds > 1 else ''}; {', '.join(by)}"
        f"{' and changes' if code.dirty else ''}."
    )


def written(run: Run, clips: str, parts: dict[str, int]) -> str:
    """What stands on the page about one run."""
    by_name = {section.name: section for section in SECTIONS}
    shown = [asked(run, clips)]
    for name, most in parts.items():
        shown += [markdown(t) for t, _ in zip(tables(by_name[name].data(run)), range(most), strict=False)]
    return "\n\n".join([*shown, *filter(None, [claimed(run)])])


def answer(run: Run) -> str:
    """The study's question, and what its page says to it first."""
    seeds = len(run.record.asked["seeds"])
    size = f"{run.record.asked['attacked']} clips, {seeds} seed{'s' if seeds > 1 else ''}"
    asks = run.record.question or "Does integration strengthen robustness?"
    return f"- **{asks}** (`avrobust study {run.record.name}`, {size}) {(led(run) or headline(run)).rstrip('.')}.{GLOSSES.get(str(run.record.name), '')}"


def put(page: Path, parts: list[str]) -> None:
    """Write these parts to their place on a page."""
    new = "\n\n".join([BEGIN, *parts, END])
    page.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: new, page.read_text(), flags=re.DOTALL))


def main(given: list[str]) -> None:
    runs = []
    for text in given:
        folder, _, clips = text.partition("=")
        runs.append((read(Path(folder), PAPERS), clips or ORCHESTRA))
    runs.sort(key=lambda pair: [*PAGES].index(str(pair[0].record.name)))
    for study, own in groupby(runs, key=lambda pair: str(pair[0].record.name)):
        page, parts = PAGES[study]
        put(DOCS / page, [written(run, clips, parts) for run, clips in own])
    answers = {str(run.record.name): answer(run) for run, clips in runs if clips == ORCHESTRA}
    if answers.keys() == PAGES.keys():
        put(README, ["\n".join(answers.values())])


if __name__ == "__main__":
    main(sys.argv[1:])
