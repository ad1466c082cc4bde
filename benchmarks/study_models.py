"""The test clips and trained models of a study's run folder."""

import json
from pathlib import Path
from typing import Any

from avrobust import Batch
from avrobust.config import from_plain
from avrobust.data.store import Store
from avrobust.models.network import AVNet
from avrobust.training import batches, checkpoint


def record(run: Path) -> dict[str, Any]:
    """The run's own record, run.json."""
    found: dict[str, Any] = json.loads((run / "run.json").read_text())
    return found


def test_clips(run: Path, clips: int) -> Batch:
    """The first test clips of the run, as its networks see them, as one batch."""
    told = record(run)
    (batch,) = batches(Store.open(Path(told["data"]["store"])), "test", from_plain(told["asked"]["view"]), clips, limit=clips)  # fmt: skip
    return batch


def load(run: Path, model: str) -> AVNet:
    """The model of this name, seed 0, with frozen weights."""
    net, *_ = checkpoint.load(run / "models" / f"{model}-0" / "net.safetensors")
    return net.requires_grad_(False)
