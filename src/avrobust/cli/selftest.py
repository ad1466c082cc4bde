"""`avrobust selftest`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from avrobust.cli.options import parse, side_by_side
from avrobust.cli.study import refuse_failures
from avrobust.evaluation.stats import percent
from avrobust.report.load import read
from avrobust.report.sections import robustness
from avrobust.study.runner import run
from avrobust.study.selftest import HOLDS, study

ABOUT = """Show that this installation sees through defenses that do not defend, and leaves standing the one that does.

Trains one network and puts it behind feature defenses that are broken on purpose, then attacks each. Fails where a broken
defense is neither broken nor flagged, or where the adversarially trained network is.

example:
  avrobust selftest          # some minutes; ends with runs/selftest/report.html
"""


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/selftest")
    """The run's folder; the same command goes on where it was stopped."""
    cache: Path = Path("data")
    """Where the orchestra's videos and prepared clips are kept, for other runs to share."""
    workers: int | None = None
    """Processes that share the defenses; default 2 where there is no GPU, else 1."""
    quiet: bool = False
    """No progress bars."""


def work(options: Options, quiet: bool) -> Path:
    """Run the study, as one of several processes or alone; returns the report's path."""
    return run(study, options.out, data=options.cache, command="avrobust selftest", progress=not quiet)


def main(argv: Sequence[str]) -> None:
    """Run the study, print a line per defense; raises `ValueError` where the harness was deceived."""
    options = parse(Options, argv, "selftest", ABOUT)
    page = side_by_side(partial(work, options), options.workers, quiet=options.quiet)
    refuse_failures(options.out)
    (table,) = robustness.tables(read(options.out))
    lines: list[tuple[str, ...]] = [("defense", "clean", "FGSM", "worst", "verdict", "")]
    deceived = []
    for row in table.rows[1:]:
        numbers = (percent(e.value) for e in (row.clean, row.weak, row.strong))
        lines.append((row.model, *numbers, row.verdict, ", ".join(row.alarms)))
        if (row.verdict == "more robust") != (row.model == HOLDS):
            deceived.append(f"{row.model} ({row.verdict})")
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print("\n".join("  ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)).rstrip() for line in lines))
    print(f"\nThe report: {page}")
    if deceived:
        raise ValueError(
            f"self-test failed: only {HOLDS} should be rated more robust; unexpected verdicts: {', '.join(deceived)}. "
            "Do not trust the verdicts of this installation; read the report."
        )
