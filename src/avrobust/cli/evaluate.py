"""`avrobust evaluate`."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import tyro

from avrobust import report
from avrobust.cli.answer import Answer
from avrobust.cli.model import EvaluationOptions, EvaluationOutput, LoadedModel, called
from avrobust.cli.options import ATTACK_HELP, Group, Maybe, attack, parse
from avrobust.cli.places import folder, new_file
from avrobust.cli.task import TaskOptions
from avrobust.evaluation.channels import Coarser, Lossless, Mp4
from avrobust.evaluation.evaluator import attacks_within
from avrobust.evaluation.results import results
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.tags import tag_table
from avrobust.evaluation.tasks import Classification
from avrobust.extras import needs
from avrobust.study import ModelConfig, Study, Sweep
from avrobust.study.given import Given, evaluate_into, illustrate
from avrobust.study.record import begun
from avrobust.study.runner import describe_study
from avrobust.threat import Threat
from avrobust.training.views import received
from avrobust.types import Attack, Channel

ABOUT = """Attack a model on your clips: clean and robust accuracy, with audio-only, visual-only and joint attacks.

examples:
  avrobust evaluate models/mine/net.safetensors --data my_clips/ --audio 0.006 --visual 2/255 --html mine.html
  avrobust evaluate my_package:model --data my_clips/ --classes dog,cat --audio "-44 dBFS" --attacks PGD-40 AVAutoAttack \\
      --clip.rate 16000 --clip.size 224 --view.samples 32000 --view.size 224
  avrobust evaluate my_package:model --data my_clips/ --audio "masking threshold -6 dB" --visual "2 delta E"
  avrobust evaluate my_package:model --data my_clips/ --audio 0.006 --visual 2/255 --scales 1/4 1/2 1 2 \\
      --channels files mp4 --out runs/mine

MODEL is a checkpoint of avrobust, a folder of weights that the paper's code wrote (sound_best.pth, frame_best.pth,
classifier_best.pth), or module:name of any callable that takes an AV of audio (b n) in [-1, 1] and visual (b t 3 h w)
in [0, 1] and returns logits. For module:name, --clip and --view set what the model receives.

--task multi-label, binary, embedding or retrieval evaluates models that do not name one class per clip.

With --out, the results are a run's folder, as a study writes it: rows, adversarial clips and report.html. After an
interruption, the same command continues. `avrobust compare` takes two of them.

