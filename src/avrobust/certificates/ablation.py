"""Ablation: a vote over copies of which few elements of each stream are left; certified numbers of changed elements."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from avrobust.attacks.base import check_settings
from avrobust.certificates.base import Certificate, Draws
from avrobust.corruptions.missing import EMPTY
from avrobust.types import AV, Signals


@dataclass(frozen=True)
class Ablation(Certificate):
    """Each copy keeps `kept_audio` of `segments` equal stretches of the audio and `kept_visual` of `grid` x `grid` patches.

    A patch is the same place in all frames.  The others are silent and mid-grey.  Which elements are kept is drawn for each
    modality by itself, all choices equally likely (MMCert: Wang et al., CVPR 2024, arXiv 2403.19080).  None keeps all
    elements, and certifies nothing about perturbations of that modality.

    What is certified, with our derivation.  An adversary changes r_a segments and r_v patches as it likes.  Choose the same
    elements of the clip and of its adversary.  Where none of the changed ones is among them, which happens with probability

        e = C(n_a - r_a, k_a) / C(n_a, k_a)  x  C(n_v - r_v, k_v) / C(n_v, k_v),

    both copies are the same input, and get the same class.  So no probability of a class changes by more than 1 - e.  With
    p or more for the chosen class and q or less for any other, it still leads if p - (1 - e) > q + (1 - e), that is if
    1 - e < (p - q) / 2: `distance` is 1 - e, and `reach` (p - q) / 2.  By the lemma of Neyman and Pearson this is tight
    without further knowledge of the model: of the copies of the clip that would be changed, a share 1 - e, all may be of the
    chosen class, and all that replace them of the other; their likelihood ratios are 0 and infinity, and 1 for the rest.
    The paper also rounds p and q to multiples of one copy's probability, which would gain less than 1e-12 here.

    >>> certificate = Ablation(segments=4, kept_audio=1, grid=2, kept_visual=1)
    >>> certificate.distance(audio=1), certificate.distance(visual=1), certificate.distance(audio=1, visual=1)
    (0.25, 0.25, 0.4375)
    >>> certificate.reach(0.9, 0.1), certificate.alone(0.4), Ablation(kept_audio=None).distance(audio=1)
    (0.4, AV(audio=1, visual=1), 1.0)
    """

    segments: int = 32
    kept_audio: int | None = 8
    grid: int = 8
    kept_visual: int | None = 16

    axis: ClassVar[str] = "share of copies that show a change"
    unit: ClassVar[str] = "elements"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(segments=(self.segments, 1), grid=(self.grid, 1))
        for name, kept, every in zip(("kept_audio", "kept_visual"), self._kept, self._elements, strict=True):
            if not 1 <= kept <= every:
                raise ValueError(f"{name} should be between 1 and {every}, got {kept}. Give None to keep all of them.")
        if self.subset == "":
            raise ValueError("expected a modality of which few elements are kept, got all of both. Give kept_audio=8.")

    @property
    def name(self) -> str:
        """Display name."""
        parts = (
            f"{name} {kept} of {every}"
            for name, kept, every in zip(("audio", "visual"), self._kept, self._elements, strict=True)
            if kept < every
        )
        return f"{type(self).__name__}, {', '.join(parts)}" + (", runner-up" if self.others == "runner-up" else "")

    @property
    def subset(self) -> str:
        """The modalities of which elements are left out."""
        left_out = self._kept.map(lambda kept, every: kept < every, self._elements)
        return "A" * int(left_out.audio) + "V" * int(left_out.visual)

    @property
    def _elements(self) -> AV[int]:
        return AV(self.segments, self.grid**2)

    @property
    def _kept(self) -> AV[int]:
        return AV(self.kept_audio, self.kept_visual).map(
            lambda kept, every: every if kept is None else kept, self._elements
        )

    def copies(self, clip: Signals, count: int, draws: Draws) -> Signals:
        """The clip with most elements left out, `count` times."""

        def ablated(s: Tensor, at: Tensor, kept: int, every: int, empty: float, draw: np.random.Generator) -> Tensor:
            if kept == every:
                return s.repeat(count, *[1] * (s.ndim - 1))
            order = draw.random((count, every)).argsort(1)
            # The first places of a random order: all choices are equally likely.
            shown = torch.from_numpy(order < kept).to(s.device)[:, at]
            shown = shown.view(count, *[1] * (s.ndim - shown.ndim), *at.shape)
            return torch.where(shown, s, s.new_tensor(empty))

        return clip.map(ablated, self.places(clip), self._kept, self._elements, EMPTY, draws)

    def places(self, x: Signals) -> AV[Int[Tensor, "..."]]:
        """The element that each sample (n) and each pixel (h w) belongs to.

        Raises `ValueError` for clips of fewer samples, or frames of fewer pixels a side, than there are elements.
        """
        n, (h, w) = x.audio.shape[1], x.visual.shape[-2:]
        if n < self.segments or min(h, w) < self.grid:
            raise ValueError(
                f"expected clips of at least {self.segments} samples and {self.grid} pixels a side, got {n} samples and "
                f"{h} x {w} pixels. Give fewer segments, or a coarser grid."
            )
        samples, rows, columns = (
            torch.arange(size, device=x.audio.device) * parts // size
            for size, parts in ((n, self.segments), (h, self.grid), (w, self.grid))
        )
        return AV(samples, rows[:, None] * self.grid + columns)

    def distance(self, audio: float = 0.0, visual: float = 0.0) -> float:
        """The probability that a copy shows one of so many changed segments or patches."""
        clean = 1.0
        for changed, kept, every in zip((audio, visual), self._kept, self._elements, strict=True):
            left = every - math.ceil(changed)
            clean *= math.comb(left, kept) / math.comb(every, kept) if left >= 0 else 0.0
        return 1 - clean

    def reach(self, low: float, high: float) -> float:
        """Half of the lead."""
        return (low - high) / 2

    def alone(self, reach: float) -> AV[float]:
        """The most segments, and the most patches, that may be changed."""
        most = [
            max((r for r in range(every + 1) if self.distance(**{name: r}) < reach), default=0)
            for name, every in self._elements.items()
        ]
        return AV(*most)

    def sizes(self, x: Signals, adversarial: Signals) -> AV[list[float]]:
        """How many segments and patches differ."""

        def counted(s: Tensor, a: Tensor, at: Tensor, every: int) -> list[float]:
            differ: Bool[Tensor, "b p"] = (s != a).reshape(len(s), -1, at.numel()).any(1)
            hit = torch.zeros(len(s), every, dtype=torch.bool, device=s.device)
            for i, clip in enumerate(differ):
                hit[i, at.flatten()[clip]] = True
            return hit.sum(1).tolist()

        return x.map(counted, adversarial, self.places(x), self._elements)
