"""What a model of transformers must have to be a student, by its configuration alone: torch is not imported."""

from __future__ import annotations

import inspect
from typing import Any

ATTENTION_CACHE = "past_key_values"
"""The argument by which the ``forward`` of a model with attention takes a ``DynamicCache``."""
_CACHE_ARGUMENTS = (ATTENTION_CACHE, "cache_params")
"""The second one is Mamba's."""
_STATE_SEES_PADDING = ("recurrent_gemma",)
"""Types whose recurrent state reads padding before a prompt, so that it would change their completions."""
_ALWAYS_CAUSAL = ("gpt_neox", "gpt_neox_japanese")
"""Types whose configuration has ``is_decoder`` as encoders have, without an effect."""
WITHOUT_CACHE = (
    "gemma4_assistant",
    "gemma4_unified_assistant",
    "minimax",
    "openai-gpt",
    "reformer",
    "rwkv",
    "xlm",
    "xlnet",
    "xlstm",
)
"""The types of causal language models in transformers 5.23 for whose class ``cache_argument`` is None."""
OVERFLOWS_FLOAT16 = ("gemma2", "gemma3", "gemma3_text")
"""Types whose hidden states exceed 65,504, the largest number of float16: those of Gemma 3 270M reach 104,000 (measured
in bfloat16), and its logits in float16 are NaN. vLLM 0.25 refuses these types in float16, too."""
_COMPLETES = "use a model that completes text"
_UNQUANTIZED = "use its unquantised weights"


def unsupported_reason(config: Any) -> str | None:
    """Return why a model of this configuration cannot be a student, with what to use instead, or None if it can.

    ``config`` is a ``transformers.PreTrainedConfig``.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    )

    kind = config.model_type
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return f"its config.json is of the type {kind!r}, which is no causal language model; {_COMPLETES}"
    if config.is_encoder_decoder or (not getattr(config, "is_decoder", True) and kind not in _ALWAYS_CAUSAL):
        return f"its config.json is of the type {kind!r}, which is an encoder or has one; {_COMPLETES}"
    text = config.get_text_config(decoder=True)
    if text is not config:
        return (
            f"its config.json is of the type {kind!r}, a model of text and other inputs; save its language model (type "
            f"{text.model_type!r}) as a checkpoint of its own and use that"
        )
    if reason := _quantised(config):
        return reason
    if kind in WITHOUT_CACHE:
        return (
            f"{MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind]} of transformers has no cache that finished sequences can leave "
            "(DynamicCache), which generation here needs; use another model"
        )
    return None


def cache_argument(model: type[Any]) -> str | None:
    """Return the name of the argument by which ``forward`` of the class takes a ``DynamicCache``, or None."""
    names = inspect.signature(model.forward).parameters
    if "logits_to_keep" not in names or not model._supports_default_dynamic_cache():
        return None
    return next((name for name in _CACHE_ARGUMENTS if name in names), None)


def padding_is_exact(config: Any) -> bool:
    """Return whether a completion is the same if its prompt is padded on the left."""
    return config.get_text_config().model_type not in _STATE_SEES_PADDING


def caps_scores(config: Any) -> bool:
    """Return whether a model caps its attention scores, which neither torch's kernels nor transformers' sdpa do."""
    return bool(getattr(config.get_text_config(), "attn_logit_softcapping", None))


def query_heads(config: Any) -> int:
    """Return the number of heads of queries in each layer; 0 for a model without attention (Mamba)."""
    return int(getattr(config.get_text_config(), "num_attention_heads", None) or 0)


def _quantised(config: Any) -> str | None:
    """Return the reason for quantised weights (GPTQ, AWQ, bitsandbytes, FP8, ...), which are not trained on."""
    stored = getattr(config, "quantization_config", None)
    if not stored:
        return None
    values = stored if isinstance(stored, dict) else stored.to_dict()
    method = str(getattr(values.get("quant_method"), "value", values.get("quant_method"))) or "an unknown method"
    return (
        f"its weights are quantised by {method} (quantization_config in config.json): a trained adapter cannot be "
        f"merged into them, and every checkpoint here is complete by itself; {_UNQUANTIZED}, and "
        "settings.quantization 4bit to train an adapter in as little memory"
    )
