"""`avrobust show`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from avrobust import report
from avrobust.cli.options import parse
from avrobust.data.store import ABOUT as STORE_FILE
from avrobust.data.store import Store
from avrobust.evaluation.schema import Rows
from avrobust.media.probe import probe
from avrobust.training import checkpoint

ABOUT = """Show what a file or folder holds: a run, a checkpoint, prepared clips, rows of an evaluation, or a media file.

examples:
  avrobust show runs/quick
  avrobust show runs/quick/models/AV-0/net.safetensors
  avrobust show video.mp4
"""


@dataclass(frozen=True)
class Options:
    path: tyro.conf.Positional[Path]
    """A run, a checkpoint, prepared clips, a .parquet file of rows, or a media file."""


def main(argv: Sequence[str]) -> None:
    """Parse and print."""
    print(describe(parse(Options, argv, "show", ABOUT).path))


def describe(path: Path) -> str:
    """What `path` holds, as text."""
    if (path / "run.json").exists():
        return report.summary(path)
    if (path / STORE_FILE).exists():
        return Store.open(path).summary()
    if path.suffix == ".safetensors":
        meta = {k: v for k, v in checkpoint.read_meta(path).items() if k != "curve"}
        return json.dumps(meta, indent=1)
    if path.suffix == ".parquet":
        return Rows.load(path).table()
    if path.is_dir():
        raise ValueError(
            f"{path}: expected a run or prepared clips, got another folder. To look at a dataset: avrobust data audit {path}."
        )
    return str(probe(path))
