"""`avrobust selftest`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avrobust.allocator import keep_memory
from avrobust.cli.answer import Answer, note
from avrobust.cli.options import Device, Flag, Json, Maybe, parse
from avrobust.cli.places import folder
from avrobust.cli.study import complete
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
class Options(Json):
    out: Path = Path("runs/selftest")
    """Folder of the run; after an interruption, the same command continues."""
    cache: Path = Path("data")
    """Folder of the orchestra's videos and of prepared clips, which runs share."""
    workers: Maybe[int] = None
    """Processes that share the defenses; default 1 with a GPU, else 2."""
    device: Device = None
    quiet: Flag = False
    """Show no progress."""


def main(argv: Sequence[str]) -> Answer:
    """Run the study; the answer is one line per defense, and exit status 1 if a verdict is wrong."""
    options = parse(Options, argv, "selftest", ABOUT)
    folder(options.out, "--out")
    folder(options.cache, "--cache")
    keep_memory()
    page = run(
        study,
        options.out,
        data=options.cache,
        command="avrobust selftest",
        progress=not options.quiet,
        machines=Machines(options.workers, device=options.device),
    )
    if not complete(options.out):
        return Answer(f"The report: {page}", {"passed": False, "page": page}, options.json, status=1)
    (table,) = robustness.tables(read(options.out))
    lines: list[tuple[str, ...]] = [("defense", "clean", "FGSM", "worst", "verdict", "")]
    deceived = []
    for row in table.rows[1:]:
        numbers = (percent(e.value) for e in (row.clean, row.weak, row.strong))
        lines.append((row.model, *numbers, row.verdict, ", ".join(row.alarms)))
        if (row.verdict == "more robust") != (row.model == HOLDS):
            deceived.append(f"{row.model} ({row.verdict})")
    if deceived:
        note(
            f"avrobust selftest: expected {HOLDS} alone to be rated more robust, got unexpected verdicts: "
            f"{', '.join(deceived)}. Do not trust the verdicts of this installation; read the report."
        )
    verdicts = [
        {"defense": row.model, "verdict": row.verdict, "alarms": row.alarms}
        | {name: getattr(row, name).value for name in ("clean", "weak", "strong")}
        for row in table.rows[1:]
    ]
    told = {"passed": not deceived, "defenses": verdicts, "page": page}
    text = "\n".join([*columns(lines), "", f"The report: {page}"])
    return Answer(text, told, options.json, status=int(bool(deceived)))
