"""The checks of the bound models before a run: environment, files or service, by the helper callables of their plugins.

Each distinct model is checked once, also if it has several roles. A service gets at most one request per distinct
endpoint, which is free of charge.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from attrs import evolve, frozen

from tutelage.errors import InputError
from tutelage.objectives import Objective
from tutelage.planning.judging_uses import judging_uses, rubrics_of_expected_scores
from tutelage.planning.pipelines import roles_needed
from tutelage.planning.problem_list import Problems
from tutelage.planning.roles import bound_key, bound_model, endpoint_of, jurors
from tutelage.planning.sources import Sources
from tutelage.planning.steps import Plan, Train
from tutelage.plugin_info import Finding, PluginInfo, RunNeeds
from tutelage.plugins import helpers
from tutelage.plugins.registry import Registry
from tutelage.records import Model, Rubric
from tutelage.services.ledger import Ledger
from tutelage.services.requests import Endpoint
from tutelage.services.time_limit import TimeUp, within

CHECK_SECONDS = 30.0
"""Time limit for the check of a service."""


@frozen
class _Bound:
    """A model with the roles that it fills."""

    model: Model
    info: PluginInfo
    service: Endpoint | None
    roles: tuple[str, ...]
    hooks: frozenset[str]
    keys: tuple[str, ...]
    """The recipe's keys of the bindings, each once."""

    @property
    def key(self) -> str:
        """The recipe's keys for messages."""
        return ", ".join(self.keys)


@frozen
class ModelFindings:
    """The result of ``check_models``, besides the problems."""

    notices: tuple[str, ...]
    """A line for each check that could not be made."""
    missing: frozenset[str]
    """Roles whose model does not exist, or is not on this machine."""
    of_services: frozenset[str]
    """The problems that concern services: keys, addresses and names of API models."""


def check_models(
    sources: Sources,
    roles: Iterable[str],
    plan: Plan | None,
    problems: Problems,
    directory: Path | None = None,
    download: bool = True,
) -> ModelFindings:
    """Check the model of each of ``roles``, whose bindings are right, and add what is wrong to ``problems``.

    ``plan`` has the steps that are left; ``directory`` is the run's folder. With ``download``, a service that cannot be
    reached is a problem.
    """
    notices: list[str] = []
    missing: set[str] = set()
    of_services: set[str] = set()
    models = _bound(sources, roles)
    if any(bound.service is not None for bound in models):
        problems.attempt("", Ledger)  # every paid answer is stored there
    for bound in models:
        before = len(problems.lines)
        for variable in bound.info.environment:
            if variable.required and not os.environ.get(variable.name):
                problems.add(
                    f"{bound.key}: the environment variable {variable.name} is not set; the plugin "
                    f"{bound.model.plugin!r} needs it ({variable.help})"
                )
        needs = _needs(sources, bound, plan, directory, download)
        for finding in problems.attempt(bound.key, partial(_findings, sources.registry, bound, needs)) or ():
            if finding.ok is None and not (download and bound.service is not None):
                notices.append(f"not checked: {bound.key}: {finding.detail}")
            elif not finding.ok:
                problems.add_all(finding.detail.splitlines(), bound.key)
            if not finding.ok and finding.what == "model":
                missing.update(bound.roles)
        for key, prompts in _prompts(sources, bound).items():
            if problem := problems.attempt(
                bound.key, partial(helpers.check_prompts, sources.registry, bound.model, prompts)
            ):
                problems.add(f"{bound.key}: {key}: {problem}")
        if bound.service is not None:
            of_services.update(problems.lines[before:])
    return ModelFindings(tuple(notices), frozenset(missing), frozenset(of_services))


def check_prompts(registry: Registry, model: Model, prompts: Iterable[str]) -> None:
    """Raise InputError if the model's plugin does not know texts of the kind of these prompts."""
    if problem := helpers.check_prompts(registry, model, prompts):
        raise InputError(f"plugin {model.plugin!r}: {problem}")


