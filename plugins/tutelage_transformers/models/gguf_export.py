"""A checkpoint as one GGUF file for llama.cpp, and a Modelfile for Ollama; for ``tutelage export --format gguf``.

The file is written tensor by tensor, so that it needs little memory. Norms and biases are stored in float32, as
llama.cpp expects them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.errors import InputError, StageError
from tutelage.files.disk_errors import writing
from tutelage.files.jsonl import read_json
from tutelage.plugin_info import Conversion
from tutelage_transformers.models.finding import explain_read_errors, require
from tutelage_transformers.models.gguf_families import GgufFamily, common_values, family_of, head_size, rope_of
from tutelage_transformers.models.gguf_tokenizer import Vocabulary, vocabulary_of
from tutelage_transformers.models.modelfile import modelfile
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.models.tokenizers import read_tokenizer

FILE = "model.gguf"
MODELFILE = "Modelfile"
_KEPT_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_OUTPUT = "lm_head.weight"
_EMBEDDINGS = "model.embed_tokens.weight"
_SKIPPED = "rotary_emb.inv_freq"


def write(checkpoint: Path, output: Path, conversion: Conversion) -> None:
    """Write ``model.gguf`` and ``Modelfile`` into the folder ``output``.

    Raises ``PluginError`` if the package gguf is missing, and ``InputError`` if the model's family, its configuration
    or its tokenizer cannot be written. Raises ``StageError`` if the disk does not take the files.
    """
    require("torch", "transformers", "safetensors")
    require("gguf", extra="gguf")
    from transformers.models.auto.configuration_auto import AutoConfig

    name = str(checkpoint)
    with explain_read_errors(name), quiet():
        config = AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False)
        tokenizer = read_tokenizer(name, local_only=True)
    family = family_of(config, name)
    ends = _ends(checkpoint, tokenizer)
    text = modelfile(tokenizer, ends, conversion.sampling, FILE)
    with explain_read_errors(name):
        weights = _Weights(checkpoint, config, family)
        rows = weights.shape(_EMBEDDINGS)[0]
        vocabulary = vocabulary_of(tokenizer, rows, name)
        _write_file(output / FILE, weights, vocabulary, tokenizer, ends, conversion)
    with writing(output / MODELFILE):
        (output / MODELFILE).write_text(text, encoding="utf-8", newline="\n")


def _ends(checkpoint: Path, tokenizer: Any) -> list[int]:
    """The tokens that end an answer, the tokenizer's first."""
    path = checkpoint / "generation_config.json"
    named = read_json(path).get("eos_token_id") if path.is_file() else None
    more = named if isinstance(named, list) else [named]
    return list(dict.fromkeys([int(tokenizer.eos_token_id), *(one for one in more if isinstance(one, int))]))


def _write_file(
    path: Path, weights: _Weights, vocabulary: Vocabulary, tokenizer: Any, ends: list[int], conversion: Conversion
) -> None:
    import gguf

    dtype = conversion.dtype or weights.dtype
    writer = gguf.GGUFWriter(path, weights.family.architecture)
    writer.add_type(gguf.GGUFType.MODEL)
    kinds = {"float32": "ALL_F32", "float16": "MOSTLY_F16", "bfloat16": "MOSTLY_BF16"}
    writer.add_file_type(gguf.LlamaFileType[kinds[dtype]])
    for key, value in (*common_values(weights.config), *weights.family.values(weights.config)):
        getattr(writer, f"add_{key}")(value)
    if rope_of(weights.config)["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    _add_vocabulary(writer, vocabulary, tokenizer, ends)
    names = gguf.get_tensor_name_map(_architecture(weights.family), weights.config.num_hidden_layers)
    stored = {}
    for name in weights.names():
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise InputError(f"{weights.folder}: llama.cpp has no tensor for {name!r} of this model")
        stored[name] = found
        kind = gguf.GGMLQuantizationType[_kind(weights.shape(name), dtype)]
        count, itemsize = _size(weights.shape(name)), 4 if kind == gguf.GGMLQuantizationType.F32 else 2
        writer.add_tensor_info(found, weights.shape(name), _numpy_type(itemsize), count * itemsize, raw_dtype=kind)
    if (factors := _rope_factors(weights.config)) is not None:
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    with writing(path):
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    for name in stored:
        values = _array(weights.read(name), _kind(weights.shape(name), dtype), name)
        with writing(path):
            writer.write_tensor_data(values)
    with writing(path):
        if factors is not None:
            writer.write_tensor_data(factors)
        writer.close()


def _architecture(family: GgufFamily) -> Any:
    import gguf

    return next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == family.architecture)


