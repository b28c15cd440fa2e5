"""Faster LoRA layers: the same adapter and the same weights as PEFT's, with fewer passes over memory.

PEFT computes ``base(x) + up(down(dropout(x))) * scaling``. That passes over the layer's output three times more than
the matrix product needs, and casts a half-precision input to the adapter's float32. Here the matrix product adds to the
base's output, in the base's precision. The weights keep their own type.

On an NVIDIA GPU, a layer in half precision is one node of autograd, with kernels that compute the mask of the dropout
when they need it (see ``adapter_kernels``). The CPU has fewer kernels to start, and no dropped input is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import MethodType
from typing import Any

from tutelage.objectives import Lora
from tutelage_transformers.devices.compiling import compiling_in_threads
from tutelage_transformers.devices.selection import device_of, dtype_of, half_dtype, kernels_problem
from tutelage_transformers.settings import TransformersSettings

_MAX_RANK = 128
"""Rank up to which the kernels' blocks fit into the shared memory of a GPU's processor."""


def fuse_adapters(model: Any, with_kernels: bool = True) -> int:
    """Replace the forward pass of plain LoRA layers; returns how many. Other kinds (4-bit, DoRA) stay as they are.

    With ``with_kernels``, the layers that can use ``adapter_kernels`` do (see ``has_kernels``). They do not call the
    base layer as a module, so hooks of the base layer do not run.
    """
    from peft.tuners.lora.layer import Linear

    layers = [module for module in model.modules() if type(module) is Linear and _is_plain(module)]
    can_use_kernels = cache(has_kernels)  # it looks for a compiler, and most layers are alike
    for layer in layers:
        weight = layer.base_layer.weight
        uses_kernels = with_kernels and can_use_kernels(weight.device, weight.dtype, max(layer.r.values()))
        layer.forward = MethodType(_by_kernels() if uses_kernels else _fused(), layer)
    return len(layers)


def has_kernels(device: Any, dtype: Any, rank: int) -> bool:
    """Return whether a layer of this type on this device, with an adapter of this rank, can use ``adapter_kernels``.

    A GPU before NVIDIA's Ampere, which does not compute in bfloat16, cannot: its processors have too little shared
    memory (64 KiB on a T4; the kernel of the gradients takes 80 KiB for a rank above 64).
    """
    import torch

    return (
        dtype in (torch.bfloat16, torch.float16)
        and rank <= _MAX_RANK
        and kernels_problem(device) is None
        and half_dtype(device) == torch.bfloat16
    )


@contextmanager
def kernels_compiled(lora: Lora | None, settings: TransformersSettings) -> Iterator[None]:
    """Compile the kernels of the LoRA layers of a packed training while the context runs, unless it cannot use them.

    Whether the model can be packed is known when it has been read.
    """
    device, dtype = device_of(settings), dtype_of(settings)
    may_use = settings.packing is not False and settings.quantization == "none" and settings.accelerate_config is None
    if lora is None or not may_use or not has_kernels(device, dtype, lora.r):
        yield
        return
    from tutelage_transformers.training.adapter_kernels import first_calls

    types = dtype, adapter_dtype(settings)
    with compiling_in_threads(device, lambda: first_calls(device, *types, lora.r, lora.dropout)):
        yield


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


@cache
def _by_kernels() -> Any:
    import torch

    from tutelage_transformers.training.adapter_kernels import AdaptedLinear

    plain = _fused()

    def forward(layer: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        # modules and weights are read from torch's dictionaries: as attributes they take a fifth of the call's time
        modules = layer._modules
        base = modules["base_layer"]._parameters
        weight, bias = base["weight"], base["bias"]
        if (
            layer.disable_adapters
            or layer.merged
            or args
            or kwargs
            or len(layer.active_adapters) != 1
            or x.dtype != weight.dtype
            or not x.is_cuda
            or weight.requires_grad
            or (bias is not None and bias.requires_grad)
            or (torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") != x.dtype)
        ):
            return plain(layer, x, *args, **kwargs)
        (adapter,) = layer.active_adapters
        down, up, dropout = (modules[name]._modules[adapter] for name in ("lora_A", "lora_B", "lora_dropout"))
        chance = getattr(dropout, "p", 0.0) if dropout.training else 0.0  # without dropout, PEFT has an Identity
        return AdaptedLinear.apply(
            x, weight, bias, down._parameters["weight"], up._parameters["weight"], layer.scaling[adapter], chance
        )

    return forward
