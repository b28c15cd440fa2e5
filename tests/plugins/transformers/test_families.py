"""Three of the families that ``python -m tests.prove families`` examines: grouped heads, sliding windows, Conv1D."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from family_checks import DPO, SFT, compare_engine, compare_saved, compare_training, load, lora_targets
from model_families import FAMILIES, Family, config_of, write_family
from stock_training import write_ragged_examples, write_ragged_pairs

from tutelage.errors import InputError
from tutelage_transformers.models import loading
from tutelage_transformers.models.support import WITHOUT_CACHE, cache_argument, unsupported_reason
from tutelage_transformers.settings import TransformersSettings

NAMES = ("llama", "gemma3_text", "gpt2")


@pytest.fixture(scope="module", params=NAMES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The name of a family, and a tiny model of it."""
    return request.param, written(request.param, tmp_path_factory.mktemp(request.param))


def written(name: str, folder: Path) -> Path:
    return write_family(next(family for family in FAMILIES if family.model_type == name), folder)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ragged_pairs(tmp_path_factory.mktemp("data") / "dpo.jsonl")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ragged_examples(tmp_path_factory.mktemp("data") / "sft.jsonl")


def test_greedy_completions_of_the_padded_engine_are_those_of_generate(family: tuple[str, Path]) -> None:
    compared = compare_engine(family[1], "padded")
    assert compared.different == 0
    assert compared.distinct > 6


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_greedy_completions_of_the_paged_engine_are_those_of_generate(name: str, tmp_path: Path) -> None:
    assert compare_engine(written(name, tmp_path), "paged").different == 0


def test_a_training_step_is_that_of_trl(family: tuple[str, Path], examples: Path, pairs: Path, tmp_path: Path) -> None:
    for objective, file in ((SFT, examples), (DPO, pairs)):
        assert compare_training(family[1], objective, file, tmp_path / type(objective).__name__, packed=False).same


def test_answers_of_a_saved_checkpoint_are_those_of_the_model_in_memory(
    family: tuple[str, Path], examples: Path, pairs: Path, tmp_path: Path
) -> None:
    assert compare_saved(family[1], SFT, examples, tmp_path / "full").different == 0
    assert compare_saved(family[1], DPO, pairs, tmp_path / "lora").different == 0


def test_an_adapter_is_on_all_linear_layers_but_the_head(family: tuple[str, Path]) -> None:
    gated = {"q_proj": 3, "k_proj": 3, "v_proj": 3, "o_proj": 3, "gate_proj": 3, "up_proj": 3, "down_proj": 3}
    expected = {"gpt2": {"c_attn": 3, "c_proj": 6, "c_fc": 3}}
    assert lora_targets(family[1]) == expected.get(family[0], gated)


@pytest.mark.parametrize("family_of_all", FAMILIES, ids=lambda family: family.model_type)
def test_the_attention_of_a_gpu_computes_what_eager_attention_does(family_of_all: Family) -> None:
    """sdpa of transformers 5.0 to 5.20 left out the cap on the scores of Gemma 2 and VaultGemma."""
    import torch
    from transformers import AutoModelForCausalLM

    config = config_of(family_of_all)
    chosen = loading._attention(TransformersSettings(), torch.device("cuda"), config)
    torch.manual_seed(0)
    options = {} if chosen is None else {"attn_implementation": chosen}  # as models are read
    model = AutoModelForCausalLM.from_config(config, **options).eval()
    ids = torch.randint(3, 60, (2, 40))
    mask = torch.ones_like(ids)
    mask[1, :13] = 0

    def logits() -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[mask.bool()]
        return found

    found = logits()
    if model.config._attn_implementation != "eager":
        model.set_attn_implementation("eager")
    assert torch.allclose(found, logits(), atol=1e-4 * float(found.abs().max()))


