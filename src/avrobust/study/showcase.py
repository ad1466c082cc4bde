"""What a report shows of the clips themselves: samples of the data, and some clips before and after an attack.

Frames are written with 8 bits and audio with 16, as any player needs them; the difference image is made from
the exact signals.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import avrobust
from avrobust import engine
from avrobust.attacks import PGD
from avrobust.config import digest
from avrobust.data.frames import read_clip
from avrobust.data.store import Store
from avrobust.evaluation.distortion import distortion
from avrobust.evaluation.localisation import Localisation
from avrobust.evaluation.perception import perceived
from avrobust.files import draft, write_json
from avrobust.media import write_mp4, write_png, write_wav
from avrobust.media.colour import magma
from avrobust.media.encode import AAC_RATES
from avrobust.media.errors import MediaError
from avrobust.objectives import display_name
from avrobust.progress import part
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import AV, Attack, Batch, Model, Signals

PER_SUBSET, CANDIDATES, PER_CLASS, STRIPS, SIDE = 3, 24, 2, 5, 160
KEY = "key.json"  # in a folder of pictures: a digest of what they show
PLAYED, SHOWN = 8.0, 192  # frames per second and least side of a video to be watched: a codec blurs smaller ones


@dataclass(frozen=True, eq=False)
class Shown:
    """Some clips, the model that answers them, and the attack on them; `classes` names its outputs, `rate` is the audio's."""

    model: Model
    batch: Batch
    threat: Threat
    seed: int
    classes: Sequence[str]
    rate: int
    attack: Attack = field(default_factory=PGD)

    @classmethod
    def of(cls, model: Model, clips: Iterable[Batch], threat: Threat, seed: int, store: Store) -> "Shown":
        """The first clips of some batches, under PGD: strong but quick, as no number is made of it."""
        few: list[Batch] = []
        for batch in clips:
            if (left := CANDIDATES - sum(map(len, few))) <= 0:
                break
            few.append(batch.subset(range(min(len(batch), left))))
        rate = store.spec.rate
        return cls(model, Batch.join(few), threat.at_rate(rate), seed, store.classes, rate)

    @cached_property
    def judge(self) -> engine.Victim:
        """The model itself."""
        return engine.as_judge(self.model, self.batch.x.map(lambda s: s[:1]))

    @cached_property
    def adversarial(self) -> dict[str, Signals]:
        """The adversarial clips by attacked subset."""
        x, y, ids = self.batch.x, self.batch.label, self.batch.ids
        craft = engine.surrogate(self.model, x.map(lambda s: s[:1])).cache_embeddings(x)
        threats, found = self.threat.subsets(), {}
        for threat in threats:
            with part(1 / len(threats), threat.subset):
                found[threat.subset] = self.attack(craft, x, y, threat, Seeds(self.seed, ids))
        return found


def attacked(shown: Shown, out: Path, key: str) -> None:
    """Some clips under attack, on audio, video and both; misclassified ones first.  Drawn once for a `key`."""
    if _is_drawn(out, key):
        return
    with draft(out, folder=True, locked=True) as made:
        write_json(made / KEY, key)
        number, batch = 0, shown.batch
        with torch.no_grad():
            before = shown.judge(batch.x).softmax(1)
        for threat in shown.threat.subsets():
            adversarial = shown.adversarial[threat.subset]
            with torch.no_grad():
                after = shown.judge(adversarial).softmax(1)
            far = distortion(threat, batch.x, adversarial) | perceived(batch.x, adversarial, shown.rate)
            for i in _choose(before, after, batch.label):
                y = int(batch.label[i])
                number += 1
                folder = made / f"{number:02d}"
                folder.mkdir(parents=True)
                about = {
                    "clip": batch.ids[i], "attack": display_name(shown.attack), "subset": threat.subset, "budget": asdict(threat.budget),
                    "label": shown.classes[y],
                    "pred_clean": shown.classes[int(before[i].argmax())], "pred": shown.classes[int(after[i].argmax())],
                    "p_true_clean": float(before[i, y]), "p_true_adv": float(after[i, y]), "p_pred": float(after[i].max()),
                    **{name: far[name][i] for name in ("snr_db", "psnr_db", "mask_db", "ssim")}, "rate": shown.rate,
                    "seconds": batch.x.audio.shape[1] / shown.rate, "frames": batch.x.visual.shape[1],
                }  # fmt: skip
                about["amplified"] = _write(folder, batch, adversarial, i, shown.rate)
                write_json(folder / "clip.json", about)


def _is_drawn(out: Path, key: str) -> bool:
    """Whether the pictures in a folder are of what `key` names, which is all that they depend on."""
    return (out / KEY).exists() and json.loads((out / KEY).read_text()) == key


def _choose(before: torch.Tensor, after: torch.Tensor, label: torch.Tensor) -> list[int]:
    """Clips that were right: those that the attack fooled first, each class at most once."""
    right = (before.argmax(1) == label).nonzero().flatten().tolist()
    order = sorted(right, key=lambda i: bool(after[i].argmax() == label[i]))
    one_per_class = {int(label[i]): i for i in reversed(order)}
    return [i for i in order if one_per_class[int(label[i])] == i][:PER_SUBSET]


def _write(folder: Path, batch: Batch, adversarial: Signals, i: int, rate: int) -> float:
    """The clip before and after, and the difference, amplified around grey; returns by how much."""
    clean, adv = (
        AV(audio=x.audio[i].cpu().numpy(), visual=x.visual[i].permute(0, 2, 3, 1).cpu().numpy())
        for x in (batch.x, adversarial)
    )
    delta = _side_by_side(adv.visual - clean.visual)
    amplified = 0.5 / max(float(np.abs(delta).max()), 1e-6)
    for name, x in (("clean", clean), ("adv", adv)):
        write_png(folder / f"{name}.png", _side_by_side(x.visual))
        write_wav(folder / f"{name}.wav", x.audio, rate)
        if rate in AAC_RATES:
            write_mp4(folder / f"{name}.mp4", x.audio, _played(x.visual, len(x.audio) / rate), rate, PLAYED)
    write_png(folder / "diff.png", np.clip(0.5 + delta * amplified, 0, 1))
    return round(amplified, 1) if np.any(delta) else 0.0


