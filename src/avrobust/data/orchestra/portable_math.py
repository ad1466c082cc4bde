"""Elementary functions that give the same bits on every CPU.

They use sums and products in float64, which are the same everywhere (IEEE 754).  NumPy's own `exp` or `sin` differ in
their last bit between instruction sets: inaudible, but the files would differ, and so would the dataset.  Arguments may be
arrays or numbers; the result has the precision of the array.

>>> exp2(np.array([-1.0, 0.5, 10.0])), power(np.array([1.0, 10.0]), 2.0)
(array([5.00000000e-01, 1.41421356e+00, 1.02400000e+03]), array([  1., 100.]))
>>> sin(np.array([0.0, np.pi / 2, -np.pi / 6])).round(15)
array([ 0. ,  1. , -0.5])
"""

from math import factorial, log, pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]
# Taylor coefficients, highest power first, for arguments within [-0.5, 0.5] octaves, a quarter turn, and s below.
_EXP2 = [log(2) ** k / factorial(k) for k in range(14, -1, -1)]
_SIN = [(-1) ** k * (2 * pi) ** (2 * k + 1) / factorial(2 * k + 1) for k in range(11, -1, -1)]
_LOG2 = [2 / log(2) / (2 * k + 1) for k in range(11, -1, -1)]


def exp2(x: Any) -> Numbers:
    """2 to the power of x."""
    wide = np.asarray(x, np.float64)
    whole = np.rint(wide)
    return _like(x, np.ldexp(_polynomial(_EXP2, wide - whole), whole.astype(np.int32)))


def exp(x: Any) -> Numbers:
    """e to the power of x."""
    return _like(x, exp2(np.asarray(x, np.float64) * (1 / log(2))))


def log2(x: Any) -> Numbers:
    """The logarithm to base 2 of positive numbers."""
    part, octave = np.frexp(np.asarray(x, np.float64))
    low = part < 0.5**0.5
    part, octave = np.where(low, 2 * part, part), octave - low
    s = (part - 1) / (part + 1)
    return _like(x, octave + s * _polynomial(_LOG2, s * s))


def power(x: Any, exponent: float) -> Numbers:
    """Positive numbers to the power of `exponent`."""
    return _like(x, exp2(exponent * log2(np.asarray(x, np.float64))))


def sin(x: Any) -> Numbers:
    """The sine of x in radians."""
    turns = np.asarray(x, np.float64) * (0.5 / pi)
    turns = turns - np.rint(turns)  # within half a turn; angles beyond a quarter are reflected
    turns = np.where(np.abs(turns) > 0.25, np.copysign(0.5, turns) - turns, turns)
    return _like(x, turns * _polynomial(_SIN, turns * turns))


def cos(x: Any) -> Numbers:
    """The cosine of x in radians."""
    return _like(x, sin(np.asarray(x, np.float64) + pi / 2))


def _polynomial(coefficients: list[float], x: Any) -> Numbers:
    """Horner's scheme: each product and each sum is rounded by itself."""
    value: Numbers = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        value *= x
        value += c
    return value


def _like(x: Any, result: Any) -> Numbers:
    narrow = isinstance(x, np.ndarray | np.generic) and x.dtype == np.float32
    return np.asarray(result, np.float32 if narrow else np.float64)
