"""Which models' decoding steps can be captured as CUDA graphs: a captured step must not copy values to the CPU."""

from __future__ import annotations

from typing import Any

from tutelage_transformers.models.experts import experts_of

_CAPABILITIES = (9, 10)
"""Major compute capabilities of the GPUs (H100, H200, B200) for which torch has a kernel of the grouped product."""


def can_be_captured(model: Any, capability: tuple[int, int]) -> bool:
    """Return whether a decoding step of ``model`` can be captured on an NVIDIA GPU of this compute capability.

    The experts of a mixture get different numbers of tokens in each step. transformers multiplies them by
    ``torch.nn.functional.grouped_mm``. In bfloat16 on the GPUs of ``_CAPABILITIES``, its kernel reads these numbers on
    the GPU. In other types and on other GPUs, it copies them to the CPU, also on those of 8.0 to 8.9, for which it is
    documented (``_grouped_mm_cuda`` in ATen). Other implementations of experts are not captured:
    ``eager`` copies as well, and ``batched_mm`` copies the weights of the experts for each token, which may take more
    memory than the model.
    """
    import torch

    return all(
        capability[0] in _CAPABILITIES
        and _multiplies_groups(module)
        and all(weight.dtype == torch.bfloat16 for weight in module.parameters())
        for module in experts_of(model)
    )


def _multiplies_groups(experts: Any) -> bool:
    """Return whether the experts use ``grouped_mm``, the default of all classes that let it be chosen."""
    is_chosen = hasattr(experts, "is_transposed")  # set by transformers' ``use_experts_implementation``
    return is_chosen and experts.config._experts_implementation == "grouped_mm"
