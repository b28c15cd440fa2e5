"""Models into memory and out of it: one at a time for generation, with errors that come at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from tutelage.errors import InputError
from tutelage.records import Model
from tutelage_transformers.devices.selection import device_of, dtype_of, empty_cache
from tutelage_transformers.models.chat import ensure_chat
from tutelage_transformers.models.finding import explain_read_errors, is_local, require
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.settings import DEFAULT_MODEL, TransformersSettings


@frozen(eq=False)
class LoadedModel:
    """A model in memory with its tokenizer, ready to answer."""

    model: Any
    """A ``transformers.PreTrainedModel`` in evaluation mode."""
    tokenizer: Any
    """With a chat template and a pad token of its own."""


_loaded: dict[object, LoadedModel] = {}
"""The one model that is kept for generation, under what it was loaded from and how."""


def load(model: Model, settings: TransformersSettings) -> LoadedModel:
    """The model for generation, from memory where it was the last one asked for.

    Raises ``InputError`` where the weights are not there or not readable, ``PluginError`` where a package is missing.
    """
    key = (model.name, settings, fingerprint(model))
    if key not in _loaded:
        release_all()
        _loaded[key] = read(model, settings)
    return _loaded[key]


def release(model: Model) -> None:
    """Free the memory of ``model``, if it is the one that is kept."""
    if any(key[0] == model.name for key in _loaded if isinstance(key, tuple)):
        release_all()


def release_all() -> None:
    """Free the memory of whatever is kept, on the GPU too.

    A model that was only read is in no cycle, so its last reference frees it: collecting garbage would only cost time.
    """
    if _loaded:
        _loaded.clear()
        empty_cache()


def fingerprint(model: Model) -> tuple[tuple[str, int, int], ...]:
    """What tells one state of a weights folder from another: a checkpoint may be written anew under the same path."""
    files = sorted(Path(location(model)).glob("*.safetensors"))
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)


def read(model: Model, settings: TransformersSettings, dtype: Any = None, quantization: Any = None) -> LoadedModel:
    """Read weights and tokenizer into fresh objects. ``dtype`` overrides the settings' one.

    ``quantization`` is a configuration of transformers, with which the linear layers are held in fewer bits.

    Raises as ``load`` does.
    """
    require("torch", "transformers", "safetensors", "accelerate")
    name = location(model)
    local_only = is_local(name, settings.local_files_only)
    device = device_of(settings)
    with explain_read_errors(name), quiet():
        tokenizer = read_tokenizer(name, local_only)
        options = {"dtype": dtype or dtype_of(settings), "attn_implementation": _attention(settings, device)}
        if quantization is not None:
            options |= {"quantization_config": quantization, "device_map": {"": device}}
        with _enough_memory(name, device):
            weights = _read_weights(name, local_only, options)
            _fit(weights, tokenizer)
            if quantization is None:
                weights = weights.to(device)
    if settings.threads is not None:
        import torch

        torch.set_num_threads(settings.threads)
    return LoadedModel(weights.eval(), tokenizer)


@contextmanager
def _enough_memory(name: str, device: Any) -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"model {name}: its weights do not fit into the free memory of {device}; use a smaller model, "
            "settings.dtype bfloat16, or a GPU that nothing else fills"
        ) from error


def context_length(config: Any) -> int:
    """Positions that a model knows, or a number that no prompt reaches where its configuration does not say."""
    return int(getattr(config, "max_position_embeddings", None) or 2**31)


def location(model: Model) -> str:
    """Where its weights are: a folder, or a name of the hub."""
    name = model.name or DEFAULT_MODEL
    folder = Path(name).expanduser()
    return str(folder) if folder.is_dir() else name


def read_tokenizer(name: str, local_only: bool) -> Any:
    """The tokenizer with its chat template and pad token. Raises ``InputError`` where it has no end token."""
    from transformers.models.auto.tokenization_auto import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=local_only, trust_remote_code=False)
    for how_it_was_loaded in ("local_files_only", "is_local"):  # transformers would save these with it
        tokenizer.init_kwargs.pop(how_it_was_loaded, None)
    ensure_chat(tokenizer)
    return tokenizer


def _read_weights(name: str, local_only: bool, options: dict[str, Any]) -> Any:
    from transformers.models.auto.modeling_auto import AutoModelForCausalLM

    weights, report = AutoModelForCausalLM.from_pretrained(
        name,
        **options,
        local_files_only=local_only,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
    )
    if missing := sorted(report["missing_keys"]):
        raise InputError(
            f"model {name}: its file lacks {len(missing)} of the weights, such as {missing[0]}; copy it anew"
        )
    return weights


def _fit(weights: Any, tokenizer: Any) -> None:
    """Make room for tokens that ``ensure_chat`` added, and tell the model its pad and end tokens.

    Phi-2 has 51,200 rows for 50,295 tokens, so there the pad token finds a spare row.
    """
    if len(tokenizer) > weights.get_input_embeddings().num_embeddings:
        weights.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    for config in (weights.config, weights.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
        if config.eos_token_id is None:
            config.eos_token_id = tokenizer.eos_token_id


def _attention(settings: TransformersSettings, device: Any) -> str:
    if settings.attention == "auto":
        return "eager" if device.type == "cpu" else "sdpa"
    return settings.attention
