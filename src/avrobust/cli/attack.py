"""`avrobust attack`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro

from avrobust.attacks.saved import on_levels
from avrobust.cli import options as shared
from avrobust.cli.options import parse
from avrobust.cli.subject import trained
from avrobust.evaluation.checks import check_logits
from avrobust.evaluation.evaluator import sizes
from avrobust.media import ClipSpec, write_mp4, write_png, write_wav
from avrobust.media.decode import decode
from avrobust.objectives import Targeted
from avrobust.seeds import Seeds
from avrobust.threat import Threat, check
from avrobust.training import View
from avrobust.training.checkpoint import CheckpointError
from avrobust.training.views import cut
from avrobust.types import AV, Attack, Batch, Model, Signals

ABOUT = """Make one video adversarial for a model, and say what the model takes it for: before, after, and after saving.

Writes clean.wav, adversarial.wav (16 bit), the frames as .png (8 bit), adversarial.mp4 (H.264 + AAC) and
predictions.json. Saving rounds the attack, and a lossy codec may undo it: the predictions say so.

example:
  avrobust attack guitar.mp4 --model runs/quick/models/AV-0/net.safetensors --label acoustic_guitar \\
      --audio "-44 dBFS" --visual 2/255 --out attacked/
"""


@dataclass(frozen=True)
class Options:
    video: tyro.conf.Positional[Path]
    """The video to attack."""
    model: Path
    """A checkpoint that `avrobust train` or a study wrote, or a folder of the published code's (sound_best.pth, ...)."""
    out: Path
    """A new folder for what is made."""
    label: str | None = None
    """The true class; default: what the model says of the clean clip."""
    target: str | None = None
    """Attack towards this class instead of away from the true one."""
    audio: str = "0"
    visual: str = "0"
    norm: Literal["linf", "l2"] = "linf"
    attack: str = "PGD-40"
    start: float = 0.0
    """Seconds at which the clip begins."""
    seed: int = 0


def main(argv: Sequence[str]) -> None:
    """Parse, attack, write, print the predictions."""
    options = parse(Options, argv, "attack", ABOUT)
    if options.out.exists():
        raise ValueError(f"{options.out}: expected a new folder, got one that exists. Give another --out.")
    threat = shared.threat(options.audio, options.visual, options.norm)
    attack = shared.attack(options.attack)
    if options.target is not None:
        attack = towards(0, attack, options.attack)  # whether it can be aimed at all, before any work
    net, spec, view, classes = trained(options.model)
    if not classes:
        raise CheckpointError(
            f"{options.model}: expected a checkpoint that names its classes, got one that does not. "
            "Train it with `avrobust train`."
        )
    clip = decode(options.video, spec, start=options.start)
    x = signals(cut(clip, spec, view))
    with torch.no_grad():
        said = int(net(x).argmax())
    y = torch.tensor([class_number(options.label, classes) if options.label else said])
    if options.target is not None:
        attack = towards(class_number(options.target, classes), attack, options.attack)
    id = options.video.stem
    adversarial = attack(net, x, y, threat, Seeds(options.seed, (id,)))
    check(threat, x, adversarial, (id,), options.attack)

    options.out.mkdir(parents=True)
    seen = AV(audio=adversarial.audio[0].numpy(), visual=adversarial.visual[0].permute(0, 2, 3, 1).numpy())
    fps = view.frames / (view.samples / spec.rate)
    write_wav(options.out / "clean.wav", x.audio[0].numpy(), spec.rate)
    write_wav(options.out / "adversarial.wav", seen.audio, spec.rate)
    for i, frame in enumerate(seen.visual):
        write_png(options.out / f"clean-{i}.png", x.visual[0, i].permute(1, 2, 0).numpy())
        write_png(options.out / f"adversarial-{i}.png", frame)
    video = write_mp4(options.out / "adversarial.mp4", seen.audio, seen.visual, spec.rate, fps)
    found = {
        "clean": predict(net, x, classes),
        "adversarial": predict(net, adversarial, classes),
        "adversarial, 8-bit pixels and 16-bit samples": predict(net, on_levels(adversarial), classes),
        "adversarial, decoded from the .mp4": predict(net, reread(video, spec, view, fps), classes),
    }
    about: dict[str, object] = {
        "video": str(options.video), "model": str(options.model), "label": classes[int(y)], "target": options.target,
        "attack": options.attack, "threat": str(threat), "notes": clip.notes, "predictions": found,
        "clip": asdict(spec), "view": asdict(view), **{k: v[0] for k, v in sizes(threat, x, adversarial).items()},
    }  # fmt: skip
    (options.out / "predictions.json").write_text(json.dumps(about, indent=1))
    print(summary(threat, options, found, about))


def summary(
    threat: Threat, options: Options, found: dict[str, list[tuple[str, float]]], about: dict[str, object]
) -> str:
    """The predictions as lines."""
    lines = [
        f"{options.video.name}: {options.attack} inside {threat}; sound {about['snr_db']:.1f} dB SNR, picture {about['psnr_db']:.1f} dB PSNR"
    ]
    for what, ranking in found.items():
        lines.append(f"  {what + ':':<48}" + ", ".join(f"{name} {p:.1%}" for name, p in ranking))
    return "\n".join([*lines, f"  written to {options.out}"])


def predict(net: Model, x: Signals, classes: Sequence[str]) -> list[tuple[str, float]]:
    """The three most likely classes."""
    with torch.no_grad():
        logits = check_logits(net(x), Batch(x, torch.zeros(1, dtype=torch.long)))
    p, k = logits.softmax(1)[0].topk(min(3, len(classes)))
    return [(classes[int(j)], float(v)) for v, j in zip(p, k, strict=True)]


def reread(video: Path, spec: ClipSpec, view: View, fps: float) -> Signals:
    """What a model gets of the adversarial clip once it went through the codecs."""
    whole = replace(spec, seconds=view.samples / spec.rate, fps=fps, size=view.size)
    return signals(cut(decode(video, whole), whole, view))


def signals(x: AV[np.ndarray]) -> Signals:
    """One clip as a batch of signals."""
    visual = torch.from_numpy(x.visual.copy()).permute(0, 3, 1, 2).float() / 255
    return AV(audio=torch.from_numpy(x.audio.copy())[None], visual=visual[None])


def towards(number: int, attack: Attack, name: str) -> Attack:
    """The attack, aimed at a class.  Raises `ValueError` if it has no objective of its own to change."""
    if not (is_dataclass(attack) and any(field.name == "objective" for field in fields(attack))):
        raise ValueError(
            f"expected with --target an attack that climbs one objective, got {name}. "
            "Use FGSM, PGD, MIM, APGD, Square, or one of your own with a field `objective`; or leave out --target."
        )
    return replace(attack, objective=Targeted(number))  # type: ignore[type-var, return-value]


def class_number(name: str, classes: Sequence[str]) -> int:
    """The number of a class; an error that lists them."""
    if name not in classes:
        raise ValueError(f"the model does not know the class {name!r}; it knows {', '.join(classes)}.")
    return list(classes).index(name)
