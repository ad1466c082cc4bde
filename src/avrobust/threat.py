"""What an attacker may do, in physical units: geometry only, no search, no goal.

A `Ball` is one modality's budget around the clean signal, together with the signal's own range.  A `Threat`
is a ball per modality.  Budgets may be given in the units of the field:

    0.006             the signal's own units: full scale is 1 for audio, 1 for a pixel
    "2/255"           a fraction: grey levels of an 8-bit frame
    "-44.4 dBFS"      a peak level relative to full scale
    "40 dB SNR"       an L2 budget relative to the clip's own energy
    "0.006 normalised"  per channel, in units of ImageNet's standard deviation: the space of the paper's code
    "masking threshold"  of audio: below what the clip masks, see `limits.PsychoacousticMask`; "masking threshold -6 dB"
    "0.5 texture", "2 delta E"  of frames: where the clean frame has texture, or by colour difference, see `limits`
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avrobust.facts import IMAGENET_STD, Budget, ModalityBudget, typed
from avrobust.limits import Limit, PsychoacousticMask
from avrobust.seeds import Seeds
from avrobust.types import AV, RANGE, PerClip, Signals, doubles
from avrobust.units import LINEAR, Norm, Scale, number, scaled, size

NORMS: tuple[Norm, ...] = ("linf", "l2", "masking")
# x + delta is rounded to float32; near full scale that moves a value by half of 2**-23.
ROUNDING = 1e-7
# A perturbation this many times as strong as the signal, in dB SNR, is a sign that was forgotten.
LOUDEST = 10.0


@dataclass(frozen=True)
class Ball:
    """One modality's budget: all signals within `eps` of the clean one, and inside [`low`, `high`].

    Distance is the `norm` of (delta / scale).  `scale` is 1, one weight per colour channel, or "signal": the
    clip's own norm, which makes `eps` an amplitude ratio (a budget in dB SNR).  Or it is a `limits.Limit`: a radius for each
    element, as it follows from the clean clip; `limits.PsychoacousticMask` has one for each bin of the spectrum, and makes the
    norm "masking".  `eps` 0 leaves the modality alone, bit for bit.

    >>> ball = Ball(0.1, low=-1.0, high=1.0)
    >>> x = torch.tensor([[0.0, 0.95]])
    >>> ball.project(torch.tensor([[0.5, 0.5]]), x)
    tensor([[0.1000, 0.0500]])
    """

    eps: float
    norm: Norm = "linf"
    scale: Scale = LINEAR
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", number(self.eps))
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise ValueError(
                f"a budget should be a finite number that is not negative, got {self.eps}. Use 0 to leave a modality alone."
            )
        # Where nothing moves, no scale is asked of the clips.
        if not self.active and (self.scale == "signal" or isinstance(self.scale, Limit)):
            object.__setattr__(self, "scale", LINEAR)
            object.__setattr__(self, "norm", "linf")
        elif self.masks:
            object.__setattr__(self, "norm", "masking")
        elif not isinstance(self.scale, Limit) and (not isinstance(self.scale, str) or self.scale != "signal"):
            object.__setattr__(self, "scale", weights(self.scale))
        if not self.low < self.high:
            raise ValueError(
                f"a signal's range should go up, got [{self.low:g}, {self.high:g}]. Exchange low and high."
            )
        if self.norm not in NORMS or (self.norm == "masking" and not self.masks):
            raise ValueError(
                f"norm should be 'linf' or 'l2', got {self.norm!r}. For a masking threshold, give scale=PsychoacousticMask(rate)."
            )
        if self.scale == "signal":
            if self.eps > LOUDEST:
                raise ValueError(
                    f"a perturbation should not be {self.eps:.3g} times as strong as the signal itself, which is "
                    f"{-20 * math.log10(self.eps):.4g} dB SNR. Write '{20 * math.log10(self.eps):.4g} dB SNR'?"
                )
        elif isinstance(self.scale, Limit):
            return  # whatever its radii are, the range bounds them
        elif self.norm == "linf" and self.eps * max(self.scale) > (self.high - self.low) * (1 + 1e-9):
            moved = (
                "" if self.scale == (1.0,) else f" normalised, which moves a pixel by {self.eps * max(self.scale):.3g}"
            )
            asked, unit = f"{self.eps:g}{moved}", "255" if self.low == 0 else "32768"
            advice = f"Write '{self.eps:g}/{unit}'?"
            if "/" in (fraction := typed(self.eps) or ""):
                asked, advice = fraction, f"Give at most {self.high - self.low:g}."
            raise ValueError(
                f"a linf budget should fit into the signal's range [{self.low:g}, {self.high:g}], got {asked}. {advice}"
            )

    @property
    def active(self) -> bool:
        """Whether the attacker may touch this modality at all."""
        return self.eps > 0

    @property
    def masks(self) -> bool:
        """Whether it bounds the spectrum."""
        return isinstance(self.scale, PsychoacousticMask)

    @property
    def unit(self) -> str:
        """What `eps` counts in: see `facts.ModalityBudget`."""
        if isinstance(self.scale, Limit):
            return self.scale.unit
        known = {"signal": "snr", LINEAR: "linear", IMAGENET_STD: "normalised"}
        return known.get(self.scale) or f"weighted by {'/'.join(f'{w:g}' for w in self.scale)}"

    @property
    def budget(self) -> ModalityBudget:
        """The budget as plain values; equal for all balls that leave the modality alone."""
        return ModalityBudget(self.eps, self.norm, self.unit) if self.active else ModalityBudget()

    def scaled(self, share: float) -> "Ball":
        """The ball of a share of this budget."""
        return replace(self, eps=scaled(self.eps, share))

    def at_rate(self, rate: int) -> "Ball":
        """The ball of clips of this sampling rate, in Hz."""
        return replace(self, scale=self.scale.at_rate(rate)) if isinstance(self.scale, Limit) else self

    def weight(self, x: Tensor) -> Tensor:
        """The scale, shaped to multiply `x`; of a mask, its threshold (b f k)."""
        if isinstance(self.scale, Limit):
            return self.scale.radii(x)
        if self.scale == "signal":
            return _norm(x, self.norm)  # 0 of silence, which then stays silent
        # Filled on the device: a copy of numbers from here would make a GPU wait, in each step of a search.
        w = torch.cat([x.new_full((1,), each) for each in self.scale])
        return w if len(self.scale) == 1 else w.view(-1, 1, 1)

    def ascent(self, grad: Tensor, x: Tensor) -> Tensor:
        """The move of full budget that raises a loss with this gradient most, to first order; 0 where it is 0.

        Below a masking threshold the best move is not known: each bin moves by its limit in the gradient's phase.  Windows overlap,
        so this move is larger than the budget, until it is projected.
        """
        w = self.weight(x)
        if isinstance(self.scale, PsychoacousticMask):
            return self.scale.move(grad, w * self.eps)
        if self.norm == "linf" or not grad.numel():
            return grad.sign() * (w * self.eps)
        g = grad * w
        g = g / _norm(g, "linf").clamp_min(torch.finfo(g.dtype).tiny)  # squares of small numbers would be 0
        return g / _norm(g, "l2").clamp_min(torch.finfo(g.dtype).tiny) * (w * self.eps)

    def project(self, delta: Tensor, x: Tensor) -> Tensor:
        """An allowed perturbation of the clean `x` near `delta`, in linf the nearest: inside the budget, `x + delta` inside the range.

        Below a masking threshold an allowed one that is near: see `PsychoacousticMask.project`.
        """
        limit = self.weight(x) * self.eps
        if isinstance(self.scale, PsychoacousticMask):
            delta = self.scale.project(delta, x, limit, self.low, self.high)
        elif self.norm == "linf":
            delta = delta.clamp(-limit, limit)
        else:
            if isinstance(self.scale, Limit):
                delta = delta * (limit > 0)
            delta = delta * (self.eps / self.size(delta, x).clamp_min(1e-30)).clamp_max(1).view(-1, *[1] * (x.ndim - 1))
        # Clamping towards a box that holds x only shortens delta, so the budget still holds afterwards.
        return (x + delta).clamp_(self.low, self.high).sub_(x)

    def random(self, x: Tensor, seeds: Seeds, *purpose: object) -> Tensor:
        """A start inside the ball: uniform in the cube (linf), uniform in radius and direction (l2, masking)."""
        if self.norm == "linf":
            delta = seeds.uniform(x, *purpose) * (self.weight(x) * self.eps)
        else:
            radius = (seeds.uniform(x.flatten(1)[:, :1], *purpose, "radius") + 1) / 2
            direction = self.ascent(seeds.normal(x, *purpose), x)
            delta = direction * radius.view(-1, *[1] * (x.ndim - 1))
        return self.project(delta, x)

    def for_clips(self, clips: Any) -> "Ball":
        """The ball of some of the clips: this one, unless each clip has its own."""
        return self

    def size(self, delta: Tensor, x: Tensor) -> PerClip:
        """How far `delta` goes, per clip, in the units of `eps`."""
        w = self.weight(x)
        if isinstance(self.scale, PsychoacousticMask):
            delta = self.scale.spectrum(delta).abs()
        return _norm(delta / w.clamp_min(1e-30), self.norm).flatten()

    def distance(self, adversarial: Tensor, x: Tensor) -> NDArray[np.float64]:
        """How far `adversarial` lies from the clean `x`, per clip, in the units of `eps`, in double precision."""
        return distances(adversarial, x, self)[0]

    def slack(self, x: Tensor) -> NDArray[np.float64]:
        """What rounding x + delta to float32 can add to the distance, per clip; 0 where the distance leaves it out."""
        if isinstance(self.scale, Limit):
            return np.zeros(len(x))
        rounding = np.broadcast_to(ROUNDING, x.shape[1:])
        if self.scale != "signal":  # the same for all clips
            return np.full(len(x), self._length(rounding, rounding))
        return np.array([self._length(rounding, doubles(s)) for s in x.detach().cpu()], dtype=np.float64)

    def allowed(self, x: Tensor) -> NDArray[np.float64]:
        """The largest distance that counts as inside, per clip."""
        return self.eps * (1 + 1e-5) + self.slack(x)

    def used(self, size: NDArray[np.float64], x: Tensor) -> NDArray[np.float64]:
        """The share of the budget that a `distance` from the clean `x` used, per clip; 1 where rounding alone goes beyond it."""
        shares: NDArray[np.float64] = np.where(size <= self.allowed(x), np.minimum(size, self.eps), size) / self.eps
        return shares

    def _length(self, delta: NDArray[np.float64], clean: NDArray[np.float64]) -> float:
        """Of one clip.  Where radii are small, rounding is taken off each element: as a share of a radius it would be anything."""
        if isinstance(self.scale, PsychoacousticMask):
            return self.scale.length(delta, clean, self.eps)
        norm = (lambda d: np.abs(d).max(initial=0.0)) if self.norm == "linf" else np.linalg.norm
        if self.scale == "signal":
            return float(norm(delta.ravel()) / max(norm(clean.ravel()), 1e-12))
        if isinstance(self.scale, Limit):
            radii = doubles(self.scale.radii(torch.from_numpy(clean.astype(np.float32))[None]))[0]
            return float(norm((np.maximum(np.abs(delta) - ROUNDING, 0) / np.maximum(radii, 1e-30)).ravel()))
        scale = np.array(self.scale).reshape((-1, 1, 1) if len(self.scale) > 1 else ())
        return float(norm((delta / scale).ravel()))

    def __str__(self) -> str:
        return str(self.budget)


class Threat(AV[Ball]):
    """What an attacker may do to a clip: one `Ball` per modality.

    >>> threat = Threat.linf(audio="-44.4 dBFS", visual="2/255")
    >>> str(threat)
    'audio linf -44.4 dBFS, visual linf 2/255'
    >>> threat.subset, threat.only("A").subset
    ('AV', 'A')
    """

    __slots__ = ()

    def __init__(self, audio: Any, visual: Any) -> None:
        """Of balls that were made by hand: cut to the range of signals, where no budget is larger."""
        super().__init__(*AV(audio, visual).map(_inside, RANGE))

    @classmethod
    def linf(cls, audio: Any = 0.0, visual: Any = 0.0) -> "Threat":
        """No sample and no pixel moves by more than its budget: any number (NumPy's and torch's too), or a text.

        Raises `ValueError` for what is no number, and for a budget larger than the signal's own range.
        """
        return cls._read("linf", audio, visual)

    @classmethod
    def l2(cls, audio: Any = 0.0, visual: Any = 0.0) -> "Threat":
        """The Euclidean length of each modality's perturbation is bounded."""
        return cls._read("l2", audio, visual)

    @classmethod
    def _read(cls, norm: Norm, audio: Any, visual: Any) -> "Threat":
        sizes = AV(audio=size(audio, norm, pixels=False), visual=size(visual, norm, pixels=True))
        return cls(*sizes.map(lambda s, bounds: Ball(s.eps, norm, s.scale, *bounds), RANGE))

    @property
    def budget(self) -> Budget:
        """The budgets of both modalities as plain values, which rows and records carry."""
        return Budget(*self.map(lambda ball: ball.budget))

    @property
    def subset(self) -> str:
        """Which modalities the attacker may touch: "A", "V", "AV", or "clean"."""
        return ("A" if self.audio.active else "") + ("V" if self.visual.active else "") or "clean"

    def only(self, subset: str) -> "Threat":
        """The same budgets, on some of the modalities: "A", "V" or "AV"."""
        if subset not in ("A", "V", "AV"):
            raise ValueError(f"a subset should be 'A', 'V' or 'AV', got {subset!r}.")
        keep = AV(audio="A" in subset, visual="V" in subset)
        return Threat(*self.map(lambda ball, kept: ball if kept else replace(ball, eps=0.0), keep))

    def subsets(self) -> tuple["Threat", ...]:
        """This threat on audio alone, on visual alone and on both, as far as it has budgets for them."""
        wanted = ("A", "V", "AV") if self.subset == "AV" else (self.subset,)
        return tuple(self.only(s) for s in wanted if s != "clean")

    def at_rate(self, rate: int) -> "Threat":
        """The same budgets for clips of this sampling rate in Hz, which masking thresholds and milliseconds depend on."""
        return Threat(self.audio.at_rate(rate), self.visual)

    def attacked(self, x: Signals) -> Signals:
        """What may change of the signals: all of an attacked modality, and no numbers of the other, (b 0 ...).

        >>> Threat.linf(audio=0.1).attacked(AV(torch.zeros(2, 8), torch.zeros(2, 1, 3, 4, 4))).map(lambda s: tuple(s.shape))
        AV(audio=(2, 8), visual=(2, 0, 3, 4, 4))
        """
        return self.map(lambda ball, s: s if ball.active else s[:, :0], x)

    def replaced(self, x: AV[Any], by: AV[Any]) -> AV[Any]:
        """`x` with its attacked modalities from `by`.

        >>> Threat.linf(audio=0.1).replaced(AV("clean audio", "clean frames"), by=AV("noise", "noise"))
        AV(audio='noise', visual='clean frames')
        """
        return self.map(lambda ball, s, other: other if ball.active else s, x, by)

    def for_clips(self, clips: Any) -> "Threat":
        """What may be done to some of the clips, by any index of them."""
        return Threat(*self.map(lambda ball: ball.for_clips(clips)))

    def __str__(self) -> str:
        return str(self.budget)


