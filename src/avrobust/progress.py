"""How far long work is: a bar on a terminal; elsewhere, as under Slurm, a line with the time at most every 30 s.

Both go to stderr, so that results on stdout can be piped.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from io import TextIOBase
from math import inf, isfinite

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[..., None]  # advance(1), or advance(0, note="val 71.2 %")
Tell = Callable[[str], object]  # takes "training AV-0: 45%, epoch 3/8"

EVERY_S = 30.0
_last_line = -EVERY_S  # when this process last wrote one, on the clock of `Lines`
_running: list["Lines"] = []  # the innermost one comes last, and is the one that writes
_bars: list[Progress] = []  # at most one: all work of a process shares it
_tell: Tell | None = None  # where the progress of a process that works for another one goes


@contextmanager
def track_progress(
    title: str, total: float, *, done: float = 0, visible: bool = True, count: bool = True
) -> Iterator[Advance]:
    """Show how far `title` is while the block runs; the block calls `advance(amount, note=...)`.

    `total` is in any unit, of which `done` were finished earlier; `count` shows the units, otherwise a percentage.  Blocks
    may be nested: a terminal shows all bars, the lines are those of the innermost block.

    >>> with track_progress("decoding", 2, visible=False) as advance:
    ...     for clip in ("a", "b"):
    ...         advance(1, note=clip)
    """
    console = Console(stderr=True)
    if not visible or not total:
        yield lambda amount=1, note=None: None
    elif _tell is not None:
        yield _telling(Lines(title, total, done, count), _tell)
    elif console.is_terminal or console.is_jupyter:
        with _bar(console, title, total, done, count) as advance:
            yield advance
    else:
        lines = Lines(title, total, done, count)
        with lines.kept_up():
            yield lines.advance


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


def _telling(lines: "Lines", tell: Tell) -> Advance:
    told_at = -inf

    def advance(amount: float = 1, note: str | None = None) -> None:
        nonlocal told_at
        lines.done += amount
        lines.note = lines.note if note is None else note
        if time.monotonic() - told_at >= 1.0:
            told_at = time.monotonic()
            tell(f"{lines.title}: {lines.done / lines.total:.0%}{lines.note and f', {lines.note}'}")

    return advance


@contextmanager
def _bar(console: Console, title: str, total: float, done: float, count: bool) -> Iterator[Advance]:
    with _display(console) as progress:
        outermost = not progress.tasks
        task = progress.add_task(title, total=total, note="", amount="")
        finished = done

        def advance(amount: float = 1, note: str | None = None) -> None:
            nonlocal finished
            finished += amount
            text = f"{finished:g}/{total:g}" if count else f"{finished / total:.0%}"
            progress.update(task, completed=finished, amount=text)
            if note is not None:
                progress.update(task, note=note)

        advance(0)
        try:
            yield advance
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


class Lines:
    """Progress as lines of text: `2026-01-31 12:00:30  preparing pets: 120 of 480 (25 %), 90 s left`.

    `clock` gives seconds and `write_to` takes the lines, for tests; by default the time of day and stderr.
    """

    def __init__(
        self,
        title: str,
        total: float,
        done: float = 0,
        count: bool = True,
        *,
        clock: Callable[[], float] = time.time,
        write_to: TextIOBase | None = None,
    ) -> None:
        self.title, self.total, self.done, self.count = title, total, done, count
        self.clock, self.write_to = clock, write_to
        self.started_at, self.started_with, self.note = clock(), done, ""

    def advance(self, amount: float = 1, note: str | None = None) -> None:
        """Count `amount` as finished, and write a line if the last one is old enough."""
        self.done += amount
        self.note = self.note if note is None else note
        self.write_if_due()

    def write_if_due(self) -> None:
        """Write a line unless this process wrote one within the last 30 s, for whatever work, or work inside runs."""
        global _last_line
        now = self.clock()
        if 0 <= now - _last_line < EVERY_S or (_running and _running[-1] is not self):
            return
        _last_line = now
        print(f"{datetime.fromtimestamp(now):%Y-%m-%d %H:%M:%S}  {self}", file=self.write_to or sys.stderr, flush=True)

    @contextmanager
    def kept_up(self) -> Iterator[None]:
        """Write lines while the block runs, also where it does not advance for minutes."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(1.0):
                self.write_if_due()

        _running.append(self)
        self.write_if_due()
        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            _running.remove(self)

    def __str__(self) -> str:
        units = f"{self.done:g} of {self.total:g} " if self.count else ""
        share = f"({self.done / self.total:.0%})" if self.count else f"{self.done / self.total:.0%}"
        return f"{self.title}: {units}{share}, {self._time_left()}" + (f", {self.note}" if self.note else "")

    def _time_left(self) -> str:
        """At the speed so far, of what was finished since this started."""
        passed, finished = self.clock() - self.started_at, self.done - self.started_with
        if finished <= 0:
            return f"running for {duration(passed)}"
        return f"{duration(passed / finished * (self.total - self.done))} left"


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
