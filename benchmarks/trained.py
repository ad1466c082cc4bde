"""What a study left in its folder, for scripts that ask something of trained networks: clips, and networks by name."""

import json
from pathlib import Path
from typing import Any

from avrobust import Batch
from avrobust.cli.studies import named
from avrobust.data.store import Store
from avrobust.models.network import AVNet
from avrobust.training import batches, checkpoint


def about(run: Path) -> dict[str, Any]:
    """What the study wrote of itself."""
    found: dict[str, Any] = json.loads((run / "run.json").read_text())
    return found


def tested(run: Path, study: str, clips: int) -> Batch:
    """The first of its test clips, as one batch."""
    store = Store.open(Path(about(run)["data"]["store"]))
    (batch,) = batches(store, "test", named(study).view, clips, limit=clips)
    return batch


def network(run: Path, model: str) -> AVNet:
    """One of its networks, of seed 0, with frozen weights."""
    net, *_ = checkpoint.load(run / "models" / f"{model}-0" / "net.safetensors")
    return net.requires_grad_(False)
