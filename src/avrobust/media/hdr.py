"""Converts high dynamic range and wide gamut to what an ordinary screen shows: BT.709, 8 bits.

FFmpeg's own filter for it (zscale) is in no wheel of PyAV, so this works on arrays, at the clip's frame size.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# What 100 % of an ordinary screen is, in HDR: ITU-R BT.2408.
WHITE = 203.0  # cd/m2
GAMMA = 2.4  # of an ordinary screen: BT.1886
KNEE = 0.9  # of white; brighter values are compressed into the rest, so that highlights keep their shapes
TRANSFERS = {16: "smpte2084", 18: "arib-std-b67"}  # H.264's numbers for PQ and HLG
BT2020 = 9
# Linear RGB of BT.2020 to BT.709: ITU-R BT.2087.
TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)


def conversion(frame: Any) -> list[str]:
    """A note on what `to_bt709` does to a frame; empty for an ordinary frame, which needs no conversion."""
    if name := TRANSFERS.get(frame.color_trc):
        return [f"HDR ({name}), tone-mapped to BT.709"]
    return ["wide gamut (BT.2020), converted to BT.709"] if frame.color_primaries == BT2020 else []


def to_bt709(rgb: NDArray[np.uint16], frame: Any) -> NDArray[np.uint8]:
    """RGB of 16 bits per colour, (h, w, 3), converted to 8 bits by the colour space that `frame` declares.

    >>> from types import SimpleNamespace
    >>> pq = SimpleNamespace(color_trc=16, color_primaries=1)
    >>> white, bright = 0.5807, 0.7518  # 203 and 1000 cd/m2
    >>> to_bt709(np.round(np.array([[[white] * 3, [bright] * 3]]) * 65535).astype(np.uint16), pq)[0, :, 0]
    array([251, 255], dtype=uint8)
    """
    signal: NDArray[Any] = rgb.astype(np.float32) / 65535
    if frame.color_trc == 16:
        light = _pq(signal) / WHITE
    elif frame.color_trc == 18:
        light = _hlg(signal) / WHITE
    else:
        light = signal**GAMMA
    if frame.color_primaries == BT2020:
        light = light @ TO_BT709.T
    light = np.maximum(light, 0)  # colours outside of BT.709
    if frame.color_trc in TRANSFERS:
        light = np.where(light > KNEE, 1 - (1 - KNEE) * np.exp(-(light - KNEE) / (1 - KNEE)), light)
    grey: NDArray[np.uint8] = np.round(light.clip(0, 1) ** (1 / GAMMA) * 255).astype(np.uint8)
    return grey


def _pq(signal: NDArray[Any]) -> NDArray[Any]:
    """SMPTE ST 2084: cd/m2."""
    power = signal ** (32 / 2523)
    light: NDArray[Any] = np.maximum(power - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * power)
    return 10_000 * light ** (16384 / 2610)


def _hlg(signal: NDArray[Any]) -> NDArray[Any]:
    """ARIB STD-B67 on a screen of 1000 cd/m2; its gamma of 1.2 colour by colour, as FFmpeg's zscale has it."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    light: NDArray[Any] = 1000 * scene**1.2
    return light
