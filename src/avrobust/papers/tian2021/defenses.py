"""The feature memory as the code of Tian & Xu 2021 runs it, which differs from the text (section 3.3.2).

Raw features are recorded while training and then stay as they are; weight 0.1 on features of norm 20 leaves nearly
every coefficient different from 0: it is least squares, stopped early; and the iteration stops for the whole batch at
once.  Our features are those of centred clips in evaluation mode.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avrobust.defenses.memory import ExFMem
from avrobust.defenses.sparse import Dictionary, Points, Solution, shrink
from avrobust.types import AV


def published_ista(
    f: Points,
    dictionary: Dictionary,
    weight: Float[Tensor, " b"],
    *,
    step: float | None = None,
    tolerance: float = 8e-4,
    iterations: int = 2001,
) -> Solution:
    """ISTA as the paper's code runs it: one step size, and one end for the whole batch.

    It stops when the Frobenius norm of the whole batch's update falls below `tolerance`: what a clip gets depends on
    its batch mates.  `step` None is 1 / (largest eigenvalue); a longer one than that diverges and is refused.  The
    gradient goes through every iteration.
    """
    step = 1 / dictionary.lipschitz if step is None else step
    if step * dictionary.lipschitz > 1 + 1e-6:
        raise ValueError(
            f"expected a step of at most {1 / dictionary.lipschitz:.3g}, the inverse of the largest eigenvalue, got "
            f"{step:g}: the iteration would diverge. Leave the step out."
        )
    products = f @ dictionary.atoms
    h = torch.zeros_like(products)
    taken = 0
    while taken < iterations:
        new = shrink(h - step * (h @ dictionary.gram - products), step * weight[:, None])
        moved = float((new - h).detach().norm())
        h, taken = new, taken + 1
        if moved < tolerance:
            break
    unknown = torch.full((len(f),), torch.nan, device=f.device)
    return Solution(h, torch.full((len(f),), taken, device=f.device), unknown)


@dataclass(frozen=True)
class PublishedISTA:
    """`published_ista` as the solver of an `ExFMem`; `step` None is 1 / (largest eigenvalue) of that modality."""

    step: AV[float | None] = AV(audio=None, visual=None)  # noqa: RUF009, frozen
    tolerance: float = 8e-4  # of the norm of an update
    iterations: int = 2001

    def __call__(self, f: Points, dictionary: Dictionary, weight: Float[Tensor, " b"], modality: str) -> Solution:
        """The codes of `f` (b d), the features of one modality."""
        step = dict(self.step.items())[modality]
        return published_ista(f, dictionary, weight, step=step, tolerance=self.tolerance, iterations=self.iterations)


def published_memory(
    columns: int = 288,
    blend: float = 0.5,
    *,
    step: AV[float | None] = AV(audio=None, visual=None),  # noqa: B008, frozen
    iterations: int = 2001,
) -> ExFMem:
    """The published code's memory, by default as on MIT-MUSIC.

    >>> published_memory(iterations=50).choose
    'random'
    """
    solver = PublishedISTA(step, iterations=iterations)
    return ExFMem(columns, choose="random", unit=False, weight=0.1, relative=False, blend=blend, solver=solver)


# On each dataset, for its own weights.  The code takes the first 1,024 columns; MIT-MUSIC's files have 288.
MEMORIES = {
    "music": published_memory(1024, step=AV(audio=1e-6, visual=6e-6)),
    "kinetics_sounds": published_memory(1024, 0.6, step=AV(audio=5.8e-7, visual=2e-6)),
    "ave": published_memory(1024, step=AV(audio=7e-7, visual=2e-6)),
}
