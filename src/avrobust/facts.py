"""What was done, as facts: typed values that rows carry, so that nothing is read back out of names.  Needs no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

# What most image models normalise colours with; a normalised budget counts in the second.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# How an attack searches: along the model's gradient, by queries alone, or by several searches one after the other.
Kind = Literal["gradient", "queries", "worst case", ""]


@dataclass(frozen=True)
class AttackInfo:
    """The facts of an attack; of one that somebody else wrote nothing is known, and nothing expected.

    `family`: the name in `attacks.ATTACKS`, or "" for a user's own.  `search`: how it searches.  `objective`: what it
    raises, for display; `on_answer`: whether that is what the evaluation counts, which class the model predicts for example.  `source`: the model that its
    clips were crafted on, "" for the attacked model itself.  `variant`: "quantized" for clips that a file can hold,
    "alternating" where modalities move in turn.

    Of clips that went through a channel: `crafted_by`, the display name of the attack that made them ("none" for clean
    clips); `channel`, its display name, "" before any channel; `adaptive`: whether the search knew the channel.
    """

    family: str = ""
    steps: int = 0
    restarts: int = 1
    objective: str = ""
    on_answer: bool = False
    source: str = ""
    variant: str = ""
    crafted_by: str = ""
    channel: str = ""
    adaptive: bool = False
    search: Kind = ""
    strength: float = 0.0

    @property
    def single_step(self) -> bool:
        """Whether it takes one step along the gradient."""
        return self.search == "gradient" and self.steps == 1

    @property
    def climbs(self) -> bool:
        """Whether it is one search along the gradient of the model at hand, after another answer."""
        return self.search == "gradient" and self.on_answer and not self.source

    @property
    def strongest(self) -> bool:
        """Whether it is the worst case over all searches on the model at hand."""
        return self.search == "worst case" and not self.source and not self.variant

    @property
    def plain(self) -> bool:
        """Whether it is its family's own search: the usual objective, on the model at hand, no variant."""
        usual = "margin" if self.search == "queries" else "cross_entropy"
        return bool(self.family) and not (self.source or self.variant) and self.objective in ("", usual)


class Typed(float):
    """A number with the text that somebody typed for it; it equals the plain number.

    >>> two = Typed(2 / 255, "2/255")
    >>> two.text, two == 2 / 255, hash(two) == hash(2 / 255)
    ('2/255', True, True)
    """

    text: str

    def __new__(cls, value: float, text: str = "") -> "Typed":
        made = super().__new__(cls, value)
        made.text = text
        return made

    @classmethod
    def of(cls, value: float, text: str | None) -> float:
        """`value`, with its text if there is one."""
        return cls(value, text) if text else value


def typed(value: float) -> str | None:
    """The text that was typed for a number; None for a number that was computed."""
    return value.text if isinstance(value, Typed) else None


@dataclass(frozen=True, order=True)
class ModalityBudget:
    """The perturbation budget of one modality; without arguments, of a modality that is not attacked.

    `unit` says what `eps` counts in: "linear" (the signal's own unit, full scale 1), "normalised" (ImageNet's standard
    deviation per colour channel), "snr" (the clip's own norm, so `eps` is an amplitude ratio), that of a `limits.Limit`, or the
    weights of a distance of your own.  With the norm "masking", `eps` is an amplitude ratio to a masking threshold.  A budget that was typed is shown as it was typed: `eps` is a `Typed` number then.

    >>> print(ModalityBudget(Typed(2 / 255, "2/255"), "linf", "linear"), "|", ModalityBudget(2 / 255, "linf", "linear"))
    linf 2/255 | linf 0.007843
    >>> print(ModalityBudget(0.006, "linf", "normalised"), "|", ModalityBudget(0.01, "l2", "snr"), "|", ModalityBudget())
    linf 0.006 normalised | 40 dB SNR | untouched
    >>> print(ModalityBudget(0.5, "masking", "masking threshold"), "|", ModalityBudget(2.0, "linf", "delta E"))
    masking threshold -6.021 dB | linf 2 delta E
    """

    eps: float = 0.0
    norm: str = ""
    unit: str = ""

    @property
    def even(self) -> bool:
        """Whether every sample, or pixel, may move by as much as any other, in full scale or normalised."""
        return self.norm == "linf" and self.unit in ("linear", "normalised")

    @property
    def in_time(self) -> bool:
        """Whether it bounds milliseconds of delay or outage, see `timing`, and no sample or pixel."""
        return self.norm in ("delay", "outage")

    def __str__(self) -> str:
        if not self.eps:
            return "untouched"
        if text := typed(self.eps):
            return text if self.unit == "snr" or self.norm == "masking" else f"{self.norm} {text}"
        if self.unit == "snr":
            return f"{0.0 - 20 * math.log10(self.eps):.4g} dB SNR"
        if self.norm == "masking":
            return self.unit + ("" if self.eps == 1 else f" {20 * math.log10(self.eps):+.4g} dB")
        return f"{self.norm} {self.eps:.4g}" + ("" if self.unit == "linear" else f" {self.unit}")


@dataclass(frozen=True, order=True)
class Budget:
    """The perturbation budgets of both modalities.

    >>> budget = Budget(audio=ModalityBudget(0.002, "linf", "linear"))
    >>> print(budget)
    audio linf 0.002, visual untouched
    >>> Budget.of(budget.columns()) == budget
    True
    """

    audio: ModalityBudget = ModalityBudget()
    visual: ModalityBudget = ModalityBudget()

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Budget":
        """From the columns of a row."""
        sizes = {m: Typed.of(row[f"eps_{m}"], row.get(f"typed_{m}")) for m in ("audio", "visual")}
        return cls(*(ModalityBudget(size, row[f"norm_{m}"], row[f"unit_{m}"]) for m, size in sizes.items()))

    @property
    def attacked(self) -> str:
        """The budgets of the attacked modalities, or a dash.

        >>> Budget(audio=ModalityBudget(0.002, "linf", "linear")).attacked, Budget().attacked
        ('audio linf 0.002', '—')
        """
        return ", ".join(f"{m} {b}" for m, b in (("audio", self.audio), ("visual", self.visual)) if b.eps) or "—"

    def columns(self) -> dict[str, Any]:
        """The columns of a row: `norm_audio`, `eps_audio`, `unit_audio`, the same of `visual`; for display `threat`, and what
        was typed for both.
        """
        pairs = (("audio", self.audio), ("visual", self.visual))
        parts = {f"{field}_{m}": getattr(b, field) for m, b in pairs for field in ("norm", "eps", "unit")}
        return {**parts, "threat": str(self), **{f"typed_{m}": typed(b.eps) for m, b in pairs}}

    @property
    def kind(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The norm and unit of each modality: equal for budgets that differ in size only."""
        return (self.audio.norm, self.audio.unit), (self.visual.norm, self.visual.unit)

    def __str__(self) -> str:
        return f"audio {self.audio}, visual {self.visual}"


BUDGET_COLUMNS = tuple(Budget().columns())
# Those that tell two budgets apart: the others are for display.
BUDGET_VALUES = tuple(f"{field}_{m}" for m in ("audio", "visual") for field in ("norm", "eps", "unit"))
