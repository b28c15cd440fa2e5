"""What transformers does with every module in each step is left out, and the training is the same."""

from __future__ import annotations

from typing import Any

import pytest

from tutelage_transformers.training.shortcuts import without_visits

torch = pytest.importorskip("torch")


def model_with_a_frozen_layer() -> Any:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5), torch.nn.Linear(3, 1))
    model[0].requires_grad_(False)
    return model.train()


def test_the_gradients_of_trained_weights_are_removed() -> None:
    model = model_with_a_frozen_layer()
    with without_visits(model):
        model(torch.ones(2, 3)).sum().backward()
        assert model[2].weight.grad is not None
        model.zero_grad()
        assert all(weight.grad is None for weight in model.parameters())


def test_the_mode_of_the_modules_stays() -> None:
    model = model_with_a_frozen_layer()
    with without_visits(model):
        assert model.train() is model
        assert all(module.training for module in model.modules())


def test_afterwards_the_model_visits_its_modules_again() -> None:
    model = model_with_a_frozen_layer()
    with without_visits(model):
        pass
    model[1].eval()
    assert model.train()[1].training
    model[0].weight.grad = torch.ones(3, 3)
    model.zero_grad()
    assert model[0].weight.grad is None
