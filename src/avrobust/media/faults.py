"""What goes wrong with a file: what it holds, which lasts, or what may pass.  Knows no formats."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from av.error import FFmpegError

# What passes, and says nothing of what a file holds: a disk or a network that fails, too many files.
PASSING = frozenset([errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT])
FETCH = "Fetch it again, or choose another part of it."


class MediaError(ValueError):
    """A clip that a file cannot give: the file's path, the reason, and what to do.

    >>> print(MediaError(Path("a.mp4"), "has no audio stream", "Leave it out."))
    a.mp4: has no audio stream. Leave it out.
    """

    def __init__(self, path: Path, reason: str, advice: str) -> None:
        super().__init__(path, reason, advice)  # the three, so that it travels between processes
        self.path, self.reason, self.advice = path, reason, advice

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}. {self.advice}"


@contextmanager
def blamed(path: Path) -> Iterator[None]:
    """Whatever goes wrong in the block is the file's failure, a MediaError; but an OSError where it may pass."""
    try:
        yield
    except MediaError:
        raise
    except MemoryError as error:
        if short_of_memory():
            raise OSError(errno.ENOMEM, "Cannot allocate memory", str(path)) from error
        raise MediaError(path, "asks for more memory than there is, as damaged tables do", FETCH) from error
    except FFmpegError as error:
        raise_passing(error, path)
        raise MediaError(path, f"cannot be decoded: {error.strerror}", FETCH) from error
    except OSError:
        raise
    except Exception as error:
        raise MediaError(path, f"cannot be decoded: {type(error).__name__}: {error}", FETCH) from error


def raise_passing(error: FFmpegError | OSError, path: Path) -> None:
    """Raise an OSError if `error` says nothing of the file.

    A damaged table asks for more memory than any machine has: that is the machine's fault only where little is left.
    """
    # FFmpeg's own error of too little memory is no OSError
    if error.errno in PASSING or (error.errno == errno.ENOMEM and short_of_memory()):
        raise OSError(error.errno, error.strerror, str(path)) from error


def short_of_memory() -> bool:
    """Whether as much memory is lacking as an ordinary clip needs."""
    try:
        np.empty(1 << 26, np.uint8)
    except MemoryError:
        return True
    return False
