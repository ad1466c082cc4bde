"""A table of the page as a value: what its cells say, and the numbers behind them.

The page, its sorting and the files of a table (CSV, JSON, LaTeX) are all made from this value.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from avrobust.evaluation.comparison import Paired, p_value
from avrobust.evaluation.stats import Estimate, percent
from avrobust.report.formatting import interval, signed
from avrobust.report.measured import Measured


@dataclass(frozen=True)
class Column:
    """A column's name, and the heading that it shares with its neighbours."""

    name: str
    group: str = ""


@dataclass(frozen=True)
class Number:
    """What a cell is sorted by and saved as, in the unit in which it is shown; nan where there is none.

    `n` clips (times `seeds`) and the 95 % interval where they are known; `paper` is the number printed in a paper.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    seeds: int = 1
    paper: float | None = None

    @property
    def key(self) -> str:
        """The value as JavaScript reads it; "" where there is none.

        >>> Number(1 / 3).key, Number(math.inf).key, Number(math.nan).key
        ('0.3333333333', 'Infinity', '')
        """
        if math.isinf(self.value):
            return "Infinity" if self.value > 0 else "-Infinity"
        return "" if math.isnan(self.value) else f"{self.value:.10g}"


@dataclass(frozen=True)
class Cell:
    """What a cell says, the lines below it in small print, and the number behind it, None for words.

    `role` is how it is set off: "strong", "muted", "over", "right", "wrong", or "" for none; `shade` in [0, 1] how much.
    """

    text: str
    small: tuple[str, ...] = ()
    number: Number | None = None
    role: str = ""
    shade: float = 0.0


@dataclass(frozen=True)
class Table:
    """`columns` and `rows` of as many cells; the first cell of a row is its head.

    `above` says what holds for all of it (budgets), `below` how to read it.  `kind` is "" or "matrix".
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    above: str = ""
    below: str = ""
    kind: str = ""

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The headings above the columns with the number of columns of each; empty where there are none."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            name, span = found[-1] if found else ("", 0)
            if found and column.group and column.group == name:
                found[-1] = name, span + 1
            else:
                found.append((column.group, 1))
        return found if any(name for name, _ in found) else []


Line = Sequence[Cell | str]  # a row of a table, plain words among its cells


def table(title: str, columns: Sequence[str | Column], rows: Iterable[Line], **more: str) -> Table:
    """A table of cells or plain words.  Raises `ValueError` for a row of another length than the columns.

    >>> made = table("By class", ["Class", "Clean"], [["tuba", share(Estimate(0.5, 0.2, 0.8, 10))]])
    >>> made.rows[0][1].text, made.rows[0][1].small
    ('50.0', ('of 10 [20.0, 80.0]',))
    """
    heads = tuple(c if isinstance(c, Column) else Column(c) for c in columns)
    body = tuple(tuple(c if isinstance(c, Cell) else Cell(c) for c in row) for row in rows)
    for row in body:
        if len(row) != len(heads):
            raise ValueError(f"{title}: expected {len(heads)} cells in each row, got {len(row)}. Give one per column.")
    return Table(title, heads, body, **more)


def share(e: Estimate, *, paper: float | None = None, role: str = "") -> Cell:
    """An estimate with its count and interval, in per cent where it is a share; a dash where there is none."""
    unit = 100 if e.share else 1
    number = Number(unit * e.value, unit * e.low, unit * e.high, e.n, e.seeds, paper)
    printed = () if paper is None else (f"paper {paper:.1f}",)
    return Cell(e.shown(e.value), (*filter(None, [interval(e)]), *printed), number, role)


def accuracy(m: Measured, *, role: str = "") -> Cell:
    """An accuracy, with a paper's beside it where it has one."""
    return share(m.ours, paper=m.printed, role=role)


def number(value: float, text: str, *small: str, role: str = "") -> Cell:
    """A number that is shown as `text`; a dash for nan."""
    return Cell("—" if math.isnan(value) else text, small, Number(value), role)


def percentage(value: float, *, role: str = "") -> Cell:
    """A fraction in per cent, of which no interval is known."""
    return number(100 * value, percent(value), role=role)


def points(gap: Estimate | Paired | None, *, paper: float | None = None, p: bool = False) -> Cell:
    """A difference of fractions in points, with its interval; with `p` the p value too."""
    if gap is None or not gap.n:
        return number(math.nan, "—")
    value = gap.value if isinstance(gap, Estimate) else gap.difference
    small = [f"[{signed(gap.low)}, {signed(gap.high)}]"]
    if p and isinstance(gap, Paired):
        small.append(f"p {p_value(gap.p)}")
    if paper is not None:
        small.append(f"paper {signed(paper / 100)}")
    found = Number(100 * value, 100 * gap.low, 100 * gap.high, gap.n, gap.seeds, paper)
    return Cell(signed(value), tuple(small), found)


DASH = number(math.nan, "—")
