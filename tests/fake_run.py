"""A run directory that no model has made: the files of a study, with answers drawn from a simple law.

Each clip carries evidence for its class in sound and in picture; an attack takes some away, more of it with a
larger budget and with more steps.  So larger budgets never help, and answers to one clip are alike.
"""

import json
import wave
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from safetensors.numpy import save_file

from avrobust.evaluation.schema import Rows
from facts_of import budget_of, facts_of

CLASSES = [
    "accordion",
    "acoustic_guitar",
    "cello",
    "clarinet",
    "erhu",
    "flute",
    "saxophone",
    "trumpet",
    "tuba",
    "violin",
    "xylophone",
]
# The budgets of the quick study: Table 1's, the same with four times the picture's, and Figure 3's.
TABLES = [("A", 0.012, 0), ("V", 0, 0.012), ("AV", 0.006, 0.006)], [("V", 0, 0.048), ("AV", 0.006, 0.024)]
AUDIO = (0.001, 0.003, 0.006, 0.012, 0.024, 0.048)
VISUAL = (0.003, 0.006, 0.012, 0.048, 0.192, 0.384)
POWER = {
    "FGSM": 0.7,
    "PGD-10": 1.0,
    "MIM-10": 0.98,
    "FGSM published": 0.7,
    "PGD-10 published": 0.9,
    "MIM-10 published": 1.15,
}
RATE = 11025


def fake_run(
    path: Path,
    *,
    clips: int = 330,
    attacked: int = 220,
    seeds: tuple[int, ...] = (0,),
    unread: int = 3,
    gallery: int = 4,
    samples: int = 11,
    without: tuple[tuple[str, str], ...] = (),
    title: str = "The procedural orchestra",
    whole: bool = False,
    **told: object,
) -> Path:
    """Write a run of an AV, an A and a V model; with `whole`, of fusions, defenses and a model that points too.

    `without` lists (attack, subset) pairs that were not finished; `told` replaces entries of run.json.
    """
    path.mkdir(parents=True)
    cells = [
        cell
        for seed in seeds
        for cell in [*conditions(seed, clips, attacked, unread), *(more(seed, clips, attacked) if whole else ())]
        if (cell["attack"], cell["subset"]) not in without
    ]
    for i, cell in enumerate(cells):
        folder = path / "cells" / f"{i:04x}"
        folder.mkdir(parents=True)
        Rows.of(cell | facts_of(cell["attack"])).save(folder / "rows.parquet")
    for i in range(gallery):
        _example(path / "gallery" / f"{i:02d}", i)
    if samples:
        _samples(path / "samples", samples)
    said = about(clips, seeds, unread, title)
    if whole:
        _strip(path / "strips" / "Attention" / "01")
        for name, apart in (("AV", 0.3), ("MinSim", 0.9)):
            _features(path / "features" / f"{name}-0.safetensors", apart)
        said["models"] |= {name: {"kind": "AV", "recipe": "ours"} | kind for name, (kind, _) in MORE.items()}
        said["defenses"] = [{"A": [0.006, 0.0], "V": [0.0, 0.006], "AV": [0.006, 0.006]}]
        said["baselines"] = {
            "blank": {"clips": clips, "pointing": 0.0, "mass": 0.3, "iou": 0.3, "found": 0.1},
            "centre": {"clips": clips, "pointing": 0.5, "mass": 0.4, "iou": 0.35, "found": 0.2},
        }
    (path / "run.json").write_text(json.dumps({"version": 2} | said | told, indent=1))
    return path


# Models beyond the three: what run.json says of them, and how much stronger than the first they are.
MORE = {
    "Sum": ({"fusion": "sum", "loss": "cross_entropy"}, -1.6),
    "FiLM": ({"fusion": "film", "loss": "cross_entropy"}, -1.8),
    "MaxSim": ({"fusion": "concat", "loss": "MaxSim"}, 0.0),
    "MinSim": ({"fusion": "concat", "loss": "MinSim"}, 0.4),
    "AV, extra epochs": ({"fusion": "concat", "loss": "cross_entropy", "start": "AV", "role": "baseline"}, 0.2),
    "MinSim+ExFMem": (
        {
            "fusion": "concat", "loss": "MinSim", "feature_defense": "ExFMem", "start": "MinSim", "role": "full_defense",
            "memory": {m: {"nonzero": 7.1, "residual": 0.3, "iterations": 80.0, "gap": 1e-3} for m in ("audio", "visual")},
        },
        0.8,
    ),
    "Attention": ({"fusion": "attention", "loss": "cross_entropy", "start": "AV", "localises": True}, 0.0),
    "Attention, no sound": ({"kind": "V", "fusion": "attention", "loss": "cross_entropy", "localises": True}, -1.0),
}  # fmt: skip
DEFENSE = [("A", 0.006, 0.0), ("V", 0.0, 0.006), ("AV", 0.006, 0.006)]


