"""What a part of the page is: a heading, and what its template shows of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from avrobust.report.run import Run


@dataclass(frozen=True)
class Section:
    """`data` gives what `sections/<name>.html.j2` shows of a run; None where the run has nothing for it.

    `title` is the heading and the word of the navigation, `name` also the place in the page.  A section that `folds`
    shows its heading until it is opened, and beside it the `result` that `data` gives, one line.
    """

    name: str
    title: str
    data: Callable[[Run], Mapping[str, Any] | None]
    folds: bool = True
