"""What all attacks have in common: facts about them, their display names, and the checks of their settings."""

import operator
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

from avrobust.facts import AttackInfo, Kind
from avrobust.objectives import (
    Objective,
    Raised,
    as_objective,
    cross_entropy,
    display_name,
)
from avrobust.types import T


def at_rate(what: T, rate: int) -> T:
    """An attack, a channel or a threat for clips of this sampling rate, in Hz: itself, where its class has no `at_rate`."""
    of: Callable[[int], T] | None = getattr(what, "at_rate", None)
    return what if of is None else of(rate)


def mode_of(attack: Any) -> str:
    """The mode of an attack's rows, where it has one of its own."""
    return str(getattr(attack, "mode", "corrected"))


def attack_info(attack: Any) -> AttackInfo:
    """The facts of an attack, where its class states them as `info`; else nothing is known.

    A subclass may search otherwise, so what it inherits need not hold of it: it states its own `info`.

    >>> from avrobust.attacks import PGD
    >>> info = attack_info(PGD(steps=40, restarts=5))
    >>> info.family, info.steps, info.restarts, info.objective, info.on_answer
    ('PGD', 40, 5, 'cross_entropy', True)
    >>> attack_info(lambda model, x, y, threat, seeds: x).family
    ''
    """
    info = attack.info if "info" in vars(type(attack)) else None
    return info if isinstance(info, AttackInfo) else AttackInfo()


def search_info(
    family: str,
    steps: int,
    objective: Objective | Raised | None,
    *,
    restarts: int = 1,
    variant: str = "",
    search: Kind = "gradient",
    usual: Objective = cross_entropy,
) -> AttackInfo:
    """The facts of a search that raises one objective, the usual one where it was given none."""
    objective = chosen(objective, usual)
    on_answer = bool(getattr(objective, "on_answer", False))
    return AttackInfo(family, steps, restarts, display_name(objective), on_answer, variant=variant, search=search)


def wrapped_info(attack: Any, **facts: str) -> AttackInfo:
    """The facts of an attack that does something more than `attack`, as far as facts about that are known."""
    info = attack_info(attack)
    return replace(info, **facts) if info.family else info  # type: ignore[arg-type]


def channel_info(attack: Any, channel: str = "", *, adaptive: bool = False) -> AttackInfo:
    """The facts of an attack whose clips went through the channel of this name; "": before any channel.

    A search for clips that a file can hold knows what files do, so it is adaptive.

    >>> from avrobust.attacks import PGD, Quantized
    >>> info = channel_info(Quantized(PGD()), "8 and 16 bits")
    >>> info.crafted_by, info.channel, info.adaptive
    ('PGD-10', '8 and 16 bits', True)
    """
    info = attack_info(attack)
    quantized = info.variant == "quantized"
    crafted_by = display_name(attack.attack if quantized else attack)
    return replace(info, crafted_by=crafted_by, channel=channel, adaptive=adaptive or quantized)


def goal(objective: Objective | Raised | None, usual: Objective = cross_entropy) -> str:
    """What an attack's name says about its objective: nothing if it is the usual one.

    >>> from avrobust.objectives import margin
    >>> goal(cross_entropy), goal(None), goal(margin)
    ('', '', ' (margin)')
    """
    return "" if objective is None or objective == usual else f" ({display_name(objective)})"


def chosen(objective: Objective | Raised | None, usual: Objective = cross_entropy) -> Objective | Raised:
    """The objective, or the usual one where none was given."""
    return usual if objective is None else objective


def raising(attack: Any, objective: Objective) -> Any:
    """The same attack with this objective where it, or the attack that it wraps, was given none.

    What counts are the fields `objective` and `attack` of a dataclass, of a user's own too; any other attack stays as it is.

    >>> from avrobust.attacks import PGD, Quantized
    >>> from avrobust.objectives import dlr, margin
    >>> raising(Quantized(PGD()), margin).name, raising(PGD(objective=dlr), margin).name
    ('PGD-10 (margin), quantized', 'PGD-10 (dlr)')
    """
    if not is_dataclass(attack) or isinstance(attack, type):
        return attack
    given = {f.name: getattr(attack, f.name) for f in fields(attack) if f.init and f.name in ("objective", "attack")}
    if "objective" in given and given["objective"] is None:
        given["objective"] = objective
    if "attack" in given:
        given["attack"] = raising(given["attack"], objective)
    return replace(attack, **given) if given else attack


def check_settings(objective: Any = None, **counts: tuple[Any, int]) -> None:
    """Raise `ValueError` unless `objective` is one or None, and each count (its value, its minimum) is a whole number, not too small.

    >>> check_settings(steps=(0, 1))
    Traceback (most recent call last):
    ValueError: steps should be at least 1, got 0. Give a larger number.
    """
    if objective is not None:
        as_objective(objective)
    for name, (count, least) in counts.items():
        try:
            number = operator.index(count)
        except TypeError:
            raise ValueError(f"{name} should be a whole number, got {count!r}. Give an int.") from None
        if number < least:
            raise ValueError(f"{name} should be at least {least}, got {count}. Give a larger number.")
