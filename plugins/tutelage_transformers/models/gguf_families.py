"""The model families that can be written as GGUF: hyperparameters, and what llama.cpp stores differently.

llama.cpp computes each family by its own code. A configuration that this code does not compute is refused by name: a
file that loads and gives other logits would be worse than none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import field, frozen

from tutelage.errors import InputError

Values = Iterator[tuple[str, Any]]
"""Hyperparameters: the name of a method of ``gguf.GGUFWriter`` without ``add_``, and its argument."""

_SWA_PERIOD = 6
"""Every sixth layer of Gemma 3 attends to the whole sequence."""


@frozen
class GgufFamily:
    """One architecture of llama.cpp."""

    architecture: str
    """Name of the architecture in GGUF."""
    activations: tuple[str, ...]
    """Names in transformers of the activation that llama.cpp computes."""
    values: Callable[[Any], Values]
    """The hyperparameters beyond those of every family."""
    problems: Callable[[Any], Iterator[str]]
    """What llama.cpp does not compute in a configuration."""
    permutes_heads: bool = False
    """Whether the rows of the query and key projections are stored in pairs, as for rotary embeddings of neighbours."""
    norm_offset: float = 0.0
    """Added to the weights of norms: transformers adds it when it computes."""
    needs_output: bool = False
    """Whether the output layer is stored even if it is tied to the embeddings."""
    rope_types: frozenset[str] = field(default=frozenset({"default"}))


def family_of(config: Any, name: str) -> GgufFamily:
    """Return the family of a configuration. Raises ``InputError`` if it cannot be written as GGUF."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise InputError(
            f"{name}: a model of type {config.model_type!r} cannot be written as GGUF; supported types: "
            f"{', '.join(FAMILIES)}"
        )
    problems = [*_common_problems(config, family), *family.problems(config)]
    if problems:
        raise InputError(f"{name}: this {config.model_type} cannot be written as GGUF: {'; '.join(problems)}")
    return family


def common_values(config: Any) -> Values:
    """Return the hyperparameters of every family."""
    yield "context_length", config.max_position_embeddings
    yield "embedding_length", config.hidden_size
    yield "block_count", config.num_hidden_layers
    yield "feed_forward_length", config.intermediate_size
    yield "head_count", config.num_attention_heads
    yield "head_count_kv", getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    yield "vocab_size", config.vocab_size
    rope = rope_of(config)
    yield "rope_freq_base", float(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        yield "rope_scaling_factor", float(rope["factor"])


def rope_of(config: Any) -> Mapping[str, Any]:
    """Return the parameters of the rotary embeddings: those of the full attention, if there are two kinds."""
    rope = dict(config.rope_parameters or {})
    return {"rope_type": "default", "rope_theta": 10000.0, **dict(rope.get("full_attention", rope))}


def head_size(config: Any) -> int:
    """Return the number of values per attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _common_problems(config: Any, family: GgufFamily) -> Iterator[str]:
    activation = getattr(config, "hidden_activation", None) or config.hidden_act
    if activation not in family.activations:
        yield f"its activation is {activation!r}, and llama.cpp computes {family.activations[0]!r}"
    if (kind := rope_of(config)["rope_type"]) not in family.rope_types:
        yield f"its rotary embeddings are scaled by {kind!r}"
    if getattr(config, "quantization_config", None):
        yield "its weights are quantised; export the checkpoint that was trained"


def _llama_values(config: Any) -> Values:
    yield "layer_norm_rms_eps", config.rms_norm_eps
    yield "rope_dimension_count", head_size(config)
    yield "key_length", head_size(config)
    yield "value_length", head_size(config)


def _qwen_values(config: Any) -> Values:
    yield "layer_norm_rms_eps", config.rms_norm_eps
    yield "key_length", head_size(config)
    yield "value_length", head_size(config)


def _gemma3_values(config: Any) -> Values:
    yield from _qwen_values(config)
    yield "sliding_window", config.sliding_window
    yield "rope_freq_base_swa", float(config.rope_parameters["sliding_attention"]["rope_theta"])
    if config.final_logit_softcapping:
        yield "final_logit_softcapping", config.final_logit_softcapping


def _phi_values(config: Any) -> Values:
    yield "layer_norm_eps", config.layer_norm_eps
    yield "rope_dimension_count", int(rope_of(config).get("partial_rotary_factor", 1.0) * head_size(config))


def _window_problems(config: Any) -> Iterator[str]:
    """The families whose layers all attend to the whole sequence in llama.cpp."""
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    is_used = kinds != {"full_attention"} if kinds else getattr(config, "use_sliding_window", True)
    if is_used and window and window < config.max_position_embeddings:
        yield f"its attention has a window of {window} tokens"


def _gemma3_problems(config: Any) -> Iterator[str]:
    layers = range(1, config.num_hidden_layers + 1)
    expected = ["sliding_attention" if layer % _SWA_PERIOD else "full_attention" for layer in layers]
    if list(config.layer_types) != expected:
        yield f"its layers do not attend to the whole sequence in every {_SWA_PERIOD}th layer"
    if config.query_pre_attn_scalar != head_size(config):
        yield f"its attention is scaled by {config.query_pre_attn_scalar} and not by the size of a head"
    if getattr(config, "attn_logit_softcapping", None):
        yield "its attention logits are capped"
    if getattr(config, "use_bidirectional_attention", False):
        yield "its attention is bidirectional"


def _phi_problems(config: Any) -> Iterator[str]:
    if getattr(config, "qk_layernorm", False):
        yield "its queries and keys are normalised"


_GELU = ("gelu_new", "gelu_pytorch_tanh")
_LLAMA = GgufFamily(
    "llama",
    ("silu",),
    _llama_values,
    _window_problems,
    permutes_heads=True,
    rope_types=frozenset({"default", "linear", "llama3"}),
)

FAMILIES: Mapping[str, GgufFamily] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": GgufFamily("qwen2", ("silu",), _qwen_values, _window_problems),
    "qwen3": GgufFamily("qwen3", ("silu",), _qwen_values, _window_problems),
    "gemma3_text": GgufFamily(
        "gemma3",
        ("gelu_pytorch_tanh",),
        _gemma3_values,
        _gemma3_problems,
        norm_offset=1.0,
        rope_types=frozenset({"default", "linear"}),
    ),
    "phi": GgufFamily("phi2", _GELU, _phi_values, _phi_problems, needs_output=True),
}
"""The families by the type of the model in transformers."""
