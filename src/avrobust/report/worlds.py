"""Whether compared numbers come from machines that give different numbers.  Reads records only."""

from collections.abc import Mapping
from typing import Any

from avrobust.report.formatting import listing

# What numbers depend on: where these agree, the same seed gives the same rows.
DECIDES = ("torch", "device", "cpu", "instructions", "features", "onednn_max_cpu_isa", "precision", "threads", "system")
CALLED = {"features": "CPU features", "instructions": "CPU instructions", "onednn_max_cpu_isa": "ONEDNN_MAX_CPU_ISA"}


def worlds_apart(*worlds: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The entries in which these machines differ and that change numbers: one value per machine, None where not recorded.

    >>> worlds_apart({"torch": "2.13.0", "threads": 1, "cores": 2}, {"torch": "2.13.0", "threads": 2, "cores": 8})
    {'threads': [1, 2]}
    """
    seen = {name: [world.get(name) for world in worlds] for name in DECIDES}
    return {name: values for name, values in seen.items() if any(value != values[0] for value in values)}


def apart(*worlds: Mapping[str, Any]) -> str:
    """A warning that these machines give different numbers; nothing where they agree.

    >>> apart({"torch": "2.13.0", "threads": 1}, {"torch": "2.13.0", "threads": 2})
    'The compared numbers come from machines that give different numbers: threads 1 or 2.'
    """
    found = worlds_apart(*worlds)
    if not found:
        return ""
    parts = [f"{CALLED.get(name, name)} {listing(_values(values), 'or')}" for name, values in found.items()]
    return f"The compared numbers come from machines that give different numbers: {'; '.join(parts)}."


def _values(values: list[Any]) -> list[str]:
    words = (
        "not recorded" if v is None else ", ".join(map(str, v)) or "none" if isinstance(v, list) else str(v)
        for v in values
    )
    return list(dict.fromkeys(words))
