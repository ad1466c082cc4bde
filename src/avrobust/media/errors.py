"""What goes wrong with a file: lasting faults of its content, or temporary ones of disk, network and memory."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from av.error import FFmpegError

# Temporary: a disk or a network that fails, too many open files.  They say nothing about what a file holds.
TEMPORARY = frozenset([errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT])

# What to do about a clip that cannot be decoded.
DOWNLOAD = "Download the file again, or choose another part of it."
CONVERT = "Convert the file, or leave it out."
CHOOSE = "Choose another part of the file."


class MediaError(ValueError):
    """A clip cannot be decoded from a file: the file's path, the reason, and what to do.

    >>> print(MediaError(Path("a.mp4"), "has no audio stream", "Leave it out."))
    a.mp4: has no audio stream. Leave it out.
    """

    def __init__(self, path: Path, reason: str, advice: str) -> None:
        super().__init__(path, reason, advice)  # all three, so that it can be pickled
        self.path, self.reason, self.advice = path, reason, advice

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}. {self.advice}"


@contextmanager
def media_errors(path: Path) -> Iterator[None]:
    """Turn any exception in the block into a MediaError about `path`; temporary faults raise OSError."""
    try:
        yield
    except MediaError:
        raise
    except MemoryError as error:
        if short_of_memory():
            raise OSError(errno.ENOMEM, "Cannot allocate memory", str(path)) from error
        raise MediaError(path, "asks for more memory than there is, as damaged tables do", DOWNLOAD) from error
    except FFmpegError as error:
        raise_if_temporary(error, path)
        raise MediaError(path, f"cannot be decoded: {error.strerror}", DOWNLOAD) from error
    except OSError:
        raise
    except Exception as error:
        raise MediaError(path, f"cannot be decoded: {type(error).__name__}: {error}", DOWNLOAD) from error


def raise_if_temporary(error: FFmpegError | OSError, path: Path) -> None:
    """Raise an OSError if `error` is temporary.

    A damaged table asks for more memory than any machine has; too little memory is temporary only where little is left.
    """
    # FFmpeg's own error of too little memory is no OSError
    if error.errno in TEMPORARY or (error.errno == errno.ENOMEM and short_of_memory()):
        raise OSError(error.errno, error.strerror, str(path)) from error


def short_of_memory() -> bool:
    """Whether there is less memory left than an ordinary clip needs."""
    try:
        np.empty(1 << 26, np.uint8)
    except MemoryError:
        return True
    return False
