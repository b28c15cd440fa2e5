"""The weights files of a model, by their headers alone: no tensor is read, and no library is imported.

A safetensors file begins with the length of its header (8 bytes, little-endian) and the header: a JSON object with the
type, the shape and the position of each tensor.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from tutelage.errors import nearest
from tutelage.objectives import Lora

INDEX = "model.safetensors.index.json"
ALL_LINEAR = "all-linear"
"""The value of ``Lora.target_modules`` for every linear layer except the head."""
_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000
"""The maximum of the format, in bytes."""
_OTHER_FORMATS = ("*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack")
_NOT_LINEAR = ("embed", "embd", "wte", "wpe", "lm_head")
"""Parts of the names of matrices that get no adapter."""


class BadWeights(Exception):
    """A weights file that cannot be used. The message names the file."""


@frozen
class WeightShapes:
    """The shapes of all tensors of a model, by name."""

    shapes: Mapping[str, tuple[int, ...]]

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def adapter_size(self, lora: Lora) -> int:
        """Return the number of weights of a LoRA adapter on the layers that it names."""
        return sum(lora.r * sum(shape) for layer, shape in self._linear() if is_target(lora, layer))

    def target_problems(self, lora: Lora) -> Iterator[str]:
        """Yield each name of the adapter's layers that matches no matrix of the model, as ``KEY: problem``."""
        yield from target_problems(lora, [layer for layer, _ in self._linear()])

    def _linear(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The path and the shape of each linear layer except the head."""
        for name, shape in self.shapes.items():
            if len(shape) == 2 and not any(part in name for part in _NOT_LINEAR):
                yield name.removesuffix(".weight"), shape


def is_target(lora: Lora, layer: str) -> bool:
    """Return whether an adapter is put on a linear layer: it has all, or the last parts of its path are a name."""
    return lora.target_modules == ALL_LINEAR or any(f".{layer}".endswith(f".{name}") for name in lora.target_modules)


def target_problems(lora: Lora, layers: Sequence[str]) -> Iterator[str]:
    """Yield each name of ``target_modules`` that matches none of the linear ``layers``, which are given by path."""
    if lora.target_modules == ALL_LINEAR:
        return
    names = sorted({layer.rpartition(".")[2] for layer in layers})
    for target in lora.target_modules:
        if not any(is_target(evolve(lora, target_modules=(target,)), layer) for layer in layers):
            yield f"lora.target_modules: {target!r} is no linear layer of the model{nearest(target, names)}"


def read_shapes(folder: Path) -> WeightShapes:
    """Read the headers of all weights files in a folder.

    Raises ``BadWeights`` if there are no safetensors files, if one is cut off or no safetensors file, or if the index
    names a file or a tensor that does not exist.
    """
    index = folder / INDEX
    single = folder / "model.safetensors"
    if single.is_file():
        return WeightShapes(_header(single))
    if not index.is_file():
        others = sorted(file.name for kind in _OTHER_FORMATS for file in folder.glob(kind))
        found = f"only {', '.join(others[:3])}, which is another format; convert it" if others else "none"
        raise BadWeights(f"{folder}: no weights as safetensors (model.safetensors or {INDEX}): {found}")
    placed = _placed(index)
    shapes: dict[str, tuple[int, ...]] = {}
    names = sorted(set(placed.values()))
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise BadWeights(f"{index}: names {', '.join(missing)}, missing in the folder; copy what is missing")
    for name in names:
        header = _header(folder / name)
        lacking = sorted(tensor for tensor, file in placed.items() if file == name and tensor not in header)
        if lacking:
            raise BadWeights(f"{folder / name}: lacks {len(lacking)} tensors of the index, such as {lacking[0]}")
        shapes |= header
    return WeightShapes(shapes)


def _placed(index: Path) -> dict[str, str]:
    """The file of each tensor, by the index."""
    try:
        placed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if not placed or not all(isinstance(name, str) for pair in placed.items() for name in pair):
            raise ValueError("weight_map must map names of tensors to names of files")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadWeights(f"{index}: cannot be read: {type(error).__name__}: {error}; copy it again") from error
    return dict(placed)


def _header(file: Path) -> dict[str, tuple[int, ...]]:
    """The shapes in the header of one file, whose length must be that of its header and tensors."""
    try:
        size = file.stat().st_size
        with file.open("rb") as content:
            length = int.from_bytes(content.read(_LENGTH_BYTES), "little")
            if size < _LENGTH_BYTES or length > min(_LONGEST_HEADER, size - _LENGTH_BYTES):
                raise BadWeights(f"{file}: no safetensors file, or cut off in its header; copy it again")
            tensors = dict(_tensors(json.loads(content.read(length))))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadWeights(f"{file}: its header cannot be read ({error}); copy it again") from error
    end = _LENGTH_BYTES + length + max((end for _, end in tensors.values()), default=0)
    if size != end:
        raise BadWeights(f"{file}: {size:,} bytes, but its header describes {end:,}: it is cut off; copy it again")
    return {name: shape for name, (shape, _) in tensors.items()}


def _tensors(header: dict[str, Any]) -> Iterator[tuple[str, tuple[tuple[int, ...], int]]]:
    """Yield the name, the shape and the end of each tensor."""
    for name, described in header.items():
        if name != "__metadata__":
            yield name, (tuple(int(n) for n in described["shape"]), int(described["data_offsets"][1]))
