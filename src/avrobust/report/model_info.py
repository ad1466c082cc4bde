"""What run.json may say, in types: a run's folder may come from anyone, and a page is made of it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from avrobust.config import brief, parse

Level = dict[Literal["A", "V", "AV", "clean"], tuple[float, float]]  # the budgets of sound and picture, by subset


@dataclass(frozen=True)
class Unread:
    id: str
    file: str
    reason: str


@dataclass(frozen=True)
class Data:
    name: str | None = None
    classes: list[str] | None = None
    counts: dict[str, tuple[int, int]] | None = None  # readable and listed, by split
    failures: list[Unread] | None = None
    spec: dict[str, Any] | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Epoch:
    epoch: int
    val_accuracy: float


@dataclass(frozen=True)
class Parts:
    audio: float
    visual: float


@dataclass(frozen=True)
class Probe:
    clips: int
    random: float
    sociable: float
    faint: Parts
    flat: Parts


@dataclass(frozen=True)
class Codes:
    nonzero: float
    residual: float
    iterations: float
    gap: float


@dataclass(frozen=True)
class Model:
    kind: Literal["AV", "A", "V"] | None = None
    fusion: str | None = None
    recipe: str | None = None
    loss: str | None = None
    feature_defense: str | None = None
    start: str | None = None
    role: Literal["baseline", "full_defense"] | None = None
    localises: bool = False
    parameters: int | None = None
    seconds: float | None = None
    epochs: int | None = None
    val: float | None = None
    curve: list[Epoch] | None = None
    memory: dict[Literal["audio", "visual"], Codes] | None = None
    probe: Probe = None  # type: ignore[assignment]  # there or not, but never null


@dataclass(frozen=True)
class Code:
    version: str | None = None
    commit: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True)
class World:
    python: str | None = None
    torch: str | None = None
    device: str | None = None
    cpu: str | None = None
    instructions: str | None = None
    features: list[str] | None = None
    precision: str | None = None
    threads: int | None = None
    system: str | None = None


@dataclass(frozen=True)
class Baseline:
    clips: int
    pointing: float
    mass: float
    found: float
    iou: float


@dataclass(frozen=True)
class Failure:
    model: str
    seed: int
    doing: str
    error: str
    log: str
    at: float


@dataclass(frozen=True)
class Aside:
    model: str
    seed: int
    attack: str
    code: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """run.json, as far as a page needs it; whatever else it says is left alone."""

    name: str | None = None
    title: str | None = None
    paper: str | None = None
    benchmark: str | None = None
    command: str | None = None
    started: str | None = None
    asked: dict[str, Any] | None = None
    code: Code | None = None
    world: World | None = None
    worlds: dict[str, World] | None = None
    data: Data | None = None
    models: dict[str, Model] | None = None
    tables: list[Level] | None = None
    defenses: list[Level] | None = None
    seconds: dict[str, float] | None = None
    baselines: dict[str, Baseline] | None = None
    failures: dict[str, Failure | None] | None = None
    set_aside: dict[str, Aside] | None = None


def read(path: Path) -> dict[str, Any]:
    """run.json as plain data that has these types.  Raises `FileNotFoundError`, and `ValueError` that names the file."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        parse(Told, about, extra="ignore", finite=False)
    except (ValueError, RecursionError) as error:
        what = (
            "JSON"
            if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError)
            else "what a run says"
        )
        raise ValueError(f"{path}: expected {what}, {brief(error, 400)}") from None
    assert isinstance(about, dict)
    return about
