"""When freed memory goes back to the system: not between steps, which costs up to half of the speed; but between batches."""

import ctypes
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4  # <malloc.h>
_kept = False


def keep_memory() -> bool:
    """Make glibc allocate large blocks from its heap and keep them; True if that worked (Linux with glibc).

    Call it in a process that trains or attacks, before its first tensor.  Peak memory does not grow: blocks are reused.
    """
    global _kept
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    _kept = all((mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, 2**31 - 1), mallopt(_M_TOP_PAD, 2**20)))
    return _kept


@contextmanager
def apart() -> Iterator[None]:
    """Large blocks allocated inside go back to the system when they are freed, but for those that fit where others were.

    For what lives on after blocks beside it are freed: in their midst it would leave holes.  Changes nothing where memory is not
    kept.

    >>> with apart():
    ...     long_lived = bytearray(2**22)
    """
    if not _kept:
        yield
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_M_MMAP_THRESHOLD, 2**20)
    mallopt(_M_MMAP_MAX, 2**16)
    try:
        yield
    finally:
        mallopt(_M_MMAP_MAX, 0)


def give_back() -> None:
    """Return memory that was freed to the system, on Linux with glibc.

    Call it between large batches: small blocks that live on pin the heap, and the next batch is put behind the last one.

    >>> give_back()
    """
    if (trim := _trim()) is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    return ctypes.CDLL(None).malloc_trim if platform.libc_ver()[0] == "glibc" else None
