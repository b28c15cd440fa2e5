"""Compile Triton kernels in threads: the first run on a machine waits for fewer of them.

Triton compiles a kernel, and an extension of Python in C that starts it, when it is first called, and keeps both in the
user's cache. This takes about a second for each kernel, most of it in C++ and in a C compiler, which do not hold
Python's lock.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

Calls = Sequence[Callable[[], object]]


@contextmanager
def compiling_in_threads(device: Any, first_calls: Callable[[], Calls]) -> Iterator[None]:
    """Make calls that start kernels on a GPU, each in a thread of its own, while the context runs.

    ``first_calls`` returns them. The context ends when all of them have ended. An error is dropped: the program itself
    calls the kernels later, and gets it again.
    """
    import torch

    gpu = torch.cuda.current_device() if device.index is None else device.index

    def make(call: Callable[[], object]) -> None:
        with suppress(Exception), torch.cuda.device(gpu):  # a thread has a current GPU of its own
            call()

    # Triton's compiler changes Python's filters of warnings, and restores them in the order of one thread
    with warnings.catch_warnings(), ThreadPoolExecutor() as threads:
        with suppress(Exception):
            _initialise_triton()
            for call in first_calls():
                threads.submit(make, call)
        yield


def _initialise_triton() -> None:
    """Do what each thread would do otherwise: build Triton's driver, and compute the checksum of its library."""
    import triton
    from triton.runtime.cache import triton_key

    triton.runtime.driver.active.get_current_device()
    triton_key()
