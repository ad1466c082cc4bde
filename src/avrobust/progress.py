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

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

Advance = Callable[..., None]  # advance(1), or advance(0, note="val 71.2 %")

EVERY_S = 30.0
_last_line = -EVERY_S  # when this process last wrote one, on the clock of `Lines`


@contextmanager
def track_progress(
    title: str, total: float, *, done: float = 0, visible: bool = True, count: bool = True
) -> Iterator[Advance]:
    """Show how far `title` is while the block runs; the block calls `advance(amount, note=...)`.

    `total` is in any unit, of which `done` were finished earlier; `count` shows the units, otherwise a percentage.

    >>> with track_progress("decoding", 2, visible=False) as advance:
    ...     for clip in ("a", "b"):
    ...         advance(1, note=clip)
    """
    console = Console(stderr=True)
    if not visible or not total:
        yield lambda amount=1, note=None: None
    elif console.is_terminal or console.is_jupyter:
        with _bar(console, title, total, done, count) as advance:
            yield advance
    else:
        lines = Lines(title, total, done, count)
        with lines.kept_up():
            yield lines.advance


@contextmanager
def _bar(console: Console, title: str, total: float, done: float, count: bool) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn() if count else TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total, note="")
        progress.update(task, completed=done)

        def advance(amount: float = 1, note: str | None = None) -> None:
            progress.advance(task, amount)
            if note is not None:
                progress.update(task, note=note)

        yield advance


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
        self.write_if_due()

    def advance(self, amount: float = 1, note: str | None = None) -> None:
        """Count `amount` as finished, and write a line if the last one is old enough."""
        self.done += amount
        self.note = self.note if note is None else note
        self.write_if_due()

    def write_if_due(self) -> None:
        """Write a line unless this process wrote one within the last 30 s, for whatever work."""
        global _last_line
        now = self.clock()
        if 0 <= now - _last_line < EVERY_S:
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

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            ended.set()

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

    >>> duration(8.2), duration(200), duration(7500)
    ('8 s', '3 min 20 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
