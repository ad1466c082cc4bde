"""`avrobust attack`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import tyro

from avrobust.attacks.quantized import on_levels
from avrobust.budget_check import check
from avrobust.cli import options as shared
from avrobust.cli.model import LoadedModel, class_names, load_model
from avrobust.cli.options import ATTACK_HELP, Budget, Group, Maybe, Packages, parse
from avrobust.devices import device
from avrobust.engine import as_judge
from avrobust.evaluation.checks import check_logits, check_shape
from avrobust.evaluation.distortion import distortion
from avrobust.evaluation.door import check_answer
from avrobust.media import ClipSpec, write_mp4, write_png, write_wav
from avrobust.media.decode import decode
from avrobust.objectives import Targeted
from avrobust.seeds import Seeds
from avrobust.training import CheckpointError, View
from avrobust.training.views import cut
from avrobust.types import AV, Attack, Batch, Model, Signals

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


class Prediction(NamedTuple):
    """What the model answers for one form of the clip."""

    ranking: list[tuple[str, float]]  # the three most likely classes, with their probabilities
    success: bool  # of the attack: misclassified, or moved to the target class


def main(argv: Sequence[str]) -> None:
    """Parse, attack, write the clips, print the predictions."""
    options = parse(Options, argv, "attack", ABOUT)
    if options.out.exists():
        raise ValueError(f"{options.out}: expected a new folder, got one that exists. Give another --out.")
    threat = options.budget.threat()
    attack = shared.attack(options.attack)
    if options.target is not None:
        towards(0, attack, options.attack)  # before any work: can this attack have a target?
    where = device(options.run.device)
    model, spec, view, classes = named(
        options, load_model(options.model, options.clip, options.view, options.run.allow, where)
    )
    label = None if options.label is None else class_number(options.label, classes)
    target = None if options.target is None else class_number(options.target, classes)
    if target is not None:
        attack = towards(target, attack, options.attack)
    clip = decode(options.video, spec, start=options.start)
    x = signals(cut(clip, spec, view)).map(lambda s: s.to(where))
    check_answer(model, x)
    net = as_judge(model, x)
    clean = predict(net, x, classes)
    label = class_number(clean[0][0], classes) if label is None else label
    id = options.video.stem
    adversarial = attack(net, x, torch.tensor([label], device=where), threat, Seeds(options.seed, (id,)))
    check(threat, x, adversarial, (id,), options.attack)

    def judged(x: Signals) -> Prediction:
        ranking = predict(net, x.map(lambda s: s.to(where)), classes)
        predicted = class_number(ranking[0][0], classes)
        return Prediction(ranking, predicted != label if target is None else predicted == target)

    options.out.mkdir(parents=True)
    video, fps = write(options.out, x, adversarial, spec, view)
    found = {
        "adversarial": judged(adversarial),
        "adversarial, 8-bit pixels and 16-bit samples": judged(on_levels(adversarial)),
        "adversarial, decoded from the .mp4": judged(reread(video, spec, view, fps)),
    }
    about: dict[str, object] = {
        "video": str(options.video), "model": options.model, "label": classes[label], "target": options.target,
        "attack": options.attack, "threat": str(threat), "notes": clip.notes,
        "predictions": {"clean": clean} | {name: p.ranking for name, p in found.items()},
        "success": {name: p.success for name, p in found.items()},
        "clip": asdict(spec), "view": asdict(view), **{k: v[0] for k, v in distortion(threat, x, adversarial).items()},
    }  # fmt: skip
    (options.out / "predictions.json").write_text(json.dumps(about, indent=1))
    seconds = view.samples / spec.rate
    print(
        f"{options.video.name}: {options.attack} within {threat}; audio {about['snr_db']:.1f} dB SNR, visual {about['psnr_db']:.1f} dB PSNR\n"
        f"  model input: {seconds:.2f} s of audio and {view.frames} frame{'s' * (view.frames > 1)}, from the middle of {spec.seconds:g} s\n"
        f"  goal: {f'classified as {options.target}' if options.target else f'not classified as {classes[label]}'}"
    )
    print(line("clean", clean))
    if clean[0][0] != classes[label]:
        print(f"  The model misclassifies the clean clip: {clean[0][0]} instead of {classes[label]}.")
    for name, prediction in found.items():
        print(line(name, prediction.ranking) + f": attack {'succeeds' if prediction.success else 'fails'}")
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


def write(out: Path, x: Signals, adversarial: Signals, spec: ClipSpec, view: View) -> tuple[Path, float]:
    """Write clean and adversarial clip as .wav and .png, the adversarial one as .mp4; returns the .mp4 and its frame rate."""
    clean, made = (
        AV(audio=s.audio[0].cpu().numpy(), visual=s.visual[0].permute(0, 2, 3, 1).cpu().numpy())
        for s in (x, adversarial)
    )
    for name, clip in (("clean", clean), ("adversarial", made)):
        write_wav(out / f"{name}.wav", clip.audio, spec.rate)
        for i, frame in enumerate(clip.visual):
            write_png(out / f"{name}-{i}.png", frame)
    fps = view.frames / (view.samples / spec.rate)
    return write_mp4(out / "adversarial.mp4", made.audio, made.visual, spec.rate, fps), fps


def line(name: str, ranking: list[tuple[str, float]]) -> str:
    """One printed line: the most likely classes of one form of the clip."""
    return f"  {name + ':':<48}" + ", ".join(f"{label} {p:.1%}" for label, p in ranking)


def predict(net: Model, x: Signals, classes: Sequence[str]) -> list[tuple[str, float]]:
    """The three most likely classes."""
    with torch.no_grad():
        logits = check_shape(net(x), 1)
    check_logits(logits, Batch(x, torch.zeros(1, dtype=torch.long)))
    p, k = logits.softmax(1)[0].topk(min(3, len(classes)))
    return [(classes[int(j)], float(v)) for v, j in zip(p, k, strict=True)]


def reread(video: Path, spec: ClipSpec, view: View, fps: float) -> Signals:
    """The adversarial clip as a model receives it after the codecs."""
    whole = replace(spec, seconds=view.samples / spec.rate, fps=fps, size=view.size)
    return signals(cut(decode(video, whole), whole, view))


def signals(x: AV[np.ndarray]) -> Signals:
    """One clip as a batch of signals."""
    visual = torch.from_numpy(x.visual.copy()).permute(0, 3, 1, 2).float() / 255
    return AV(audio=torch.from_numpy(x.audio.copy())[None], visual=visual[None])


def towards(number: int, attack: Attack, name: str) -> Attack:
    """The attack with a class to reach.  Raises `ValueError` if its objective cannot be changed."""
    if not (is_dataclass(attack) and any(field.name == "objective" for field in fields(attack))):
        raise ValueError(
            f"expected with --target an attack that has one objective, got {name}. "
            "Use FGSM, PGD, MIM, APGD, Square, AVAutoAttack, or your own attack with a field `objective`; or leave out --target."
        )
    return replace(attack, objective=Targeted(number))  # type: ignore[type-var, return-value]


def class_number(name: str, classes: Sequence[str]) -> int:
    """The number of a class.  Raises `ValueError` that lists the classes."""
    if name not in classes:
        raise ValueError(f"expected a class of the model ({', '.join(classes)}), got {name!r}. Spell it as listed.")
    return list(classes).index(name)
