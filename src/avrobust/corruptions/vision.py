"""What video corruptions are made of: blur along a line, clouds, layers that drift from frame to frame."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Film = NDArray[np.float64]  # (t h w 3), RGB in [0, 1]
Layer = NDArray[np.float64]  # (h w), in [0, 1]


def scale(film: Film) -> float:
    """Pixels for what is a pixel at a short side of 224."""
    return float(min(film.shape[1:3]) / 224)


def motion_blur(layer: Layer, pixels: float, degrees: float) -> Layer:
    """Blurred along a line of this length and direction (0 is along the rows)."""
    radius = max(1, round(pixels / 2))
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1))
    for at in np.linspace(-radius, radius, 4 * radius + 1):
        kernel[round(radius + at * np.sin(np.radians(degrees))), round(radius + at * np.cos(np.radians(degrees)))] = 1
    blurred: Layer = ndimage.convolve(layer, kernel / kernel.sum(), mode="wrap")
    return blurred


def cloud(shape: tuple[int, int], decay: float, g: np.random.Generator) -> Layer:
    """A fractal cloud over the whole range 0 to 1: power falls with frequency to the power of 2 `decay`.

    It wraps around, so that it can drift.
    """
    h, w = shape
    f = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None])
    f[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(g.standard_normal(shape)) / f**decay, s=shape)
    low, high = field.min(), field.max()
    drawn: Layer = (field - low) / max(high - low, 1e-12)
    return drawn


def drifting(layer: Layer, frames: int, down: float, across: float) -> NDArray[np.float64]:
    """The layer once per frame (t h w), moved by so many pixels from each to the next."""
    moved = [np.roll(layer, (round(down * k), round(across * k)), (0, 1)) for k in range(frames)]
    return np.stack(moved)


def blend(film: Film, colour: float | tuple[float, float, float], alpha: NDArray[np.float64]) -> Film:
    """A colour laid over the frames; `alpha` (t h w) says how much of it."""
    a = alpha[..., None]
    laid: Film = film * (1 - a) + a * np.asarray(colour)
    return laid
