"""What the time of writing a checkpoint, and of reading it again, consists of. Random weights; the files are deleted.

    python tests/bench/bench_checkpoint.py --size phi-2 --folder /tmp                    # on a GPU
    python tests/bench/bench_checkpoint.py --size phi-2 --folder /tmp --safetensors      # written by safetensors
    python tests/bench/bench_checkpoint.py --size phi-2 --layers 8 --folder /tmp --device cpu

It prints a JSON line for each repetition, with the seconds of each part and its GB/s. ``write`` is the part that
``train_step`` does: copies from the GPU, and the files in the memory of the system. ``durable`` waits for the disk.
``write_again`` writes it once more. ``durable_and_digests`` waits for the disk and also computes the checksums
of the files, which the run does before the next step. ``read`` loads the model from these files. On a GPU, ``copy``
and ``copy_pinned`` are the copies alone: to new memory as safetensors does, and through a pinned buffer as ``write``
does. ``--safetensors`` lets safetensors write from the GPU, as it does for tensors on the CPU.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import random_student
import torch

from tutelage.files.whole import make_folder_durable
from tutelage.records import Model
from tutelage.runs.integrity import durable_records_of
from tutelage_transformers.models import gpu_files, loading, shards
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.settings import TransformersSettings

PINNED_BYTES = 1 << 26


def seconds_of(function: Callable[[], object], device: str) -> float:
    """Return the seconds of a call, until the device has done its work."""
    started = time.perf_counter()
    function()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started


def copy(tensors: list[torch.Tensor]) -> None:
    """Copy tensors as safetensors does, several at a time."""
    with ThreadPoolExecutor(shards._COPYING_WRITERS) as threads:
        list(threads.map(lambda tensor: tensor.to("cpu").numel(), tensors))


def copy_pinned(tensors: list[torch.Tensor]) -> None:
    """Copy tensors in pieces to one pinned buffer."""
    buffer = torch.empty(PINNED_BYTES, dtype=torch.uint8, pin_memory=True)
    for tensor in tensors:
        for piece in tensor.reshape(-1).view(torch.uint8).split(PINNED_BYTES):
            buffer[: piece.numel()].copy_(piece)


def measure(model: Any, options: argparse.Namespace) -> dict[str, float]:
    """Return the seconds of each part of one checkpoint."""
    tensors = list(model.state_dict().values())
    found: dict[str, float] = {}

    def time_of(part: str, function: Callable[..., object], *arguments: Any) -> None:
        found[part] = seconds_of(partial(function, *arguments), options.device)

    if options.device.startswith("cuda"):
        time_of("copy", copy, tensors)
        time_of("copy_pinned", copy_pinned, tensors)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="bench-checkpoint-") as name:
        time_of("write", shards.save_weights, model, Path(name))
        time_of("durable", make_folder_durable, Path(name))
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="bench-checkpoint-") as name:
        time_of("write_again", shards.save_weights, model, Path(name))
        time_of("durable_and_digests", durable_records_of, Path(name))
        random_student.tokenizer(options.size).save_pretrained(name)
        settings = TransformersSettings(device=options.device, processes=1)
        time_of("read", loading.read, Model("transformers", name), settings)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(random_student.SIZES), default="small")
    parser.add_argument("--layers", type=int, help="fewer layers than the size has")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", type=Path, required=True, help="folder on the disk to measure")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--safetensors", action="store_true", help="let safetensors write from the GPU, to compare")
    options = parser.parse_args()
    if options.safetensors:
        gpu_files.DEVICE = "none"
    if options.layers is not None:
        random_student.SIZES[options.size]["num_hidden_layers"] = options.layers
    model = random_student.build(options.size, None, options.device)
    size = sum(tensor.nbytes for tensor in model.state_dict().values()) / 1e9
    for _ in range(options.repeat):
        with quiet():
            parts = measure(model, options)
        shown = {name: [round(taken, 2), round(size / taken, 2)] for name, taken in parts.items()}
        print(json.dumps({"GB": round(size, 2), "seconds and GB/s": shown}), flush=True)


if __name__ == "__main__":
    main()
