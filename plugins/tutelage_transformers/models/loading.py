"""Loading and releasing models: one at a time for generation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from tutelage.errors import InputError
from tutelage.records import Model
from tutelage_transformers.devices.freed_memory import keep_freed_memory
from tutelage_transformers.devices.selection import device_of, dtype_of, empty_cache
from tutelage_transformers.models import rewards, support
from tutelage_transformers.models.finding import explain_read_errors, is_local, require
from tutelage_transformers.models.finite import check_loaded
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.models.tokenizers import read_tokenizer
from tutelage_transformers.settings import DEFAULT_MODEL, TransformersSettings


@frozen(eq=False)
class LoadedModel:
    """A model in memory with its tokenizer, ready for generation."""

    model: Any
    """A ``transformers.PreTrainedModel`` in evaluation mode."""
    tokenizer: Any
    """Has a chat template, and a pad token that is not its end token."""


_loaded: dict[object, LoadedModel] = {}
"""The one model that is kept for generation; the key is its name, its settings and its files."""


def load(model: Model, settings: TransformersSettings, is_reward: bool = False) -> LoadedModel:
    """Return the model for generation, or a reward model, from memory if it is the last one that was loaded.

    Raises ``InputError`` if the weights do not exist or cannot be read, ``PluginError`` if a package is missing.
    """
    key = (model.name, settings, fingerprint(model))
    if key not in _loaded:
        release_all()
        _loaded[key] = read(model, settings, is_reward=is_reward)
    return _loaded[key]


def release(model: Model) -> None:
    """Free the memory of ``model``, if it is the one that is kept."""
    if any(key[0] == model.name for key in _loaded if isinstance(key, tuple)):
        release_all()


def release_all() -> None:
    """Free the memory of the model that is kept, on the GPU too.

    A model that was only read is in no reference cycle, so its last reference frees it. Garbage collection would only
    cost time.
    """
    if _loaded:
        _loaded.clear()
        empty_cache()


def fingerprint(model: Model) -> tuple[tuple[str, int, int], ...]:
    """Return what identifies the state of a weights folder: a checkpoint may be written again under the same path."""
    files = sorted(Path(location(model)).glob("*.safetensors"))
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)


def read(
    model: Model,
    settings: TransformersSettings,
    dtype: Any = None,
    quantization: Any = None,
    is_reward: bool = False,
) -> LoadedModel:
    """Read the weights into new objects, and the tokenizer. ``dtype`` replaces that of the settings.

    ``quantization`` is a configuration of transformers by which the linear layers are stored in fewer bits.
    ``is_reward`` reads a classifier with one label. Raises the errors of ``load``, and ``InputError`` if the weights do
    not fit into memory.
    """
    require("torch", "transformers", "safetensors", "accelerate")
    name = location(model)
    local_only = is_local(name, settings.local_files_only)
    device = device_of(settings)
    if device.type == "cpu":
        keep_freed_memory()
    with explain_read_errors(name), quiet():
        config = _checked_config(name, local_only, is_reward)
        if (problem := float16_problem(config.model_type, settings)) is not None:
            raise InputError(f"model {name}: {problem}")
        if (problem := attention_problem(config, settings)) is not None:
            raise InputError(f"model {name}: {problem}")
        tokenizer = read_tokenizer(name, local_only)
        options = {"dtype": dtype or dtype_of(settings)}
        if (attention := _attention(settings, device, config)) is not None:
            options["attn_implementation"] = attention
        if quantization is not None:
            options["quantization_config"] = quantization
        if quantization is not None or _is_read_onto(device, config, tokenizer):
            options["device_map"] = {"": device}
        with _explain_out_of_memory(name, device):
            weights = _read_weights(name, local_only, options, is_reward)
            _add_special_tokens(weights, tokenizer)
            if quantization is None:
                weights = weights.to(device)
            check_loaded(weights, name)
    if settings.threads is not None:
        import torch

        torch.set_num_threads(settings.threads)
    return LoadedModel(weights.eval(), tokenizer)


@contextmanager
def _explain_out_of_memory(name: str, device: Any) -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"model {name}: its weights do not fit into the free memory of {device}; use a smaller model, "
            "settings.dtype bfloat16, or a GPU that nothing else fills"
        ) from error


def float16_problem(kind: str, settings: TransformersSettings) -> str | None:
    """Return why a model cannot compute in float16, if that is the type of the settings, or None if it can.

    ``kind`` is the ``model_type`` of its configuration. ``dtype: auto`` is float16 on a GPU without bfloat16.
    """
    if kind not in support.OVERFLOWS_FLOAT16 or str(dtype_of(settings)) != "torch.float16":
        return None
    return f"its hidden states are too large for float16 (type {kind!r}); set settings.dtype to float32"


def attention_problem(config: Any, settings: TransformersSettings) -> str | None:
    """Return why a model of this configuration cannot use the attention of the settings, or None if it can.

    sdpa of transformers 5.0 to 5.20 leaves the cap of Gemma 2's attention scores out, without a warning.
    """
    if settings.attention != "sdpa" or not support.caps_scores(config):
        return None
    return "it caps its attention scores, which sdpa does not; leave settings.attention out"


def uses_eager(model: Model, settings: TransformersSettings) -> bool:
    """Return whether a model is read with transformers' eager attention."""
    device = device_of(settings)
    depends_on_model = settings.attention == "auto" and device.type != "cpu"
    config = read_config(location(model), settings.local_files_only) if depends_on_model else None
    return _attention(settings, device, config) == "eager"


