"""Budgets, counts and durations as people say them."""

import math
import re

IMAGENET_STD = 0.226  # mean of 0.229, 0.224, 0.225: one number to turn normalised units into pixels


def sound(eps: float, words: str) -> str:
    """An audio budget with its physical size.

    >>> sound(0.012, "linf 0.012"), sound(0.01, "40 dB SNR")
    ('0.012 (−38.4 dBFS)', '40 dB SNR')
    """
    if words.startswith("linf") and eps > 0:
        return f"{eps:.3g} ({decibel(20 * math.log10(eps))} dBFS)"
    return words


def picture(eps: float, words: str) -> str:
    """A visual budget with its physical size.

    >>> picture(0.048, "linf 0.048 normalised"), picture(2 / 255, "linf 0.007843")
    ('0.048 normalised (2.8 of 255 grey levels)', '2.0 of 255 grey levels')
    """
    if words.startswith("linf") and eps > 0:
        levels = f"{grey(eps, words):.2g}" if grey(eps, words) < 1 else f"{grey(eps, words):.1f}"
        normalised = words.endswith("normalised")
        return f"{eps:.3g} normalised ({levels} of 255 grey levels)" if normalised else f"{levels} of 255 grey levels"
    return words


def grey(eps: float, words: str) -> float:
    """A linf visual budget in grey levels of 255."""
    return 255 * eps * (IMAGENET_STD if words.endswith("normalised") else 1)


def decibel(value: float) -> str:
    """One decimal, with a real minus sign; a dash for nan.

    >>> decibel(-38.42), decibel(float("inf")), decibel(float("nan"))
    ('−38.4', '∞', '—')
    """
    if math.isnan(value):
        return "—"
    text = "∞" if math.isinf(value) else f"{abs(value):.1f}"
    return f"−{text}" if value < 0 else text


def listing(items: list[str], last: str = "and") -> str:
    """Items as a phrase.

    >>> listing(["FGSM", "PGD-10", "MIM-10"])
    'FGSM, PGD-10 and MIM-10'
    """
    return f" {last} ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def anchor(text: str) -> str:
    """Text as the name of a place in a page.

    >>> anchor("An attack left its budget")
    'an-attack-left-its-budget'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
