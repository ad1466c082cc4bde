"""What a verb answers, on stdout: for people, or with --json for programs.  All else that it says goes to stderr."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from avrobust.names import visible


@dataclass(frozen=True)
class Answer:
    """The same answer as text and as plain data; `status` is the exit status."""

    text: str
    data: Any
    json: bool = False
    status: int = 0

    def print(self) -> None:
        """Print it."""
        print(json.dumps(plain(self.data), indent=1) if self.json else visible(self.text))


def note(text: str) -> None:
    """Say something that is not the answer."""
    print(visible(text), file=sys.stderr, flush=True)


def plain(value: Any) -> Any:
    """Plain data as every program reads it: what is not finite is null, as JSON has no other number for it.

    >>> plain({"gap": float("nan"), ("A", "V"): (1, True, "x")})
    {'gap': None, 'A V': [1, True, 'x']}
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {" ".join(map(str, k)) if isinstance(k, tuple) else str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
