"""The memory that torch frees on a CPU."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""
_KEPT = 512 * 2**20
"""Maximum number of freed bytes at the end of the heap that are kept."""
_LARGEST_KEPT = 32 * 2**20
"""Allocations of more bytes are returned to the system when they are freed. glibc allows no higher value."""


@cache
def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next tensors. Does nothing with another C library.

    By default, glibc returns the memory of each layer's activations to the system, and the system clears every page
    again for the next layer: up to a tenth of the time of a small model.
    """
    with suppress(OSError, AttributeError, TypeError):  # macOS, musl and Windows have no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
