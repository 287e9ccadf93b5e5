"""What becomes of memory that was given back."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT_BYTES = 32 << 20
_LARGEST_KEPT_BYTES = 4 << 20


def keep_freed_memory() -> bool:
    """Keep up to 32 MiB of it for whoever asks next, and say whether the C library could be told so.

    Memory is otherwise given back to the system after each request with a body of some hundred kilobytes, and asked
    for again page by page with the next: 270 faults each, a millisecond of CPU. What is larger than 4 MiB still is.
    """
    tell = getattr(ctypes.CDLL(None), "mallopt", None)  # musl and others have none, and need none
    return tell is not None and bool(
        tell(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES) and tell(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    )
