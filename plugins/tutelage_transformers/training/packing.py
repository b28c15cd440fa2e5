"""Training without padding, below TRL's own trainers.

TRL pads a batch to its longest row. Here its collators also return where the real tokens are (``plan``). The backbone
of the model, which is all but its head, computes one packed row of these tokens: padding is dropped, positions restart
with each sequence, and attention stays within a sequence. The hidden states are then put back where TRL expects them.
TRL's head computes logits of the answers only. Its losses, metrics and loop are not changed.

The prompt of a preference pair is computed once: the rejected answer attends to the keys and values of the prompt in
the chosen sequence. The result is the same, and so is the gradient, which flows back through both answers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from types import MethodType
from typing import Any

from tutelage.errors import InputError
from tutelage_transformers.attention import packed, probing, segments
from tutelage_transformers.devices.selection import is_nvidia
from tutelage_transformers.models import support
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training import pair_labels
from tutelage_transformers.training.capturing import CapturedBackbone
from tutelage_transformers.training.routing import spread_router_logits

_ATTENTION_DROPOUT = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob")
"""Names of the probability in configurations: the second one is GPT-2's, the third one BERT's."""
_CAPTURED = "tutelage_captured"
"""Name of the attribute of a backbone that has its ``CapturedBackbone``, if its training steps are captured."""


def is_wanted(model: Any, settings: TransformersSettings) -> bool:
    """Return whether to train ``model`` packed: as the setting says; if left open, on an NVIDIA GPU if it is supported.

    Raises ``InputError`` if the setting asks for it and the model does not support it.
    """
    if settings.packing is None:
        return is_nvidia(model.device) and _unsupported_reason(model) is None
    if settings.packing and (reason := _unsupported_reason(model)):
        raise InputError(
            f"plugin transformers, settings.packing: this model cannot be packed: {reason}; leave packing out"
        )
    return settings.packing


def _unsupported_reason(model: Any) -> str | None:
    config = model.config.get_text_config()
    if any(getattr(config, name, 0.0) for name in _ATTENTION_DROPOUT):
        return "it drops attention weights in training"
    if support.caps_scores(model.config):
        return "it caps its attention scores, which no kernel for packed batches does"
    return segments.unsupported_reason(model) or probing.unsupported_reason(model)


def pack(model: Any) -> None:
    """Make ``model``, a causal language model without an adapter yet, run packed on batches that have a ``packing``."""
    packed.register()
    model.set_attn_implementation(packed.NAME)
    backbone = model.base_model
    padded_forward = backbone.forward

    def forward(
        self: Any,
        input_ids: Any,
        attention_mask: Any = None,
        position_ids: Any = None,
        *,
        packing: dict[str, Any],
        **kwargs: Any,
    ) -> Any:
        tokens = packing["tokens"]
        ids = input_ids.flatten().index_select(0, tokens)

        def computed(ids: Any, packing: Mapping[str, Any]) -> Any:
            return padded_forward(
                input_ids=ids[None], position_ids=packing["positions"][None], packing=packing, **kwargs
            )

        captured = getattr(self, _CAPTURED, None)
        if captured is not None and self.training:
            states = captured.run(lambda *batch: computed(*batch).last_hidden_state[0], ids, packing)
            output = _output(states[None])
        else:
            output = computed(ids, packing)
        spread_router_logits(output, packing, attention_mask)
        hidden = output.last_hidden_state[0]
        padded = hidden.new_zeros(input_ids.numel(), hidden.shape[-1]).index_copy(0, tokens, hidden)
        output.last_hidden_state = padded.view(*input_ids.shape, -1)
        return output

    backbone.forward = MethodType(forward, backbone)


def capture(trainer: Any, longest: int, token_sizes: int) -> None:
    """Capture the training steps of the trainer's model, which is packed and may have an adapter (see ``capturing``).

    ``longest`` is the number of tokens of the longest sequence of the training, ``token_sizes`` the number of sizes of
    its batches, from one power of two to the next.
    """
    model = trainer.model
    causal = model.get_base_model() if hasattr(model, "peft_config") else model
    backbone = causal.base_model
    weights = [weight for weight in backbone.parameters() if weight.requires_grad]
    captured = set(weights)
    others = [weight for weight in model.parameters() if weight.requires_grad and weight not in captured]

    def optimizer_state() -> Collection[Any]:
        return () if trainer.optimizer is None else trainer.optimizer.state  # the optimizer is made at the start

    setattr(backbone, _CAPTURED, CapturedBackbone(weights, longest, others, optimizer_state, token_sizes))


def _output(states: Any) -> Any:
    from transformers.modeling_outputs import BaseModelOutputWithPast

    return BaseModelOutputWithPast(last_hidden_state=states)


def plan(lengths: Sequence[int], width: int, shared: Sequence[int] | None = None) -> dict[str, Any]:
    """Return where the real tokens of a padded batch (rows, ``width``) are, and which keys they attend to.

    ``lengths`` are the tokens of each row, at its left. The first ``shared[row]`` of them are also in the row half a
    batch before, and are computed only there; each row needs at least one token of its own. Returns tensors on the CPU,
    int64 unless noted, and integers:

    - ``tokens``: indices of the computed tokens in the flattened batch; ``positions``: their positions in the sequence
    - ``starts`` int32, ``longest``: start of each sequence among them (and the end), and the length of the longest one
    - ``key_starts`` int32, ``longest_keys``: the same including shared tokens
    - only if tokens are shared: ``keys``, the index of the computed token of each key; ``own``, for each computed token
      the index of its own key; ``copied``, the indices of the keys that are repeated
    """
    import torch

    shared = shared or [0] * len(lengths)
    own = [length - skipped for length, skipped in zip(lengths, shared, strict=True)]
    starts, key_starts = _starts(own), _starts(lengths)
    packing: dict[str, Any] = {
        "tokens": _ranges([row * width + skipped for row, skipped in enumerate(shared)], own),
        "positions": _ranges(shared, own),
        "starts": torch.tensor(starts, dtype=torch.int32),
        "longest": max(own),
        "key_starts": torch.tensor(key_starts, dtype=torch.int32),
        "longest_keys": max(lengths),
    }
    if any(shared):
        half = len(lengths) // 2
        firsts = [value for row in range(len(lengths)) for value in (starts[row - half], starts[row])]
        counts = [value for pair in zip(shared, own, strict=True) for value in pair]
        packing["keys"] = _ranges(firsts, counts)
        packing["own"] = _ranges([start + skipped for start, skipped in zip(key_starts, shared, strict=False)], own)
        packing["copied"] = _ranges(key_starts[:-1], shared)
    return packing


def _starts(lengths: Sequence[int]) -> list[int]:
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    return starts


def _ranges(firsts: Sequence[int], counts: Sequence[int]) -> Any:
    """Return the ranges of ``counts[i]`` numbers from ``firsts[i]`` on, concatenated."""
    import torch

    return torch.cat([torch.arange(first, first + count) for first, count in zip(firsts, counts, strict=True)])


@cache
def _collators() -> tuple[type[Any], type[Any]]:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    class PackedDpoCollator(pair_labels.collator()):  # type: ignore[misc]  # TRL has no types
        def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
            batch = dict(super().torch_call(examples))
            lengths = [
                len(row["prompt_ids"]) + len(row[side]) for side in ("chosen_ids", "rejected_ids") for row in examples
            ]
            # the last token of the prompt predicts the first of the answer, so each sequence computes its own
            shared = [0] * len(examples) + [max(0, len(row["prompt_ids"]) - 1) for row in examples]
            batch["packing"] = plan(lengths, batch["input_ids"].shape[1], shared)
            return batch

    class PackedSftCollator(DataCollatorForLanguageModeling):  # type: ignore[misc]  # TRL has no types
        def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
            batch = dict(super().torch_call(examples))
            batch["packing"] = plan([len(row["input_ids"]) for row in examples], batch["input_ids"].shape[1])
            return batch

    return PackedSftCollator, PackedDpoCollator


def is_packed(collator: Any) -> bool:
    """Return whether the batches of this collator have a ``packing``."""
    return isinstance(collator, _collators())


def sft_collator(pad_token_id: int) -> Any:
    """Return TRL's collator for SFT, with a ``packing`` in its batches."""
    return _collators()[0](pad_token_id=pad_token_id)


def dpo_collator(pad_token_id: int) -> Any:
    """Return TRL's collator for DPO, with a ``packing`` in its batches."""
    return _collators()[1](pad_token_id=pad_token_id)
