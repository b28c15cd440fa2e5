"""Weights files that are written in parallel: copies from a GPU and writes of one file overlap those of the others.

Files of tensors on a GPU are written by ``gpu_files``, all others by safetensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tutelage_transformers.models.gpu_files import finish_work, is_writable, write_file

SHARD_SIZE = "1GB"
"""Maximum size of a weights file. The checksums of several files are also computed in parallel."""
_WRITERS = 8
"""Number of files that ``gpu_files`` writes at a time. Each needs a buffer of 32 MB."""
_COPYING_WRITERS = 4
"""Number of files that safetensors writes at a time. Each needs a copy of its tensors if they are not on the CPU, as on
Apple's GPU."""


def save_weights(model: Any, output: Path) -> None:
    """Write the weights and the configuration of a model as ``model.save_pretrained`` does, several files at a time.

    A file that cannot be written raises the error of the first one, after all have ended.
    """
    with _parallel_writes():
        model.save_pretrained(output, max_shard_size=SHARD_SIZE)


def share_files(folder: Path) -> None:
    """Give the weights files in a folder the permissions of ``config.json``, which are those that the umask sets.

    safetensors 0.8 makes its files readable for their owner alone, so that others could not use a shared cache or run.
    """
    mode = (folder / "config.json").stat().st_mode
    for file in folder.rglob("*.safetensors"):
        file.chmod(mode)


@contextmanager
def _parallel_writes() -> Iterator[None]:
    """Make transformers continue with the next file while files are written, and wait for all at the end.

    Files are complete for readers, but not yet on the disk: waiting for it would take ten times as long. They are made
    durable later, while their checksums are computed.

    Before safetensors 0.8, its writing holds the GIL, so that files of tensors on the CPU are written one by one.
    """
    from transformers import modeling_utils

    write = modeling_utils.safe_save_file
    writes: list[Future[None]] = []

    def start(tensors: Mapping[str, Any], file: Any, metadata: Any = None) -> None:
        from_gpu = is_writable(tensors)
        if from_gpu:  # transformers may have started to change their layout, on a stream of this thread
            finish_work(tensors)
        threads, function = (writers, write_file) if from_gpu else (copying_writers, write)
        writes.append(threads.submit(function, tensors, Path(file), metadata=metadata))

    with ThreadPoolExecutor(_WRITERS) as writers, ThreadPoolExecutor(_COPYING_WRITERS) as copying_writers:
        modeling_utils.safe_save_file = start
        try:
            yield
        finally:
            modeling_utils.safe_save_file = write
    for one in writes:
        one.result()
