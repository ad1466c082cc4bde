"""The one look of progress bars: what, how far, and how much time remains."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

Advance = Callable[..., None]  # advance(1), or advance(0, note="val 71.2 %")


@contextmanager
def bar(title: str, total: float, *, visible: bool = True, count: bool = True) -> Iterator[Advance]:
    """A progress bar over `total` units; `count` shows the units, otherwise a percentage."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn() if count else TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, disable=not visible or not total) as progress:
        task = progress.add_task(title, total=total, note="")

        def advance(amount: float = 1, note: str | None = None) -> None:
            progress.advance(task, amount)
            if note is not None:
                progress.update(task, note=note)

        yield advance