@pytest.mark.parametrize("name", ["mixtral", "granitemoe"])
def test_a_mixture_of_experts_is_packed_with_the_loss_on_the_balance_of_its_experts(
    name: str, examples: Path, pairs: Path, tmp_path: Path
) -> None:
    folder = written(name, tmp_path / "base")
    for objective, file in ((SFT, examples), (DPO, pairs)):
        assert compare_training(folder, objective, file, tmp_path / type(objective).__name__, packed=True).same


def test_a_checkpoint_of_a_mixture_of_experts_has_the_settings_of_its_start_model(
    examples: Path, tmp_path: Path
) -> None:
    folder = written("mixtral", tmp_path / "base")
    assert compare_saved(folder, SFT, examples, tmp_path / "M1").different == 0
    assert load(tmp_path / "M1").model.config.output_router_logits is False


@pytest.mark.parametrize("name", ["mamba", "qwen3_5_text", "lfm2_moe"])
def test_states_of_linear_attention_leave_the_batch_with_their_sequences(name: str, tmp_path: Path) -> None:
    assert compare_engine(written(name, tmp_path), "padded").different == 0


def test_a_tokenizer_without_a_class_is_read_as_it_is_stored_whatever_the_type_of_its_model(tmp_path: Path) -> None:
    tokenizer = load(written("qwen2", tmp_path)).tokenizer
    assert tokenizer.convert_ids_to_tokens(tokenizer("sort the words").input_ids) == ["sort", "the", "words"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nemotron", "transformers does not pass a batch's description on to its attention"),
        ("diffllama", "one of its layers attends more than once"),
        ("minicpm3", "its keys and its values have different sizes"),
        ("doge", r"its attention scores have terms of their own \(attention_mask\)"),
        ("jetmoe", "its keys and values have a shape of their own"),
    ],
)
def test_a_model_whose_attention_cannot_be_replaced_is_not_paged(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"this model cannot be paged: {reason}"):
        compare_engine(written(name, tmp_path), "paged")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rwkv", "has no cache that finished sequences can leave"),
        ("xlstm", "has no cache that finished sequences can leave"),
        ("openai-gpt", "has no cache that finished sequences can leave"),
        ("bert", "is of the type 'bert', which is an encoder or has one; use a model that completes text"),
        ("bart", "is of the type 'bart', which is an encoder or has one"),
        ("gemma3", r"a model of text and other inputs; save its language model (type 'gemma3_text') as a checkpoint"),
        ("qwen3_5", "is of the type 'qwen3_5', a model of text and other inputs"),
        ("vit", "is of the type 'vit', which is no causal language model"),
    ],
)
def test_a_model_that_cannot_be_a_student_is_refused_with_the_reason(name: str, reason: str) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    assert reason in (unsupported_reason(CONFIG_MAPPING[name]()) or "")


@pytest.mark.slow
def test_the_types_without_a_cache_are_those_whose_class_takes_none() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    found = set()
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        config = CONFIG_MAPPING[kind]
        if config in MODEL_FOR_CAUSAL_LM_MAPPING and cache_argument(MODEL_FOR_CAUSAL_LM_MAPPING[config]) is None:
            found.add(kind)
    assert found >= set(WITHOUT_CACHE)
    assert all(unsupported_reason(CONFIG_MAPPING[kind]()) for kind in found - set(WITHOUT_CACHE))


def test_every_family_of_the_table_that_is_not_refused_has_a_cache() -> None:
    refused = {family.model_type for family in FAMILIES if unsupported_reason(config_of(family))}
    assert refused == {"rwkv", "xlstm", "openai-gpt"}


@pytest.mark.parametrize("setting", ["attn_pdrop", "attention_dropout"])
def test_a_model_that_drops_attention_weights_is_not_packed(setting: str, tmp_path: Path) -> None:
    from tutelage_transformers.training import packing

    model: Any = load(written("gpt2", tmp_path)).model
    setattr(model.config, setting, 0.1)
    assert packing._unsupported_reason(model) == "it drops attention weights in training"
