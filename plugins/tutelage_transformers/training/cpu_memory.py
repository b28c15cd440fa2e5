"""What a training step takes of a machine's memory, on a CPU: float32 or half precision, without packing's kernels.

The figures were measured with ``torch.autograd.graph.saved_tensors_hooks`` on Gemma 3, Llama, Phi and GPT-2, and
compared with the peak of the resident memory in steps of Gemma 3 270M.
"""

from __future__ import annotations

from typing import Any

from tutelage.objectives import Objective
from tutelage_transformers.devices.capacity import capacity_of_machine
from tutelage_transformers.models.support import caps_scores, query_heads

_USABLE_SHARE = 0.75
"""Usable share of the machine's memory, or of a container's limit: other programs take the rest."""
_LIBRARIES = 2**30
"""Bytes of Python, torch, transformers and TRL."""
_TILE = (4096, 32_768)
"""Maximum tokens and vocabulary entries of the pieces in which TRL computes logits."""
_TILE_COPIES = 6
"""Float32 tensors of one piece that are in memory at once, without Triton."""


def usable_bytes(processes: int) -> int | None:
    """Return the bytes that one of ``processes`` processes may use, or None if the machine's memory is not known.

    The number depends on the machine and a container's limit alone, not on the memory that is free at the moment.
    """
    machine = capacity_of_machine()
    return None if machine is None else int(_USABLE_SHARE * machine.total / processes)


def step_bytes(objective: Objective, model: Any, adapter: int, tokens: int, longest: int, checkpointing: bool) -> int:
    """Estimate the bytes of a training step; meant to be slightly too high.

    ``tokens`` are computed at once, padding included, in sequences of at most ``longest``. ``adapter`` is the number of
    weights of the adapter. The sum of: the libraries; weights, gradients and Adam's two moments; the activations that
    are kept for the backward pass, attention probabilities among them; and the pieces of the head's logits, with the
    gradient of its weights.
    """
    config = model.config.get_text_config()
    layers, hidden, vocabulary = (
        int(size) for size in (config.num_hidden_layers, config.hidden_size, config.vocab_size)
    )
    footprint = int(model.get_memory_footprint())
    adapted = objective.lora is not None
    state = footprint + 16 * adapter if adapted else 4 * footprint
    layer = 4 * ((30 if adapted else 18) * hidden + 4 * _inner_size(config, hidden))
    scores = 4 * query_heads(config) * longest * ((3 if _drops_scores(config) else 1) + caps_scores(config))
    one_layer = layer + scores
    kept = layers * 4 * hidden + one_layer if checkpointing else layers * one_layer
    passing = 8 * hidden + 2 * scores  # gradients of activations, in one layer at a time
    head = 4 * _TILE_COPIES * min(tokens, _TILE[0]) * min(vocabulary, _TILE[1])
    head += (4 if adapted else 8) * vocabulary * hidden
    return _LIBRARIES + state + tokens * (kept + passing) + head


def _inner_size(config: Any, hidden: int) -> int:
    """The width of the feed-forward block. In a mixture of experts, that of the experts of one token."""
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * hidden
    inner = max(inner) if isinstance(inner, list) else inner
    experts = getattr(config, "num_experts_per_tok", None) or 1
    return int(inner) * int(experts)


def _drops_scores(config: Any) -> bool:
    return any(getattr(config, name, 0.0) for name in ("attention_dropout", "attn_pdrop"))
