"""What the page does with a model and a clip: attack it, look at its small plane of budgets, pack it for download."""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from avrobust.attacks import ATTACKS, Quantized, by_name
from avrobust.attacks.quantized import on_levels
from avrobust.cli.model import LoadedModel, called, load_model
from avrobust.demo.budgets import Sliders
from avrobust.demo.builtin import BuiltIn
from avrobust.demo.clips import Taken
from avrobust.evaluation.channels import Mp4
from avrobust.evaluation.one_clip import ADVERSARIAL, CLEAN, AttackedClip, as_arrays, attack_clip
from avrobust.files import write_bytes
from avrobust.media import ClipSpec, encode_png, encode_wav
from avrobust.objectives import Objective, WithSimilarity, cross_entropy, dlr, heat_shift, margin
from avrobust.training import CheckpointError, View
from avrobust.types import Attack

BUILT_IN = "Built-in network (orchestra, 11 instruments)"
USUAL, OWN_PREDICTION, ANY = "usual for the attack", "the model's own prediction", "any other class"
OBJECTIVES: dict[str, Objective | None] = {
    USUAL: None,
    "cross entropy": cross_entropy,
    "margin": margin,
    "difference of logits ratio": dlr,
    "cross entropy + similarity of both features": WithSimilarity(),
    "heat map elsewhere": heat_shift,
}
README = """clips.safetensors   clean and adversarial clip exactly as the model received them: audio (n) in [-1, 1], visual (t 3 h w) in [0, 1]
clean.wav, adversarial.wav, clean-*.png, adversarial-*.png   the same, rounded to 16-bit samples and 8-bit pixels
attack.json         attack, budgets, distances, predictions, and which of these forms is adversarial

Rounding can undo a faint attack, and a lossy codec (.mp4, .mp3, .jpg) often does. Only clips.safetensors is exact.
"""
Tell = Callable[[float | None, str], object]  # takes the share that is done, where it is known, and words


@dataclass(frozen=True)
class Models:
    """The models that can be chosen: checkpoints by name, and the built-in network, which is trained when it is first opened."""

    checkpoints: dict[str, Path]
    cache: Path
    where: torch.device
    built_in: BuiltIn = BuiltIn()  # noqa: RUF009, which is frozen
    allow: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Checkpoints first."""
        return [*self.checkpoints, BUILT_IN]

    def open(self, name: str, upload: Path | None, tell: Tell) -> LoadedModel:
        """The model of this name, or the one that was uploaded.  Raises `CheckpointError` for one that cannot be attacked here."""
        if upload is not None:
            path = upload
        elif name in self.checkpoints:
            path = self.checkpoints[name]
        else:
            path = self.built_in.trained(self.cache, partial(tell, None))
        found = load_model(str(path), ClipSpec(), View(), () if upload else self.allow, self.where)
        if not found.classes:
            raise CheckpointError(
                f"{path.name}: expected a checkpoint that names its classes, got one that does not. Use `avrobust train`."
            )
        return found


def checkpoints_of(model: Path | None, run: Path | None) -> dict[str, Path]:
    """The checkpoints of the command line by name: one file, and all models of a study's run.

    Raises `ValueError` for a folder without models, and a file that is not there.
    """
    found: dict[str, Path] = {}
    if model is not None:
        if not model.exists():
            raise ValueError(f"{model}: expected a checkpoint, got no such file. Check the path, or train first.")
        found[called(str(model))] = model
    if run is not None:
        files = sorted(run.glob("models/*/net.safetensors"))
        if not files:
            raise ValueError(
                f"{run}: expected a study's run with models/*/net.safetensors, got none. Give the folder of a finished run."
            )
        found |= {called(str(file)): file for file in files}
    return found


def attack_of(name: str, steps: int, objective: str, lossless: bool) -> Attack:
    """The attack that the page's choices make.

    >>> attack_of("PGD", 20, USUAL, lossless=False).name, attack_of("FGSM", 20, "margin", lossless=True).name
    ('PGD-20', 'FGSM (margin), quantized')
    """
    made: Any = by_name(f"{name}-{steps}" if ATTACKS[name].numbers else name)
    if (wanted := OBJECTIVES[objective]) is not None:
        made = replace(made, objective=wanted)
    return Quantized(made) if lossless else made


def label_of(asked: str, known: str | None, classes: tuple[str, ...]) -> int | None:
    """The number of the true class: as asked, else what is `known` of the clip, else None, which is the model's prediction."""
    name = known if asked == OWN_PREDICTION else asked
    return classes.index(name) if name in classes else None


def attacked(
    model: LoadedModel,
    clip: Taken,
    attack: Attack,
    sliders: Sliders,
    label: int | None,
    target: int | None,
    seed: int,
    tell: Tell,
) -> AttackedClip:
    """The clip under attack, described; `clip` is on the model's device."""
    search = attack.attack if isinstance(attack, Quantized) else attack
    total, count = getattr(search, "steps", 0) * getattr(search, "restarts", 1) + 1, 0

    def watch() -> None:
        nonlocal count
        count += 1
        tell(count / total if count <= total else None, f"answers of the model: {count}")

    frames_a_second = model.view.frames * model.spec.rate / model.view.samples
    return attack_clip(
        model.model, clip.x, attack, sliders.threat(clip.x), classes=model.classes, label=label, target=target, seed=seed, id=clip.name,
        channels={
            "as 8-bit pixels and 16-bit samples": on_levels,
            "after H.264 and AAC": Mp4(rate=model.spec.rate, fps=frames_a_second),
        },
        watch=watch,
    )  # fmt: skip


def bundle(clip: AttackedClip, rate: int, folder: Path) -> Path:
    """Clean and adversarial clip in a .zip file: the exact numbers, and files of 16 and 8 bits that any program opens."""
    exact = save(
        {
            f"{form}.{name}": s[0].contiguous().cpu()
            for form, x in (("clean", clip.x), ("adversarial", clip.adversarial))
            for name, s in x.items()
        }
    )
    about = {
        "attack": clip.attack, "threat": str(clip.threat), "goal": clip.goal, "rate": rate, "distortion": dict(clip.distortion),
        "predictions": {form: clip.ranking(form) for form in clip.answers},
        "attack_succeeds": clip.success,
    }  # fmt: skip
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("README.txt", README)
        file.writestr("clips.safetensors", exact)
        file.writestr("attack.json", json.dumps(about, indent=1))
        for form, x in ((CLEAN, as_arrays(clip.x)), (ADVERSARIAL, as_arrays(clip.adversarial))):
            file.writestr(f"{form}.wav", encode_wav(x.audio, rate))
            for i, frame in enumerate(x.visual):
                file.writestr(f"{form}-{i}.png", encode_png(frame))
    return write_bytes(folder / "adversarial-clip.zip", packed.getvalue())
