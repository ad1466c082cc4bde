"""Budgets as people write them, read as numbers: fractions, levels in dBFS, ratios in dB SNR, normalised units, masking thresholds."""

import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from avrobust.facts import IMAGENET_STD, Typed, typed
from avrobust.limits import DeltaE, Limit, PsychoacousticMask, Texture

# Of samples and pixels, or in time: see `timing`.
Norm = Literal["linf", "l2", "masking", "delay", "outage"]
Scale = tuple[float, ...] | Literal["signal"] | Limit
# A number in a text.
_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"
LINEAR: Scale = (1.0,)


class Size(NamedTuple):
    """A budget's size, and the scale that it counts in."""

    eps: float
    scale: Scale = LINEAR


def size(budget: Any, norm: Norm, *, pixels: bool) -> Size:
    """The size of a budget in `norm`, of any kind of number or of a text; `pixels` for the visual modality.

    Raises `ValueError` for what is neither, and for a unit that does not belong to the norm or the modality.

    >>> size("2/255", "linf", pixels=True).eps == 2 / 255, size("40 dB SNR", "l2", pixels=False)
    (True, Size(eps=0.01, scale='signal'))
    >>> size("2/255", "linf", pixels=True).eps.text
    '2/255'
    """
    if not isinstance(budget, str):
        return Size(number(budget))
    text = budget.strip().lower().replace("−", "-")
    for pattern, read in FORMS:
        if m := re.fullmatch(pattern, text):
            found = read(budget, norm, pixels, *m.groups())
            return found._replace(eps=Typed(found.eps, " ".join(budget.split())))
    raise ValueError(
        f"cannot read the budget {budget!r}. Use 0.006, '2/255', '-44.4 dBFS', '40 dB SNR', '0.006 normalised', "
        "'masking threshold -6 dB', '0.5 texture' or '2 delta E'."
    )


def number(budget: Any) -> float:
    """A budget as a float: of Python's numbers, NumPy's, torch's.

    >>> from fractions import Fraction
    >>> number(Fraction(1, 4)), number(np.float32(0.5))
    (0.25, 0.5)
    """
    if isinstance(budget, Typed):
        return budget
    if not isinstance(budget, bool | np.bool_ | str | bytes | None):
        try:
            return float(budget)  # NumPy's scalars, torch's, fractions and decimals know how
        except (TypeError, ValueError, RuntimeError):
            pass
    hint = "Threat.linf and Threat.l2 read texts." if isinstance(budget, str) else "Use 0 to leave a modality alone."
    raise ValueError(f"a budget should be a number such as 0.006 or a text such as '2/255', got {budget!r}. {hint}")


def scaled(eps: float, share: float) -> float:
    """A share of a budget; of a typed fraction, with its denominator.

    >>> scaled(Typed(2 / 255, "2/255"), 0.25).text, scaled(0.01, 0.5)
    ('0.5/255', 0.005)
    """
    if share == 1:
        return eps
    fraction = re.fullmatch(rf"{_NUMBER}\s*/\s*{_NUMBER}", typed(eps) or "")
    return Typed.of(eps * share, fraction and f"{float(fraction[1]) * share:g}/{fraction[2]}")


def _plain(budget: str, norm: Norm, pixels: bool, value: str) -> Size:
    return Size(float(value))


def _fraction(budget: str, norm: Norm, pixels: bool, value: str, denominator: str) -> Size:
    if float(denominator) <= 0:
        raise ValueError(
            f"a budget's denominator should be positive, got {budget!r}. Write '2/255' for 2 of 255 grey levels."
        )
    return Size(float(value) / float(denominator))


def _peak_level(budget: str, norm: Norm, pixels: bool, value: str) -> Size:
    if norm != "linf":
        raise ValueError(
            f"{budget!r} is a peak level, so a linf budget. Use Threat.linf (--norm linf), or '40 dB SNR' for an L2 budget."
        )
    if float(value) > 0:
        raise ValueError(
            f"a peak level should not be above full scale, 0 dBFS, got {budget!r}. Write '-{value.lstrip('+-')} dBFS'?"
        )
    return Size(10 ** (float(value) / 20))


def _signal_to_noise(budget: str, norm: Norm, pixels: bool, value: str) -> Size:
    if norm != "l2":
        raise ValueError(
            f"{budget!r} is a ratio of energies, so an L2 budget. Use Threat.l2 (--norm l2), or '-44 dBFS' for a linf budget."
        )
    return Size(10 ** (-float(value) / 20), "signal")


def _normalised(budget: str, norm: Norm, pixels: bool, value: str) -> Size:
    if not pixels:
        raise ValueError(f"{budget!r} is a budget for pixels; audio is not normalised. Use a number or '-44.4 dBFS'.")
    return Size(float(value), IMAGENET_STD)


def _masking(budget: str, norm: Norm, pixels: bool, bands: str | None, db: str | None, peak: str | None) -> Size:
    if pixels or norm != "linf":
        raise ValueError(
            f"{budget!r} bounds each frequency of audio. Use it as the audio budget of Threat.linf (--norm linf), "
            "'0.5 texture' or '2 delta E' for frames, or '40 dB SNR' for an L2 budget."
        )
    most = size(peak, "linf", pixels=False).eps if peak else None
    return Size(10 ** (float((db or "0").replace(" ", "")) / 20), PsychoacousticMask(peak=most, bands=bool(bands)))


def _of_frames(limit: Limit) -> Callable[..., Size]:
    def read(budget: str, norm: Norm, pixels: bool, value: str) -> Size:
        if not pixels:
            raise ValueError(f"{budget!r} is a budget for pixels. Use a number, '-44.4 dBFS' or 'masking threshold'.")
        return Size(float(value), limit)

    return read


FORMS: tuple[tuple[str, Callable[..., Size]], ...] = (
    (_NUMBER, _plain),
    (rf"{_NUMBER}\s*/\s*{_NUMBER}", _fraction),
    (rf"{_NUMBER}\s*dbfs", _peak_level),
    (rf"{_NUMBER}\s*db\s*snr", _signal_to_noise),
    (rf"{_NUMBER}\s*normali[sz]ed", _normalised),
    (r"masking threshold( by bands)?(?:\s*([-+]\s*\d+\.?\d*)\s*db)?(?:\s*,\s*peak\s+(?!masking)(.+))?", _masking),
    (rf"{_NUMBER}\s*texture", _of_frames(Texture())),
    (rf"{_NUMBER}\s*(?:delta\s*e|δe)", _of_frames(DeltaE())),
)
