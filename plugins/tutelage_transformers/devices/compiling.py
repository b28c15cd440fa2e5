"""Compile Triton kernels in threads: the first run on a machine waits for fewer of them.

Triton compiles a kernel, and an extension of Python in C that starts it, when it is first called, and keeps both in the
user's cache. This takes about a second for each kernel, most of it in C++ and in a C compiler, which do not hold
Python's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def compiled_beside(device: Any, calls: Sequence[Callable[[], object]]) -> Iterator[None]:
    """Make each of the calls, which start kernels on a GPU, in a thread of its own while the context runs.

    The context ends when all of them have ended. An error of a call is dropped: the program itself calls the kernels
    later, and gets it again.
    """
    import torch
    import triton

    triton.runtime.driver.active.get_current_device()  # or each of the threads would initialise Triton

    def make(call: Callable[[], object]) -> None:
        with suppress(Exception), torch.cuda.device(device):  # the current GPU is that of a thread
            call()

    with ThreadPoolExecutor(max(1, len(calls))) as threads:
        for call in calls:
            threads.submit(make, call)
        yield
