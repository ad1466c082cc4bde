"""Failures of a study are recorded and left out: a bug in one model does not stop the measurement of others.

A full or read-only disk stops the run; so does Ctrl-C.
"""

import errno
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avrobust.config import brief
from avrobust.files import write_bytes
from avrobust.study.record import RunFile

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
CLOSED = {errno.EACCES, errno.EPERM}


def failed_now(record: RunFile) -> set[str]:
    """The names that failed in this run, in any of its processes; those that failed in an earlier run are tried again."""
    return {name for name, told in failures(record.about).items() if float(told.get("at", 0)) >= record.began_s}


def failed(record: RunFile, name: str) -> bool:
    """Whether `name` failed in this run, in any of its processes."""
    return name in failed_now(record)


def failures(about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What is missing of a run, as its run.json says, by name: `model`, `seed`, `doing`, `error`, and the `log`."""
    return {name: told for name, told in (about.get("failures") or {}).items() if told}


@contextmanager
def left_out(record: RunFile, name: str, model: str, seed: int, doing: str) -> Iterator[None]:
    """Write down an error in the block, and go on after it; forget an earlier one where there is none."""
    out = record.path.parent
    try:
        yield
    except Exception as error:
        if of_the_disk(error, out):
            raise
        log = out / "failures" / f"{name}.txt"
        write_bytes(log, traceback.format_exc().encode(errors="replace"))
        told = {
            "model": model, "seed": seed, "doing": doing, "error": brief(f"{type(error).__name__}: {error}", 500),
            "log": log.relative_to(out).as_posix(), "at": time.time(),
        }  # fmt: skip
        record.update(failures={name: told})
        print(words(told, out), file=sys.stderr, flush=True)
    else:
        if name in failures(record.about):
            record.update(failures={name: None})


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
