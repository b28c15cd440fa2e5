"""What the trainers replace in TRL's modules, and how they read the rows of a dataset."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from tutelage.records import Model
from tutelage_transformers.models.loading import read
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.trainers import own_reference, rows_of


@pytest.mark.parametrize("name", ["dpo_trainer", "kto_trainer"])
def test_trl_distinguishes_models_with_an_adapter_as_accelerate_does_and_has_its_functions_back(
    base: Path, name: str
) -> None:
    from accelerate.utils import is_peft_model
    from peft import LoraConfig, get_peft_model

    module = import_module(f"trl.trainer.{name}")
    plain = read(Model("transformers", str(base)), TransformersSettings(device="cpu")).model
    other = read(Model("transformers", str(base)), TransformersSettings(device="cpu")).model
    adapted = get_peft_model(other, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    with own_reference(module):
        assert module.is_peft_model is not is_peft_model
        for model in (plain, adapted):
            assert module.is_peft_model(model) == is_peft_model(model) == (model is adapted)
    assert module.is_peft_model is is_peft_model


def test_the_rows_of_a_dataset_are_those_of_reading_it_row_by_row() -> None:
    from datasets import Dataset

    rows = [{"prompt_ids": [1, 2], "label": True, "ref_logps": 0.5}, {"prompt_ids": [], "label": False, "ref_logps": 0}]
    dataset = Dataset.from_list(rows)
    assert rows_of(dataset) == list(dataset)
    assert rows_of(dataset.select([])) == []
