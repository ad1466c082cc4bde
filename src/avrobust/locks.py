"""One process at a time: lock files that say who holds them, released when the process that holds them ends.

On a disk without locks, as some network disks, `filelock` writes a marker file instead, which stays if its host crashes.
So whoever is refused or has to wait reads which process holds the lock, and which file to delete if that is gone.
"""

import os
import socket
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from avrobust.files import write_bytes

PATIENCE_S = 3.0  # to wait without a word


class LockError(ValueError):
    """Another process holds a lock: says which one, on which host."""


class Lock:
    """A lock on `path` while a block runs; waits for the process that holds it, or raises `LockError` without `wait`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Lock(Path(folder) / ".lock") as held:
    ...     held.holder.startswith(f"process {os.getpid()} on ")
    True
    """

    def __init__(self, path: Path, *, wait: bool = True) -> None:
        self.path, self.wait = path, wait
        self._lock = FileLock(path)
        self._signed = path.with_name(f"{path.name}.holder")  # the lock itself cannot be read everywhere

    @property
    def files(self) -> tuple[Path, Path]:
        """The files that it leaves."""
        return self.path, self._signed

    @property
    def holder(self) -> str:
        """The process that took the lock last."""
        try:
            return self._signed.read_text()
        except OSError:
            return "another process"

    def __enter__(self) -> "Lock":
        try:
            self._lock.acquire(timeout=PATIENCE_S if self.wait else 0)
        except Timeout:
            if not self.wait:
                raise LockError(
                    f"{self.path.parent}: expected a folder that no other process writes to, got one that {self.holder} "
                    f"is at work on. Wait for it, or give another folder; if it no longer exists, delete {self.path}."
                ) from None
            print(f"waiting for {self.holder}; if it no longer exists, delete {self.path}", file=sys.stderr, flush=True)
            self._lock.acquire()
        now = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
        write_bytes(self._signed, f"process {os.getpid()} on {socket.gethostname()} (since {now})".encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # the disk may be full or gone, which the block has said
            self._signed.unlink(missing_ok=True)
        self._lock.release()