def distances(adversarial: Tensor, x: Tensor, *balls: Ball) -> list[NDArray[np.float64]]:
    """`Ball.distance` of several balls, in one pass over the clips.

    >>> x = torch.zeros(1, 4)
    >>> distances(x + 0.5, x, Ball(1.0, "linf"), Ball(1.0, "l2"))
    [array([0.5]), array([1.])]
    """
    if adversarial.device == x.device and torch.equal(adversarial, x):  # an unattacked modality, mostly
        return [np.zeros(len(x)) for _ in balls]
    found = np.empty((len(balls), len(x)))
    # Clip by clip: doubles of a whole batch would not fit into a processor's cache.  From a GPU in one copy.
    for i, (a, s) in enumerate(zip(adversarial.detach().cpu(), x.detach().cpu(), strict=True)):
        clean = doubles(s)
        delta = doubles(a) - clean
        found[:, i] = [ball._length(delta, clean) for ball in balls]
    return list(found)


def weights(scale: Any) -> tuple[float, ...]:
    """The weights of a distance, whatever they come in.

    >>> weights(2), weights(np.array([1, 2, 3]))
    ((2.0,), (1.0, 2.0, 3.0))
    """
    try:
        each = tuple(float(w) for w in np.atleast_1d(scale))
    except (TypeError, ValueError):
        each = ()
    if len(each) not in (1, 3) or not all(math.isfinite(w) and w > 0 for w in each):
        raise ValueError(
            f"scale should be a weight above 0, one per colour channel, 'signal', or a Limit, got {scale!r}."
        )
    return each


def _inside(ball: Any, bounds: tuple[float, float]) -> Ball:
    low, high = bounds
    if not isinstance(ball, Ball):
        raise ValueError(
            f"a Threat should hold a Ball for each modality, got {ball!r}. Use Threat.linf(audio=0.002, visual='4/255')."
        )
    if low <= ball.low and ball.high <= high:
        return ball
    return replace(ball, low=max(ball.low, low), high=min(ball.high, high))


def _norm(x: Tensor, norm: Norm) -> Tensor:
    """Per clip, shaped (b 1 ... 1)."""
    flat = x.flatten(1)
    value = flat.norm(dim=1) if norm == "l2" else flat.abs().amax(1)
    return value.view(-1, *[1] * (x.ndim - 1))
