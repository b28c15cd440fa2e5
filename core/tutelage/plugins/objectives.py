"""Whether a student trains an objective, and the problems of the objective itself."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tutelage.errors import InputError
from tutelage.objectives import Objective
from tutelage.plugins.guarded_lists import guarded_list
from tutelage.plugins.pair_losses import pair_loss_problems
from tutelage.plugins.registry import Registry


def untrained(objective: Objective, student: str, registry: Registry) -> str:
    """Return why the plugin of a student does not train an objective, and the plugins that do; empty if it does."""
    name = registry.name_of_objective(objective)
    if _trains(objective, name, student, registry):
        return ""
    info = registry.info(student)
    known = [*info.trains, *(f"objectives with a loss of {kind}" for kind in info.trains_losses)]
    others = [one for one in registry.names("train_step") if _trains(objective, name, one, registry)]
    return (
        f"{registry.label(student)} does not train {name}; it trains {', '.join(known) or 'no objective'}. "
        f"Plugins that train {name}: {', '.join(others) or 'none that is installed'}"
    )


def check_trainable(objective: Objective, student: str, registry: Registry) -> None:
    """Raise InputError if the plugin of a student does not train an objective, or with the problems of its settings."""
    if problem := untrained(objective, student, registry):
        raise InputError(problem)
    if problems := list(objective_problems(objective, student, registry)):
        raise InputError("\n".join(problems))


def objective_problems(objective: Objective, student: str, registry: Registry) -> Iterator[str]:
    """Yield each problem of the settings of an objective as ``KEY: problem``.

    Raises PluginError if the objective's own check raises an exception or yields no text.
    """
    yield from pair_loss_problems(objective, student, registry)
    name = registry.name_of_objective(objective)
    if "/" in name:
        for key in ("batch_size", "epochs", "learning_rate"):
            value = getattr(objective, key)
            if not (value > 0 and math.isfinite(value)):
                yield f"{key}: {value}; must be positive"
    owner = registry.label(name.partition("/")[0]) if "/" in name else "core"
    yield from guarded_list(f"objective {name!r} of {owner}, problems,", objective.problems, kind=str)


def _trains(objective: Objective, name: str, student: str, registry: Registry) -> bool:
    info = registry.info(student)
    return name in info.trains or (objective.has_loss and objective.examples in info.trains_losses)