def more(seed, clips, attacked):
    """The cells of `MORE` at the budgets of Table 3, which the first three models met too."""
    rng = np.random.default_rng(100 + seed)
    hardness = rng.normal(0, 1, clips)
    label = np.arange(clips) % len(CLASSES)
    alike = {"label": label, "status": "ok", "clip": [f"clip{i:03d}" for i in range(clips)], "seed": seed}
    for model, (_, strength) in MORE.items():
        points = model.startswith("Attention")
        conditions = [("none", "clean", 0.0, 0.0, "corrected")]
        if model != "Attention, no sound":
            conditions += [(a, *c, "corrected") for a in ("FGSM", "PGD-10") for c in DEFENSE]
        if model == "Attention":
            conditions += [("PGD-10", *c, "corrected") for c in TABLES[0][:2]]
            conditions += [("swapped", "A", 2.0, 0.0, "control"), ("muted", "A", 2.0, 0.0, "control")]
        for attack, subset, ea, ev, mode in conditions:
            harm = 60 * (ea + ev) * (1.0 if attack == "FGSM" else 1.3) if mode == "corrected" else 0.5
            left = hardness + 1.2 + strength - harm
            n = clips if subset == "clean" or mode == "control" else attacked
            columns = alike | {
                "model": model, "attack": attack, "mode": mode, "subset": subset,
                **budget_of(ea, ev, visual_unit="normalised").columns(), "pred_clean": label, "pred": label, "margin_clean": -left, "margin": -left,
                "correct_clean": hardness + 1.2 > 0, "correct": left > 0,
                "linf_audio": np.full(clips, ea), "linf_visual": np.full(clips, ev), "l2_audio": np.full(clips, ea),
                "l2_visual": np.full(clips, ev), "used_audio": np.full(clips, 1.0 if ea else np.nan),
                "used_visual": np.full(clips, 1.0 if ev else np.nan), "snr_db": np.full(clips, 20.0), "psnr_db": np.full(clips, 50.0),
            }  # fmt: skip
            if points:
                known = np.where(np.arange(clips) % 10 == 0, np.nan, 1.0)  # every tenth clip has no box
                columns |= {
                    "pointing": known * (left > 0), "mass": known * np.clip(0.5 + left / 6, 0, 1), "iou": known * 0.4,
                    "rival_mass": np.where(np.arange(clips) % 2, 0.3, np.nan), "heat_moved": np.full(clips, 0.1 if harm else 0.0),
                    "peak": np.arange(1.0, clips + 1) / (2 if attack == "muted" else 1),
                }  # fmt: skip
            yield {name: v[:n] if isinstance(v, list | np.ndarray) else v for name, v in columns.items()}


def _strip(folder):
    folder.mkdir(parents=True)
    for i, name in enumerate(("clean", "A", "V", "AV")):
        Image.fromarray(_picture(i)).save(folder / f"{name}.png")
        Image.fromarray(_picture(9 - i)).save(folder / f"{name}-heat.png")
        if name in ("clean", "AV"):
            write_wav(folder / f"{name}.wav", tone(i, noise=0.05 if name == "AV" else 0))
    about = {
        "clip": "tuba/001", "label": "tuba", "attack": "PGD-10", "box": [0.1, 0.2, 0.5, 0.9], "rival": [0.6, 0.2, 0.9, 0.8],
        "budget": asdict(budget_of(0.012, 0.048, visual_unit="normalised")),
        "pred": {"clean": "tuba", "A": "cello", "V": "tuba", "AV": "erhu"},
    }  # fmt: skip
    (folder / "clip.json").write_text(json.dumps(about))


def _features(path, apart):
    """Features whose classes lie the further apart, the larger `apart`."""
    rng = np.random.default_rng(0)
    label = np.arange(44) % len(CLASSES)
    centres = rng.normal(size=(2, len(CLASSES), 16))
    both = apart * centres[:, label] + rng.normal(size=(2, 44, 16)) * 0.3
    path.parent.mkdir(exist_ok=True)
    tensors = {
        "audio": both[0],
        "visual": both[1],
        "label": label,
        "tsne_audio": both[0, :, :2],
        "tsne_visual": both[1, :, :2],
    }
    save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, path)


