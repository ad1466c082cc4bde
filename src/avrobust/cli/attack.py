"""`avrobust attack`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from avrobust.attacks.quantized import on_levels
from avrobust.cli import options as shared
from avrobust.cli.model import LoadedModel, class_names, load_model
from avrobust.cli.options import ATTACK_HELP, Budget, Group, Maybe, Packages, parse
from avrobust.devices import device
from avrobust.evaluation.one_clip import CLEAN, as_arrays, as_signals, attack_clip, towards
from avrobust.media import ClipSpec, write_mp4, write_png, write_wav
from avrobust.media.decode import decode
from avrobust.training import CheckpointError, View
from avrobust.training.views import cut
from avrobust.types import Signals

ABOUT = """Make one video adversarial for a model, and print whether the attack succeeds: in memory, rounded, and as a file.

example:
  avrobust attack guitar.mp4 --model runs/quick/models/AV-0/net.safetensors --label acoustic_guitar \\
      --audio "-44 dBFS" --visual 2/255 --out attacked/

Writes clean.wav and adversarial.wav (16 bit), the frames as .png (8 bit), adversarial.mp4 (H.264 + AAC) and
predictions.json. Rounding or a lossy codec can undo an attack: each prediction is printed.
"""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How the model is loaded and run."""

    classes: Maybe[str] = None
    """For module:name only: names in the order of its outputs, separated by commas or one per line of a text file."""
    device: Maybe[str] = None
    """cpu, cuda, cuda:1, mps or xpu; default: a GPU if there is one."""
    allow: Packages = ()
    """Packages that a checkpoint's own network and feature defense may be imported from, which runs their code."""


@dataclass(frozen=True, kw_only=True)
class Options:
    video: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO")]
    """Video to attack."""
    model: str
    """Checkpoint, folder of weights that the paper's code wrote, or module:name of your own model."""
    out: Path
    """New folder for the results."""
    attack: Annotated[str, tyro.conf.arg(help=ATTACK_HELP)] = "PGD-40"
    label: Maybe[str] = None
    """True class; default: the model's prediction for the clean clip."""
    target: Maybe[str] = None
    """Class to reach, for a targeted attack."""
    start: float = 0.0
    """Second of the video at which the clip begins."""
    seed: int = 0
    """Seed of everything that is random in the attack."""
    budget: Group[Budget] = field(default_factory=Budget)
    run: Annotated[Group[ModelOptions], tyro.conf.arg(name="model")] = field(default_factory=ModelOptions)
    clip: ClipSpec = field(default_factory=ClipSpec)
    """For module:name only: what is kept of the video. A checkpoint knows its own."""
    view: View = field(default_factory=View)
    """For module:name only: the part of the clip that the model receives. A checkpoint knows its own."""


def main(argv: Sequence[str]) -> None:
    """Parse, attack, write the clips, print the predictions."""
    options = parse(Options, argv, "attack", ABOUT)
    if options.out.exists():
        raise ValueError(f"{options.out}: expected a new folder, got one that exists. Give another --out.")
    threat = options.budget.threat()
    attack = shared.attack(options.attack)
    if options.target is not None:
        towards(0, attack)  # before any work: can this attack have a target?
    where = device(options.run.device)
    model, spec, view, classes = named(
        options, load_model(options.model, options.clip, options.view, options.run.allow, where)
    )
    label = None if options.label is None else class_number(options.label, classes)
    target = None if options.target is None else class_number(options.target, classes)
    clip = decode(options.video, spec, start=options.start)
    x = as_signals(cut(clip, spec, view)).map(lambda s: s.to(where))
    made = attack_clip(
        model, x, attack, threat, classes=classes, label=label, target=target, seed=options.seed, id=options.video.stem,
        channels={
            "8-bit pixels and 16-bit samples": on_levels,
            "decoded from the .mp4": lambda adversarial: through_files(options.out, x, adversarial, spec, view),
        },
    )  # fmt: skip
    rankings = {form: made.ranking(form) for form in made.answers}
    success = {form: answer.success for form, answer in made.answers.items() if form != CLEAN}
    about: dict[str, object] = {
        "video": str(options.video), "model": options.model, "label": classes[made.label], "target": options.target,
        "attack": options.attack, "threat": str(threat), "notes": clip.notes, "predictions": rankings, "success": success,
        "clip": asdict(spec), "view": asdict(view), **made.distortion,
    }  # fmt: skip
    (options.out / "predictions.json").write_text(json.dumps(about, indent=1))
    seconds = view.samples / spec.rate
    print(
        f"{options.video.name}: {options.attack} within {threat}; audio {made.distortion['snr_db']:.1f} dB SNR, visual {made.distortion['psnr_db']:.1f} dB PSNR\n"
        f"  model input: {seconds:.2f} s of audio and {view.frames} frame{'s' * (view.frames > 1)}, from the middle of {spec.seconds:g} s\n"
        f"  goal: {made.goal}"
    )
    print(line(CLEAN, rankings[CLEAN]))
    if (predicted := made.predicted(CLEAN)) != classes[made.label]:
        print(f"  The model misclassifies the clean clip: {predicted} instead of {classes[made.label]}.")
    for form, succeeds in success.items():
        print(line(form, rankings[form]) + f": attack {'succeeds' if succeeds else 'fails'}")
    print(f"  written to {options.out}")


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
    """Write clean and adversarial clip as .wav and .png, the adversarial one as .mp4; returns what a model receives of that."""
    out.mkdir(parents=True)
    clean, made = as_arrays(x), as_arrays(adversarial)
    for name, clip in (("clean", clean), ("adversarial", made)):
        write_wav(out / f"{name}.wav", clip.audio, spec.rate)
        for i, frame in enumerate(clip.visual):
            write_png(out / f"{name}-{i}.png", frame)
    fps = view.frames / (view.samples / spec.rate)
    video = write_mp4(out / "adversarial.mp4", made.audio, made.visual, spec.rate, fps)
    whole = replace(spec, seconds=view.samples / spec.rate, fps=fps, size=view.size)
    return as_signals(cut(decode(video, whole), whole, view))


def line(name: str, ranking: list[tuple[str, float]]) -> str:
    """One printed line: the most likely classes of one form of the clip."""
    return f"  {name + ':':<48}" + ", ".join(f"{label} {p:.1%}" for label, p in ranking)


def class_number(name: str, classes: Sequence[str]) -> int:
    """The number of a class.  Raises `ValueError` that lists the classes."""
    if name not in classes:
        raise ValueError(f"expected a class of the model ({', '.join(classes)}), got {name!r}. Spell it as listed.")
    return list(classes).index(name)