Below the table stand flags: reasons to doubt its numbers (docs/flags.md).
"""

CHANNELS: dict[str, Channel] = {
    "files": Lossless(),
    "resampled": Coarser(),
    "mp4": Mp4(),
    "mp4-low": Mp4(crf=28, audio_bitrate=32_000),
}


@dataclass(frozen=True, kw_only=True)
class RunOutput(EvaluationOutput):
    """What is written, and how the command ends."""

    out: Maybe[Path] = None
    """Folder of the run: rows, adversarial clips and report.html; the same command continues there."""

    def check(self) -> None:
        """Before any work: whether what is asked for can be written at its end."""
        if self.html:
            new_file(self.html, "--html")
        if self.out:
            folder(self.out, "--out")
        if self.html or self.out:
            with needs("report"):
                import avrobust.report.page  # noqa: F401

    def check_run(self, study: Study, asked: Mapping[str, Any]) -> None:
        """Before clips are prepared: whether --out holds a run that asked for something else."""
        if self.out:
            begun(self.out, describe_study(study) | dict(asked))

    def place(self, stack: ExitStack) -> Path:
        """Where the run is kept: until `stack` ends where no folder is asked for."""
        return self.out or Path(stack.enter_context(TemporaryDirectory())) / "run"


@dataclass(frozen=True, kw_only=True)
class Options(EvaluationOptions):
    attacks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ATTACK ...", help=ATTACK_HELP)] = (
        "FGSM",
        "PGD-10",
        "MIM-10",
    )
    scales: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SCALE ...")] = ("1",)
    """Attack within these multiples of the budgets: 1/4 1/2 1 2 gives curves of accuracy over budgets. 1 is always among them."""
    channels: Annotated[
        tuple[Literal["files", "resampled", "mp4", "mp4-low"], ...],
        tyro.conf.arg(metavar="CHANNEL ...", help_behavior_hint=""),
    ] = ()
    """Also store or send the adversarial clips: files (.png and .wav), resampled, mp4 (H.264 and AAC), mp4-low (strong compression)."""
    name: Maybe[str] = None
    """Name of the model in tables; default: taken from MODEL."""
    task: Group[TaskOptions] = field(default_factory=TaskOptions)
    output: Group[RunOutput] = field(default_factory=RunOutput)

    def threats(self) -> list[Threat]:
        """The budgets at every scale, smallest first.  Raises `ValueError` for what is no scale."""
        return scaled_threats(self.threat(), self.scales)


def scaled_threats(full: Threat, texts: Sequence[str]) -> list[Threat]:
    """These multiples of a threat and itself, smallest first.  Raises `ValueError` for what is no scale."""
    try:
        scales = sorted({Fraction(text) for text in (*texts, "1")})
    except (ValueError, ZeroDivisionError):
        scales = []
    if not scales or scales[0] <= 0:
        raise ValueError(f"--scales: expected numbers above 0, got {' '.join(texts)}. Give 1/4 1/2 1 2.")
    return [Threat(*full.map(lambda ball, s=float(s): ball.scaled(s))) for s in scales]


def main(argv: Sequence[str]) -> Answer:
    """Parse, attack; the answer is the table and its flags."""
    options = parse(Options, argv, "evaluate", ABOUT)
    output = options.output
    output.check()
    attacks, threats = [attack(text) for text in options.attacks], options.threats()
    for threat in threats:
        attacks_within(attacks, threat)  # before any work: are their names different?
    found = options.load()
    study = planned(options, found.loaded, attacks, threats)
    asked = {"model": options.model, "split": found.on}
    output.check_run(study, asked)
    given = options.open(found, options.task)
    page = None
    with ExitStack() as stack:
        out = output.place(stack)
        rows = evaluate_into(out, given, study, asked=asked, command=f"avrobust evaluate {shlex.join(argv)}")
        if output.out or output.html:
            # The gallery shows predicted classes, which only this task has.
            classes = isinstance(given.task, Classification)
            page = illustrate(out, given, study, rows) if classes else report.write(out)
        if output.html:
            page = report.write(out, output.html)
    return answered(rows, given, page, output)


def answered(rows: Rows, given: Given, page: Path | None, output: RunOutput) -> Answer:
    """What an evaluation came to: for people and as data."""
    status = int(output.strict and any(flag.level == "alarm" for flag in rows.flags()))
    data = results(rows) | {"input": received(given.store.spec, given.view), "page": page}
    return Answer("\n".join(_told(rows, given, page)), data, output.json, status)


def _told(rows: Rows, given: Given, page: Path | None) -> Iterator[str]:
    """The answer for people, line by line."""
    yield rows.table()
    if tags := given.store.tags:
        yield f"\nby where the class can be perceived:\n{tag_table(rows, tags, given.store.classes)}\n"
    yield from (f"note: {flag.text}" for flag in rows.flags() if flag.level == "note")
    readable, listed = given.store.counts(given.split)
    if readable < listed:
        yield f"{listed - readable} of {listed} clips could not be read and are not counted: avrobust show {given.store.path}"
    if page:
        yield f"\nThe report: {page}"


def planned(options: Options, loaded: LoadedModel, attacks: Sequence[Attack], threats: Sequence[Threat]) -> Study:
    """The evaluation as a study of one model, which is there already."""
    name = options.name or called(options.model)
    full, source = options.threat(), options.clips.source(options.listing)
    assert source is not None
    return Study(
        name=name, title=f"How robust is {name}?", models=(ModelConfig(name, epochs=0),),
        sweeps=(
            Sweep((name,), tuple(attacks), tuple(t for threat in threats for t in threat.subsets())),
            Sweep((name,), tuple(attacks), full.subsets(), sent=tuple(CHANNELS[channel] for channel in options.channels)),
        ),
        showcase=full, tables=(full.subsets(),), data=source, clip=loaded.spec, view=loaded.view,
        seeds=(options.seed,), attacked=options.clips.limit, batch=options.resources.batch,
    )  # fmt: skip
