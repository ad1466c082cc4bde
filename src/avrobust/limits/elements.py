"""Where and how much a clip may change, as it follows from the clean clip: a radius for every sample or pixel.

A `Limit` stands as the `scale` of a `threat.Ball`: no element moves by more than `eps` times its radius.  Limits multiply, so
a budget for textures inside a patch is `Texture() * Patch(0.25, 0.25, 0.75, 0.75)`.  A radius of 0 leaves an element alone.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

AUDIO, FRAMES = "b n", "b t 3 h w"


class Limit(ABC):
    """A radius for every element of a clip: a frozen dataclass of what it depends on.

    `unit` is what a budget's `eps` counts in, in words: rows carry it, and it tells two limits apart.  `by_element` is false for
    the one limit that is not of samples or pixels, `PsychoacousticMask`.

    >>> from avrobust import Ball
    >>> class Dark(Limit):
    ...     unit = "in the dark"
    ...     def radii(self, x: Tensor) -> Tensor:
    ...         return (x < 0.1).float()
    >>> x = torch.tensor([[0.05, 0.5]])
    >>> Ball(0.2, scale=Dark(), low=0.0, high=1.0).project(torch.ones(1, 2), x)
    tensor([[0.2000, 0.0000]])
    """

    by_element: ClassVar[bool] = True

    @property
    @abstractmethod
    def unit(self) -> str:
        """What `eps` counts in."""

    @abstractmethod
    def radii(self, x: Tensor) -> Tensor:
        """The radii around the clean clips `x`, not negative, of a shape that multiplies them; each clip's follow from it alone."""

    def check(self, x: Tensor, shape: str) -> None:
        """Raise `ValueError` for signals of the other modality, which have another shape."""
        if x.ndim != len(shape.split()):
            raise ValueError(
                f"{type(self).__name__} limits signals of shape ({shape}), got {tuple(x.shape)}. Give it for the other modality."
            )

    def at_rate(self, rate: int) -> "Limit":
        """The limit of clips of this sampling rate, in Hz."""
        return self

    def __mul__(self, other: "Limit") -> "Limit":
        return Product(self, other)


@dataclass(frozen=True)
class Product(Limit):
    """Two limits, radius times radius."""

    first: Limit
    second: Limit

    def __post_init__(self) -> None:
        if not (self.first.by_element and self.second.by_element):
            raise ValueError(f"expected limits of samples or pixels to multiply, got {self.unit}. Give the mask alone.")

    @property
    def unit(self) -> str:
        """Of both."""
        return f"{self.first.unit}, {self.second.unit}"

    def radii(self, x: Tensor) -> Tensor:
        """The products of the radii."""
        return self.first.radii(x) * self.second.radii(x)


@dataclass(frozen=True)
class Texture(Limit):
    """Larger where a frame has texture, 0 where it is flat: the sigma-map of Croce & Hein (ICCV 2019, section 3).

    The radius of a pixel's channel is sqrt(min(s_x, s_y)): s_x is the standard deviation of the channel over the pixel and its
    left and right neighbours, s_y over those above and below; at the border a pixel stands for the neighbour that lacks.  `eps` is
    the paper's kappa.  Ours differs: the paper multiplies by the pixel's own value, and moves the three channels of a pixel by one
    factor; here a radius does not shrink in the dark, and channels move apart.

    >>> edge = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]).expand(1, 1, 3, 6, 6)
    >>> diagonal = torch.triu(torch.ones(6, 6)).expand(1, 1, 3, 6, 6)
    >>> Texture().radii(edge).max(), Texture().radii(diagonal)[0, 0, 0, 2, :4]
    (tensor(0.), tensor([0.0000, 0.6866, 0.6866, 0.0000]))
    """

    @property
    def unit(self) -> str:
        """Of the paper's kappa."""
        return "texture"

    def radii(self, x: Tensor) -> Tensor:
        """Shaped as `x` (b t 3 h w)."""
        self.check(x, FRAMES)
        along, down = (_spread(x, axis) for axis in (-1, -2))
        return torch.minimum(along, down).sqrt()


def _spread(x: Tensor, axis: int) -> Tensor:
    """The standard deviation over each element and its two neighbours along an axis.

    By differences, which are 0 where all three are equal: a mean would be rounded, and the root of its error seen.
    """
    last = x.shape[axis] - 1
    before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, last)], axis)
    after = torch.cat([x.narrow(axis, min(1, last), last), x.narrow(axis, last, 1)], axis)
    squares = (x - before).square() + (after - x).square() + (after - before).square()
    return squares.sqrt() / 3


@dataclass(frozen=True)
class Window(Limit):
    """A stretch of time: radius 1 from `start` to `stop`, 0 elsewhere; both are shares of the clip's samples or frames.

    >>> Window(0.25, 0.75).radii(torch.zeros(1, 8))
    tensor([[0., 0., 1., 1., 1., 1., 0., 0.]])
    """

    start: float = 0.0
    stop: float = 1.0

    def __post_init__(self) -> None:
        _check(("start", self.start, "stop", self.stop))

    @property
    def unit(self) -> str:
        """Of the signal, in a window."""
        return f"from {self.start:g} to {self.stop:g} of the clip"

    def radii(self, x: Tensor) -> Tensor:
        """Of audio (1 n), of frames (1 t 1 1 1)."""
        return _between(x, 1, self.start, self.stop)


@dataclass(frozen=True)
class Patch(Limit):
    """A part of the frames: radius 1 inside a rectangle, 0 elsewhere; its sides are shares of height and width.

    >>> Patch(0.0, 0.5, 0.5, 1.0).radii(torch.zeros(1, 1, 3, 2, 4))[0, 0, 0]
    tensor([[0., 0., 1., 1.],
            [0., 0., 0., 0.]])
    """

    top: float = 0.0
    left: float = 0.0
    bottom: float = 1.0
    right: float = 1.0

    def __post_init__(self) -> None:
        _check(("top", self.top, "bottom", self.bottom), ("left", self.left, "right", self.right))

    @property
    def unit(self) -> str:
        """Of a pixel, in a patch."""
        return f"in a patch {self.top:g}/{self.left:g} to {self.bottom:g}/{self.right:g}"

    def radii(self, x: Tensor) -> Tensor:
        """Shaped (1 1 1 h w)."""
        self.check(x, FRAMES)
        return _between(x, -2, self.top, self.bottom) * _between(x, -1, self.left, self.right)


def _check(*spans: tuple[str, float, str, float]) -> None:
    for first, low, last, high in spans:
        if not 0 <= low < high <= 1:
            raise ValueError(
                f"expected 0 <= {first} < {last} <= 1, shares of the clip, got {low:g} and {high:g}. Give {first}=0.25, {last}=0.75."
            )


def _between(x: Tensor, axis: int, low: float, high: float) -> Tensor:
    """1 where the middle of an element lies between two shares of an axis, shaped to multiply `x`."""
    count = x.shape[axis]
    middle = [(i + 0.5) / count for i in range(count)]
    shape = [1] * x.ndim
    shape[axis] = count
    return torch.tensor([float(low <= m < high) for m in middle], dtype=x.dtype, device=x.device).view(shape)
