"""Two models on the same clips → one self-contained HTML page."""

import math
from pathlib import Path

from avrobust.evaluation.versus import WORST, Versus
from avrobust.files import write_bytes
from avrobust.report.formatting import ATTACKED, at
from avrobust.report.page import environment
from avrobust.report.sections.doubts import alike


def html(versus: Versus, command: str = "") -> str:
    """The page as text."""
    groups: dict[str, list[object]] = {}
    for contest in versus.contests:
        clean = contest.subset == "clean"
        where = ATTACKED[contest.subset] + ("" if clean else f" within {at(contest.subset, contest.budget)}")
        groups.setdefault(where, []).append(contest)
    ends = [abs(end) for c in versus.contests for end in (c.gap.low, c.gap.high)]
    content = {
        "versus": versus, "flags": [alike(raised) for raised in versus.flags], "groups": groups, "command": command, "worst": WORST,
        "extent": math.ceil(10 * max(ends, default=1.0)) / 10 or 1.0,
    }  # fmt: skip
    return environment().get_template("templates/versus.html.j2").render(content)


def write(versus: Versus, page: Path | str, command: str = "") -> Path:
    """Write the page, whole or not at all; returns its path."""
    return write_bytes(Path(page), html(versus, command).encode())
