"""The tables of a page as files: CSV, JSON, and LaTeX with booktabs; its figures as PDF and SVG.

A page carries its tables, so that both say the same.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from markupsafe import Markup

from avrobust.files import write_bytes
from avrobust.report.figures import INCHES, Figure
from avrobust.report.formatting import anchor
from avrobust.report.table import Cell, Column, Number, Table

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "×": r"$\times$", "∞": r"$\infty$", "—": "--",
    "ε": r"$\varepsilon$", "→": r"$\to$", "≥": r"$\geq$", "<": r"$<$", ">": r"$>$", "\n": " ", "\r": " ",
}  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how text begins that a spreadsheet executes
PLACES = 4  # decimals that CSV and JSON keep: more than the clips can tell


class PageTables:
    """The tables of one page in the order in which its templates show them."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, str]] = {}

    def add(self, table: Table, heading: str = "") -> str:
        """Take a table on the page, which stands below this heading; returns its place in the page."""
        place = f"table-{len(self._files) + 1}"
        title = ": ".join(dict.fromkeys(filter(None, (heading, table.title))))
        name = f"{len(self._files) + 1:02d}-{anchor(title)[:60].strip('-')}"
        self._files[place] = {
            "name": name,
            "csv": as_csv(table),
            "json": as_json(table, title),
            "tex": latex(table, title),
        }
        return place

    def embedded(self) -> Markup:
        """All files, for a script element: nothing in them ends it."""
        text = json.dumps(self._files, ensure_ascii=False, separators=(",", ":"))
        return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def write_tables(page: str, folder: Path) -> list[Path]:
    """Write the tables that a page carries to `folder`, numbered in its order, as .csv, .json and .tex; returns their paths.

    Raises `ValueError` for a page that carries none.
    """
    found = re.search(r'<script type="application/json" id="table-files">(.*?)</script>', page, re.DOTALL)
    if found is None:
        raise ValueError("expected a page that carries its tables, got one without. Write the report again.")
    files = json.loads(found[1]).values()
    return [
        write_bytes(folder / f"{anchor(own['name'])}.{kind}", own[kind].encode())
        for own in files
        for kind in ("csv", "json", "tex")
    ]


def write_figures(figures: Sequence[Figure], folder: Path, columns: int = 1) -> list[Path]:
    """Write figures to `folder`, as wide as one column of a paper or as both, numbered; returns their paths.

    Each is a vector .pdf and a .svg with text that stays text, its caption as a .tex line, and its numbers as .csv.
    """
    written = []
    for i, figure in enumerate(figures, start=1):
        name, inches = f"{i:02d}-{anchor(figure.name)[:60].strip('-')}", INCHES[columns]
        caption = f"\\caption{{{_escaped(figure.caption or figure.title)}}}\\label{{fig:{name}}}\n"
        files = {"pdf": figure.pdf(inches), "svg": figure.svg(inches).encode(), "tex": caption.encode()}
        if figure.live:
            files["csv"] = as_csv(figure.table).encode()
        written += [write_bytes(folder / f"{name}.{kind}", content) for kind, content in files.items()]
    return written


def as_csv(table: Table) -> str:
    """A row per row; the count, the interval and a paper's number of a column in columns of their own.

    >>> from avrobust.evaluation.stats import Estimate
    >>> from avrobust.report import table
    >>> found = table.table("By class", ["Class", "Clean"], [["=a_b", table.share(Estimate(0.9, 0.6, 1.0, 10))]])
    >>> print(as_csv(found))
    Class,Clean,Clean: clips,Clean: low,Clean: high
    '=a_b,90,10,60,100
    <BLANKLINE>
    >>> print(latex(found, "By class"))
    % By class
    \\begin{tabular}{lr}
    \\toprule
    Class & Clean \\\\
    \\midrule
    =a\\_b & 90.0 {\\scriptsize of 10 [60.0, 100.0]} \\\\
    \\bottomrule
    \\end{tabular}
    <BLANKLINE>
    """
    columns = [[row[i] for row in table.rows] for i in range(len(table.columns))]
    spread = [_spread(named(c), cells) for c, cells in zip(table.columns, columns, strict=True)]
    heads = [head for heads, _ in spread for head in heads]
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([inert(head) for head in heads])
    lines.writerows([value for _, rows in spread for value in rows[i]] for i in range(len(table.rows)))
    return text.getvalue()


