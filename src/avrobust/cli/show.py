"""`avrobust show`."""

import io
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from avrobust import report
from avrobust.cli.answer import Answer
from avrobust.cli.options import Json, parse
from avrobust.config import ConfigError, from_plain
from avrobust.data.entry import SPLITS
from avrobust.data.store import ABOUT as STORE_FILE
from avrobust.data.store import Store
from avrobust.evaluation.results import results
from avrobust.evaluation.schema import Rows
from avrobust.media import ClipSpec
from avrobust.media.probe import Probe, probe
from avrobust.report.formatting import MODEL
from avrobust.training import View, checkpoint
from avrobust.training.views import received

ABOUT = """Show what a file or folder holds: a run, a checkpoint, prepared clips, rows of an evaluation, or a media file.

examples:
  avrobust show runs/quick
  avrobust show runs/quick/models/AV-0/net.safetensors
  avrobust show rows.parquet
  avrobust show video.mp4
"""
Told = tuple[str, Any]  # as text and as plain data


@dataclass(frozen=True)
class Options(Json):
    path: tyro.conf.Positional[Path]
    """A run, a checkpoint, prepared clips, a .parquet file of rows, or a media file."""


def main(argv: Sequence[str]) -> Answer:
    """Parse; the answer is what is there."""
    options = parse(Options, argv, "show", ABOUT)
    return Answer(*described(options.path), options.json)


def described(path: Path) -> Told:
    """What `path` holds.  Raises `ValueError` for what is none of the things that this package knows."""
    if not path.exists():
        raise ValueError(f"{path}: expected a file or folder, got none. Check the path.")
    if (path / "run.json").exists():
        return report.summary(path), results(report.rows_of(path))
    if (path / STORE_FILE).exists():
        return _store(Store.open(path))
    if path.suffix == ".safetensors":
        return _checkpoint(checkpoint.read_meta(path))
    if path.suffix == ".parquet":
        rows = Rows.load(path)
        return rows.table(), results(rows)
    if path.is_dir():
        raise ValueError(
            f"{path}: expected a run or prepared clips, got another folder. To look at a dataset: avrobust data audit --data {path}."
        )
    return _media(probe(path))


def _store(store: Store) -> Told:
    counts = {split: store.counts(split) for split in SPLITS}
    lines = [(split, str(readable), str(listed - readable)) for split, (readable, listed) in counts.items()]
    spec = store.spec
    form = f"{spec.seconds:g} s at {spec.rate} Hz, {spec.fps:g} frames/s of {spec.size} x {spec.size} pixels"
    text = f"{store.name}: {len(store.classes)} classes; each clip {form}\n" + table(
        ("split", "readable", "unreadable"), lines
    )
    if store.failures:
        text += table(("clip that cannot be read", "file", "reason"), store.failures)
    splits = {split: {"readable": readable, "listed": listed} for split, (readable, listed) in counts.items()}
    failures = [{"clip": id, "file": file, "reason": reason} for id, file, reason in store.failures]
    return text, {"name": store.name, "classes": store.classes, "clip": spec, "splits": splits, "failures": failures}


def _checkpoint(meta: Mapping[str, Any]) -> Told:
    about = {name: value for name, value in meta.items() if name != "curve"}
    if not about:
        return "weights without a description: another program wrote them", {}
    text = ""
    if classes := about.get("classes"):
        text += f"{len(classes)} classes: {', '.join(map(str, classes))}\n"
    modality = (about.get("spec") or {}).get("modality")
    try:
        clip, view = from_plain(about.get("clip"), ClipSpec), from_plain(about.get("view"), View)
        text += f"{MODEL.get(str(modality), 'the')} model receives {received(clip, view)}\n"
        about = {**about, "input": received(clip, view)}
    except ConfigError:
        pass  # another program's, or of another version: its settings are below as they are
    return text + table(
        ("setting", "value"), outline({k: v for k, v in about.items() if k not in ("classes", "input")})
    ), about


def _media(found: Probe) -> Told:
    lines = [
        ("container", found.container),
        ("duration", "not declared" if found.seconds is None else f"{found.seconds:.2f} s"),
    ]
    lines.append(("audio", "none" if (a := found.audio) is None else f"{a.codec}, {a.rate} Hz, {a.layout}"))
    if (v := found.video) is None:
        lines.append(("video", "none"))
    else:
        rate = "a still image" if v.still else "" if v.fps is None else f"{v.fps:.4g} frames/s"
        lines.append(("video", ", ".join(filter(None, [v.codec, f"{v.width} x {v.height} pixels", rate]))))
    return table((str(found.path), ""), lines), found


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table for people, as wide as the terminal.

    >>> print(table(("split", "clips"), [("train", "12")]))
      split   clips
     ───────────────
      train   12
    """
    drawn = Table(box=SIMPLE_HEAD)
    for head in heads:
        drawn.add_column(Text(head))
    for line in lines:
        drawn.add_row(*map(Text, line))
    console = Console(file=io.StringIO(), width=max(shutil.get_terminal_size((120, 0)).columns, 60), no_color=True)
    with console.capture() as text:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in text.get().splitlines() if line.strip())


def outline(value: Mapping[str, Any], indent: str = "") -> Iterator[tuple[str, str]]:
    """Nested plain data as lines of a table, without what is empty.

    >>> print(*outline({"spec": {"fusion": "concat", "heads": None}, "rates": [1, 2]}), sep="\\n")
    ('spec', '')
    ('  fusion', 'concat')
    ('rates', '1, 2')
    """
    for name, part in value.items():
        if isinstance(part, Mapping):
            yield f"{indent}{name}", ""
            yield from outline(part, f"{indent}  ")
        elif part not in (None, [], ""):
            yield f"{indent}{name}", ", ".join(map(str, part)) if isinstance(part, list) else str(part)