def about(clips, seeds, unread, title):
    def curve(end):
        return [
            {
                "epoch": e,
                "train_loss": 2.4 * 0.75**e,
                "val_loss": 0.7 + 1.7 * 0.7**e,
                "val_accuracy": end - 0.8 * end * 0.7**e,
            }
            for e in range(1, 10)
        ]

    return {
        "name": "quick",
        "title": title,
        "paper": "tian2021",
        "benchmark": "MIT-MUSIC",
        "asked": {"seeds": list(seeds), "epochs": 9},
        "command": "avrobust study quick --out runs/quick",
        "started": "2026-01-05T10:12:00+00:00",
        "seconds": {"data": 41.0, "prepare": 22.0, "train": 118.0, "evaluate": 160.0},
        "code": {"version": "0.1.0", "commit": "0123456789abcdef", "dirty": False},
        "world": {
            "python": "3.11.9",
            "torch": "2.9.0",
            "device": "cpu",
            "threads": 2,
            "cpu": "some processor",
        },
        "data": {
            "name": "orchestra",
            "classes": CLASSES,
            "counts": {"train": [1100, 1100], "val": [165, 165], "test": [clips - unread, clips]},
            "failures": [
                {"id": f"clip{i:03d}", "file": f"tuba/clip{i:03d}.mp4", "reason": "no audio stream"}
                for i in range(unread)
            ],
            "spec": {"seconds": 2.0, "rate": RATE, "fps": 4.0, "size": 72},
            "sha256": "ab" * 32,
        },
        "models": {
            name: {
                "kind": name,
                "seconds": s,
                "epochs": 9,
                "val": v,
                "parameters": p,
                "fusion": f,
                "recipe": "ours",
                "curve": curve(v),
            }
            for name, s, v, p, f in [
                ("AV", 61.0, 0.77, 12_300_000, "concat"),
                ("A", 24.0, 0.55, 1_100_000, None),
                ("V", 33.0, 0.69, 11_200_000, None),
            ]
        },
        "flags": [],
    }


def conditions(seed, clips, attacked, unread):
    """Columns of each cell: clean answers on all clips, attacked ones on the first `attacked`."""
    rng = np.random.default_rng(seed)
    evidence = {"A": rng.normal(0.15, 1, clips), "V": rng.normal(0.55, 1, clips)}
    label = np.arange(clips) % len(CLASSES)
    status = ["ok" if i >= unread else "no audio stream" for i in range(clips)]
    for model in ("AV", "A", "V"):
        own = [m for m in "AV" if m in model]
        clean = sum(evidence[m] for m in own) + 0.35 * (model == "AV")
        for attack, subset, ea, ev in [("none", "clean", 0, 0), *_grid(model)]:
            power = POWER.get(attack, 0)
            taken = power * (1.8 * np.sqrt(ea / 0.012) * ("A" in own) + 0.9 * np.sqrt(ev / 0.048) * ("V" in own))
            left = clean - taken
            wrong = (label + 1 + rng.integers(0, len(CLASSES) - 1, clips)) % len(CLASSES)
            published = "published" in attack
            used = _used(ea, ev, clips, rng, attack == "MIM-10 published")
            with np.errstate(divide="ignore"):
                snr = np.where(ea, -20 - 20 * np.log10(ea or 1) + rng.normal(0, 3, clips), np.inf)
                psnr = np.where(ev, -20 * np.log10((ev or 1) * 0.226) + rng.normal(0, 0.3, clips), np.inf)
            columns = {
                "model": model, "seed": seed, "attack": attack, "mode": "published" if published else "corrected",
                "subset": subset, **budget_of(ea, ev, visual_unit="normalised").columns(),
                "clip": [f"clip{i:03d}" for i in range(clips)], "label": label, "status": status,
                "pred_clean": np.where(clean > 0, label, wrong), "pred": np.where(left > 0, label, wrong),
                "margin_clean": -clean, "margin": -left, "correct_clean": clean > 0, "correct": left > 0,
                "linf_audio": ea * np.nan_to_num(used[0]), "linf_visual": ev * 0.226 * np.nan_to_num(used[1]),
                "l2_audio": ea * 140 * np.nan_to_num(used[0]), "l2_visual": ev * 90 * np.nan_to_num(used[1]),
                "used_audio": used[0], "used_visual": used[1], "snr_db": snr, "psnr_db": psnr,
            }  # fmt: skip
            n = clips if subset == "clean" else attacked
            yield {name: v[:n] if isinstance(v, list | np.ndarray) else v for name, v in columns.items()}


