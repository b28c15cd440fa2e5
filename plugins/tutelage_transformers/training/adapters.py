"""Faster LoRA layers: the same adapter and the same weights as PEFT's, with fewer passes over memory.

PEFT computes ``base(x) + up(down(dropout(x))) * scaling``. That passes over the layer's output three times more than
the matrix product needs, and casts a half-precision input to the adapter's float32. Here the matrix product adds to the
base's output, in the base's precision. The weights keep their own type.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import MethodType
from typing import Any

from tutelage_transformers.devices.selection import device_of, half_dtype
from tutelage_transformers.settings import TransformersSettings


def fuse_adapters(model: Any) -> int:
    """Replace the forward pass of plain LoRA layers; returns how many. Other kinds (4-bit, DoRA) stay as they are."""
    from peft.tuners.lora.layer import Linear

    layers = [module for module in model.modules() if type(module) is Linear and _is_plain(module)]
    for layer in layers:
        layer.forward = MethodType(_fused(), layer)
    return len(layers)


def adapter_dtype(settings: TransformersSettings) -> Any:
    """Return the torch type of an adapter's weights."""
    import torch

    if settings.adapter_dtype == "auto":
        is_bfloat16 = settings.quantization != "none" and half_dtype(device_of(settings)) == torch.bfloat16
        return torch.bfloat16 if is_bfloat16 else torch.float32  # float16 would need scaled gradients of its own type
    return getattr(torch, settings.adapter_dtype)


def cast_adapters(model: Any, dtype: Any) -> None:
    """Cast the trainable weights of ``model``, its adapter, to ``dtype``. Must precede the optimizer."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


@contextmanager
def drawn_on_the_gpu(device: Any) -> Iterator[None]:
    """Let PEFT draw the weights of a new adapter on an NVIDIA or AMD GPU, if ``device`` is one.

    PEFT draws them on the CPU, in one thread and twice, which takes more than a second for 2.7 billion weights and a
    rank of 64. On other devices nothing changes. A seed gives other weights than on the CPU.
    """
    from peft.tuners.lora.layer import LoraLayer

    if device.type != "cuda":
        yield
        return
    original = LoraLayer.update_layer

    def update_layer(self: Any, *arguments: Any, **options: Any) -> None:
        with device:
            original(self, *arguments, **options)

    LoraLayer.update_layer = update_layer
    try:
        yield
    finally:
        LoraLayer.update_layer = original


def _is_plain(layer: Any) -> bool:
    import torch

    return type(layer.base_layer) is torch.nn.Linear and not layer.lora_variant and not any(layer.lora_bias.values())


@cache
def _fused() -> Any:
    from peft.tuners.lora.layer import Linear
    from torch.nn.functional import linear

    def forward(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        if self.disable_adapters or self.merged or args or kwargs or len(self.active_adapters) != 1:
            return Linear.forward(self, x, *args, **kwargs)
        (adapter,) = self.active_adapters
        rows = x.flatten(0, -2)
        result = self.base_layer(rows)
        down, up = (side[adapter].weight.to(result.dtype) for side in (self.lora_A, self.lora_B))
        inner = linear(self.lora_dropout[adapter](rows).to(result.dtype), down)
        # in place, which autograd allows here: the gradient of a linear layer does not need its output
        return result.addmm_(inner, up.t(), alpha=self.scaling[adapter]).unflatten(0, x.shape[:-1])

    return forward
