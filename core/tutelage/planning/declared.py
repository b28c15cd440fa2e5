"""The declarations of the pipelines and controls of a recipe, and their stored form in the folder of a run.

A run stores the declarations that plugins offer, so that it can be read where the plugins are not installed any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import attrs
from attrs import evolve, field, frozen

from tutelage.errors import InputError
from tutelage.files.overrides import overrides_of
from tutelage.files.settings import structure
from tutelage.measure import MeasureInfo
from tutelage.objectives import OBJECTIVES, Objective
from tutelage.pipeline import Pipeline
from tutelage.pipeline_steps import CombineStep, CompareStep, JudgeStep, PipelineStep, function_name
from tutelage.planning import trained_by
from tutelage.plugins.built_in_pipelines import CONTROLS, PIPELINES
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Judging, MemberSettings, Recipe

Group = Literal["pipelines", "controls"]
_STEPS = {cls.__name__: cls for cls in get_args(PipelineStep)}


@frozen
class Declared:
    """The declarations of pipelines, controls, objectives and measures, by the names that a recipe uses."""

    pipelines: Mapping[str, Pipeline] = PIPELINES
    controls: Mapping[str, Pipeline] = CONTROLS
    objectives: Mapping[str, type[Objective]] = OBJECTIVES
    measures: Mapping[str, MeasureInfo] = field(factory=dict)

    def of(self, name: str) -> Pipeline:
        """Return a pipeline or a control. Raises KeyError if it is neither."""
        return self.pipelines[name] if name in self.pipelines else self.controls[name]

    def settings(self, recipe: Recipe, name: str) -> MemberSettings:
        """Return the settings of a pipeline or control of a recipe, with the settings that its declaration names.

        An override of the recipe takes precedence over the declaration. Raises InputError if an override is wrong.
        """
        is_control = name in recipe.controls
        settings = recipe.for_control(name) if is_control else recipe.for_pipeline(name)
        training = (self.controls if is_control else self.pipelines)[name].training
        if not training.settings or training.objective not in OBJECTIVES:
            return settings
        own = getattr((recipe.controls if is_control else recipe.pipelines)[name], training.objective, {})
        section = getattr(settings, training.objective)
        declared = structure(overrides_of(type(section)), dict(training.settings), f"pipeline {name}")
        changed = {key: value for key, value in declared.items() if key not in own}
        return evolve(settings, **{training.objective: evolve(section, **changed)})

    def objective(self, recipe: Recipe, name: str) -> Objective:
        """Return the objective of a pipeline or control of a recipe, with its settings.

        Those of its declaration replace those of the top-level section; an override of the recipe replaces both. Raises
        InputError if a setting is wrong.
        """
        training = self.of(name).training
        if training.objective in OBJECTIVES:
            found: Objective = getattr(self.settings(recipe, name), training.objective)
            return found
        own = {} if name in recipe.controls else recipe.pipelines[name].objectives
        values = {**training.settings, **own.get(training.objective, {})}
        return self._of_plugin(recipe, training.objective, values, f"{member_key(recipe, name)}.")

    def general_objective(self, recipe: Recipe, objective: str) -> Objective:
        """Return an objective with the settings of its top-level section. Raises InputError if a setting is wrong."""
        if objective in OBJECTIVES:
            found: Objective = getattr(recipe, objective)
            return found
        return self._of_plugin(recipe, objective, {}, "")

    def _of_plugin(self, recipe: Recipe, objective: str, own: Mapping[str, Any], where: str) -> Objective:
        cls, general = self.objectives[objective], recipe.objectives.get(objective, {})
        checked = structure(overrides_of(cls), dict(general), f"objectives.{objective}")
        return cls(**{**checked, **structure(overrides_of(cls), dict(own), f"{where}objectives.{objective}")})

    def objective_key(self, recipe: Recipe, name: str, setting: str = "") -> str:
        """Return the key with the settings of the objective of a pipeline or control, or the key of one setting.

        It is the top-level one (``dpo``, ``objectives.transformers/kto``) if it has the same settings, or the same
        value of ``setting``.
        """
        objective = self.of(name).training.objective
        own, general = self.objective(recipe, name), self.general_objective(recipe, objective)
        is_general = getattr(own, setting) == getattr(general, setting) if setting else own == general
        section = objective if objective in OBJECTIVES else f"objectives.{objective}"
        key = section if is_general else f"{member_key(recipe, name)}.{section}"
        return f"{key}.{setting}" if setting else key

    def adapted_to(self, recipe: Recipe) -> Declared:
        """Return the declarations with the objective that the recipe names for each pipeline (``trained_by``).

        A pipeline or control whose objective is not known or trains on something else is left out.
        """
        pipelines = dict(self.pipelines)
        for name, own in recipe.pipelines.items():
            if name not in pipelines:
                continue
            wanted = own.objective or pipelines[name].training.objective
            if wanted in self.objectives:
                threshold = own.pairs.get("threshold", recipe.pairs.threshold)
                trains_on = self.objectives[wanted].examples
                pipelines[name] = trained_by.adapted(pipelines[name], wanted, trains_on, threshold)
            if wanted not in self.objectives or not self._is_trainable(pipelines[name]):
                del pipelines[name]
        controls = {
            name: control
            for name, control in self.controls.items()
            if name not in recipe.controls or self._is_trainable(control)
        }
        return evolve(self, pipelines=pipelines, controls=controls)

    def _is_trainable(self, pipeline: Pipeline) -> bool:
        """Whether the objective is known, and trains on what the pipeline makes."""
        objective, made = self.objectives.get(pipeline.training.objective), pipeline.trains_on
        return objective is not None and (made is None or objective.examples in trained_by.USABLE_AS.get(made, ()))


def member_key(recipe: Recipe, name: str) -> str:
    """Return the key of a pipeline or control of a recipe: ``pipelines.NAME`` or ``controls.NAME``."""
    return f"{'controls' if name in recipe.controls else 'pipelines'}.{name}"


def judging_of(step: JudgeStep, general: Judging) -> Judging:
    """Return the values of ``judging`` for a declared step. With a rubric of its own, scores are parsed."""
    found = general if step.rubric is None else evolve(general, rubric=step.rubric, score="parsed")
    return found if step.samples is None else evolve(found, samples=step.samples)


def rubric_of_scores(pipeline: Pipeline, name: str, general: Judging) -> str:
    """Return the name of the rubric on whose scale the judgements ``name`` of a pipeline are."""
    made = next((step for step in pipeline.steps if step.name == name), None)
    match made:
        case JudgeStep():
            return judging_of(made, general).rubric
        case CompareStep():
            return made.rubric or general.pairwise_rubric
        case CombineStep():
            return rubric_of_scores(pipeline, made.judgements[0], general)
        case _:
            return general.rubric


BUILT_IN = Declared()
"""The pipelines and controls of core alone."""


def declared(recipe: Recipe, registry: Registry) -> Declared:
    """Return the declarations of the built-in pipelines and controls, and of what else the recipe names.

    They have the objectives that the recipe names. A name that no plugin offers is left out.
    """
    pipelines = {**PIPELINES, **_offered(recipe.pipelines, "pipelines", registry)}
    controls = {**CONTROLS, **_offered(recipe.controls, "controls", registry)}
    trainings = [*(pipelines[name] for name in recipe.pipelines if name in pipelines), *controls.values()]
    names = [*recipe.objectives, *(one.training.objective for one in trainings)]
    names += [one.objective for one in recipe.pipelines.values() if one.objective]
    objectives = {**OBJECTIVES, **_offered(names, "objectives", registry)}
    uses = [use.measure for use in recipe.evaluation.measures.values()] if recipe.evaluation else []
    measures = {name: measure.info(name) for name, measure in _offered(uses, "measures", registry).items()}
    return Declared(pipelines, controls, objectives, measures).adapted_to(recipe)


def _offered(
    names: Iterable[str], group: Literal[Group, "objectives", "measures"], registry: Registry
) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for name in names:
        plugin, slash, offer = name.partition("/")
        if slash and registry.name_of(plugin) in registry.names():
            found: Mapping[str, Any] = getattr(registry.info(plugin), group)
            known.update({name: found[offer]} if offer in found else {})
    return known


def to_plain(recipe: Recipe, known: Declared) -> dict[str, Any]:
    """Return the declarations that the recipe uses and that are not built in, as plain values for JSON."""
    used = dict.fromkeys(known.of(name).training.objective for name in (*recipe.pipelines, *recipe.controls))
    objectives = {name: trained_by.to_plain(known.objectives[name]) for name in used if name not in OBJECTIVES}
    return {
        "pipelines": {name: _plain(known.pipelines[name]) for name in recipe.pipelines if name not in PIPELINES},
        "controls": {name: _plain(known.controls[name]) for name in recipe.controls if name not in CONTROLS},
        **({"objectives": objectives} if objectives else {}),
    }


def from_plain(values: Mapping[str, Any]) -> Declared:
    """Return the stored declarations together with the built-in ones. The functions are their qualified names.

    Raises InputError if the values are not those of ``to_plain``.
    """
    try:
        pipelines, controls = (
            {name: _pipeline(one) for name, one in values[group].items()} for group in ("pipelines", "controls")
        )
        objectives = {name: trained_by.from_plain(one) for name, one in values.get("objectives", {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise InputError(f"not the declarations of pipelines ({error!r})") from error
    return Declared({**PIPELINES, **pipelines}, {**CONTROLS, **controls}, {**OBJECTIVES, **objectives})


def _plain(pipeline: Pipeline) -> dict[str, Any]:
    steps = []
    for step in pipeline.steps:
        values = {one.alias: getattr(step, one.name) for one in attrs.fields(type(step))}
        if "function" in values:
            values["function"] = function_name(values["function"])
        steps.append({"step": type(step).__name__, **values})
    return {"help": pipeline.help, "once": pipeline.once, "steps": steps}


def _pipeline(values: Mapping[str, Any]) -> Pipeline:
    steps = []
    for one in values["steps"]:
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in one.items() if key != "step"}
        steps.append(_STEPS[one["step"]](**given))
    return Pipeline(values["help"], tuple(steps), values["once"])
