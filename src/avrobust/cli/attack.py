"""`avrobust attack`."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from avrobust.attacks.quantized import on_levels
from avrobust.cli import options as shared
from avrobust.cli.answer import Answer, plain
from avrobust.cli.model import LoadedModel, class_names, load_model
from avrobust.cli.options import ATTACK_HELP, Budget, Device, Group, Json, Maybe, Packages, box, parse
from avrobust.cli.places import new_folder
from avrobust.cli.show import table
from avrobust.devices import device
from avrobust.evaluation.one_clip import CLEAN, as_arrays, as_signals, attack_clip, towards
from avrobust.files import write_json
from avrobust.media import ClipSpec, write_mp4, write_png, write_wav
from avrobust.media.decode import decode
from avrobust.names import unknown
from avrobust.progress import part, track_progress
from avrobust.report import attack_page
from avrobust.report.formatting import used
from avrobust.training import CheckpointError, View
from avrobust.training.views import cut, received
from avrobust.types import Signals

ABOUT = """Make one video adversarial for a model, and print whether the attack succeeds: in memory, rounded, and as a file.

examples:
  avrobust attack guitar.mp4 --model runs/quick/models/AV-0/net.safetensors --label acoustic_guitar \\
      --audio "-44 dBFS" --visual 2/255 --out attacked/
  avrobust attack guitar.mp4 --model my_package:model --classes dog,cat --audio "masking threshold -6 dB" \\
      --visual "2 delta E" --out hidden/

Writes a page with both clips side by side (attack.html), clean and adversarial .mp4 (H.264 and AAC), .wav (16 bit) and
.png frames (8 bit), and predictions.json. Rounding or a lossy codec can undo an attack: each prediction is printed.
"""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How the model is loaded and run."""

    classes: Maybe[str] = None
    """For module:name only: names in the order of its outputs, separated by commas or one per line of a text file."""
    device: Device = None
    allow: Packages = ()
    """Packages that a checkpoint's own network and feature defense may be imported from, which runs their code."""


@dataclass(frozen=True, kw_only=True)
class Output(Json):
    """What is written."""

    out: Path
    """New folder for the results."""


@dataclass(frozen=True, kw_only=True)
class Options:
    video: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO")]
    """Video to attack."""
    model: str
    """Checkpoint, folder of weights that the paper's code wrote, or module:name of your own model."""
    attack: Annotated[str, tyro.conf.arg(help=ATTACK_HELP)] = "PGD-40"
    label: Maybe[str] = None
    """True class, by name or number; default: the model's prediction for the clean clip."""
    target: Maybe[str] = None
    """Class to reach, by name or number, for a targeted attack."""
    start: float = 0.0
    """Second of the video at which the clip begins."""
    seed: int = 0
    """Seed of everything that is random in the attack."""
    budget: Group[Budget] = field(default_factory=Budget)
    output: Group[Output]
    run: Annotated[Group[ModelOptions], box("model")] = field(default_factory=ModelOptions)
    clip: ClipSpec = field(default_factory=ClipSpec)
    """For module:name only: what is kept of the video. A checkpoint knows its own."""
    view: View = field(default_factory=View)
    """For module:name only: the part of the clip that the model receives. A checkpoint knows its own."""


