"""Colour: CIELAB, how fast it moves with a pixel's channels, and radii of one colour difference."""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from avrobust.limits.elements import FRAMES, Limit

# From linear RGB (sRGB's primaries) to XYZ relative to the white point D65 (IEC 61966-2-1), row by row.
_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
_WHITE = tuple(map(sum, _XYZ))
_LINEAR, _DARK = 0.04045, (6 / 29) ** 3  # below, sRGB's curve and CIELAB's are straight


@dataclass(frozen=True)
class DeltaE(Limit):
    """Radii of one colour difference: no pixel's colour moves by more than `eps` in CIELAB (CIE 1976), to first order.

    A channel's radius is inverse to how fast the colour moves with it, so blue has more room than green, and all corners of a
    pixel's box lie within the difference; where pixels are dark, up to 1.2 times a difference of 2 was measured.  About 2.3 are just noticeable (Sharma 2003).  Zhao et al. (CVPR 2020) measure colour by
    CIEDE2000 and minimise it; this is a bound, and in the older formula, in which radii are known from the clean pixel.

    >>> grey = torch.full((1, 1, 3, 1, 1), 0.5)
    >>> (255 * DeltaE().radii(grey)).flatten()
    tensor([1.0582, 0.5657, 0.7427])
    """

    @property
    def unit(self) -> str:
        """Of CIELAB."""
        return "delta E"

    def radii(self, x: Tensor) -> Tensor:
        """Shaped as `x` (b t 3 h w)."""
        self.check(x, FRAMES)
        slopes = colour_slopes(x)
        lengths = [(s[0].square() + s[1].square() + s[2].square()).sqrt().clamp_min(1e-6) for s in slopes]
        unit = [[part / length for part in s] for s, length in zip(slopes, lengths, strict=True)]
        worst = torch.zeros_like(lengths[0])
        for green, blue in product((1, -1), repeat=2):  # the opposite corners are as far
            moved = [r + green * g + blue * b for r, g, b in zip(*unit, strict=True)]
            worst = torch.maximum(worst, sum(m.square() for m in moved).sqrt())
        return torch.stack([1 / (length * worst) for length in lengths], -3)


def lab(x: Tensor) -> Tensor:
    """CIELAB of sRGB pixels, white D65: L in [0, 100], a and b.  Axis -3 holds the channels.

    >>> lab(torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)).flatten()
    tensor([53.2329, 80.1053, 67.2228])
    """
    f = [_cube_root(t) for t in _relative(_to_linear(x))]
    return torch.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])], -3)


def colour_slopes(x: Tensor) -> list[list[Tensor]]:
    """By channel (red, green, blue): how fast L, a and b move with it."""
    bent = ((x + 0.055) / 1.055).clamp_min(0) ** 1.4 * 2.4 / 1.055
    curve = torch.where(x > _LINEAR, bent, torch.full_like(x, 1 / 12.92)).unbind(-3)
    steep = []
    for t in _relative(_to_linear(x)):
        root = t.clamp_min(_DARK).pow(-2 / 3) / 3
        steep.append(torch.where(t > _DARK, root, torch.full_like(t, (29 / 6) ** 2 / 3)))
    found = []
    for channel in range(3):
        fx, fy, fz = (s * row[channel] / w * curve[channel] for s, row, w in zip(steep, _XYZ, _WHITE, strict=True))
        found.append([116 * fy, 500 * (fx - fy), 200 * (fy - fz)])
    return found


def _to_linear(x: Tensor) -> Tensor:
    return torch.where(x > _LINEAR, ((x + 0.055) / 1.055).clamp_min(0) ** 2.4, x / 12.92)


def _relative(linear: Tensor) -> list[Tensor]:
    """X, Y and Z over those of white."""
    red, green, blue = linear.unbind(-3)
    return [(m[0] * red + m[1] * green + m[2] * blue) / w for m, w in zip(_XYZ, _WHITE, strict=True)]


def _cube_root(t: Tensor) -> Tensor:
    return torch.where(t > _DARK, t.clamp_min(_DARK) ** (1 / 3), t * (29 / 6) ** 2 / 3 + 4 / 29)
