"""Everything that can be checked before the first step, in one list: used by ``plan`` and by ``run``.

The recipe itself (``checks``), the models and services (``model_checks``), the lengths of the training data
(``lengths``), and the keys that have no effect (``unused_keys``). Nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from attrs import evolve, field, frozen

from tutelage.planning.checks import check_recipe, without_unknown
from tutelage.planning.lengths import check_lengths
from tutelage.planning.model_checks import check_models
from tutelage.planning.pipelines import make_plan, roles_needed
from tutelage.planning.problem_list import Problems
from tutelage.planning.sources import Sources
from tutelage.planning.steps import Plan, Step, Train
from tutelage.planning.unused_keys import unused_keys
from tutelage.planning.wrapping import idle_wrappers


@frozen
class Preflight:
    """The result of all checks before a run."""

    plan: Plan | None
    """The plan with the real counts; None if the recipe itself has a problem."""
    notices: tuple[str, ...]
    """Keys that have no effect, and checks that could not be made; each is one line."""
    _problems: Problems = field(repr=False)
    _of_services: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def problems(self) -> tuple[str, ...]:
        """Every problem: the key of the recipe, what is wrong, and what to do."""
        return self._problems.lines

    @property
    def planned(self) -> Plan:
        """The plan if the recipe, its data and its local models are right, even if a service is not available.

        Raises the error of ``passed`` if there is another problem.
        """
        return self.plan if self.plan is not None and set(self.problems) <= self._of_services else self.passed()

    def passed(self) -> Plan:
        """Return the plan if there is no problem.

        Raises one error with every problem: PluginError if all of them are of plugins, otherwise InputError.
        """
        self._problems.raise_all()
        assert self.plan is not None, "a recipe without a plan has a problem"
        return self.plan


def preflight(
    sources: Sources,
    directory: Path | None = None,
    download: bool = True,
    left: Callable[[Plan], Sequence[Step]] | None = None,
) -> Preflight:
    """Check the recipe of ``sources``, its models, services and data, and the machine. Nothing is run or written.

    ``directory`` is the folder of the run. ``left`` returns the steps of the plan that are not done; by default those
    whose artifact does not exist in ``directory``. Models that only finished steps use are not checked. Without
    ``download``, the hub is not asked, and a model or service that cannot be reached is a notice, not a problem.
    """
    problems, recipe = Problems(), sources.recipe
    roles = check_recipe(sources, problems)
    if problems and not roles:
        return Preflight(None, (), problems)
    plan = None if problems else make_plan(recipe, sources.counts(), sources.declared)
    choose = left or partial(_missing, directory)
    remaining = None if plan is None else evolve(plan, steps=tuple(choose(plan)))
    known = without_unknown(recipe, sources.declared)
    usable = sources if known == recipe else Sources(known, sources.registry)
    asked = [
        role
        for role in roles_needed(known, usable.declared)
        if role in roles and (remaining is None or role in _roles_of(remaining.steps))
    ]
    models = check_models(usable, asked, remaining, problems, directory, download)
    idle = idle_wrappers(known, sources.registry, usable.declared)
    notices = [*unused_keys(known, usable.declared), *idle, *models.notices]
    if "student" in roles - models.missing and _trains(remaining):
        notices += _length_notices(usable, problems, download)
    return Preflight(plan, tuple(dict.fromkeys(notices)), problems, models.of_services)


def _missing(directory: Path | None, plan: Plan) -> list[Step]:
    """Return the steps whose artifact does not exist in the run's folder."""
    return [step for step in plan.steps if directory is None or not (directory / step.output).exists()]


def _trains(remaining: Plan | None) -> bool:
    return remaining is None or any(isinstance(step, Train) for step in remaining.steps)


def _roles_of(steps: tuple[Step, ...]) -> set[str]:
    workers = [getattr(step, name, None) for step in steps for name in ("worker", "start", "reference")]
    return {worker.role for worker in workers if worker is not None}


def _length_notices(sources: Sources, problems: Problems, download: bool) -> list[str]:
    """Check the lengths of the training data. Returns a notice if they could not be counted."""
    try:
        list(sources.conversations(sources.recipe.seeds[0]))
    except Exception:  # a set of a plugin may raise any error
        return []  # the data has a problem, which is reported by its own key
    checked = problems.attempt("", lambda: check_lengths(sources, download))
    if checked is False:
        return ["not checked: the lengths of the training data in tokens, because the student is not on this machine"]
    return []
