"""The experts of a mixture: modules whose number of tokens differs in each pass."""

from __future__ import annotations

from typing import Any


def experts_of(model: Any) -> list[Any]:
    """Return the modules that hold the experts of a mixture. transformers names their classes ``...Experts``."""
    return [module for module in model.modules() if type(module).__name__.endswith("Experts")]
