"""Keep the memory that the process has: on Linux, giving pages back between steps costs up to half the speed."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # <malloc.h>


def keep_memory() -> bool:
    """Tell glibc to serve large blocks from its heap and not to return them; True where that worked.

    For the process that trains and attacks, before its first tensor.  Peak memory stays, as blocks are reused.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all((mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, 2**31 - 1), mallopt(_M_TOP_PAD, 64 * 2**20)))
