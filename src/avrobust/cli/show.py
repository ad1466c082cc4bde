"""`avrobust show`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
  avrobust show rows.parquet
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
    if not path.exists():
        raise ValueError(f"{path}: expected a file or folder, found none. Check the path.")
    if (path / "run.json").exists():
        return report.summary(path)
    if (path / STORE_FILE).exists():
        return Store.open(path).summary()
    if path.suffix == ".safetensors":
        meta = {name: value for name, value in checkpoint.read_meta(path).items() if name != "curve"}
        return "\n".join(outline(meta)) or "weights without a description: another program wrote them"
    if path.suffix == ".parquet":
        return Rows.load(path).table()
    if path.is_dir():
        raise ValueError(
            f"{path}: expected a run or prepared clips, got another folder. To look at a dataset: avrobust data audit {path}."
        )
    return str(probe(path))


def outline(value: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Nested plain data as lines of text, without what is empty.

    >>> print(*outline({"spec": {"fusion": "concat", "heads": None}, "classes": ["dog", "cat"]}), sep="\\n")
    spec
      fusion: concat
    classes: dog, cat
    """
    for name, part in value.items():
        if isinstance(part, dict):
            yield f"{indent}{name}"
            yield from outline(part, f"{indent}  ")
        elif part not in (None, [], ""):
            yield f"{indent}{name}: {', '.join(map(str, part)) if isinstance(part, list) else part}"
