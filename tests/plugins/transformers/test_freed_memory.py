"""The memory that a model frees on a CPU is used again, without a page fault."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from tutelage_transformers.devices.freed_memory import keep_freed_memory
if "keep" in sys.argv:
    keep_freed_memory()

def allocate():
    blocks = [bytearray(2**24) for _ in range(4)]

allocate()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
allocate()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(*arguments: str) -> int:
    """The page faults of 64 MB that are allocated, freed, and allocated again."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc returns freed memory that often")
def test_freed_memory_is_kept_for_the_next_allocation() -> None:
    assert page_faults("keep") < 100 < page_faults()
