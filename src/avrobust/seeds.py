"""Random numbers that depend on (seed, clip, purpose), never on the batch.

Batch size, order, sharding and resuming therefore do not change the draws of a clip.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Draw = Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]]
# A tensor, not named so: processes that only draw numbers do not load torch.
T = TypeVar("T")


def stable_hash(*parts: object) -> int:
    """A 63-bit number that depends on all parts and on nothing else (not on PYTHONHASHSEED).

    >>> stable_hash(0, "clip", "noise") == stable_hash(0, "clip", "noise") != stable_hash(1, "clip", "noise")
    True
    """
    text = "\x1f".join(str(p) for p in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class Seeds:
    """The random draws of some clips: `seed` names the run, `ids` the clips.

    >>> import torch
    >>> a, b = Seeds(0, ("x", "y")), Seeds(0, ("y",))
    >>> bool((a.uniform(torch.zeros(2, 3), "start")[1] == b.uniform(torch.zeros(1, 3), "start")[0]).all())
    True
    """

    seed: int
    ids: tuple[str, ...]

    def generator(self, i: int, *purpose: object) -> np.random.Generator:
        """The generator of clip number `i` for `purpose`."""
        return np.random.default_rng(stable_hash(self.seed, self.ids[i], *purpose))

    def uniform(self, like: T, *purpose: object) -> T:
        """Uniform in [-1, 1], shaped, typed and placed as `like`, whose first axis is the clips."""
        return self._draw(like, lambda g, shape: g.random(shape, dtype=np.float32) * 2 - 1, purpose)

    def normal(self, like: T, *purpose: object) -> T:
        """Standard normal, shaped, typed and placed as `like`, whose first axis is the clips."""
        return self._draw(like, lambda g, shape: g.standard_normal(shape, dtype=np.float32), purpose)

    def subset(self, clips: Any) -> "Seeds":
        """The draws of some of the clips, by any index: numbers, a mask, or a stretch."""
        on = clips.tolist() if hasattr(clips, "tolist") else clips
        return Seeds(self.seed, tuple(self.ids[i] for i in np.arange(len(self.ids))[on]))

    def _draw(self, like: T, draw: Draw, purpose: tuple[object, ...]) -> T:
        tensor: Any = like
        if len(tensor) != len(self.ids):
            raise ValueError(
                f"expected a tensor of {len(self.ids)} clips, got {len(tensor)}. Pass the clips that the seeds name."
            )
        rows = [draw(self.generator(i, *purpose), tuple(tensor.shape[1:])) for i in range(len(self.ids))]
        drawn: T = tensor.new_tensor(np.stack(rows))
        return drawn
