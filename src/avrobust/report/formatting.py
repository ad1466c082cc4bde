"""Budgets and counts as people write them."""

import math
import re
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any, NamedTuple

from markupsafe import Markup

from avrobust.evaluation.stats import Estimate, percent
from avrobust.facts import IMAGENET_STD, Budget, ModalityBudget, typed

# What a subset of modalities is called: as attacked, in a heading and a sentence; as a model's input; as a word.
ATTACKED = {"clean": "Clean", "A": "Audio attacked", "V": "Visual attacked", "AV": "Both attacked"}
WHEN = {
    "clean": "on clean clips",
    "A": "when audio is attacked",
    "V": "when the visual input is attacked",
    "AV": "when both are attacked",
}
MODEL = {"AV": "audio-visual", "A": "audio-only", "V": "visual-only"}
MODALITY = {"A": "audio", "V": "visual", "AV": "both"}


def spaced(name: object) -> str:
    """A class as people read it: folders have underscores for spaces.

    >>> spaced("acoustic_guitar")
    'acoustic guitar'
    """
    return str(name).replace("_", " ")


def upright(value: object) -> object:
    """Text for a page: what would turn the text after it around, numbers too, as escapes; all else as it is.

    >>> print(upright("model\\u202e is right on 12.5 %"))
    model\\u202e is right on 12.5 %
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return re.sub("[\u202a-\u202e\u2066-\u2069]", lambda found: f"\\u{ord(found[0]):x}", value)


class Size(NamedTuple):
    """One modality's budget as a short number and its unit."""

    number: str
    unit: str


def size(budget: ModalityBudget, modality: str) -> Size:
    """A budget of "audio" or "visual" in the unit that is easiest to picture.

    >>> size(ModalityBudget(0.012, "linf", "linear"), "audio"), size(ModalityBudget(0.01, "l2", "snr"), "audio")
    (Size(number='−38.4', unit='dBFS'), Size(number='40', unit='dB SNR'))
    >>> size(ModalityBudget(0.5, "masking", "masking threshold"), "audio"), size(ModalityBudget(2.0, "linf", "delta E"), "visual")
    (Size(number='-6', unit='dB masking threshold'), Size(number='2', unit='delta E'))
    """
    if budget.even and modality == "audio":
        return Size(decibel(20 * math.log10(budget.eps)), "dBFS")
    if budget.even:
        levels = grey_levels(budget)
        return Size(f"{levels:.2g}" if levels < 1 else f"{levels:.1f}", "grey levels of 255")
    if budget.in_time:
        return Size(f"{budget.eps:g}", budget.unit)
    if budget.unit == "snr":
        return Size(f"{-20 * math.log10(budget.eps):.0f}", "dB SNR")
    if budget.norm == "masking":
        return Size(f"{20 * math.log10(budget.eps):+.0f}", f"dB {budget.unit}")
    if budget.norm == "linf":
        return Size(f"{budget.eps:.2g}", budget.unit)
    return Size(f"{budget.eps:.2g}", "L2" + ("" if budget.unit == "linear" else f" {budget.unit}"))


def grey_levels(budget: ModalityBudget) -> float:
    """A linf visual budget in grey levels of 255, a normalised one by the mean of the colours."""
    return 255 * budget.eps * (mean(IMAGENET_STD) if budget.unit == "normalised" else 1)


def physical(budget: ModalityBudget, modality: str) -> str:
    """A budget with its physical size.

    >>> physical(ModalityBudget(0.012, "linf", "linear"), "audio")
    '0.012 (−38.4 dBFS)'
    >>> physical(ModalityBudget(0.048, "linf", "normalised"), "visual")
    '0.048 normalised (2.8 of 255 grey levels)'
    >>> physical(ModalityBudget(2 / 255, "linf", "linear"), "visual")
    '2.0 of 255 grey levels'
    >>> from avrobust.facts import Typed
    >>> physical(ModalityBudget(Typed(2 / 255, "2/255"), "linf", "linear"), "visual")
    '2/255 (2.0 of 255 grey levels)'
    """
    if not budget.even:
        return str(budget)
    number, unit = size(budget, modality)
    if text := typed(budget.eps):
        return text if unit in text else f"{text} ({number} {unit if modality == 'audio' else 'of 255 grey levels'})"
    if modality == "audio":
        return f"{budget.eps:.3g} ({number} {unit})"
    levels = f"{number} of 255 grey levels"
    return f"{budget.eps:.3g} normalised ({levels})" if budget.unit == "normalised" else levels


