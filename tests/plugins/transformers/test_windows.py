"""Models whose layers attend to a window, share keys and values among heads, or cap their scores."""

from __future__ import annotations

import shutil
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tutelage.errors import InputError
from tutelage.records import Model, Sampling
from tutelage_transformers.attention import norms, packed
from tutelage_transformers.generation.engine import generate
from tutelage_transformers.models import loading, support
from tutelage_transformers.models.chat import encode, user_prompt
from tutelage_transformers.models.loading import LoadedModel, read
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training import packing

WINDOW = 20
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}
MIXED = ["sliding_attention", "sliding_attention", "full_attention"]
FAMILIES: dict[str, dict[str, Any]] = {
    "Gemma3Text": {
        "sliding_window": WINDOW,
        "layer_types": MIXED,
        "num_key_value_heads": 1,
        "query_pre_attn_scalar": 9,
    },
    "Gemma2": {"sliding_window": WINDOW, "layer_types": MIXED, "attn_logit_softcapping": 5.0},
    "Mistral": {"sliding_window": WINDOW},
    "Phi3": {"sliding_window": WINDOW},
    "Qwen2": {"sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 1},
    "Llama": {},
}
TEXTS = ["sort the words", "please sort " + "apple pear plum cat dog " * 12, "cow red " * 20 + "words"]


@pytest.fixture(params=FAMILIES)
def folder(base: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A base model of each family, with the tokenizer of the tests."""
    shutil.copytree(base, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    torch.manual_seed(0)
    config = getattr(transformers, f"{request.param}Config")(**{**SHAPE, **FAMILIES[request.param]})
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def load(folder: Path, **settings: Any) -> LoadedModel:
    return read(Model("transformers", str(folder)), TransformersSettings(device="cpu", **settings))


@pytest.mark.parametrize("engine", ["paged", "padded"])
def test_greedy_completions_are_those_of_generate(folder: Path, engine: str) -> None:
    """Prompts of 3 to 60 tokens and 30 new ones, so that windows of 20 are left by prompts and by completions."""
    loaded, plain = load(folder), load(folder)
    prompts = [user_prompt(loaded.tokenizer, text) for text in TEXTS]
    batches = generate(loaded, prompts, 1, Sampling(0.0, 1.0, 30, 0), engine=engine)
    got = {completion.prompt: completion.text for completion in chain(*batches)}
    for index, ids in enumerate(encode(plain.tokenizer, prompts)):
        output = plain.model.generate(
            input_ids=torch.tensor([ids]), do_sample=False, max_new_tokens=30, pad_token_id=plain.tokenizer.pad_token_id
        )
        assert got[index] == plain.tokenizer.decode(output[0][len(ids) :], skip_special_tokens=True).strip()


def test_packed_hidden_states_are_those_of_each_sequence_alone(folder: Path) -> None:
    loaded, plain = load(folder), load(folder)
    packing.pack(loaded.model)
    assert loaded.model.config._attn_implementation == packed.NAME
    rows = encode(plain.tokenizer, [user_prompt(plain.tokenizer, text) for text in TEXTS])
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    got = loaded.model(input_ids=ids, packing=packing.plan([len(row) for row in rows], width)).logits
    for row, logits in zip(rows, got, strict=True):
        expected = plain.model(input_ids=torch.tensor([row])).logits[0]
        assert torch.allclose(logits[: len(row)], expected, atol=2e-5)


def test_a_cap_on_scores_is_never_left_out(folder: Path) -> None:
    """sdpa of transformers 5.0 to 5.20 left it out without a warning: on GPUs, Gemma 2 was trained without its cap."""
    config, gpu = load(folder).model.config, torch.device("cuda")
    if not support.caps_scores(config):
        assert load(folder, attention="sdpa").model.config._attn_implementation == "sdpa"
        assert loading._attention(TransformersSettings(), gpu, config) is None
        return
    assert config._attn_implementation == loading._attention(TransformersSettings(), gpu, config) == "eager"
    with pytest.raises(
        InputError, match=r"caps its attention scores, which sdpa does not; leave settings.attention out"
    ):
        load(folder, attention="sdpa")


def test_packed_training_gives_the_gradients_of_padded_training(folder: Path) -> None:
    loaded, plain = load(folder), load(folder)
    packing.pack(loaded.model)
    rows = encode(plain.tokenizer, [user_prompt(plain.tokenizer, text) for text in TEXTS])
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    got = loaded.model(input_ids=ids, packing=packing.plan([len(row) for row in rows], width)).logits
    expected = plain.model(input_ids=ids, attention_mask=mask).logits
    for logits in (got, expected):
        ((logits * logits.detach().cos()) * mask[..., None]).sum().backward()
    for (name, one), other in zip(loaded.model.named_parameters(), plain.model.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-3 * float(other.grad.abs().max())), name


def test_the_form_of_every_norm_is_found(folder: Path) -> None:
    """Gemma's norms add 1 to the weight, which large weights must not hide."""
    model = load(folder).model
    modules = [module for module in model.modules() if type(module).__name__.endswith("RMSNorm")]
    assert modules
    for module in modules:
        torch.nn.init.normal_(module.weight, 50.0, 5.0)
        form = norms.form_of(module)
        assert form is not None
        assert form.offset == (1.0 if "Gemma" in type(module).__name__ else 0.0)