def _spread(name: str, cells: Iterable[Cell]) -> tuple[list[str], list[list[str]]]:
    """The columns of a file that one column of a table becomes, and for each row their values."""
    cells = list(cells)
    known = [c.number for c in cells if c.number]
    if not known:
        return [name], [[inert(" ".join(filter(None, (c.text, *(f"({s})" for s in c.small)))))] for c in cells]
    counted, said = any(n.n for n in known), any(n.paper is not None for n in known)
    between, seeds = any(n.low == n.low for n in known), any(n.seeds > 1 for n in known)
    parts = ["clips"] * counted + ["seeds"] * seeds + ["low", "high"] * between + ["paper"] * said
    rows = []
    for cell in cells:
        n = cell.number or Number(math.nan)
        own = {
            "clips": n.n or math.nan,
            "seeds": n.seeds if n.n else math.nan,
            "low": n.low,
            "high": n.high,
            "paper": n.paper,
        }
        first = _plain(n.value) if cell.number else inert(cell.text)
        rows.append([first, *(_plain(own[part]) for part in parts)])
    return [name, *(f"{name}: {part}" for part in parts)], rows


def _plain(value: float | None) -> str:
    """A number as programs read it, nothing where there is none."""
    return (
        "" if value is None or math.isnan(value) else f"{round(value, PLACES):g}" if abs(value) < 1e5 else repr(value)
    )


def as_json(table: Table, title: str) -> str:
    """The columns, and each row as a list of cells: what it says, and the number behind it where there is one."""
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    about = {"title": title, "above": table.above, "below": table.below, "columns": [named(c) for c in table.columns]}
    return json.dumps({k: v for k, v in about.items() if v} | {"rows": rows}, ensure_ascii=False)


def _cell(cell: Cell) -> dict[str, object]:
    found: dict[str, object] = {"text": cell.text}
    if cell.small:
        found["small"] = list(cell.small)
    if n := cell.number:
        numbers = {"value": n.value, "low": n.low, "high": n.high, "paper": math.nan if n.paper is None else n.paper}
        found |= {name: round(v, PLACES) for name, v in numbers.items() if math.isfinite(v)}
        found |= {"clips": n.n} | ({"seeds": n.seeds} if n.seeds > 1 else {}) if n.n else {}
    return found


def latex(table: Table, title: str) -> str:
    """A table for a paper that uses the package booktabs."""
    layout = "".join("r" if any(row[i].number for row in table.rows) else "l" for i in range(len(table.columns)))
    about = [f"% {_escaped(said)}" for said in (title, table.above) if said]
    lines = [*about, rf"\begin{{tabular}}{{{layout}}}", r"\toprule"]
    if table.groups:
        lines.append(
            " & ".join(rf"\multicolumn{{{n}}}{{c}}{{{_escaped(g)}}}" if g else "" for g, n in table.groups) + r" \\"
        )
        start = 1
        for group, span in table.groups:
            if group:
                lines.append(rf"\cmidrule(lr){{{start}-{start + span - 1}}}")
            start += span
    lines += [" & ".join(_escaped(c.name) for c in table.columns) + r" \\", r"\midrule"]
    lines += [" & ".join(map(_latex, row)) + r" \\" for row in table.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex(cell: Cell) -> str:
    below = f" {{\\scriptsize {_escaped('; '.join(cell.small))}}}" if cell.small else ""
    # What begins a row would else be an argument of the line break, or of the rule, before it.
    guard = "{}" if cell.text.startswith(("[", "*")) else ""
    return guard + _escaped(cell.text) + below


def named(column: Column) -> str:
    """A column's name with the heading above it."""
    return f"{column.group}: {column.name}" if column.group else column.name


def inert(text: str) -> str:
    """Text that a spreadsheet takes for no formula: names come from files."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _escaped(text: str) -> str:
    return re.sub("|".join(map(re.escape, LATEX)), lambda found: LATEX[found[0]], text)
