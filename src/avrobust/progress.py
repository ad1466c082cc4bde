"""How far long work is: a bar on a terminal; elsewhere, as under Slurm, a line with the time at least every 30 s.

Both go to stderr, so that results on stdout can be piped.  Work is announced where its size is known (`track_progress`), and
advances where it is done, at any depth: `part` and `steps` need not know what they are part of, and cost nothing where
nobody watches.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from io import TextIOBase
from math import inf, isfinite

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from avrobust.names import visible as shown

Advance = Callable[..., None]  # advance(1), or advance(0, note="val 71.2 %")
Tell = Callable[[str], object]  # takes "training AV-0: 45%, epoch 3/8"

EVERY_S = 30.0
_last_line = -EVERY_S  # when this process last wrote one, on the clock of `Work`
_works: list["Work"] = []  # what this process shows, the innermost work last
_bars: list[Progress] = []  # at most one: all work of a process shares it
_tell: Tell | None = None  # where the progress of a process that works for another one goes


@contextmanager
def track_progress(
    title: str, total: float, *, done: float = 0, visible: bool = True, count: bool = True
) -> Iterator[Advance]:
    """Show how far `title` is while the block runs; the block calls `advance(amount, note=...)`, or opens a `part`.

    `total` is in any unit, of which `done` were finished earlier; `count` shows the units, otherwise a percentage.  Blocks
    may be nested: a terminal shows all bars, a line names all of them, the outermost first.

    >>> with track_progress("decoding", 2, visible=False) as advance:
    ...     for clip in ("a", "b"):
    ...         advance(1, note=clip)
    """
    console = Console(stderr=True)
    if not visible or not total:
        yield lambda amount=1, note=None: None
        return
    work = Work(title, total, done, count)
    _works.append(work)
    try:
        if _tell is not None:
            work.show = _Telling(work, _tell)
            yield work.advance
        elif console.is_terminal or console.is_jupyter:
            with _bar(console, work):
                yield work.advance
        else:
            work.show = work.write_if_due
            with work.kept_up():
                yield work.advance
    finally:
        _works.remove(work)


@contextmanager
def part(amount: float, name: str = "") -> Iterator[None]:
    """A part of the innermost work, worth `amount` of it; inside another part, that share of the other one.

    What the block has not advanced is added when it ends, so that a part which ends early counts in full.

    >>> with track_progress("attacking", 10) as advance, part(10), part(0.5, "batch 1 of 2"):
    ...     pass
    """
    if not _works:
        yield
        return
    work = _works[-1]
    with work.part(amount, name):
        yield


def steps(count: int, name: str = "step") -> Iterator[int]:
    """`range(count)`, each of which advances the part around it by its share; where there is none, nothing is shown.

    >>> [*steps(3)]
    [0, 1, 2]
    """
    work = _works[-1] if _works else None
    for i in range(count):
        if work is None or not work.parts:
            yield i
        else:
            with work.part(1 / count, f"{name} {i + 1} of {count}" if count > 1 else ""):
                yield i


@contextmanager
def progress_told(tell: Tell) -> Iterator[None]:
    """While the block runs, this process shows no progress but tells it, once a second, in words.

    >>> with progress_told(print), track_progress("training AV-0", 20, count=False) as advance:
    ...     advance(9, note="epoch 3/8")
    training AV-0: 45%, epoch 3/8
    """
    global _tell
    before, _tell = _tell, tell
    try:
        yield
    finally:
        _tell = before


@dataclass(eq=False)  # two alike are still two
class _Part:
    worth: float  # in the units of the work
    name: str
    done: float = 0.0


@dataclass(eq=False)
class Work:
    """Something long, and how far it is: `2026-01-31 12:00:30  preparing pets: 120 of 480 (25%), 90 s left`.

    `show` is called whenever it has advanced.  `clock` gives seconds and `write_to` takes lines, for tests; by default the time
    of day and stderr.
    """

    title: str
    total: float
    done: float = 0
    count: bool = True
    clock: Callable[[], float] = time.time
    write_to: TextIOBase | None = None
    note: str = ""
    parts: list[_Part] = field(default_factory=list)
    show: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.started_at, self.started_with = self.clock(), self.done

    def advance(self, amount: float = 1, note: str | None = None) -> None:
        """Count `amount` as finished."""
        self.done += amount
        self.note = self.note if note is None else note
        self.show()

    @contextmanager
    def part(self, amount: float, name: str) -> Iterator[None]:
        """See `progress.part`."""
        outer = self.parts[-1] if self.parts else None
        mine = _Part(min(amount * outer.worth, outer.worth - outer.done) if outer else amount, name)
        self.parts.append(mine)
        self.show()
        try:
            yield
        finally:
            if mine in self.parts:  # an error closes the outer ones first, whose generators may live longer
                del self.parts[self.parts.index(mine) :]
                if outer:
                    outer.done += mine.worth
                self.advance(mine.worth - mine.done)

    def write_if_due(self) -> None:
        """Write a line unless this process wrote one within the last 30 s, for whatever work, or work inside runs."""
        global _last_line
        now = self.clock()
        if 0 <= now - _last_line < EVERY_S or (_works and _works[-1] is not self):
            return
        _last_line = now
        line = "; ".join(map(str, [*_works[:-1], self]))
        print(
            f"{datetime.fromtimestamp(now):%Y-%m-%d %H:%M:%S}  {shown(line)}",
            file=self.write_to or sys.stderr,
            flush=True,
        )

    @contextmanager
    def kept_up(self) -> Iterator[None]:
        """Write lines while the block runs, also where it does not advance for minutes."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(1.0):
                self.write_if_due()

        self.write_if_due()
        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    @property
    def amount(self) -> str:
        """How much of it is finished."""
        share = f"{self.done / self.total:.0%}"
        return f"{int(self.done + 1e-9)} of {self.total:g} ({share})" if self.count else share

    @property
    def notes(self) -> str:
        """What it is at."""
        return ", ".join(filter(None, [self.note, *(p.name for p in [*self.parts])]))

    def __str__(self) -> str:
        return ", ".join(filter(None, [f"{self.title}: {self.amount}", self._time_left(), self.notes]))

    def _time_left(self) -> str:
        """At the speed so far, of what was finished since this started."""
        passed, finished = self.clock() - self.started_at, self.done - self.started_with
        if finished <= 0:
            return f"running for {duration(passed)}"
        return f"{duration(passed / finished * (self.total - self.done))} left"


