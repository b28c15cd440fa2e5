"""A training does not fail when it saves: faults are found at its start, and a checkpoint is the trained model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from family_checks import DPO, SFT, compare_saved, completed, load, prompts_of, trained_in_memory
from model_families import FAMILIES, write_family
from stock_training import write_ragged_examples, write_ragged_pairs

from tutelage.context import Context
from tutelage.errors import InputError
from tutelage.objectives import Lora
from tutelage.records import Model, Prompt, Sampling
from tutelage_transformers.generation.answering import candidates
from tutelage_transformers.models import checkpoint
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.step import train

LORA = Lora(r=4, alpha=8, dropout=0.0)


def written(folder: Path, name: str = "llama", **changes: Any) -> Path:
    family = next(family for family in FAMILIES if family.model_type == name)
    return write_family(evolve(family, changes={**family.changes, **changes}), folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("data")
    return write_ragged_examples(folder / "sft.jsonl"), write_ragged_pairs(folder / "dpo.jsonl")


@pytest.mark.parametrize(
    ("rows", "tied", "lora"), [(27, True, None), (20, False, None), (20, True, LORA), (27, False, LORA)]
)
def test_answers_of_a_checkpoint_with_resized_embeddings_are_those_in_memory(
    rows: int, tied: bool, lora: Lora | None, files: tuple[Path, Path], tmp_path: Path
) -> None:
    base = written(tmp_path / "base", vocab_size=rows, tie_word_embeddings=tied)
    compared = compare_saved(base, evolve(DPO, lora=lora), files[1], tmp_path / "M1")
    assert compared.different == 0
    assert json.loads((tmp_path / "M1/config.json").read_text())["vocab_size"] == max(rows, 28)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_answers_of_a_checkpoint_in_bfloat16_are_those_of_the_trained_weights_in_memory(
    lora: Lora | None, files: tuple[Path, Path], tmp_path: Path
) -> None:
    import torch

    settings = TransformersSettings(device="cpu", dtype="bfloat16")
    base = written(tmp_path / "base", "gemma3_text")
    objective = evolve(DPO, lora=lora, learning_rate=1e-1)
    trained = trained_in_memory(base, objective, files[1], tmp_path / "M1", settings)
    checkpoint.save(trained.model, trained.tokenizer, tmp_path / "M1", torch.bfloat16, str(base))
    in_memory = load(base, settings)  # the weights of the trained model in the buffers of a model that was read
    before = completed(in_memory, prompts := prompts_of(trained.tokenizer, 12))
    in_memory.model.load_state_dict((trained.model.get_base_model() if lora else trained.model).state_dict())
    saved = load(tmp_path / "M1", settings)
    assert saved.model.dtype == torch.bfloat16
    assert completed(saved, prompts) == completed(in_memory, prompts) != before


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.9, "do_sample": False},
        {"top_k": 5, "do_sample": False},
        {"num_beams": 1, "length_penalty": 2.0},
    ],
)
def test_generation_settings_that_could_not_be_saved_stop_a_training_before_it_starts(
    settings: dict[str, Any], files: tuple[Path, Path], tmp_path: Path
) -> None:
    base = written(tmp_path / "base")
    file = base / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    output = tmp_path / "M1"
    output.mkdir()
    logged: list[Any] = []
    with pytest.raises(InputError, match=r"its generation_config\.json could not be saved with a checkpoint"):
        train(Model("transformers", str(base)), None, SFT, files[0], output, Context(log=logged.append))
    assert logged == [] and list(output.iterdir()) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_found_when_they_are_read(
    value: float, files: tuple[Path, Path], tmp_path: Path
) -> None:
    base = written(tmp_path / "base")
    loaded = load(base)
    loaded.model.model.layers[1].mlp.up_proj.weight.data[3, 5] = value
    loaded.model.save_pretrained(base)
    found = r"these weights are NaN or infinite in float32: model\.layers\.1\.mlp\.up_proj\.weight; use another copy"
    with pytest.raises(InputError, match=found):
        list(candidates(Model("transformers", str(base)), [Prompt("sort cat")], 1, Sampling(), Context()))
    with pytest.raises(InputError, match=found):
        train(Model("transformers", str(base)), None, SFT, files[0], tmp_path, Context())


def test_weights_that_overflow_in_the_type_of_the_settings_are_found_when_they_are_read(tmp_path: Path) -> None:
    base = written(tmp_path)
    loaded = load(base)
    loaded.model.lm_head.weight.data[3, 5] = 1e5
    loaded.model.save_pretrained(base)
    load(base)
    with pytest.raises(InputError, match=r"in float16: lm_head\.weight; .* settings\.dtype to float32"):
        load(base, TransformersSettings(device="cpu", dtype="float16"))


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors"])
def test_quantised_weights_are_refused_before_they_are_read(method: str, tmp_path: Path) -> None:
    base = written(tmp_path)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": method}}))
    (base / "model.safetensors").unlink()
    with pytest.raises(InputError, match=rf"its weights are quantised by {method} .*use its unquantised weights"):
        load(base)
