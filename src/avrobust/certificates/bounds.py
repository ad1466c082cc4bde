"""Bounds of a probability by counts (Clopper & Pearson 1934): exact, so they hold at any number of draws."""

from scipy import stats


def lower(count: int, draws: int, alpha: float) -> float:
    """The one-sided lower bound: a smaller probability gives `count` or more of `draws` in less than `alpha` of all repetitions.

    0 where nothing was counted.

    >>> lower(1000, 1000, 0.001), 0.001 ** (1 / 1000)
    (0.9931160484209338, 0.9931160484209338)
    """
    return float(stats.beta.ppf(alpha, count, draws - count + 1)) if count else 0.0


def upper(count: int, draws: int, alpha: float) -> float:
    """The one-sided upper bound; 1 where all were counted.

    >>> round(upper(3, 10, 0.05), 12) == round(1 - lower(7, 10, 0.05), 12)
    True
    """
    return float(stats.beta.ppf(1 - alpha, count + 1, draws - count)) if count < draws else 1.0