def _add_vocabulary(writer: Any, vocabulary: Vocabulary, tokenizer: Any, ends: list[int]) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.kinds))
    if vocabulary.scores is not None:
        writer.add_token_scores(list(vocabulary.scores))
        writer.add_add_space_prefix(False)
    if vocabulary.merges is not None:
        writer.add_token_merges(list(vocabulary.merges))
    writer.add_eos_token_id(ends[0])
    if len(ends) > 1:
        writer.add_eot_token_id(ends[1])
    for role in ("bos", "pad", "unk"):
        number = getattr(tokenizer, f"{role}_token_id")
        if number is not None:
            getattr(writer, f"add_{role}_token_id")(number)
    first = tokenizer("").input_ids[:1]
    writer.add_add_bos_token(bool(first) and first[0] == tokenizer.bos_token_id)
    writer.add_add_eos_token(False)
    writer.add_chat_template(str(tokenizer.chat_template))


class _Weights:
    """The tensors of a checkpoint, by their names in transformers, in the form that llama.cpp stores."""

    def __init__(self, folder: Path, config: Any, family: GgufFamily) -> None:
        from safetensors import safe_open

        self.folder = folder
        self.config = config
        self.family = family
        self._files: dict[str, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            opened: Any = safe_open(path, "pt")
            names: Any = opened.keys()
            self._files |= dict.fromkeys(names, opened)
        if _EMBEDDINGS not in self._files:
            raise InputError(f"{folder}: its files have no tensor {_EMBEDDINGS!r}")

    @property
    def dtype(self) -> str:
        """The type of the embeddings, for an export without ``--dtype``."""
        kind = self._files[_EMBEDDINGS].get_slice(_EMBEDDINGS).get_dtype()
        found = next((name for name, stored in _KEPT_DTYPES.items() if stored == kind), None)
        if found is None:
            raise InputError(f"{self.folder}: its weights are of type {kind}; choose a --dtype")
        return found

    def names(self) -> Iterator[str]:
        """Yield the names of the tensors to write."""
        tied = bool(self.config.tie_word_embeddings) and not self.family.needs_output
        for name in self._files:
            if not name.endswith(_SKIPPED) and not (tied and name == _OUTPUT):
                yield name
        if self.family.needs_output and _OUTPUT not in self._files:
            yield _OUTPUT

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        name = self._stored(name)
        return tuple(self._files[name].get_slice(name).get_shape())

    def read(self, name: str) -> Any:
        """Return a tensor in float32."""
        stored = self._stored(name)
        tensor = self._files[stored].get_tensor(stored).float()
        if self.family.norm_offset and name.endswith("norm.weight"):
            return tensor + self.family.norm_offset
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
        if self.family.permutes_heads and heads:
            return _in_pairs(tensor, getattr(self.config, heads), head_size(self.config))
        return tensor

    def _stored(self, name: str) -> str:
        return _EMBEDDINGS if name == _OUTPUT and name not in self._files else name


def _in_pairs(tensor: Any, heads: int, size: int) -> Any:
    """The rows of each head, of which the second half rotates with the first, in pairs that rotate together."""
    return tensor.view(heads, 2, size // 2, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def _kind(shape: tuple[int, ...], dtype: str) -> str:
    return "F32" if len(shape) == 1 else _KEPT_DTYPES[dtype]


def _size(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _numpy_type(itemsize: int) -> Any:
    import numpy

    return numpy.dtype(numpy.float32 if itemsize == 4 else numpy.float16)


def _array(tensor: Any, kind: str, name: str) -> Any:
    """A float32 tensor as an array of the type that is stored. Raises ``StageError`` if float16 cannot hold a value."""
    import torch

    if kind == "F32":
        return tensor.contiguous().numpy()
    if kind == "BF16":
        return tensor.to(torch.bfloat16).contiguous().view(torch.int16).numpy()
    half = tensor.to(torch.float16)
    if not bool(half.isfinite().all()):
        raise StageError(
            f"the weights {name} have values above 65,504, which float16 cannot hold; use --dtype bfloat16"
        )
    return half.contiguous().numpy()


def _rope_factors(config: Any) -> Any:
    """The divisors of the frequencies of Llama 3's rotary embeddings; None for other ones."""
    rope: Mapping[str, Any] = rope_of(config)
    if rope["rope_type"] != "llama3":
        return None
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    size = head_size(config)
    plain = 1.0 / float(rope["rope_theta"]) ** (torch.arange(0, size, 2, dtype=torch.float32) / size)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    return (plain / scaled).float().numpy()
