"""Where a search takes its gradients: at copies of the clips that were changed first, and what becomes of the gradient.

A variation changes the clips before the model and averages over copies, as EOT does (Athalye et al. 2018), or smooths the
gradient.  `PGD`, `MIM` and `FGSM` take any of them, one after the other: SI, TI and DI are settings of one loop.  Each is
defined for a waveform as for frames, and changes attacked modalities only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from avrobust import engine
from avrobust.attacks.search import ActiveSet
from avrobust.config import check_choices
from avrobust.objectives import Objective
from avrobust.seeds import Seeds
from avrobust.types import AV, NAMES, Signals


@dataclass(frozen=True)
class Variation:
    """Gradients averaged over `copies` of the clips as they are: of a random model, those of an expectation (EOT).

    The base of variations: one changes `signals`, or the `gradient`, or both.  `code` is what names and rows call it.
    """

    copies: int = field(default=1, kw_only=True)

    code: ClassVar[str] = "EOT"

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ValueError(f"copies should be 1 or more, got {self.copies}. Give 1 for a single gradient.")

    def signals(self, s: Tensor, name: str, seeds: Seeds, step: int, copy: int) -> Tensor:
        """What the model sees of one modality, `name`, shaped as `s`: differentiable, each clip by itself."""
        return s

    def gradient(self, g: Tensor) -> Tensor:
        """What becomes of the mean gradient of one modality, (b n) or (b t 3 h w)."""
        return g


@dataclass(frozen=True)
class Scaled(Variation):
    """SI (Lin et al. 2020, section 3.2): copy i is the signal divided by 2^i, a darker picture and quieter audio.

    >>> Scaled().signals(torch.ones(1, 2), "audio", Seeds(0, ("a",)), step=0, copy=2)
    tensor([[0.2500, 0.2500]])
    """

    copies: int = 5

    code: ClassVar[str] = "SI"

    def signals(self, s: Tensor, name: str, seeds: Seeds, step: int, copy: int) -> Tensor:
        """The signal at one scale."""
        return s * 0.5**copy


@dataclass(frozen=True)
class Diverse(Variation):
    """DI (Xie et al. 2019): with `probability`, a smaller copy at a random place, and nothing around it.

    Frames shrink to between `smallest` and all of their size, all frames of a clip alike, with black around.  Audio is, by
    `of_audio`: "resampled", played faster at a random place in silence, the same in one dimension; or "gain", quieter by as
    much.  The paper knows pictures only; both are our readings.
    """

    probability: float = 0.5
    smallest: float = 0.9
    of_audio: Literal["resampled", "gain"] = "resampled"

    code: ClassVar[str] = "DI"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self)
        if not (0 <= self.probability <= 1 and 0 < self.smallest <= 1):
            raise ValueError(
                f"expected a probability in [0, 1] and a smallest size in (0, 1], got {self.probability} and {self.smallest}."
            )

    def signals(self, s: Tensor, name: str, seeds: Seeds, step: int, copy: int) -> Tensor:
        """The signal, of some clips smaller."""
        drawn = _drawn(s, (4,), seeds, "diverse", name, step, copy)
        size = torch.where(drawn[:, 0] < self.probability, self.smallest + (1 - self.smallest) * drawn[:, 1], 1.0)
        if name == "audio" and self.of_audio == "gain":
            return s * size[:, None]
        # Where the smaller copy's centre lies, in the coordinates of `grid_sample`, whose ends are -1 and 1.
        centre = (1 - size)[:, None] * (2 * drawn[:, 2:] - 1)
        theta = s.new_zeros(len(s), 2, 3)
        theta[:, 0, 0], theta[:, 0, 2] = 1 / size, -centre[:, 0] / size
        theta[:, 1, 1], theta[:, 1, 2] = (1 / size, -centre[:, 1] / size) if name == "visual" else (1.0, 0.0)
        flat = s[:, None, None] if name == "audio" else s.flatten(1, 2)
        grid = F.affine_grid(theta, list(flat.shape), align_corners=False)
        moved = F.grid_sample(flat, grid, align_corners=False).view_as(s)
        return torch.where(engine.per_clip(size < 1, s), moved, s)


@dataclass(frozen=True)
class Translated(Variation):
    """TI (Dong et al. 2019, eq. 8): the gradient convolved with a `kernel`, which stands for the mean over shifts.

    `size` are the numbers of shifts: of pixels in both directions, and of samples, so audio is shifted in time.  Gaussians
    end at three standard deviations.
    """

    size: AV[int] = AV(audio=15, visual=15)  # noqa: RUF009, frozen
    kernel: Literal["gaussian", "uniform", "linear"] = "gaussian"

    code: ClassVar[str] = "TI"

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(size < 1 or size % 2 == 0 for size in self.size):
            raise ValueError(f"expected kernels of odd sizes, got {self.size}. Give 15, for example.")
        check_choices(self)

    def gradient(self, g: Tensor) -> Tensor:
        """The smoothed gradient."""
        if g.ndim == 2:
            return _along(g[:, None, None], self._weights(self.size.audio).to(g), rows=False)[:, 0, 0]
        weights = self._weights(self.size.visual).to(g)
        maps = g.flatten(0, 2)[:, None]
        return _along(_along(maps, weights, rows=True), weights, rows=False).view_as(g)

    def _weights(self, size: int) -> Tensor:
        at = torch.linspace(-1, 1, size) if size > 1 else torch.zeros(1)
        if self.kernel == "gaussian":
            weights = (-0.5 * (3 * at).square()).exp()
        elif self.kernel == "linear":
            weights = 1 - at.abs() * (size - 1) / (size + 1)
        else:
            weights = torch.ones(size)
        return weights / weights.sum()


Change = Literal["scale", "mask", "blur", "mix"]


@dataclass(frozen=True)
class Consecutive(Variation):
    """Each frame, and each of as many `segments` of the audio, is changed by one of `changes`, drawn for itself.

    "scale": multiplied by a number from 0.5 to 1; "mask": a quarter of the frame, or half of the segment, is 0; "blur": the
    mean over 3 x 3 pixels, or 3 samples; "mix": up to half of the next frame or segment is mixed in.
    """

    changes: tuple[Change, ...] = get_args(Change)
    segments: int = 4

    code: ClassVar[str] = "consecutive"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segments < 1 or not self.changes or not set(self.changes) <= set(get_args(Change)):
            raise ValueError(
                f"expected some of {', '.join(get_args(Change))} and one segment or more, got {self.changes} and {self.segments}."
            )

    def signals(self, s: Tensor, name: str, seeds: Seeds, step: int, copy: int) -> Tensor:
        """The signal, each segment changed."""
        if name == "audio":
            length = -(-s.shape[1] // self.segments)
            parts = F.pad(s, (0, length * self.segments - s.shape[1])).view(len(s), self.segments, 1, 1, length)
        else:
            parts = s
        draws = _drawn(s, (parts.shape[1], 4), seeds, "consecutive", name, step, copy)
        which = (draws[..., 0] * len(self.changes)).long().clamp_max(len(self.changes) - 1)
        out = parts
        for k, change in enumerate(self.changes):
            strength, *place = (draws[..., j].view(*draws.shape[:2], 1, 1, 1) for j in (1, 2, 3))
            chosen = (which == k).view_as(strength)
            out = torch.where(chosen, _changed(change, parts, strength, place), out)
        return out.reshape(len(s), -1)[:, : s.shape[1]] if name == "audio" else out


def _changed(change: Change, parts: Tensor, strength: Tensor, place: Sequence[Tensor]) -> Tensor:
    """All segments (b s c h w) after one change; `strength` and `place` are drawn from [0, 1)."""
    if change == "scale":
        return parts * (0.5 + 0.5 * strength)
    if change == "mix":
        following = torch.cat([parts[:, 1:], parts[:, -1:]], 1)
        return parts + 0.5 * strength * (following - parts)
    if change == "blur":
        window = (3 if parts.shape[-2] > 1 else 1, 3)
        padding = (window[0] // 2, 1)
        blurred = F.avg_pool2d(parts.flatten(0, 1), window, 1, padding, count_include_pad=False)
        return blurred.view_as(parts)
    covered = torch.ones((), dtype=torch.bool, device=parts.device)
    for axis, start in zip((-2, -1), place, strict=True):
        if (size := parts.shape[axis]) > 1:
            at = (torch.arange(size, device=parts.device) + 0.5) / size
            at = at.view(-1, 1) if axis == -2 else at
            covered = covered & (at >= start / 2) & (at < start / 2 + 0.5)
    return parts.masked_fill(covered, 0.0)


def _drawn(s: Tensor, shape: tuple[int, ...], seeds: Seeds, *purpose: object) -> Tensor:
    """Numbers in [0, 1), `shape` of them for each clip of `s`."""
    return (seeds.uniform(s.new_empty(len(s), *shape), *purpose) + 1) / 2


def _along(maps: Tensor, weights: Tensor, *, rows: bool) -> Tensor:
    """Maps (b 1 h w) convolved along their columns or rows, with 0 around."""
    kernel = weights.view(1, 1, -1, 1) if rows else weights.view(1, 1, 1, -1)
    half = len(weights) // 2
    return F.conv2d(maps, kernel, padding=(half, 0) if rows else (0, half))


def varied_gradient(
    active: ActiveSet, objective: Objective, delta: Signals, variations: Sequence[Variation], step: int
) -> Signals:
    """The gradient at x + delta through all `variations`: the mean over all pairs of their copies."""
    attacked, grads = active.threat.map(lambda ball: ball.active), []
    for copies in product(*(range(v.copies) for v in variations)):

        def changed(x: Signals, seeds: Seeds, copies: tuple[int, ...] = copies) -> Signals:
            for variation, copy in zip(variations, copies, strict=True):
                x = x.map(partial(_seen, variation, seeds, step, copy), attacked, NAMES)
            return x

        there = replace(active, victim=_Varied(active.victim, changed, active.seeds))
        value, grad, _ = there.value_and_grad(objective, delta)
        engine.check_sound(value, grad, active.seeds.ids)
        grads.append(grad)
    mean = grads[0].map(lambda *every: sum(every) / len(every), *grads[1:])
    for variation in variations:
        mean = mean.map(lambda g, on, v=variation: v.gradient(g) if on else g, attacked)
    return mean


def _seen(variation: Variation, seeds: Seeds, step: int, copy: int, s: Tensor, attacked: bool, name: str) -> Tensor:
    return variation.signals(s, name, seeds, step, copy) if attacked else s


@dataclass(frozen=True)
class _Varied(engine.Around):
    """A victim that is given clips after a differentiable change, which draws by clip."""

    change: Callable[[Signals, Seeds], Signals]
    seeds: Seeds

    def inside(self, x: Signals) -> Signals:
        return self.change(x, self.seeds)

    def subset(self, clips: Any) -> "_Varied":
        return replace(self, victim=self.victim.subset(clips), seeds=self.seeds.subset(clips))