def main(argv: Sequence[str]) -> Answer:
    """Parse, attack, write the clips and the page; the answer is whether the attack succeeds."""
    options = parse(Options, argv, "attack", ABOUT)
    out = new_folder(options.output.out, "--out")
    threat = options.budget.threat()
    attack = shared.attack(options.attack)
    if options.target is not None:
        towards(0, attack)  # before any work: can this attack have a target?
    where = device(options.run.device)
    model, spec, view, classes = named(
        options, load_model(options.model, options.clip, options.view, options.run.allow, where)
    )
    label = None if options.label is None else class_number(options.label, classes, "--label")
    target = None if options.target is None else class_number(options.target, classes, "--target")
    clip = decode(options.video, spec, start=options.start)
    x = as_signals(cut(clip, spec, view)).map(lambda s: s.to(where))
    with track_progress(f"attacking {options.video.name} with {options.attack}", 1, count=False), part(1):
        made = attack_clip(
            model, x, attack, threat, classes=classes, label=label, target=target, seed=options.seed, id=options.video.stem,
            rate=spec.rate,
            channels={
                "8-bit pixels and 16-bit samples": on_levels,
                "decoded from the .mp4": lambda adversarial: through_files(out, x, adversarial, spec, view),
            },
        )  # fmt: skip
    about: dict[str, Any] = {
        "video": options.video.name, "model": options.model, "answer": made.outcome, "goal": made.goal,
        "label": classes[made.label], "target": None if target is None else classes[target],
        "attack": f"{options.attack} within {threat}", "notes": clip.notes,
        "predictions": {form: made.ranking(form) for form in made.answers},
        "success": made.success, "misclassified_when_clean": made.predicted(CLEAN) != classes[made.label],
        "used": used(threat.budget, made.distortion), **made.distortion, "input": received(spec, view),
        "clip": asdict(spec), "view": asdict(view), "command": f"avrobust attack {shlex.join(argv)}",
    }  # fmt: skip
    write_json(out / attack_page.TABLE, plain(about))
    page = attack_page.write(out)
    verdicts = {None: f"already {'wrong' if target is None else 'the target'}", True: "succeeds", False: "fails"}
    rows = [
        (
            form,
            ", ".join(f"{name} {p:.1%}" for name, p in ranking),
            "" if form == CLEAN else verdicts[made.success[form]],
        )
        for form, ranking in about["predictions"].items()
    ]
    text = "\n".join(
        [
            f"{about['video']}: {about['answer']}",
            table(("clip", "the model's most likely classes", "attack"), rows),
            f"goal: {made.goal}; {about['attack']}",
            *about["used"],
            f"model input: {about['input']}",
            f"\nThe page: {page}",
        ]
    )
    return Answer(text, about | {"page": page}, options.output.json)


def named(options: Options, loaded: LoadedModel) -> LoadedModel:
    """The model with its class names.  Raises `ValueError` if nothing names its classes."""
    if loaded.classes:
        return loaded
    if options.run.classes:
        return loaded._replace(classes=class_names(options.run.classes))
    if Path(options.model).exists():
        raise CheckpointError(
            f"{options.model}: expected a checkpoint that names its classes, got one that does not. "
            "Train it with `avrobust train`, or give --classes first,second,..."
        )
    raise ValueError(
        f"{options.model}: expected the names of the model's classes, got none. Give --classes first,second,..."
    )


def through_files(out: Path, x: Signals, adversarial: Signals, spec: ClipSpec, view: View) -> Signals:
    """Write clean and adversarial clip as .mp4, .wav and .png; returns what a model receives of the adversarial .mp4."""
    out.mkdir(parents=True)
    clean, made = as_arrays(x), as_arrays(adversarial)
    fps = view.frames / (view.samples / spec.rate)
    for name, clip in (("clean", clean), ("adversarial", made)):
        video = write_mp4(out / f"{name}.mp4", clip.audio, clip.visual, spec.rate, fps)
        write_wav(out / f"{name}.wav", clip.audio, spec.rate)
        for i, frame in enumerate(clip.visual):
            write_png(out / f"{name}-{i}.png", frame)
    whole = replace(spec, seconds=view.samples / spec.rate, fps=fps, size=view.size)
    return as_signals(cut(decode(video, whole), whole, view))


def class_number(text: str, classes: Sequence[str], option: str) -> int:
    """The number of a class, which `text` names or is.  Raises `ValueError` that lists the classes, the nearest first.

    >>> class_number("cat", ["dog", "cat"], "--label"), class_number("0", ["dog", "cat"], "--label")
    (1, 0)
    """
    if text in classes:
        return list(classes).index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    raise ValueError(f"{option}: {unknown('a class of the model, or its number from 0', text, classes)}")
