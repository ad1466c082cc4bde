"""Numbers as colours."""

import numpy as np
from jaxtyping import Float

# Every sixteenth colour of magma (van der Walt and Smith 2015), from black over purple to near white.
STOPS = (
    (0, 0, 4), (10, 8, 34), (29, 17, 71), (54, 16, 107), (81, 18, 124), (106, 28, 129),
    (131, 38, 129), (156, 46, 127), (183, 55, 121), (208, 65, 111), (231, 82, 99), (245, 107, 92),
    (252, 137, 97), (254, 167, 114), (254, 196, 136), (253, 226, 163), (252, 253, 191),
)  # fmt: skip


def magma(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape 3"]:
    """Numbers in [0, 1] as RGB in [0, 1]: darker is less, in grey too and for colour-blind readers.

    >>> magma(np.array([0.0, 1.0])).round(2)
    array([[0.  , 0.  , 0.02],
           [0.99, 0.99, 0.75]])
    """
    stops = np.array(STOPS) / 255
    places = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(values, places, channel) for channel in stops.T], -1)
