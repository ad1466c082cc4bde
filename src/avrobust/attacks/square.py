"""Square: a search without gradients (Andriushchenko et al., ECCV 2020), for two modalities.

Random patches of the frames and random intervals of the audio are moved to the ends of their budgets, and kept where the
objective rises.  A model that hides its gradients does not hide from this search.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avrobust import engine
from avrobust.attacks.base import check_settings, chosen, goal, search_info
from avrobust.attacks.search import Search, subset
from avrobust.config import concise
from avrobust.facts import AttackInfo
from avrobust.objectives import Objective, Raised, margin
from avrobust.progress import steps
from avrobust.seeds import Seeds
from avrobust.threat import Ball, Threat
from avrobust.types import AV, Labels, Model, Signals

# The share of a signal that a proposal covers falls along these shares of all queries (the authors' schedule).
HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True, repr=False)
class Square:
    """Random search for linf budgets: `queries` forward passes per clip.

    The first proposals cover `share` of a signal, as in the authors' AutoAttack.  The search begins with stripes: each
    column of the frames and each thousandth of the audio at one end of its budget.  The proposals for a clip depend on
    (seed, clip), not on its batch.  `objective` None is the margin, or in `evaluate` that of its task.  Raises `ValueError` for an L2 budget.

    >>> Square().name
    'Square-1000'
    """

    queries: int = 1000
    share: float = 0.8
    stop: bool = True
    objective: Objective | Raised | None = None

    numbers: ClassVar[tuple[str, ...]] = ("queries",)

    def __post_init__(self) -> None:
        check_settings(self.objective, queries=(self.queries, 1))
        if not 0 < self.share <= 1:
            raise ValueError(f"share should lie in (0, 1], got {self.share}. Leave it out for the usual one.")

    def __repr__(self) -> str:
        return concise(self)

    @property
    def info(self) -> AttackInfo:
        """Its facts."""
        return search_info("Square", self.queries, self.objective, search="queries", usual=margin)

    @property
    def name(self) -> str:
        """Display name."""
        return f"Square-{self.queries}{goal(self.objective, usual=margin)}"

    @property
    def steps(self) -> int:
        """Its cost in forward passes."""
        return self.queries

    def __call__(self, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds) -> Signals:
        """Adversarial signals inside `threat`, shaped as `x`."""
        if threat.subset == "clean":
            return x
        if any(ball.active and ball.norm != "linf" for ball in threat):
            raise ValueError(f"Square supports linf budgets only, got {threat}. Use APGD for L2.")
        search = Search.of(model, x, y, threat, seeds, chosen(self.objective, margin), stop=self.stop)
        draws = [np.random.default_rng(seeds.generator(i, "square").integers(2**63)) for i in range(len(y))]
        delta = self._stripes(x, threat, draws)
        for query in steps(self.queries + 1, "query"):
            proposed = delta if query == 0 else self._proposal(delta, search, draws, query)
            on, better = search.value(proposed)
            if not len(search):
                break
            delta = subset(
                delta.map(lambda old, new, b=better: torch.where(engine.per_clip(b, old), new, old), proposed), on
            )
        return engine.shift(x, search.best.delta, threat)

    def _stripes(self, x: Signals, threat: Threat, draws: list[np.random.Generator]) -> Signals:
        counts = AV(audio=1000, visual=x.visual.shape[-1])
        signs = x.map(lambda s, n: torch.stack([_stripe(s[i], n, g) for i, g in enumerate(draws)]), counts)
        ends = threat.map(lambda ball, s, e: e * ball.weight(s) * ball.eps, *map(threat.attacked, (x, signs)))
        return threat.map(Ball.project, ends, threat.attacked(x))

    def _proposal(self, delta: Signals, search: Search, draws: list[np.random.Generator], query: int) -> Signals:
        """A new patch and a new interval, each at an end of its budget; where both modalities are attacked, a third each changes one only."""
        share = self.share / 2 ** sum(query > h * self.queries for h in HALVINGS)
        threat, both = search.threat, search.threat.subset == "AV"
        cuts: AV[dict[int, Cut]] = AV({}, {})  # by the clip's place
        for i, g in enumerate(draws[clip] for clip in search.active.clips.tolist()):
            which = g.random() if both else 0.0  # a third each: audio, visual, both
            if threat.audio.active and not (both and which < 1 / 3):
                cuts.audio[i] = _interval(delta.audio.shape[1], share, g)
            if threat.visual.active and not (both and which > 2 / 3):
                cuts.visual[i] = _patch(delta.visual.shape[1:], share, g)
        ends = threat.map(_with_cuts, delta, search.x, cuts)
        return threat.map(Ball.project, ends, search.x)


# Where a proposal changes a clip, the same size for all of them: its first position along each axis that it is cut from,
# and +1 or -1 for its ends of the budget.
Cut = tuple[tuple[int, ...], NDArray[np.float64]]


def _interval(samples: int, share: float, g: np.random.Generator) -> Cut:
    long = max(1, round(share * samples))
    start = int(g.integers(samples - long + 1))
    # Alternating ends in runs of random length: a constant is inaudible.
    run = int(g.integers(1, 9))
    return (start,), np.repeat(g.choice([-1.0, 1.0], -(-long // run)), run)[:long]


def _patch(frames: tuple[int, ...], share: float, g: np.random.Generator) -> Cut:
    count, _, high, wide = frames
    side = max(1, min(high, wide, round((share * high * wide) ** 0.5)))
    top, left = int(g.integers(high - side + 1)), int(g.integers(wide - side + 1))
    return (top, left), g.choice([-1.0, 1.0], (count, 3, 1, 1)).repeat(side, 2).repeat(side, 3)


def _with_cuts(ball: Ball, delta: Tensor, x: Tensor, cuts: dict[int, Cut]) -> Tensor:
    """`delta` with these cuts at ends of the budget: in one go, for a GPU starts each operation apart."""
    delta = delta.clone()
    if not cuts:
        return delta
    first, signs = zip(*cuts.values(), strict=True)
    rows = torch.tensor(list(cuts), device=delta.device)
    ends, limits = _as(np.stack(signs), delta), (ball.weight(x[rows]) * ball.eps).expand_as(x[rows])
    starts = torch.tensor(first, device=delta.device).T
    index = []
    for axis in range(1, delta.ndim):
        at = torch.arange(ends.shape[axis], device=delta.device)[None]
        if (cut := axis - delta.ndim) >= -len(starts):
            at = at + starts[cut][:, None]
        index.append(at.view(len(at), *[-1 if i == axis else 1 for i in range(1, delta.ndim)]))
    own, every = (of.view(-1, *[1] * (delta.ndim - 1)) for of in (torch.arange(len(rows), device=delta.device), rows))
    delta[(every, *index)] = ends * limits[(own, *index)]
    return delta


def _stripe(signal: Tensor, count: int, g: np.random.Generator) -> Tensor:
    """Ends of the budget as +1 and -1, constant along stripes: intervals of the audio, columns of the frames."""
    if signal.ndim == 1:
        wide = -(-len(signal) // count)
        signs = np.repeat(g.choice([-1.0, 1.0], count), wide)[: len(signal)]
        return _as(signs, signal)
    signs = g.choice([-1.0, 1.0], (*signal.shape[:2], 1, signal.shape[-1]))
    return _as(signs, signal).expand_as(signal)


def _as(signs: NDArray[np.float64], signal: Tensor) -> Tensor:
    """As the signal is, through single precision: not every device has doubles."""
    return torch.from_numpy(signs.astype(np.float32)).to(signal)
