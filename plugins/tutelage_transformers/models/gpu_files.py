"""Weights files that are written directly from a GPU, without a copy of their tensors in pageable memory.

A file has the bytes that safetensors writes: the length of its header, the header, and the tensors by descending
alignment of their types, then by name. safetensors first copies all tensors of a file to new memory: 3 of 5 seconds for
5.6 GB on an H100. Here, the tensors pass through a small buffer of pinned memory (0.13 s).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from tutelage.files.disk_errors import writing

DEVICE = "cuda"
"""The type of the devices whose tensors are written here."""
PIECE_BYTES = 1 << 24
"""Size of each half of the buffer: one half is written to the file while the other one is filled."""
_TYPES = {
    "int64": "I64",
    "float64": "F64",
    "float32": "F32",
    "int32": "I32",
    "bfloat16": "BF16",
    "float16": "F16",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
"""The types of torch that are written here, by the names that safetensors gives them, in the order of the file."""
_ALIGNMENT = 8
"""The header is padded with spaces to a multiple of it, in bytes."""


def is_writable(tensors: Mapping[str, Any]) -> bool:
    """Return whether ``write_file`` writes these tensors; others are for safetensors, which writes or refuses them.

    They are on one device of the type ``DEVICE``, dense, contiguous, of a type in ``_TYPES``, and share no memory.
    """
    import torch

    if {tensor.device.type for tensor in tensors.values()} != {DEVICE}:
        return False
    plain = all(
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.layout == torch.strided
        and tensor.is_contiguous()
        and not tensor.is_neg()
        and _type_of(tensor) in _TYPES
        for tensor in tensors.values()
    )
    one_device = len({tensor.device for tensor in tensors.values()}) == 1
    return plain and one_device and not _share_memory(tensors)


def finish_work(tensors: Mapping[str, Any]) -> None:
    """Wait for all work on the device of these tensors, so that another thread can write them."""
    import torch

    device = _device_of(tensors)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def write_file(tensors: Mapping[str, Any], file: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors for which ``is_writable`` is true, after the work on the current stream of this thread.

    A file at this path is replaced by a new one, so that programs that have mapped it keep its content. Raises
    ``StageError``, and leaves no file, if the disk does not take it.
    """
    import torch

    types = list(_TYPES)
    ordered = dict(sorted(tensors.items(), key=lambda named: (types.index(_type_of(named[1])), named[0])))
    device = _device_of(tensors)
    with writing(file):
        file.unlink(missing_ok=True)
        try:
            with (
                torch.cuda.device(device) if device.type == "cuda" else nullcontext(),
                file.open("xb", buffering=0) as output,
            ):
                _write_all(output, memoryview(_header(ordered, metadata)))
                for content in _contents(list(ordered.values()), device):
                    _write_all(output, content)
        except BaseException:
            file.unlink(missing_ok=True)
            raise


def _share_memory(tensors: Mapping[str, Any]) -> bool:
    """Whether two tensors of one device overlap, which safetensors refuses for most."""
    spans = sorted((tensor.data_ptr(), tensor.nbytes) for tensor in tensors.values() if tensor.nbytes)
    return any(start + size > after for (start, size), (after, _) in pairwise(spans))


def _device_of(tensors: Mapping[str, Any]) -> Any:
    return next(iter(tensors.values())).device


def _type_of(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _header(ordered: Mapping[str, Any], metadata: Mapping[str, str] | None) -> bytes:
    """The length of the header and the header of a file with these tensors, in this order."""
    described: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in ordered.items():
        start, end = end, end + tensor.nbytes
        described[name] = {
            "dtype": _TYPES[_type_of(tensor)],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(described, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _write_all(output: IO[bytes], content: memoryview) -> None:
    """Write bytes to an unbuffered file, which may take a part of them at a time."""
    while content:
        content = content[output.write(content) :]


def _contents(tensors: list[Any], device: Any) -> Iterator[memoryview]:
    """Yield the bytes of tensors in pieces. A piece is valid until the next one is asked for."""
    import torch

    on_gpu = device.type == "cuda"
    halves = [_half_of_buffer(on_gpu) for _ in range(2)]
    stream = torch.cuda.Stream(device) if on_gpu else None
    if stream is not None:
        stream.wait_stream(torch.cuda.current_stream(device))
    ready: tuple[Any, Any] | None = None
    for number, batch in enumerate(_batches(tensors)):
        half = halves[number % 2]  # its former content has been written: the caller has asked for the next piece
        copied = _start_copies(half, batch, stream)
        if ready is not None:
            yield _content(*ready)
        ready = half[: sum(piece.numel() for piece in batch)], copied
    if ready is not None:
        yield _content(*ready)


def _half_of_buffer(pinned: bool) -> Any:
    """Return a half of the buffer, in pinned memory if the system has some; copies to other memory are slower."""
    import torch

    try:
        return torch.empty(PIECE_BYTES, dtype=torch.uint8, pin_memory=pinned)
    except RuntimeError:
        if not pinned:
            raise
        return _half_of_buffer(pinned=False)


def _batches(tensors: list[Any]) -> Iterator[list[Any]]:
    """Yield the bytes of tensors as lists of pieces: each list but the last one has ``PIECE_BYTES`` bytes."""
    import torch

    batch: list[Any] = []
    room = PIECE_BYTES
    for tensor in tensors:
        content = tensor.detach().reshape(-1).view(torch.uint8)
        while content.numel():
            batch.append(content[:room])
            content = content[room:]
            room -= batch[-1].numel()
            if not room:
                yield batch
                batch, room = [], PIECE_BYTES
    if batch:
        yield batch


def _start_copies(half: Any, batch: list[Any], stream: Any) -> Any:
    """Copy pieces one after another into a half of the buffer. Returns the event of their end on a stream of a GPU."""
    import torch

    with nullcontext() if stream is None else torch.cuda.stream(stream):
        start = 0
        for piece in batch:
            half[start : start + piece.numel()].copy_(piece, non_blocking=True)
            start += piece.numel()
        # A blocking event sleeps while it waits: the other threads need the cores for their writes.
        return None if stream is None else stream.record_event(torch.cuda.Event(blocking=True))


def _content(half: Any, copied: Any) -> memoryview:
    """The bytes of a half of the buffer, after the copies to it have ended."""
    if copied is not None:
        copied.synchronize()
    return memoryview(half.numpy())