def _side_by_side(frames: np.ndarray) -> np.ndarray:
    """All frames (t h w 3) as one picture, in rows from the top left; what is left over is 0."""
    count = math.ceil(len(frames) ** 0.5)
    rows = -(-len(frames) // count)
    full = np.concatenate([frames, np.zeros((rows * count - len(frames), *frames.shape[1:]), frames.dtype)])
    h, w = frames.shape[1:3]
    return full.reshape(rows, count, h, w, 3).swapaxes(1, 2).reshape(rows * h, count * w, 3)


def _played(frames: np.ndarray, seconds: float) -> np.ndarray:
    """The frames that a model sees, spread evenly over the audio that it hears, each pixel as a square of pixels."""
    times = np.arange(max(1, round(seconds * PLAYED))) / PLAYED
    shown = frames[(times / seconds * len(frames)).astype(int).clip(0, len(frames) - 1)]
    larger = max(1, -(-SHOWN // shown.shape[1]))
    return np.asarray(shown.repeat(larger, 1).repeat(larger, 2))


def located(shown: Shown, places: Localisation, out: Path, key: str) -> None:
    """Where a model that points looks, clean and under attack: strips as in the paper's Figure 4.  Drawn once for a `key`.

    Clips that are right when clean, those with a silent rival first; PGD raises the recognition loss alone.
    """
    if _is_drawn(out, key):
        return
    with draft(out, folder=True, locked=True) as made:
        write_json(made / KEY, key)
        batch, seen = shown.batch, {"clean": shown.batch.x} | shown.adversarial
        with torch.no_grad():
            answers = {name: shown.judge.output(x, ("heat",)) for name, x in seen.items()}
            heat = {name: out.heat.mean(1) * out.heat.shape[1] for name, out in answers.items() if out.heat is not None}
            predicted = {name: out.logits.argmax(1) for name, out in answers.items()}
        right = (predicted["clean"] == batch.label).nonzero().flatten().tolist()
        order = sorted(right, key=lambda i: places.rivals.get(batch.ids[i]) is None)
        first = {int(batch.label[i]): i for i in reversed(order)}
        for number, i in enumerate([i for i in order if first[int(batch.label[i])] == i][:STRIPS], start=1):
            folder, id = made / f"{number:02d}", batch.ids[i]
            folder.mkdir(parents=True)
            about = {
                "clip": id, "label": shown.classes[int(batch.label[i])], "attack": display_name(shown.attack),
                "box": places.boxes.get(id), "rival": places.rivals.get(id), "places": list(heat["clean"].shape[1:]),
                "budget": asdict(shown.threat.budget),
                "pred": {name: shown.classes[int(p[i])] for name, p in predicted.items()},
            }  # fmt: skip
            for name in ("clean", "AV"):  # to be heard in the report's Figure 1
                if name in seen:
                    write_wav(folder / f"{name}.wav", seen[name].audio[i].cpu().numpy(), shown.rate)
            for name, x in seen.items():
                frame = x.visual[i, 0].permute(1, 2, 0).cpu().numpy()
                write_png(folder / f"{name}.png", frame)
                write_png(folder / f"{name}-heat.png", over(frame, heat[name][i].cpu()))
            write_json(folder / "clip.json", about)


def over(frame: np.ndarray, heat: torch.Tensor) -> np.ndarray:
    """A heat map over its frame, hottest brightest, at twice the frame's size for smooth edges."""
    size = tuple(2 * n for n in frame.shape[:2])
    fine = F.interpolate(heat[None, None], size=size, mode="bilinear")[0, 0].numpy()
    fine = (fine - fine.min()) / max(float(np.ptp(fine)), 1e-12)
    grey = np.repeat(np.repeat(frame.mean(2, keepdims=True), 2, 0), 2, 1)
    colour = magma(fine)
    over: np.ndarray = np.clip(0.45 * grey + 0.55 * colour, 0, 1).astype(np.float32)
    return over


def samples(store: Store, out: Path) -> None:
    """A few clips of each class as they are on disk: one frame and the audio, from test clips where there are some."""
    if _is_drawn(out, key := digest(avrobust.__version__, store.sha256)):
        return
    with draft(out, folder=True, locked=True) as made:
        write_json(made / KEY, key)
        spec = replace(store.spec, size=SIDE)
        entries = {row["id"]: row for row in store.table.select(["id", "video", "audio", "start", "end"]).to_pylist()}
        listed = []
        for k, name in enumerate(store.classes):
            ids = [id for split in ("test", "val", "train") for id in store.ids(split) if store.label(id) == k][
                :PER_CLASS
            ]
            for j, id in enumerate(ids):
                e = entries[id]
                audio = store.root / e["audio"] if e["audio"] else None
                try:
                    clip = read_clip(store.root / e["video"], spec, audio=audio, start=e["start"], end=e["end"])
                except MediaError:
                    continue  # the file went away after it was prepared; the report shows what is there
                file = f"{k:02d}-{j}"
                write_png(made / f"{file}.png", clip.frames[len(clip.frames) // 2])
                write_wav(made / f"{file}.wav", clip.wave, spec.rate)
                listed.append(
                    {"clip": id, "label": name, "image": f"{file}.png", "sound": f"{file}.wav", "box": store.box(id)}
                )
        write_json(made / "samples.json", listed)
