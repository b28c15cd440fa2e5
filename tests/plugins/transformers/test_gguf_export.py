"""Checkpoints as GGUF: the tensors, hyperparameters and tokens are those of the checkpoint, or it is refused by name.

``make prove`` compares the logits and the answers with llama.cpp itself (``tests/prove/gguf.py``).
"""

from __future__ import annotations

import importlib.util
import json
import re
import resource
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from small_models import (
    LLAMA3,
    TEXTS,
    TOKENIZERS,
    fast_tokenizer,
    gpt2_tokenizer,
    sentencepiece_tokenizer,
    split_by,
    write_small_model,
)

from tutelage.errors import InputError, PluginError, StageError
from tutelage.installation import install_command
from tutelage.plugin_info import Conversion
from tutelage.plugins.registry import Registry
from tutelage_transformers.models.converting import convert
from tutelage_transformers.models.gguf_tokenizer import BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED, vocabulary_of

GGUF = Conversion(format="gguf")


def exported(folder: Path, tmp_path: Path, conversion: Conversion = GGUF) -> Path:
    output = tmp_path / "output"
    output.mkdir()
    convert(folder, output, conversion)
    assert {path.name for path in output.iterdir()} == {"model.gguf", "Modelfile"}
    return output


def tensors_of(output: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    return {tensor.name: tensor for tensor in GGUFReader(output / "model.gguf").tensors}


def fields_of(output: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    return {name: field.contents() for name, field in GGUFReader(output / "model.gguf").fields.items()}


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3", "gemma3_text"])
def test_transformers_reads_the_file_back_with_the_same_logits(name: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    expected, ids = write_small_model(name, tmp_path / "model")
    output = exported(tmp_path / "model", tmp_path)
    options: dict[str, Any] = {"gguf_file": "model.gguf", "dtype": torch.float32}
    if name in ("qwen3", "gemma3_text"):  # transformers does not read all of their hyperparameters from a GGUF file
        options["config"] = AutoConfig.from_pretrained(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(output, **options).eval()
    with torch.inference_mode():
        found = model(torch.tensor([ids])).logits[0].numpy()
    assert abs(found - expected).max() < 1e-4 * expected.std()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("llama", {"llama.attention.head_count_kv": 2, "llama.rope.dimension_count": 16}),
        ("qwen3", {"qwen3.attention.key_length": 32, "qwen3.attention.value_length": 32}),
        (
            "gemma3_text",
            {
                "gemma3.attention.key_length": 32,
                "gemma3.attention.sliding_window": 8,
                "gemma3.rope.freq_base": 1e6,
                "gemma3.rope.freq_base_swa": 1e4,
                "gemma3.block_count": 7,
                "tokenizer.ggml.add_bos_token": True,
                "tokenizer.ggml.add_space_prefix": False,
            },
        ),
        ("phi", {"phi2.rope.dimension_count": 8, "phi2.attention.head_count_kv": 4, "phi2.context_length": 128}),
    ],
)
def test_the_hyperparameters_are_those_of_the_configuration(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    write_small_model(name, tmp_path / "model")
    fields = fields_of(exported(tmp_path / "model", tmp_path))
    assert {key: fields[key] for key in values} == values


def test_phi_has_its_output_layer_and_every_bias(tmp_path: Path) -> None:
    """transformers does not read Phi-2 from GGUF, so its tensors are compared one by one."""
    from safetensors.torch import load_file

    write_small_model("phi", tmp_path / "model")
    found = tensors_of(exported(tmp_path / "model", tmp_path))
    weights = load_file(tmp_path / "model/model.safetensors")
    names = {
        "model.embed_tokens.weight": "token_embd.weight",
        "lm_head.weight": "output.weight",
        "lm_head.bias": "output.bias",
        "model.final_layernorm.weight": "output_norm.weight",
        "model.layers.2.input_layernorm.bias": "blk.2.attn_norm.bias",
        "model.layers.2.self_attn.q_proj.weight": "blk.2.attn_q.weight",
        "model.layers.2.self_attn.k_proj.bias": "blk.2.attn_k.bias",
        "model.layers.2.self_attn.dense.weight": "blk.2.attn_output.weight",
        "model.layers.2.mlp.fc1.weight": "blk.2.ffn_up.weight",
        "model.layers.2.mlp.fc2.bias": "blk.2.ffn_down.bias",
    }
    assert len(found) == len(weights)
    for name, written in names.items():
        assert (found[written].data.reshape(weights[name].shape) == weights[name].numpy()).all(), name


def test_the_frequencies_of_llama_3_are_divided_as_in_transformers(tmp_path: Path) -> None:
    write_small_model("llama, tied, scaled", tmp_path / "model")
    output = exported(tmp_path / "model", tmp_path)
    factors = tensors_of(output)["rope_freqs.weight"].data
    assert factors.tolist()[0] == 1.0
    assert factors.tolist()[-1] == pytest.approx(8.0)
    assert fields_of(output)["llama.rope.freq_base"] == 500000.0
    assert "output.weight" not in tensors_of(output), "tied to the embeddings"


@pytest.mark.parametrize(
    ("dtype", "kind", "precision"), [(None, "F32", 0), ("bfloat16", "BF16", 2**-8), ("float16", "F16", 2**-11)]
)
def test_matrices_have_the_requested_type_and_norms_stay_float32(
    tmp_path: Path, dtype: Any, kind: str, precision: float
) -> None:
    from gguf import dequantize
    from safetensors.torch import load_file

    write_small_model("qwen2", tmp_path / "model")
    found = tensors_of(exported(tmp_path / "model", tmp_path, Conversion(dtype, format="gguf")))
    kinds = {name: tensor.tensor_type.name for name, tensor in found.items()}
    assert {kind for name, kind in kinds.items() if name.endswith(("norm.weight", ".bias"))} == {"F32"}
    assert {kind for name, kind in kinds.items() if not name.endswith(("norm.weight", ".bias"))} == {kind}
    up = load_file(tmp_path / "model/model.safetensors")["model.layers.0.mlp.up_proj.weight"].numpy()
    written = dequantize(found["blk.0.ffn_up.weight"].data, found["blk.0.ffn_up.weight"].tensor_type)
    assert (abs(written - up) <= precision * abs(up) + 1e-7).all()


def test_a_weight_that_float16_cannot_hold_stops_the_export(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    write_small_model("llama", tmp_path / "model")
    path = tmp_path / "model/model.safetensors"
    weights = load_file(path)
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = 1e6
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(StageError, match=r"model\.layers\.1\.mlp\.up_proj\.weight have values above 65,504"):
        exported(tmp_path / "model", tmp_path, Conversion("float16", format="gguf"))


def test_the_tokens_have_their_kinds_and_spare_embeddings_have_no_text(tmp_path: Path) -> None:
    write_small_model("llama", tmp_path / "model")
    fields = fields_of(exported(tmp_path / "model", tmp_path))
    tokens, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert (fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    assert len(tokens) == len(kinds) == fields["llama.vocab_size"]
    assert [tokens[i] for i, kind in enumerate(kinds) if kind == CONTROL][:3] == ["<|endoftext|>", "<|pad|>", "<bos>"]
    assert [tokens[i] for i, kind in enumerate(kinds) if kind == UNUSED] == tokens[-5:]
    assert tokens[-1] == f"[PAD{len(tokens) - 1}]"
    assert fields["tokenizer.ggml.eos_token_id"] == 0
    assert fields["tokenizer.ggml.padding_token_id"] == 1
    assert fields["tokenizer.ggml.add_bos_token"] is False
    assert "<|assistant|>" in fields["tokenizer.chat_template"]


def test_the_second_end_token_of_a_base_model_is_kept(tmp_path: Path) -> None:
    write_small_model("llama", tmp_path / "model")
    path = tmp_path / "model/generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": [5, 0]}))
    output = exported(tmp_path / "model", tmp_path)
    assert fields_of(output)["tokenizer.ggml.eot_token_id"] == 5
    stops = [line for line in (output / "Modelfile").read_text().splitlines() if line.startswith("PARAMETER stop")]
    assert stops == ['PARAMETER stop "<|endoftext|>"', 'PARAMETER stop "<|user|>"']


def merged_by_scores(text: str, tokens: list[str], scores: list[float], kinds: list[int]) -> list[int]:
    """The tokens of a text as llama.cpp finds them: it merges the neighbours with the highest score, first the left."""
    ids = {token: number for number, token in enumerate(tokens)}
    parts = list(text.replace(" ", "\u2581"))
    while True:
        pairs = [(-scores[ids[a + b]], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ids]
        if not pairs:
            break
        _, at = min(pairs)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    found = []
    for part in parts:
        found += [ids[part]] if part in ids else [ids[f"<0x{byte:02X}>"] for byte in part.encode()]
    assert not [i for i in found if kinds[i] not in (NORMAL, BYTE)]
    return found


@pytest.mark.parametrize("text", [*TEXTS, "  two  spaces ", "\u65e5\u672c", "apple\u2581pear", "unseen zebra"])
def test_scores_merge_a_text_into_the_tokens_of_the_checkpoint(text: str) -> None:
    tokenizer = fast_tokenizer(sentencepiece_tokenizer())
    found = vocabulary_of(tokenizer, len(tokenizer), "here")
    assert (found.model, found.pre, found.merges) == ("llama", "default", None)
    assert found.scores is not None
    expected = tokenizer(text, add_special_tokens=False).input_ids
    assert merged_by_scores(text, list(found.tokens), list(found.scores), list(found.kinds)) == expected


def test_an_added_token_that_is_not_special_is_found_in_texts_and_one_of_spaces_is_text() -> None:
    tokenizer = fast_tokenizer(sentencepiece_tokenizer())
    tokenizer.add_tokens(["[image]", "\u2581\u2581\u2581\u2581\u2581"])
    found = vocabulary_of(tokenizer, len(tokenizer), "here")
    kinds = dict(zip(found.tokens, found.kinds, strict=True))
    assert kinds["[image]"] == USER_DEFINED
    assert kinds["\u2581\u2581\u2581\u2581\u2581"] == NORMAL


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "qwen2", "llama-bpe"])
def test_the_way_of_splitting_texts_has_llama_cpps_name(pre: str) -> None:
    tokenizer = fast_tokenizer(TOKENIZERS[pre]())
    found = vocabulary_of(tokenizer, len(tokenizer), "here")
    assert (found.model, found.pre, found.scores) == ("gpt2", pre, None)
    assert found.merges
    first, second = found.merges[0].split(" ")
    assert first + second in found.tokens


@pytest.mark.parametrize(
    ("core", "what"),
    [
        (lambda: gpt2_tokenizer(lambda steps: [steps.Whitespace()]), "it splits texts by .*Whitespace"),
        (lambda: gpt2_tokenizer(lambda steps: [steps.Digits(individual_digits=False)]), "it splits texts by .*Digits"),
        (lambda: split_by(LLAMA3, False), "it splits texts by"),
        (lambda: split_by(r"\p{L}+", False), "it splits texts by"),
    ],
    ids=["whitespace", "digits", "llama-3 that merges", "pattern"],
)
def test_a_way_of_splitting_texts_that_llama_cpp_does_not_have_is_refused(core: Any, what: str) -> None:
    tokenizer = fast_tokenizer(core())
    with pytest.raises(InputError, match=rf"here: its tokenizer \(\w+\) cannot be written as GGUF: {what}"):
        vocabulary_of(tokenizer, len(tokenizer), "here")


def test_an_unknown_kind_of_tokenizer_is_refused_by_name_and_nothing_is_written(tmp_path: Path) -> None:
    tiny = Path(Registry.discover(environment={}).offered("models")["tiny/student"].location)
    output = tmp_path / "output"
    output.mkdir()
    with pytest.raises(InputError, match="cannot be written as GGUF: its model is WordLevel, which"):
        convert(tiny, output, GGUF)
    assert list(output.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        ("mistral", {"sliding_window": 16}, "this mistral cannot be written as GGUF: its attention has a window of 16"),
        ("llama", {"hidden_act": "gelu"}, "its activation is 'gelu', and llama.cpp computes 'silu'"),
        ("phi", {"hidden_act": "relu"}, "its activation is 'relu'"),
        ("phi", {"qk_layernorm": True}, "its queries and keys are normalised"),
        ("gemma3_text", {"query_pre_attn_scalar": 16}, "its attention is scaled by 16 and not by the size of a head"),
        ("gemma3_text", {"layer_types": ["sliding_attention"] * 7}, "its layers do not attend to the whole sequence"),
        (
            "qwen2",
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "scaled by 'dynamic'",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else "".join(value),
)
def test_a_configuration_that_llama_cpp_computes_otherwise_is_refused(
    name: str, changes: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    write_small_model(name, tmp_path / "model", **changes)
    output = tmp_path / "output"
    output.mkdir()
    with pytest.raises(InputError, match=problem):
        convert(tmp_path / "model", output, GGUF)
    assert list(output.iterdir()) == []


def test_an_unsupported_family_is_refused_with_the_supported_ones(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    write_small_model("llama", tmp_path / "model")
    (tmp_path / "model/model.safetensors").unlink()
    config = GPT2Config(vocab_size=400, n_embd=32, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    with pytest.raises(
        InputError, match=r"type 'gpt2' cannot be written as GGUF; supported types: llama, mistral, qwen2"
    ):
        exported(tmp_path / "model", tmp_path)


def test_without_the_package_gguf_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else find_spec(name))
    write_small_model("llama", tmp_path / "model")
    with pytest.raises(PluginError, match=re.escape(f"gguf not installed; run: {install_command('gguf')}")):
        exported(tmp_path / "model", tmp_path)


def test_a_missing_tensor_file_is_one_error(tmp_path: Path) -> None:
    write_small_model("llama", tmp_path / "model")
    shutil.move(tmp_path / "model/model.safetensors", tmp_path / "elsewhere.safetensors")
    with pytest.raises(InputError, match=r"its files have no tensor 'model\.embed_tokens\.weight'"):
        exported(tmp_path / "model", tmp_path)


def test_a_disk_that_does_not_take_the_file_is_named_and_not_the_model(tmp_path: Path) -> None:
    write_small_model("llama", tmp_path / "model")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    try:
        with pytest.raises(StageError, match=r"output/model\.gguf: cannot be written"):
            exported(tmp_path / "model", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
