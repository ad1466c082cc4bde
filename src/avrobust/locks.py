"""One process at a time: lock files, released when the process that holds them ends.

On a disk without locks, as some network disks, `filelock` writes a marker file that names its process and host
instead.  If that host crashes, the marker stays for ever, and no other host can tell.  So a process that holds a
marker touches it regularly, and a process that waits for one says so, and gives up when the marker is no longer
touched.
"""

import os
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

LOOK_S = 0.2  # between two attempts to take a lock
TOUCH_S = 20.0  # between two touches of a marker that is held
# A marker of another host that was not touched for so long counts as left behind.
GIVE_UP_S = 300.0


class LockError(ValueError):
    """A lock that another process seems to have left behind: says which process, since when, and what to delete."""


@dataclass(frozen=True)
class Marker:
    """The process that wrote a marker file."""

    pid: str
    host: str
    touched_s: float  # the file's own clock

    @classmethod
    def read(cls, path: Path) -> "Marker | None":
        """The marker in a file; None for a lock of the operating system, or no file."""
        try:
            pid, host, *_ = [*path.read_text(errors="replace").split("\n"), "", ""]
            touched_s = path.stat().st_mtime
        except OSError:
            return None
        return cls(pid, host, touched_s) if host else None

    @property
    def elsewhere(self) -> bool:
        """Whether it is of another host; `filelock` removes markers of processes of this host that died."""
        return self.host.split("?")[0] != socket.gethostname()


class Lock:
    """A lock on `path`, which its holder may enter again.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Lock(Path(folder) / ".lock") as held:
    ...     held.try_acquire()
    True
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path)
        self._depth = 0
        self._released = threading.Event()
        self._waited: tuple[Marker, float] | None = None  # the marker as it was last touched, and when that was seen

    def try_acquire(self) -> bool:
        """Take the lock and return True; False if another process holds it.

        Raises `LockError` where a marker has not been touched for `AVROBUST_LOCK_WAIT_S` seconds, by
        default five minutes.
        """
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            self._look()
            return False
        self._waited = None
        self._depth += 1
        if self._depth == 1:
            self._released = threading.Event()
            threading.Thread(target=self._touch, args=(self._released,), daemon=True).start()
        return True

    def release(self) -> None:
        """Release the lock, once for each time it was taken."""
        self._depth -= 1
        if self._depth == 0:
            self._released.set()
        self._lock.release()

    def __enter__(self) -> "Lock":
        while not self.try_acquire():
            time.sleep(LOOK_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _touch(self, released: threading.Event) -> None:
        while not released.wait(TOUCH_S):
            with suppress(OSError):
                os.utime(self.path)

    def _look(self) -> None:
        """Print once which process is waited for; raise when its marker is no longer touched."""
        there = Marker.read(self.path)
        if there is None:
            self._waited = None
            return
        since = datetime.fromtimestamp(there.touched_s).strftime("%Y-%m-%d %H:%M:%S")
        who = f"process {there.pid} on {there.host}, last heard of {since}"
        if self._waited is None and there.elsewhere:
            print(f"{self.path}: waiting for {who}", file=sys.stderr, flush=True)
        if self._waited is None or there != self._waited[0]:
            self._waited = there, time.monotonic() - max(0.0, self._now_s() - there.touched_s)
        most = float(os.environ.get("AVROBUST_LOCK_WAIT_S") or GIVE_UP_S)
        waited = time.monotonic() - self._waited[1]
        if waited > most:
            raise LockError(
                f"{self.path}: expected to go on when {who}, is done, but it has been silent for {waited:.0f} s. "
                "If it is no longer at work, delete this file and give the same command again; what is finished is kept."
            )

    def _now_s(self) -> float:
        """The time by the disk's clock, which may differ from ours."""
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}.now")
        try:
            beside.touch()
            return beside.stat().st_mtime
        except OSError:
            return time.time()
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
