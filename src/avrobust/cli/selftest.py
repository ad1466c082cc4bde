"""`avrobust selftest`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avrobust.allocator import keep_memory
from avrobust.cli.options import Maybe, parse
from avrobust.cli.study import refuse_failures
from avrobust.evaluation.stats import columns, percent
from avrobust.extras import needs
from avrobust.report.load import read
from avrobust.study.machines import Machines
from avrobust.study.runner import run
from avrobust.study.selftest import HOLDS, study

with needs("report"):
    from avrobust.report.sections import robustness

ABOUT = """Check that this installation rates broken defenses as broken, and an adversarially trained model as robust.

Trains one model, adds feature defenses that are broken on purpose, and attacks each. Fails if a broken defense is rated
as robust without a flag, or if the adversarially trained model is rated as broken.

example:
  avrobust selftest          # some minutes; ends with runs/selftest/report.html
"""


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/selftest")
    """Folder of the run; after an interruption, the same command continues."""
    cache: Path = Path("data")
    """Folder of the orchestra's videos and of prepared clips, which runs share."""
    workers: Maybe[int] = None
    """Processes that share the defenses; default 1 with a GPU, else 2."""
    device: Maybe[str] = None
    """cpu, cuda, cuda:1, mps or xpu; default: a GPU if there is one."""
    quiet: bool = False
    """Show no progress."""


def main(argv: Sequence[str]) -> None:
    """Run the study, print one line per defense.  Raises `ValueError` if a verdict is wrong."""
    options = parse(Options, argv, "selftest", ABOUT)
    keep_memory()
    page = run(
        study,
        options.out,
        data=options.cache,
        command="avrobust selftest",
        progress=not options.quiet,
        machines=Machines(options.workers, device=options.device),
    )
    refuse_failures(options.out)
    (table,) = robustness.tables(read(options.out))
    lines: list[tuple[str, ...]] = [("defense", "clean", "FGSM", "worst", "verdict", "")]
    deceived = []
    for row in table.rows[1:]:
        numbers = (percent(e.value) for e in (row.clean, row.weak, row.strong))
        lines.append((row.model, *numbers, row.verdict, ", ".join(row.alarms)))
        if (row.verdict == "more robust") != (row.model == HOLDS):
            deceived.append(f"{row.model} ({row.verdict})")
    print("\n".join(columns(lines)))
    print(f"\nThe report: {page}")
    if deceived:
        raise ValueError(
            f"self-test failed: only {HOLDS} should be rated more robust; unexpected verdicts: {', '.join(deceived)}. "
            "Do not trust the verdicts of this installation; read the report."
        )
