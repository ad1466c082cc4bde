"""`avrobust selftest`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from avrobust.allocator import keep_memory
from avrobust.cli.answer import Answer, note
from avrobust.cli.options import Device, Flag, Json, Maybe, parse
from avrobust.cli.places import folder
from avrobust.cli.study import complete
from avrobust.evaluation.certified import certified, overclaimed
from avrobust.evaluation.stats import MISSING, Estimate, columns
from avrobust.evaluation.suspicion import suspected
from avrobust.extras import needs
from avrobust.objectives import display_name
from avrobust.report.load import read
from avrobust.report.run import Run
from avrobust.study.machines import Machines
from avrobust.study.runner import run
from avrobust.study.selftest import (
    BROKEN_CERTIFICATES,
    BROKEN_DETECTOR,
    CERTIFICATE,
    DETECTOR,
    HIDING,
    HOLDS,
    study,
)
from avrobust.study.shared import TEN_STEPS

with needs("report"):
    from avrobust.report.sections import robustness

PLAIN, HIDES = display_name(TEN_STEPS), display_name(HIDING)
ABOUT = """Check that this installation rates broken defenses as broken, and an adversarially trained model as robust.

Trains one model, adds feature defenses, a detector and certificates that are broken on purpose, and attacks each. Fails if a
broken one is rated as robust or reliable, or if one that holds is not.

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
    judged = read(options.out)
    groups = {"defenses": defenses(judged), "detectors": detectors(judged), "certificates": certificates(judged)}
    deceived = [f"{j.name} ({j.verdict})" for group in groups.values() for j in group if j.wrong]
    if deceived:
        note(
            f"avrobust selftest: expected {HOLDS} alone to be rated more robust, and every broken detector and certificate, and no "
            f"other, as not reliable, got unexpected verdicts: {', '.join(deceived)}. Do not trust the verdicts of this "
            "installation; read the report."
        )
    told = {"passed": not deceived, "page": page} | {name: [asdict(j) for j in group] for name, group in groups.items()}
    lines = [line for name, group in groups.items() if group for line in table(name, group)]
    return Answer("\n".join([*lines, f"The report: {page}"]), told, options.json, status=int(bool(deceived)))


@dataclass(frozen=True)
class Judged:
    """What the harness says of a defense, a detector or a certificate, and whether that is `wrong`.

    `numbers` are those of its kind, see its function; `alarms` are why it is not reliable.
    """

    name: str
    numbers: dict[str, Estimate]
    verdict: str
    alarms: tuple[str, ...]
    wrong: bool


def defenses(run: Run) -> list[Judged]:
    """The verdicts of the report: only the one that holds may be more robust."""
    (table,) = robustness.tables(run)
    return [
        Judged(
            row.model,
            {"clean": row.clean, "FGSM": row.weak, "worst": row.strong},
            row.verdict,
            row.alarms,
            wrong=(row.verdict == "more robust") != (row.model == HOLDS),
        )
        for row in table.rows[1:]
    ]


def detectors(run: Run) -> list[Judged]:
    """The share of clips that are wrong and unnoticed: clean, with both modalities attacked by who does not know the detector, by who hides."""
    found = []
    for model in (m for m in (BROKEN_DETECTOR, DETECTOR) if run.clean(m)):
        own = [s for s in suspected(run.table) if s.condition.model == model]
        by = {(s.condition.attack, s.condition.subset): s.unnoticed for s in own}
        asked = {"clean": ("none", "clean"), "PGD": (PLAIN, "AV"), "hiding": (HIDES, "AV")}
        numbers = {name: by.get(condition, MISSING) for name, condition in asked.items()}
        alarms = tuple(dict.fromkeys(f.name for f in run.flags if f.level == "alarm" and f.model == model))
        found.append(_judged(model, numbers, alarms, broken=model == BROKEN_DETECTOR))
    return found


def certificates(run: Run) -> list[Judged]:
    """Smoothed accuracy, and certified accuracy at the size of the attack, beside what that attack leaves correct."""
    names = {c.name: c for c in (*BROKEN_CERTIFICATES, CERTIFICATE)}
    found = []
    for c in certified(run.smoothed, run.table):
        attack = next(iter(c.attacks), None)
        numbers = {"smoothed": c.accuracy()} | (
            {"certified at the attack": attack.certified, "attacked": attack.correct} if attack else {}
        )
        reasons = {"an attack breaks it": any(a.broken for a in c.attacks), "more than its votes": bool(overclaimed(c))}
        alarms = tuple(name for name, raised in reasons.items() if raised)
        found.append(_judged(c.name, numbers, alarms, broken=names[c.name] in BROKEN_CERTIFICATES))
    return found


def _judged(name: str, numbers: dict[str, Estimate], alarms: tuple[str, ...], *, broken: bool) -> Judged:
    return Judged(name, numbers, "not reliable" if alarms else "reliable", alarms, wrong=bool(alarms) != broken)


def table(title: str, group: Sequence[Judged]) -> list[str]:
    """A group for people, line by line."""
    heads = list(dict.fromkeys(name for j in group for name in j.numbers))
    body = [
        (j.name, *(str(j.numbers.get(name, MISSING)) for name in heads), j.verdict, ", ".join(j.alarms)) for j in group
    ]
    return [*columns([(title, *heads, "verdict", ""), *body]), ""]
