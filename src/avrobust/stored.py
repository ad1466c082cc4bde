"""Plain data that a file holds → the values that code wants.  A file may say anything; what does not fit is named."""

import json
import reprlib
from functools import cache
from typing import Any, Literal, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def parse(kind: type[T], told: object, *, extra: Literal["forbid", "ignore"] = "forbid", finite: bool = True) -> T:
    """`told`, which came out of JSON, as a value of `kind`: a dataclass, a `TypedDict`, or any other type.

    Types have to be those of `kind`: text is no number.  `extra` is what becomes of names that `kind` does not have;
    `finite` refuses NaN and infinity.  Raises `ValueError` that says where, what was expected and what came.

    >>> from avrobust.media import ClipSpec
    >>> parse(ClipSpec, {"seconds": 2, "size": 64}).seconds
    2.0
    >>> parse(ClipSpec, {"seconds": "long"})
    Traceback (most recent call last):
    ValueError: at seconds: expected a valid number, got 'long'
    """
    try:
        text = json.dumps(told, allow_nan=not finite)
    except ValueError:
        raise ValueError("expected finite numbers, got NaN or infinity") from None
    try:
        value: T = _adapter(cast(Any, kind)).validate_json(text, strict=True, extra=extra)
    except ValidationError as error:
        raise ValueError("; ".join(map(_words, error.errors(include_url=False)[:3]))) from None
    return value


@cache
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)


def _words(error: Any) -> str:
    """One thing that does not fit, in words."""
    at = f"at {brief('.'.join(map(str, error['loc'])))}: " if error["loc"] else ""
    if error["type"] == "value_error":  # of the value's own checks, which say it in full
        return f"{at}{error['ctx']['error']}"
    expected = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{at}expected {expected[:1].lower()}{expected[1:]}, got {reprlib.repr(error['input'])}"


def brief(text: object, most: int = 200) -> str:
    """A text that came from outside, short enough for a message."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
