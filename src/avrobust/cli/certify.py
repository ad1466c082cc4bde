"""`avrobust certify`."""

import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from avrobust import report
from avrobust.certificates import Ablation, Certificate, Gaussian, Smoothed
from avrobust.cli.answer import Answer, note
from avrobust.cli.evaluate import RunOutput, answered, scaled_threats
from avrobust.cli.model import EvaluationOptions, LoadedModel, called
from avrobust.cli.options import ATTACK_HELP, Budget, Group, Maybe, attack, parse
from avrobust.evaluation.evaluator import attacks_within
from avrobust.study import ModelConfig, Study, Sweep
from avrobust.study.given import evaluate_into
from avrobust.threat import Threat
from avrobust.types import Attack

ABOUT = """Certify a model on your clips: which perturbations of audio, of video and of both change no answer, for certain.

examples:
  avrobust certify models/mine/net.safetensors --data my_clips/ --noise.audio 0.02 --noise.visual 0.25 --html mine.html
  avrobust certify my_package:model --data my_clips/ --noise.audio 0.02 --attacks PGD-20 --audio 0.02 --scales 1 2 4
  avrobust certify my_package:model --data my_clips/ --keep.audio 8 --keep.visual 16 --out runs/mine

What is certified is a smoothed model: it answers with the class that most randomised copies of a clip are given, or
abstains. --noise.* adds Gaussian noise, and certifies L2 radii; --keep.* shows few elements of each stream, and certifies
how many of them may change. Train for it, with certificates.Randomised: a model that never saw such copies certifies little.

--attacks also attacks the same smoothed model, within L2 budgets: an upper bound beside the lower one. An alarm means that
they cross. Each clip costs --select + --votes passes, 1,100 by default; 100,000 votes certify further.
"""


@dataclass(frozen=True)
class Noise:
    """Gaussian noise, its standard deviation in the signals' own units; 0 leaves a modality as it is."""

    audio: float = 0.0
    """On the waveform, in [-1, 1]."""
    visual: float = 0.0
    """On the frames, in [0, 1]."""


@dataclass(frozen=True)
class Keep:
    """How many elements of each stream a copy shows; left out, all of them."""

    audio: Maybe[int] = None
    """Stretches of the audio, of --keep.segments."""
    visual: Maybe[int] = None
    """Patches of the frames, of --keep.grid x --keep.grid."""
    segments: int = 32
    """Equal stretches that the audio is divided into."""
    grid: int = 8
    """Patches along each side of the frames."""


@dataclass(frozen=True)
class Votes:
    """How the votes are counted."""

    votes: int = 1000
    """Copies that estimate how likely the class is."""
    select: int = 100
    """Copies that choose the class."""
    alpha: float = 0.001
    """Probability with which the guarantee of a clip may be wrong."""
    others: Literal["rest", "runner-up"] = "rest"
    """What bounds the other classes: all that is left, or their own counts."""


@dataclass(frozen=True)
class L2Budget(Budget):
    """How far --attacks may change each modality; 0 leaves it clean."""

    norm: Literal["linf", "l2"] = "l2"

    def threat(self) -> Threat:
        """The threat, of no budgets where nobody attacks."""
        return self.asked


@dataclass(frozen=True, kw_only=True)
class Options(EvaluationOptions):
    noise: Noise = field(default_factory=Noise)
    keep: Keep = field(default_factory=Keep)
    counting: Group[Votes] = field(default_factory=Votes)
    attacks: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="ATTACK ...", help=ATTACK_HELP, help_behavior_hint="")
    ] = ()
    scales: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SCALE ...")] = ("1",)
    """Attack within these multiples of the budgets. 1 is always among them."""
    budget: Group[L2Budget] = field(default_factory=L2Budget)
    name: Maybe[str] = None
    """Name of the model in tables; default: taken from MODEL."""
    output: Group[RunOutput] = field(default_factory=RunOutput)

    def certificates(self) -> list[Certificate]:
        """What is asked for.  Raises `ValueError` where nothing is."""
        c, found = self.counting, list[Certificate]()
        counting = {"draws": c.votes, "select": c.select, "alpha": c.alpha, "others": c.others}
        if self.noise != Noise():
            found.append(Gaussian(self.noise.audio, self.noise.visual, **counting))  # type: ignore[arg-type]
        if self.keep.audio is not None or self.keep.visual is not None:
            k = self.keep
            found.append(Ablation(k.segments, k.audio, k.grid, k.visual, **counting))  # type: ignore[arg-type]
        if not found:
            raise ValueError(
                "expected noise or elements to keep, got neither. Give --noise.audio 0.02 --noise.visual 0.25, or --keep.audio 8."
            )
        return found


def main(argv: Sequence[str]) -> Answer:
    """Parse, count votes, attack; the answer is the table and its flags."""
    options = parse(Options, argv, "certify", ABOUT)
    output, certificates = options.output, options.certificates()
    output.check()
    searches = [attack(text) for text in options.attacks]
    threats = scaled_threats(Budget.threat(options.budget), options.scales) if searches else []
    tried: list[Attack] = [*certificates, *(Smoothed(a, c) for c in certificates for a in searches)]
    for threat in threats:
        attacks_within(tried, threat)  # before any work: are their names different?
    found = options.load()
    study = planned(options, found.loaded, tried, threats)
    asked = {"model": options.model, "split": found.on}
    output.check_run(study, asked)
    given = options.open(found)
    note(f"cost: {sum(c.select + c.draws for c in certificates):,} passes of each clip, and those of attacks")
    page = None
    with ExitStack() as stack:
        out = output.place(stack)
        rows = evaluate_into(out, given, study, asked=asked, command=f"avrobust certify {shlex.join(argv)}")
        if output.out:
            page = report.write(out)
        if output.html:
            page = report.write(out, output.html)
    return answered(rows, given, page, output)


def planned(options: Options, loaded: LoadedModel, tried: Sequence[Attack], threats: Sequence[Threat]) -> Study:
    """The evaluation as a study of one model, which is there already."""
    name = options.name or called(options.model)
    source = options.clips.source(options.listing)
    assert source is not None
    within = tuple(t for threat in threats for t in threat.subsets())
    return Study(
        name=name, title=f"What is certain about {name}?", models=(ModelConfig(name, epochs=0),),
        sweeps=(Sweep((name,), tuple(tried), within),), showcase=Threat.linf(), data=source, clip=loaded.spec,
        view=loaded.view, seeds=(options.seed,), attacked=options.clips.limit, batch=options.resources.batch,
    )  # fmt: skip
