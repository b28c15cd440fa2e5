"""What transformers does with every module of a model in each step, although it changes nothing after the first one.

A model of 2.7 billion weights with an adapter has 9,000 modules. To set the mode of each, and to look for gradients in
each, keeps the CPU from starting the next kernels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without_visits(model: Any) -> Iterator[None]:
    """Let ``model.train()`` do nothing, and ``model.zero_grad()`` visit only the weights that are trained.

    All modules must be in the mode of training, and stay in it. At the end both do what they did before.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]

    def train(mode: bool = True) -> Any:
        return model

    def zero_grad(set_to_none: bool = True) -> None:
        for weight in trained:
            weight.grad = None

    replaced = {"train": train, "zero_grad": zero_grad}
    vars(model).update(replaced)
    try:
        yield
    finally:
        for name in replaced:
            del vars(model)[name]
