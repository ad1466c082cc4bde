"""Failures of a study are recorded and left out: a bug in one model does not stop the measurement of others.

A full or read-only disk stops the run; so does Ctrl-C.
"""

import errno
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avrobust.config import brief
from avrobust.devices import out_of_memory
from avrobust.files import write_bytes
from avrobust.study.record import Notes

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
CLOSED = {errno.EACCES, errno.EPERM}


def failures(about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What is missing of a run, as its run.json says, by name: `model`, `seed`, `doing`, `error`, and the `log`."""
    return {name: told for name, told in (about.get("failures") or {}).items() if told}


@contextmanager
def left_out(notes: Notes, out: Path, name: str, model: str, seed: int, doing: str) -> Iterator[None]:
    """Write down an error in the block, and go on after it."""
    try:
        yield
    except Exception as error:
        if of_the_disk(error, out):
            raise
        told = f"{type(error).__name__}: {out_of_memory(error) or error}"
        notes.update(failures={name: failure(out, name, model, seed, doing, told, traceback.format_exc())})


def failure(out: Path, name: str, model: str, seed: int, doing: str, error: str, log: str) -> dict[str, Any]:
    """A failure for run.json; its `log` is written to the folder `failures`."""
    file = out / "failures" / f"{name}.txt"
    write_bytes(file, log.encode(errors="replace"))
    return {
        "model": model, "seed": seed, "doing": doing, "error": brief(error, 500),
        "log": file.relative_to(out).as_posix(), "at": time.time(),
    }  # fmt: skip


def words(told: Mapping[str, Any], out: Path) -> str:
    """A failure in one line."""
    return (
        f"failed and left out: {told.get('model')} (seed {told.get('seed')}), {told.get('doing')}: "
        f"{str(told.get('error')).rstrip('.')}. The whole error: {out / str(told.get('log'))}"
    )


def of_the_disk(error: BaseException | None, out: Path) -> OSError | None:
    """The error of the disk behind this one: full, gone, or closed to what is written in `out`."""
    while error is not None:
        if isinstance(error, OSError):
            inside = error.filename is not None and Path(str(error.filename)).resolve().is_relative_to(out.resolve())
            if error.errno in DISK or (error.errno in CLOSED and inside):
                return error
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say where an error of the disk happened, and what to do; its own words may not."""
    try:
        yield
    except Exception as error:
        found = of_the_disk(error, folder)
        if found is None:
            raise
        raise OSError(
            found.errno,
            f"{found.filename or folder}: expected to write there, got: {found.strerror or found}. Make room, or give "
            "another folder; the same command goes on, and what is finished is kept",
        ) from error
