"""The tables of a page as files: CSV, JSON, and LaTeX with booktabs.  Reads the page, so that they say what it says."""

import csv
import io
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from avrobust.files import write_bytes
from avrobust.report.formatting import anchor

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "×": r"$\times$", "∞": r"$\infty$", "—": "--",
}  # fmt: skip


@dataclass
class Cell:
    """What one cell says, and the lines below it in small print."""

    text: str = ""
    small: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.text} ({'; '.join(self.small)})".strip() if self.small else self.text


@dataclass
class Table:
    """One table of a page under its headings; the first of its rows names the columns."""

    title: str
    rows: list[list[Cell]] = field(default_factory=list)


class _Reader(HTMLParser):
    """Every table of a page with the headings above it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[Table] = []
        self._headings = {"h2": "", "h3": ""}
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._open.append(tag)
        if tag == "h2":
            self._headings = {"h2": "", "h3": ""}
        elif tag == "h3":
            self._headings["h3"] = ""
        elif tag == "table":
            self.tables.append(Table(": ".join(filter(None, self._headings.values()))))
        elif tag == "tr":
            self.tables[-1].rows.append([])
        elif tag in ("td", "th"):
            self.tables[-1].rows[-1].append(Cell())
        elif tag == "small":
            self._cell().small.append("")

    def handle_endtag(self, tag: str) -> None:
        while tag in self._open and self._open.pop() != tag:  # what has no end is inside
            pass

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        heading = next((tag for tag in ("h2", "h3") if tag in self._open), None)
        if heading:
            self._headings[heading] += text
        elif text and "table" in self._open and {"td", "th"} & set(self._open):
            cell = self._cell()
            if "small" in self._open:
                cell.small[-1] = f"{cell.small[-1]} {text}".strip()
            else:
                cell.text = f"{cell.text} {text}".strip()

    def _cell(self) -> Cell:
        """The one that is being read; outside of tables, one that nobody keeps."""
        inside = self.tables and self.tables[-1].rows and self.tables[-1].rows[-1]
        return self.tables[-1].rows[-1][-1] if inside else Cell(small=[""])


def tables(page: str) -> list[Table]:
    r"""The tables of a page, in its order.

    >>> found = tables("<h2>By class</h2><table><tr><th>Class</th><th>Clean</th></tr><tr><th>a_b</th><td><b>90.0</b><small>of 10</small></td></tr></table>")
    >>> found[0].title, [str(cell) for cell in found[0].rows[1]]
    ('By class', ['a_b', '90.0 (of 10)'])
    >>> print(latex(found[0]))
    % By class
    \begin{tabular}{lr}
    \toprule
    Class & Clean \\
    \midrule
    a\_b & 90.0 {\scriptsize of 10} \\
    \bottomrule
    \end{tabular}
    """
    return [table for table in _Reader(page).tables if len(table.rows) > 1]


def latex(table: Table) -> str:
    """A table for a paper that uses the package booktabs."""
    head, *body = table.rows
    width = max(map(len, table.rows))

    def line(row: list[Cell]) -> str:
        cells = [
            _escaped(c.text) + (f" {{\\scriptsize {_escaped('; '.join(c.small))}}}" if c.small else "") for c in row
        ]
        return " & ".join([*cells, *[""] * (width - len(row))]) + r" \\"

    columns = "l" + "r" * (width - 1)
    parts = [f"% {table.title}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", line(head), r"\midrule"]
    return "\n".join([*parts, *map(line, body), r"\bottomrule", r"\end{tabular}"])


def write_tables(page: str, folder: Path) -> list[Path]:
    """Write every table of a page to `folder`, numbered in its order, as .csv, .json and .tex; returns their paths."""
    written = []
    for number, table in enumerate(tables(page), start=1):
        name, text = f"{number:02d}-{anchor(table.title)[:60].strip('-')}", io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([_inert(str(cell)) for cell in row] for row in table.rows)
        plain = {"title": table.title, "rows": [[[c.text, *c.small] for c in row] for row in table.rows]}
        for suffix, content in (
            (".csv", text.getvalue()),
            (".json", json.dumps(plain, indent=1, ensure_ascii=False)),
            (".tex", latex(table) + "\n"),
        ):
            written.append(write_bytes(folder / f"{name}{suffix}", content.encode()))
    return written


def _inert(text: str) -> str:
    """Text that a spreadsheet takes for no formula: names come from files."""
    return f"'{text}" if text.startswith(("=", "@")) else text


def _escaped(text: str) -> str:
    return re.sub("|".join(map(re.escape, LATEX)), lambda found: LATEX[found[0]], text)
