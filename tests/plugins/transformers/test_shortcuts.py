"""What transformers does with every module in each step is left out after the first one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tutelage.context import Context
from tutelage.objectives import Sft
from tutelage.records import Model
from tutelage_transformers.models.loading import read
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.request import TrainingRequest
from tutelage_transformers.training.shortcuts import without_visits
from tutelage_transformers.training.step import build

torch = pytest.importorskip("torch")


def model_with_a_frozen_layer() -> Any:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5), torch.nn.Linear(3, 1))
    model[0].requires_grad_(False)
    return model.train()


def test_only_the_gradients_of_trained_weights_are_removed() -> None:
    model = model_with_a_frozen_layer()
    with without_visits(model):
        model(torch.ones(2, 3)).sum().backward()
        assert model[2].weight.grad is not None
        model[0].weight.grad = torch.ones(3, 3)
        model.zero_grad()
        assert all(weight.grad is None for weight in model[2].parameters())
        assert model[0].weight.grad is not None, "a frozen weight is not visited"


def test_the_mode_of_the_modules_is_not_set() -> None:
    model = model_with_a_frozen_layer()
    with without_visits(model):
        model[1].eval()
        assert model.train() is model
        assert [module.training for module in model] == [True, False, True]


def test_after_an_error_the_model_visits_its_modules_again() -> None:
    model = model_with_a_frozen_layer()
    with pytest.raises(ValueError, match="a bug"), without_visits(model):
        raise ValueError("a bug")
    model[1].eval()
    assert model.train()[1].training
    model[0].weight.grad = torch.ones(3, 3)
    model.zero_grad()
    assert model[0].weight.grad is None


def test_a_training_sets_the_mode_of_a_layer_in_its_first_batch_only(
    base: Path, sft_file: Path, tmp_path: Path
) -> None:
    settings = TransformersSettings(device="cpu", processes=1)
    model, objective = Model("transformers", str(base)), Sft(epochs=1, batch_size=4, micro_batch_size=2)
    request = TrainingRequest(model, None, objective, sft_file, tmp_path, tmp_path, settings)
    with quiet():
        trainer = build(request, read(model, settings), None, tmp_path, Context())
    layer = trainer.model.base_model.layers[0]
    set_mode = layer.train
    batches: list[Any] = []
    mode_set_after: list[int] = []
    """Number of batches that were computed before each call of ``layer.train``."""

    def recorded(mode: bool = True) -> Any:
        mode_set_after.append(len(batches))
        return set_mode(mode)

    layer.train = recorded
    layer.register_forward_hook(lambda *_: batches.append(None))
    with quiet():
        trainer.train()
    assert len(batches) == 2 * trainer.state.global_step > 2
    assert set(mode_set_after) == {0}
    trainer.model.train()
    assert len(batches) in mode_set_after, "after the training the mode is set as before"