def _prompts(sources: Sources, bound: _Bound) -> dict[str, list[str]]:
    """Return the prompts that the model judges or answers, by the recipe's key of their source.

    Prompts that a model writes are not known yet. A source with a problem is reported by its own key.
    """
    recipe, found = sources.recipe, {}
    if not helpers.implements(sources.registry, bound.model.plugin, "check_prompts"):
        return {}
    with suppress(Exception):  # a set of a plugin may raise any error
        if "evaluator" in bound.roles and recipe.evaluation is not None:
            found["evaluation.prompts"] = [prompt.text for prompt in sources.evaluation(recipe.seeds[0])]
        if (
            {"judge", "teacher", *jurors(recipe)} & set(bound.roles)
            and recipe.data.prompts
            and recipe.data.self_instruct is None
        ):
            found["data.prompts"] = [prompt.text for prompt in sources.fresh(recipe.seeds[0])]
    return found


def _bound(sources: Sources, roles: Iterable[str]) -> list[_Bound]:
    """Return the distinct models of the roles. Two models of one service are equal if their endpoints are equal."""
    hooks = roles_needed(sources.recipe, sources.declared)
    found: dict[object, _Bound] = {}
    for role in roles:
        key = bound_key(sources.recipe, role)
        model = bound_model(sources.recipe, role, sources.registry)
        settings = helpers.settings_of(sources.registry, model, f"{key}.settings")
        service = endpoint_of(sources.recipe, role, sources.registry)
        local = (model.name, repr(settings))
        identity = (model.plugin, local if service is None else service)
        if (same := found.get(identity)) is not None:
            keys = tuple(dict.fromkeys((*same.keys, key)))
            found[identity] = evolve(same, roles=(*same.roles, role), hooks=same.hooks | hooks[role], keys=keys)
        else:
            info = sources.registry.info(model.plugin)
            found[identity] = _Bound(model, info, service, (role,), frozenset(hooks[role]), (key,))
    return list(found.values())


def _findings(registry: Registry, bound: _Bound, needs: RunNeeds) -> list[Finding]:
    if bound.service is None and (found := helpers.check_run(registry, bound.model, needs)) is not None:
        return found
    try:
        return within(CHECK_SECONDS, lambda: helpers.check(registry, bound.model)) or []
    except TimeUp:
        detail = f"plugin {bound.model.plugin!r}: its check gave no answer within {CHECK_SECONDS:g} s; try again later"
        return [Finding("endpoint", None, detail)]


def _needs(sources: Sources, bound: _Bound, plan: Plan | None, directory: Path | None, download: bool) -> RunNeeds:
    trainings: tuple[Objective, ...] = ()
    if "student" in bound.roles and plan is not None:
        trainings = tuple(step.objective for step in plan.steps if isinstance(step, Train))
    conversations = _conversations(sources)
    is_judge = bool(bound.hooks & {"judge", "evaluate"})
    return RunNeeds(
        hooks=bound.hooks,
        trainings=trainings,
        system=any(roles[0] == "system" for roles in conversations) or (is_judge and _has_system_rubric(sources)),
        several_turns=any(roles.count("user") > 1 for roles in conversations),
        rubrics=_rubrics(sources, bound),
        expected_scores=rubrics_of_expected_scores(
            sources.recipe, sources.registry, sources.declared, frozenset(bound.roles)
        ),
        directory=directory,
        download=download,
    )


def _conversations(sources: Sources) -> set[tuple[str, ...]]:
    """The roles of the messages of each conversation in the data. Empty if the data has a problem, which is reported
    by its own key."""
    try:
        return set(sources.conversations(sources.recipe.seeds[0]))
    except Exception:  # a set of a plugin may raise any error
        return set()


def _rubrics(sources: Sources, bound: _Bound) -> tuple[Rubric, ...]:
    """The rubrics with which the model judges. One that does not exist is reported by its own key."""
    recipe = sources.recipe
    names = {one.rubric for _, one, role in judging_uses(recipe, sources.declared) if role in bound.roles}
    if recipe.evaluation is not None and "evaluator" in bound.roles:
        names.add(recipe.evaluation.rubric)
    offered = sources.registry.offered("rubrics")
    return tuple(offered[name] for name in sorted(names) if name in offered)


def _has_system_rubric(sources: Sources) -> bool:
    recipe = sources.recipe
    names = {recipe.judging.rubric, *(one.rubric for _, one, _ in judging_uses(recipe, sources.declared))}
    if recipe.evaluation is not None:
        names |= {recipe.evaluation.rubric, recipe.evaluation.comparison_rubric}
    offered = sources.registry.offered("rubrics")
    return any(name in offered and offered[name].system for name in names)
