"""The losses of plugins that ``dpo.loss_type`` names as ``PLUGIN/NAME``: found, checked, and given their settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from attrs import evolve

from tutelage.errors import InputError, TutelageError
from tutelage.files.settings import optional_settings
from tutelage.objectives import Dpo, Objective, PairLoss
from tutelage.plugins.guarded_lists import guarded_list
from tutelage.plugins.registry import Registry


def pair_loss_problems(objective: Objective, student: str, registry: Registry) -> Iterator[str]:
    """Yield each problem of the losses of plugins in an objective as ``KEY: problem``, for the student's plugin.

    Raises PluginError if the check of a loss raises an exception, or returns or yields something else than texts.
    """
    if not isinstance(objective, Dpo):
        return
    names = objective.plugin_losses
    if objective.loss_settings is not None and not names:
        yield "loss_settings: loss_type names no loss of a plugin; leave them out"
    if len(names) > 1:
        yield f"loss_type: {', '.join(names)}; name at most one loss of a plugin"
    if names and not registry.info(student).trains_pair_losses:
        others = [name for name in registry.names("train_step") if registry.info(name).trains_pair_losses]
        known = f"; these do: {', '.join(others)}" if others else ""
        yield f"loss_type: {', '.join(names)}; {registry.label(student)} does not train with losses of plugins{known}"
    for name in names:
        try:
            loss = registry.get("pair_losses", name)
            settings = _settings(objective, name, loss)
        except TutelageError as error:
            key = "loss_settings" if str(error).startswith("loss_settings") else "loss_type"
            yield from (line if line.startswith(f"{key}:") else f"{key}: {line}" for line in str(error).splitlines())
            continue
        if loss.check is not None:
            label = f"pair loss {name!r} of {registry.label(name.partition('/')[0])}, check,"
            yield from guarded_list(label, loss.check, objective, settings, kind=str)


def bound_pair_losses(objective: Objective, student: str, registry: Registry) -> Mapping[str, PairLoss]:
    """Return the losses of plugins in an objective by name, each with a ``function(batch)`` that has its settings.

    Raises ``InputError`` with every problem.
    """
    if not isinstance(objective, Dpo):
        return {}
    if problems := list(pair_loss_problems(objective, student, registry)):
        raise InputError("\n".join(problems))
    found = {name: registry.get("pair_losses", name) for name in objective.plugin_losses}
    return {
        name: evolve(loss, function=partial(loss.function, settings=_settings(objective, name, loss)))
        for name, loss in found.items()
    }


def _settings(objective: Dpo, name: str, loss: PairLoss) -> Any:
    return optional_settings(loss.settings, objective.loss_settings or {}, "loss_settings", f"the loss {name}")