def _used(ea, ev, clips, rng, leaves):
    over = (1.25, 11.25) if leaves else (1.0, 1.0)
    return [
        np.full(clips, o) * (1 - 0.02 * rng.random(clips)) if e else np.full(clips, np.nan)
        for e, o in zip((ea, ev), over, strict=True)
    ]


def _grid(model):
    curves = (
        [("A", a, 0) for a in AUDIO],
        [("V", 0, v) for v in VISUAL],
        [("AV", a, v) for a, v in zip(AUDIO, VISUAL, strict=True)],
    )
    wanted = {(attack, *where) for attack in ("FGSM", "PGD-10") for curve in curves for where in curve}
    if model == "AV":
        wanted |= {(attack, *where) for attack in ("FGSM", "PGD-10", "MIM-10") for table in TABLES for where in table}
        wanted |= {(attack, *where) for attack in POWER if "published" in attack for where in TABLES[0]}
    return sorted(cell for cell in wanted if set(cell[1]) <= set(model))


def _picture(i, size=72):
    rng = np.random.default_rng(i)
    image = Image.new("RGB", (size * 4, size * 4), tuple(int(v) for v in rng.integers(60, 200, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(9):
        x, y, r = (int(v) for v in (*rng.integers(0, size * 4, 2), rng.integers(10, 70)))
        colour = tuple(int(v) for v in rng.integers(20, 240, 3))
        draw.ellipse((x - r, y - r // 2, x + r, y + r // 2), fill=colour) if rng.random() < 0.5 else draw.rectangle(
            (x, y, x + r, y + 2 * r), fill=colour
        )
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def tone(i, seconds=2.0, noise=0.0):
    t = np.arange(int(seconds * RATE)) / RATE
    notes = 220 * 2 ** (np.array([0, 4, 7, 12, 7])[(t * 2.5).astype(int) % 5] / 12 + i / 7)
    phase = 2 * np.pi * np.cumsum(notes) / RATE
    sound = sum(np.sin(k * phase) / k for k in range(1, 7)) * 0.2 * np.exp(-((t * 2.5) % 1) * 2)
    return sound + noise * np.sign(np.random.default_rng(i).normal(size=len(t)))


def write_wav(path, samples):
    with wave.open(str(path), "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(RATE)
        f.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def _example(folder, i):
    folder.mkdir(parents=True)
    frame, rng = _picture(i), np.random.default_rng(100 + i)
    subset = ("AV", "A", "V")[i % 3]
    noise = rng.choice([-2, 2], frame.shape) * ("V" in subset)
    Image.fromarray(frame).save(folder / "clean.png")
    Image.fromarray(np.clip(frame + noise, 0, 255).astype(np.uint8)).save(folder / "adv.png")
    Image.fromarray((127.5 + 32 * noise).clip(0, 255).astype(np.uint8)).save(folder / "diff.png")
    write_wav(folder / "clean.wav", tone(i))
    write_wav(folder / "adv.wav", tone(i, noise=0.012 if "A" in subset else 0))
    label, pred = CLASSES[i % 11], CLASSES[(i + 3) % 11]
    clip = {
        "clip": f"{label}/{i:03d}", "label": label, "pred_clean": label, "pred": pred, "attack": "PGD-10", "subset": subset,
        "budget": asdict(budget_of(0.012 if "A" in subset else 0, 0.048 if "V" in subset else 0, visual_unit="normalised")),
        "snr_db": 18.2, "p_true_clean": 0.93, "p_true_adv": 0.02, "amplified": 32.0 if "V" in subset else 0.0,
    }  # fmt: skip
    (folder / "clip.json").write_text(json.dumps(clip))


def _samples(folder, count):
    folder.mkdir()
    entries = []
    for i in range(count):
        name = f"{CLASSES[i % 11]}-{i // 11}"
        Image.fromarray(_picture(i)).save(folder / f"{name}.png")
        write_wav(folder / f"{name}.wav", tone(i))
        entries.append(
            {
                "clip": name,
                "label": CLASSES[i % 11],
                "image": f"{name}.png",
                "sound": f"{name}.wav",
                "box": [0.2, 0.3, 0.8, 0.9],
            }
        )
    (folder / "samples.json").write_text(json.dumps(entries))
