"""The whole trained model, if several processes hold parts of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def gathered_model(trainer: Any, read_start: Callable[[], Any]) -> Any:
    """Return the trained model with all its weights in the first process, None in the others.

    Under FSDP each process holds a part of every weight. The parts are gathered and loaded into the model that training
    started from, which ``read_start`` reads again on the CPU.
    """
    if not trainer.is_fsdp_enabled:
        return trainer.model if trainer.is_world_process_zero() else None
    weights = trainer.accelerator.get_state_dict(trainer.model)
    if not trainer.is_world_process_zero():
        return None
    adapted = getattr(trainer.accelerator.unwrap_model(trainer.model), "peft_config", None)
    model = read_start()
    if adapted:
        from peft import get_peft_model

        model = get_peft_model(model, adapted["default"])
    model.load_state_dict(weights)
    return model
