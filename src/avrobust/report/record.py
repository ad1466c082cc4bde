"""What run.json may say, in types: a run's folder may come from anyone, and a page is made of it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from avrobust.config import brief, parse

# Raised when an entry changes its name or meaning.  Runs of version 1, which did not say so, lack the models' roles and
# name a feature defense otherwise: they are refused.
VERSION = 2

Kind = Literal["AV", "A", "V"]
# What a model is to its study: the undefended model that defenses are compared with; all of a paper's defenses at once.
Role = Literal["baseline", "full_defense"]
Level = dict[Literal["A", "V", "AV", "clean"], tuple[float, float]]  # the (audio, visual) budgets, by subset


@dataclass(frozen=True)
class UnreadClip:
    id: str
    file: str
    reason: str


@dataclass(frozen=True)
class DataRecord:
    name: str | None = None
    classes: list[str] = field(default_factory=list)
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)  # readable and listed, by split
    failures: list[UnreadClip] = field(default_factory=list)
    spec: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""


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
    """What `evaluation.probe` found, and `low`, what crafting in low precision costs by threat."""

    clips: int
    random: float
    sociable: float
    flat: Parts
    faint: dict[str, float] = field(default_factory=dict)  # empty where a task has no loss beside its answer
    ignores: dict[str, bool] = field(default_factory=dict)
    moved: Parts | None = None
    explained: dict[str, float | None] = field(default_factory=dict)
    hidden: dict[str, float] = field(default_factory=dict)
    low: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Codes:
    nonzero: float
    residual: float
    iterations: float
    gap: float


@dataclass(frozen=True)
class ModelRecord:
    kind: Kind | None = None
    fusion: str | None = None
    network: str | None = None
    visual_weights: str | None = None  # that its visual encoder started from; None: random ones
    recipe: str | None = None
    loss: str | None = None
    feature_defense: str | None = None
    adaptation: str | None = None  # at test time
    start: str | None = None
    role: Role | None = None
    localises: bool = False
    parameters: int | None = None
    seconds: float | None = None
    epochs: int | None = None
    val: float | None = None
    curve: list[Epoch] | None = None
    memory: dict[Literal["audio", "visual"], Codes] | None = None
    probe: Probe = None  # type: ignore[assignment]  # there or not, but never null

    @property
    def undefended(self) -> bool:
        """Whether it was trained with cross entropy, from scratch, without a feature defense or adaptation."""
        return not (self.feature_defense or self.adaptation or self.start) and self.loss in (None, "cross_entropy")


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
    onednn_max_cpu_isa: str | None = None
    precision: str | None = None
    tf32: bool | None = None  # on a GPU: whether products or convolutions round their factors to 10 bits
    threads: int | None = None
    system: str | None = None


@dataclass(frozen=True)
class Baseline:
    """A localisation that ignores the clip: shares of `clips`, and means of `mass` and `iou` over them."""

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
class RunRecord:
    """run.json, as far as a page needs it; other entries are ignored."""

    version: int = VERSION
    name: str | None = None
    title: str | None = None
    question: str | None = None
    section: str | None = None  # that answers the question
    paper: str | None = None
    benchmark: str | None = None
    command: str | None = None
    started: str | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    cells: int | None = None  # how many were asked for; None: an earlier release did not say
    code: Code = field(default_factory=Code)
    sources: dict[str, str] = field(default_factory=dict)
    world: World = field(default_factory=World)
    worlds: dict[str, World] = field(default_factory=dict)
    data: DataRecord = field(default_factory=DataRecord)
    models: dict[str, ModelRecord] = field(default_factory=dict)
    tables: list[Level] = field(default_factory=list)
    defenses: list[Level] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    baselines: dict[str, Baseline] = field(default_factory=dict)
    failures: dict[str, Failure | None] = field(default_factory=dict)
    set_aside: dict[str, Aside] = field(default_factory=dict)


def read(path: Path) -> tuple[RunRecord, dict[str, Any]]:
    """run.json in types, and as the plain data that it is.  Raises `FileNotFoundError`, and `ValueError` that names the file."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(plain, dict) and (version := plain.get("version", 1)) != VERSION:
            raise ValueError(
                f"of version {VERSION}, got version {version}: it was written by {'an earlier' if version == 1 else 'another'} "
                "release, which can read it"
            )
        record = parse(RunRecord, plain, extra="ignore", finite=False)
    except (ValueError, RecursionError) as error:
        damaged = isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError)
        what = "JSON" if damaged else "the record of a run"
        raise ValueError(f"{path}: expected {what}, {brief(error, 400)}") from None
    return record, plain


def present(value: Any) -> dict[str, Any]:
    """A part of a record as plain data, without what was not recorded."""
    return {name: v for name, v in asdict(value).items() if v is not None}
