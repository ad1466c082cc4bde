"""The test clips and trained models of a study's run folder."""

import json
from pathlib import Path
from typing import Any

from avrobust import Batch
from avrobust.cli.studies import named
from avrobust.data.store import Store
from avrobust.models.network import AVNet
from avrobust.training import batches, checkpoint


def record(run: Path) -> dict[str, Any]:
    """The run's own record, run.json."""
    found: dict[str, Any] = json.loads((run / "run.json").read_text())
    return found


def test_clips(run: Path, study: str, clips: int) -> Batch:
    """The first test clips of the run, as one batch."""
    store = Store.open(Path(record(run)["data"]["store"]))
    (batch,) = batches(store, "test", named(study).view, clips, limit=clips)
    return batch


def load(run: Path, model: str) -> AVNet:
    """The model of this name, seed 0, with frozen weights."""
    net, *_ = checkpoint.load(run / "models" / f"{model}-0" / "net.safetensors")
    return net.requires_grad_(False)
