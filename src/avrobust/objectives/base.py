"""What an objective is: a number per clip that an attacker pushes UP, and when it has succeeded.

An objective gets a model's `Output` and the labels, never the model.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from avrobust.config import brief, concise
from avrobust.types import Labels, Output, PerClip

# (what the model answers, labels) -> one number per clip.
Raised = Callable[[Output, Tensor], Tensor]
# (what the model answers, labels) -> per clip true or false, or a number that is above 0 on success; None: nobody knows.
Success = Callable[[Output, Tensor], Tensor | None]
# What an objective may ask for besides logits; a model computes nothing that is not asked for.
Need = Literal["features", "heat", "clean", "suspicion", "segments", "alone"]


@runtime_checkable
class Objective(Protocol):
    """What an attacker pushes up, and when it has succeeded.

    Optional: `name`, for display; `needs`, a tuple of `Need`s: what it reads of an `Output` besides its logits; and `on_answer`, whether it wants what an evaluation counts as a success, another class for example.  A plain function (out, y) -> (b) is an objective too, one that does not say when it has succeeded.
    """

    def value(self, out: Output, y: Labels) -> PerClip:
        """One number per clip; an attacker pushes it up."""

    def success(self, out: Output, y: Labels) -> Tensor | None:
        """On which clips the attacker has succeeded: true or false (b), or a lead (b) that is above 0 on success.

        A lead in the units of the logits lets the engine tell sure successes from those that rounding may have made.
        None: nobody knows.
        """


def _unknown(out: Output, y: Labels) -> None:
    """Nobody knows when the attacker has succeeded."""


@dataclass(frozen=True, repr=False)
class Loss:
    """An objective made of two functions of (out, y).

    >>> import torch
    >>> confident = Loss("confidence", lambda out, y: out.logits.amax(1))
    >>> confident.value(Output(torch.tensor([[1.0, 3.0]])), torch.tensor([0]))
    tensor([3.])
    """

    name: str
    value: Raised
    success: Success = _unknown
    needs: tuple[Need, ...] = ()
    on_answer: bool = False

    def __repr__(self) -> str:
        return self.name


def as_objective(given: Any) -> Objective:
    """An objective: the given one, or a plain function (out, y) as one that does not say when it has succeeded.

    Raises `ValueError` for anything else.
    """
    if not isinstance(given, type):
        if isinstance(given, Objective):
            return given
        if callable(given) and _takes_two(given):
            return Loss(display_name(given), given)
    raise ValueError(
        "objective should be a function (out, labels) -> one number per clip, or have the methods value(out, labels) and "
        f"success(out, labels), got {given!r}. Use one of avrobust.objectives, or write your own."
    )


def _takes_two(function: Callable[..., Any]) -> bool:
    """Whether a function may be called with (out, labels), as far as it says."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # made by a compiler
        return True
    try:
        signature.bind(None, None)
    except TypeError:
        return False
    return True


def needs_of(objective: Any) -> tuple[Need, ...]:
    """What an objective reads of an `Output` besides its logits.

    >>> from avrobust.objectives import cross_entropy, heat_shift
    >>> needs_of(cross_entropy), needs_of(heat_shift)
    ((), ('heat', 'clean'))
    """
    return tuple(getattr(objective, "needs", ()))


def display_name(thing: Any) -> str:
    """The display name of an objective or an attack: its `name`, else that of the function or the class.

    Of a dataclass, the class with those settings that differ from their defaults: two that differ are not one.

    >>> from avrobust.objectives import WithSimilarity, margin
    >>> display_name(margin), display_name(WithSimilarity()), display_name(max)
    ('margin', 'CE + cos', 'max')
    """
    if name := getattr(thing, "name", None) or getattr(thing, "__name__", None):
        return str(name)
    kind = type(thing).__name__
    shown = concise(thing) if is_dataclass(thing) and not isinstance(thing, type) else kind
    return kind if shown == f"{kind}()" else brief(shown, 80)
