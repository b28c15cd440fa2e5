"""Leave out what transformers does with every module of a model in each step; after the first, it changes nothing.

transformers sets the mode of each module, and looks for gradients in each. A model of 2.7 billion weights with an
adapter has 9,000 modules, and meanwhile the CPU starts no kernels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without_visits(model: Any) -> Iterator[None]:
    """Let ``model.train()`` do nothing, and ``model.zero_grad()`` visit only the weights that are trained.

    All modules must be in training mode, and stay in it. At the end both methods do what they did before.
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