@dataclass
class _Telling:
    """Tells how far work is, once a second."""

    work: Work
    tell: Tell
    at: float = -inf

    def __call__(self) -> None:
        if time.monotonic() - self.at >= 1.0:
            self.at = time.monotonic()
            work = self.work
            self.tell(f"{work.title}: {work.done / work.total:.0%}{work.notes and f', {work.notes}'}")


@contextmanager
def _bar(console: Console, work: Work) -> Iterator[None]:
    with _display(console) as progress:
        outermost = not progress.tasks
        task: TaskID = progress.add_task(escape(shown(work.title)), total=work.total, note="", amount="")

        def show() -> None:
            notes = escape(shown(work.notes))
            progress.update(task, completed=work.done, amount=work.amount, note=notes)

        work.show = show
        show()
        try:
            yield
        finally:
            if not outermost:  # else hundreds of finished bars would fill the screen
                progress.remove_task(task)


@contextmanager
def _display(console: Console) -> Iterator[Progress]:
    """The display of the bars around this one, or else a new one."""
    if _bars:
        yield _bars[-1]
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        _bars.append(progress)
        try:
            yield progress
        finally:
            _bars.pop()


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(8.2), duration(200), duration(7500), duration(float("inf"))
    ('8 s', '3 min 20 s', '2 h 5 min', 'unknown')
    """
    if not isfinite(seconds):
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
