"""glibc hands large blocks back to the system after each batch and asks for them again; training on a CPU suffers."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
LARGEST_INT = 2**31 - 1


def keep_memory() -> bool:
    """Tell glibc to keep freed memory for the next batch; whether it could be told (Linux with glibc).

    The same as starting Python with MALLOC_MMAP_MAX_=0 and a high MALLOC_TRIM_THRESHOLD_, but from inside a kernel.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, LARGEST_INT), mallopt(M_TOP_PAD, 64 << 20)])
