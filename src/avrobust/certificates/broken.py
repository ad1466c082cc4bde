"""Certificates that are broken on purpose, to test an evaluation: each claims more than holds."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from avrobust.certificates.base import Draws
from avrobust.certificates.gaussian import Gaussian
from avrobust.types import AV, Signals


@dataclass(frozen=True)
class BrokenCertificate(Gaussian):
    """Smoothing by a Gaussian, broken as `how` says.

    "estimate": the share of votes is taken for the probability itself, so that votes that are all alike certify anything.
    "fixed": every vote is cast on the same noise, so that the model that answers is not the one that is certified.
    """

    how: Literal["estimate", "fixed"] = "estimate"

    @property
    def name(self) -> str:
        """Display name."""
        return f"{super().name}, {self.how}"

    def bounds(self, counts: np.ndarray, chosen: int) -> tuple[float, float]:
        """As Clopper and Pearson have it, or the share of votes."""
        if self.how != "estimate":
            return super().bounds(counts, chosen)
        share = float(counts[chosen] / counts.sum())
        return share, 1 - share

    def copies(self, clip: Signals, count: int, draws: Draws) -> Signals:
        """The clip plus noise; with "fixed", the same noise each time."""
        if self.how != "fixed":
            return super().copies(clip, count, draws)
        once = super().copies(clip, 1, AV(*map(np.random.default_rng, (0, 1))))
        return once.map(lambda s: s.repeat(count, *[1] * (s.ndim - 1)))