def context_length(config: Any) -> int:
    """Return the number of positions of a model, or a very large one if its configuration does not name it."""
    text = config.get_text_config()
    names = ("max_position_embeddings", "max_seq_len")  # the second one is MPT's
    return next((int(getattr(text, name)) for name in names if getattr(text, name, None)), 2**31)


def location(model: Model) -> str:
    """Return where a model's weights are: a folder, or a name of the hub."""
    name = model.name or DEFAULT_MODEL
    folder = Path(name).expanduser()
    return str(folder) if folder.is_dir() else name


def read_config(location: str, local_only: bool) -> Any:
    """Return transformers' configuration of a model. Code of its repository is not run."""
    from transformers.models.auto.configuration_auto import AutoConfig

    return AutoConfig.from_pretrained(location, local_files_only=local_only, trust_remote_code=False)


def _checked_config(name: str, local_only: bool, is_reward: bool) -> Any:
    """Return the configuration. Raises ``InputError`` if it is not that of a student, or of a reward model."""
    config = read_config(name, local_only)
    if is_reward:
        rewards.check_is_reward_model(name, config)
    elif rewards.is_classifier(config.architectures):
        raise InputError(f"model {name}: it is a classifier, which only judges; use a model that completes text")
    elif reason := support.unsupported_reason(config):
        raise InputError(f"model {name}: {reason}")
    return config


def _read_weights(name: str, local_only: bool, options: dict[str, Any], is_reward: bool) -> Any:
    from transformers.models.auto.modeling_auto import AutoModelForCausalLM, AutoModelForSequenceClassification

    auto = AutoModelForSequenceClassification if is_reward else AutoModelForCausalLM
    weights, report = auto.from_pretrained(
        name,
        **options,
        local_files_only=local_only,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
    )
    if missing := sorted(report["missing_keys"]):
        raise InputError(
            f"model {name}: its file lacks {len(missing)} of the weights, such as {missing[0]}; copy it again"
        )
    return weights


def _is_read_onto(device: Any, config: Any, tokenizer: Any) -> bool:
    """Return whether the weights are read directly onto a GPU, without a copy in the memory of each process.

    Embeddings of new tokens are drawn at random. They are drawn on the CPU, so that every device has the same ones.
    """
    return bool(device.type == "cuda" and len(tokenizer) <= int(config.get_text_config().vocab_size))


def _add_special_tokens(weights: Any, tokenizer: Any) -> None:
    """Resize the embeddings for tokens that ``ensure_chat`` added, and set the model's pad and end tokens.

    Phi-2 has 51,200 embeddings for 50,295 tokens, so its pad token takes a spare one.
    """
    if len(tokenizer) > weights.get_input_embeddings().num_embeddings:
        weights.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    configs = (weights.config, getattr(weights, "generation_config", None))  # a classifier has only the first one
    for config in (one for one in configs if one is not None):
        config.pad_token_id = tokenizer.pad_token_id
        if config.eos_token_id is None:
            config.eos_token_id = tokenizer.eos_token_id


def _attention(settings: TransformersSettings, device: Any, config: Any) -> str | None:
    """Return the attention to load a model with. None: transformers' choice, which is sdpa if the model supports it."""
    if settings.attention != "auto":
        return settings.attention
    return "eager" if device.type == "cpu" or support.caps_scores(config) else None
