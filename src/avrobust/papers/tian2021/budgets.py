"""The paper's budgets as its code applies them, those of its tables and figures, and larger ones for the frames."""

from typing import Any

from avrobust.threat import Threat
from avrobust.units import number


def threat(audio: Any = 0.0, visual: Any = 0.0) -> Threat:
    """linf budgets, the visual one in ImageNet-normalised units.

    0.006 is 0.35 grey levels of 255 for a pixel, and -44.4 dBFS for the audio.

    >>> print(threat(0.006, 0.006))
    audio linf 0.006, visual linf 0.006 normalised
    """
    return Threat.linf(audio=audio, visual=f"{number(visual)!r} normalised")


def curves(audio: tuple[float, ...], visual: tuple[float, ...]) -> dict[str, tuple[Threat, ...]]:
    """Budgets for audio, visual and both, the joint ones pairing the two: the three axes of Figure 3."""
    return {
        "A": tuple(threat(a, 0.0) for a in audio),
        "V": tuple(threat(0.0, v) for v in visual),
        "AV": tuple(threat(a, v) for a, v in zip(audio, visual, strict=True)),
    }


# Table 1: single-modality attacks at 0.012, joint ones at half of it each.
TABLE1 = (threat(0.012, 0.0), threat(0.0, 0.012), threat(0.006, 0.006))
# Small networks trained from scratch hardly notice the paper's visual budget: four times as much of that.
TABLE1_X4 = (threat(0.012, 0.0), threat(0.0, 0.048), threat(0.006, 0.024))

# Tables 2 and 3: 0.006 everywhere.
TABLE3 = threat(0.006, 0.006).subsets()
TABLE3_X4 = threat(0.006, 0.024).subsets()
