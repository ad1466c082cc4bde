"""Files that are whole or not there: written beside their place under a hidden name, then renamed.

A killed process leaves at most a hidden draft.  `locks` decides which process writes.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

DRAFTS = ".*.part"  # the pattern of their names


class CheckpointError(ValueError):
    """A checkpoint cannot be used: it names the file, what is wrong, and what to do."""


@contextmanager
def draft(path: Path | str, *, folder: bool = False, locked: bool = False) -> Iterator[Path]:
    """A draft of `path` to write to: a file, or with `folder` an empty folder.

    It gets the name `path` when the block ends, in place of what was there, and is removed if the block raises.  The
    folders around it are made.  With `locked`, no other process writes `path` now, and the draft that a killed process
    left is used again.  An `OSError` names `path`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with draft(Path(folder) / "a" / "rows.txt") as file:
    ...         _ = file.write_text("1")
    ...     [path.name for path in Path(folder).rglob("*")]
    ['a', 'rows.txt']
    """
    path = Path(path)
    # Not by the process: those in containers have the same number, and threads have one.
    part = path.with_name(f".{path.name}.part" if locked else f".{path.name}.{uuid4().hex[:12]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if folder:
            _remove(part)
            part.mkdir()
        yield part
        if folder:
            _remove(path)
        part.replace(path)
    except OSError as error:  # one of a write that fails, as on a full disk, does not say where
        if error.filename is not None and str(error.filename) != str(part):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        _remove(part)


def occupied(folder: Path, own: Iterable[Path] = ()) -> bool:
    """Whether a folder holds other files than one's own, and than the drafts that a killed process left."""
    return folder.is_dir() and bool({*folder.iterdir()} - {*folder.glob(DRAFTS), *own})


def write_bytes(path: Path | str, data: bytes) -> Path:
    """Write `data` to `path`, whole or not at all; makes the folders around it.  An `OSError` names the path."""
    with draft(path) as part:
        part.write_bytes(data)
    return Path(path)


def write_json(path: Path | str, value: Any) -> Path:
    """Write plain data as JSON, indented, whole or not at all."""
    return write_bytes(path, json.dumps(value, indent=1).encode())


def sha256(path: Path) -> str:
    """The digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