def budgets(level: Mapping[str, Budget]) -> str:
    """What stands above a table of one set of budgets."""
    parts = [f"{ATTACKED[s].lower()} {at(s, b)}" for s, b in level.items()]
    return f"Perturbation budgets: {'; '.join(parts)}." if parts else ""


def used(budget: Budget, distortion: Mapping[str, float]) -> list[str]:
    """How much of each budget an attack used, in physical units; `distortion` is that of `evaluation.distortion`.

    >>> used(Budget(ModalityBudget(0.01, "linf", "linear")), {"linf_audio": 0.01, "used_audio": 1.0, "snr_db": 20.0, "psnr_db": math.inf})
    ['audio: 100% of linf 0.01 used: −40.0 dBFS at most, 20.0 dB SNR', 'visual: not attacked']
    """
    noise = {"audio": f"{decibel(distortion['snr_db'])} dB SNR", "visual": f"{decibel(distortion['psnr_db'])} dB PSNR"}
    if "mask_db" in distortion:
        noise["audio"] += f", loudest frequency {decibel(distortion['mask_db'])} dB re masking threshold"
    if not math.isnan(similar := distortion.get("ssim", math.nan)):
        noise["visual"] += f", SSIM {similar:.3f}"
    lines = []
    for name, part in (("audio", budget.audio), ("visual", budget.visual)):
        if not part.eps:
            lines.append(f"{name}: not attacked")
            continue
        moved = ModalityBudget(distortion[f"linf_{name}"], "linf", "linear")
        largest = f"{' '.join(size(moved, name))} at most" if moved.eps else "nothing"
        lines.append(f"{name}: {distortion[f'used_{name}']:.0%} of {part} used: {largest}, {noise[name]}")
    return lines


def at(subset: str, budget: Budget) -> str:
    """The budgets of the attacked modalities."""
    parts = {"A": (budget.audio, "audio"), "V": (budget.visual, "visual")}
    return " and ".join(physical(*parts[letter]) for letter in subset)


def interval(e: Estimate) -> str:
    """What stands below a number: its count and its 95 % interval."""
    if not e.n:
        return ""
    seeds = "" if e.seeds == 1 else f" × {e.seeds}"
    return f"of {e.n}{seeds} [{percent(e.low)}, {percent(e.high)}]"


def decibel(value: float) -> str:
    """One decimal, with a real minus sign; a dash for nan.

    >>> decibel(-38.42), decibel(float("inf")), decibel(float("nan"))
    ('−38.4', '∞', '—')
    """
    if math.isnan(value):
        return "—"
    text = "∞" if math.isinf(value) else f"{abs(value):.1f}"
    return f"−{text}" if value < 0 else text


def signed(value: float) -> str:
    """A difference of fractions in points, with its sign.

    >>> signed(0.051), signed(-0.2)
    ('+5.1', '−20.0')
    """
    return f"{100 * value:+.1f}".replace("-", "−")


def listing(items: Sequence[str], last: str = "and") -> str:
    """Items as a phrase.

    >>> listing(["FGSM", "PGD-10", "MIM-10"])
    'FGSM, PGD-10 and MIM-10'
    """
    return f" {last} ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def joined(*parts: object) -> str:
    """The parts that are there, with commas between."""
    return ", ".join(str(p) for p in parts if p)


def named(name: str, value: object) -> str:
    """A value after its name; nothing without a value."""
    return f"{name} {value}" if value else ""


def software(code: Mapping[str, Any]) -> str:
    """Which version of this package made a run."""
    commit = str(code.get("commit") or "")[:10]
    dirty = "with uncommitted changes" if code.get("dirty") else ""
    return joined(named("avrobust", code.get("version")), named("commit", commit), dirty)


def machine(world: Mapping[str, Any]) -> str:
    """The machine that computed a run, and its software."""
    count = world.get("threads")
    threads = f"{count} thread{'s' if count > 1 else ''} a process" if count else ""
    software = named("Python", world.get("python")), named("torch", world.get("torch"))
    tf32 = {True: "TF32 on", False: "TF32 off"}.get(world.get("tf32"))  # type: ignore[arg-type]
    trained = named("training in", world.get("precision"))
    parts = world.get("cpu"), world.get("instructions"), world.get("device"), threads, tf32, trained
    return joined(*parts, *software, world.get("system"))


def anchor(text: str) -> str:
    """Text as the name of a place in a page.

    >>> anchor("An attack left its budget")
    'an-attack-left-its-budget'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
