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
    """Blurred along a line of this length and direction (0 is along the rows), to parts of a pixel."""
    reach = int(np.ceil(pixels / 2)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    along = np.linspace(-pixels / 2, pixels / 2, 8 * reach + 1)
    y, x = reach + along * np.sin(np.radians(degrees)), reach + along * np.cos(np.radians(degrees))
    for down in (0, 1):  # each point of the line is shared by the four pixels around it
        for right in (0, 1):
            row, column = np.floor(y).astype(int), np.floor(x).astype(int)
            share = np.abs(1 - down - (y - row)) * np.abs(1 - right - (x - column))
            np.add.at(kernel, (row + down, column + right), share)
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
