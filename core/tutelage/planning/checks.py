"""The checks of a recipe itself: roles, plugins, settings, prices, data, rubrics and pair rules.

They read the data of the recipe and call the plugins' descriptions, but no model and no service. ``preflight`` adds the
checks of the models and of the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from attrs import evolve

from tutelage.data.sets import load_seed_prompts
from tutelage.errors import InputError, PluginError
from tutelage.pipeline import Pipeline
from tutelage.planning.declared import Declared, judging_of, rubric_of_scores
from tutelage.planning.judging_uses import expected_score_problems, judging_uses
from tutelage.planning.measure_checks import check_measures
from tutelage.planning.member_checks import member_problems
from tutelage.planning.objective_checks import check_objectives, check_trackers
from tutelage.planning.pipelines import make_plan, members_of, roles_needed
from tutelage.planning.problem_list import Problems
from tutelage.planning.roles import (
    GENERATOR,
    answering_role,
    bound_key,
    bound_model,
    endpoint_of,
    judging_roles,
    role_of,
    usable_binding,
)
from tutelage.planning.sources import Sources, without_decontamination
from tutelage.planning.steps import Plan
from tutelage.planning.trial import pair_rule_problems, rubric_problems
from tutelage.planning.wrapping import check_wrappers
from tutelage.plugins.helpers import implements
from tutelage.plugins.pair_rules import guarded_rule
from tutelage.plugins.preparation import check_prepared
from tutelage.plugins.registry import Registry
from tutelage.plugins.stage_checks import sampling_problems
from tutelage.preferences.judging import metadata_keys
from tutelage.preferences.prompt_listing import LISTINGS, showable
from tutelage.recipe.bindings import Binding
from tutelage.recipe.problems import recipe_problems
from tutelage.recipe.schema import Recipe
from tutelage.records import Rubric, Sampling


def checked_plan(recipe: Recipe, registry: Registry) -> Plan:
    """Check everything that a recipe names and return its plan. Nothing is run or written.

    Models, services and the machine are not checked; see ``preflight``. Raises InputError with every problem found;
    PluginError if all of them are of plugins: a plugin that is broken, blocked or lacks a hook.
    """
    problems = Problems()
    sources = Sources(recipe, registry)
    check_recipe(sources, problems)
    problems.raise_all()
    return make_plan(recipe, sources.counts(), sources.declared)


def check_recipe(sources: Sources, problems: Problems) -> frozenset[str]:
    """Add every problem of the recipe to ``problems``. Returns the roles whose binding is right.

    A recipe with wrong values is not checked further.
    """
    registry = sources.registry
    problems.attempt("", partial(problems.add_all, member_problems(sources)))
    # A Recipe that was made or changed in Python has not been checked yet.
    found = problems.attempt("", lambda: list(recipe_problems(sources.recipe)))
    if found is None or found:
        problems.add_all(found or ())
        return frozenset()
    recipe = without_unknown(sources.recipe, sources.declared)
    if recipe != sources.recipe:
        sources = Sources(recipe, registry)
    known = sources.declared
    roles = frozenset(_check_roles(recipe, registry, known, problems))
    check_wrappers(recipe, registry, known, problems)
    _check_rubrics(recipe, registry, known, roles, problems)
    _check_data(sources, problems)
    _check_pair_rules(recipe, registry, known, problems)
    check_measures(recipe, registry, problems)
    problems.add_all(_generation_problems(recipe, known))
    problems.add_all(_dispute_problems(recipe, known))
    _check_sampling(recipe, registry, known, roles, problems)
    problems.add_all(dict.fromkeys(expected_score_problems(recipe, registry, known, roles)))
    if "student" in roles:
        check_objectives(recipe, registry, known, problems)
        check_trackers(recipe, registry, problems)
    if recipe.budget is not None:
        _check_prices(recipe, registry, roles, problems)
    return roles


def without_unknown(recipe: Recipe, known: Declared) -> Recipe:
    """Return the recipe without pipelines and controls that do not exist, so that the others can be checked."""
    pipelines = {name: settings for name, settings in recipe.pipelines.items() if name in known.pipelines}
    controls = {n: one for n, one in recipe.controls.items() if n in known.controls and one.mirrors in pipelines}
    return evolve(recipe, pipelines=pipelines, controls=controls)


def _generation_problems(recipe: Recipe, known: Declared) -> Iterator[str]:
    """A pair of two candidates of one model needs two different ones."""
    scored = any(_pairs_samples(known.pipelines[name]) for name in recipe.pipelines)
    if recipe.generation.temperature == 0 and scored:
        yield (
            f"generation.temperature: 0; the {recipe.generation.n} candidates of a prompt would be equal, so no pair "
            "could be made of them; set it above 0"
        )


def _dispute_problems(recipe: Recipe, known: Declared) -> Iterator[str]:
    """A dispute needs at least two samples and a temperature above 0. A jury cannot compare."""
    for name in recipe.pipelines:
        pipeline, judging = known.pipelines[name], recipe.for_pipeline(name).judging
        judges = {step.name: step for step in pipeline.judges}
        for one in pipeline.disputes:
            of_judge = judging_of(judges[one.judgements], judging) if one.judgements in judges else judging
            if of_judge.samples < 2 or of_judge.temperature == 0:
                yield (
                    f"judging: samples {of_judge.samples}, temperature {of_judge.temperature:g}; {name} needs samples "
                    "that can disagree: set samples to at least 2 and temperature above 0"
                )
        if recipe.models.judges and any(step.by == "judge" for step in pipeline.compares):
            yield f"models.judges: a jury cannot compare answers, and {name} compares them; bind models.judge"


def _check_sampling(
    recipe: Recipe, registry: Registry, known: Declared, roles: frozenset[str], problems: Problems
) -> None:
    """The sampling keys that not every plugin knows, for the plugin that samples with them."""
    for key, sampling, user, hook in _sampling_uses(recipe, known):
        role = answering_role(recipe, user)
        if role in roles:
            plugin = bound_model(recipe, role, registry).plugin
            problems.add_all(f"{key}.{line}" for line in sampling_problems(registry, plugin, hook, sampling))


def _sampling_uses(recipe: Recipe, known: Declared) -> Iterator[tuple[str, Sampling, str, str]]:
    """Yield the section, its parameters, the role and the hook of everything that the recipe samples."""
    members = members_of(recipe, known)
    evaluation, self_instruct = recipe.evaluation, recipe.data.self_instruct
    for role in sorted({role_of(step.by) for one in members for step in one.samples}):
        yield "generation", recipe.generation.sampling(), role, "generate_candidates"
    if self_instruct is not None and any(one.uses_prompts for one in members):
        key = "data.prompts.self_instruct"
        yield key, self_instruct.sampling(), self_instruct.writer, "generate_candidates"
    for role in sorted({step.by for one in members for step in one.demonstrates}):
        yield "generation", recipe.generation.sampling(), role, "demonstrate"
    for key, judging, role in judging_uses(recipe, known):
        yield key, judging.sampling(), role, "judge"
    for name in recipe.pipelines:
        for step in known.pipelines[name].compares:
            yield (
                f"pipelines.{name}.judging",
                recipe.for_pipeline(name).judging.sampling(),
                role_of(step.by),
                "evaluate",
            )
    if evaluation is not None and evaluation.sampled:
        yield "evaluation", evaluation.sampling(), "student", "generate_candidates"


def _check_roles(recipe: Recipe, registry: Registry, known: Declared, problems: Problems) -> Iterator[str]:
    """Yield the roles whose binding is right."""
    for role, hooks in roles_needed(recipe, known).items():
        own = Problems()  # two roles may have the same problem: that of the teacher, who also judges
        bound = own.attempt("", partial(usable_binding, recipe, role, hooks, registry))
        if bound is not None:
            key = bound_key(recipe, role)
            for hook in sorted(hooks):
                own.attempt(key, partial(_require, recipe, known, role, bound.plugin, registry, hook))
            where = f"{key}.settings (plugin {bound.plugin})"
            own.attempt("", partial(registry.settings, bound.plugin, bound.settings, where))
            if role == GENERATOR:
                own.add_all(_generator_problems(bound, registry))
            else:  # the generator runs the student's model, which is checked by its own key
                own.attempt(f"{key}.model", partial(_check_model, bound.model, registry))
        problems.include(own)
        if not own:
            yield role


def _require(recipe: Recipe, known: Declared, role: str, plugin: str, registry: Registry, hook: str) -> None:
    """Raise ``PluginError`` if the plugin of a role lacks a hook. The message names a key that makes it unnecessary."""
    try:
        registry.require(plugin, hook)
    except PluginError as error:
        without = roles_needed(evolve(recipe, evaluation=None), known)
        is_measured_only = (role, hook) == (answering_role(recipe), "judge") and hook not in without.get(role, ())
        remedy = "; or do not measure how the models judge: evaluation.agreement_prompts: 0" if is_measured_only else ""
        raise PluginError(f"{error}{remedy}") from error


def _check_model(name: str, registry: Registry) -> None:
    """Raise InputError if a plugin has no model of this name, or if its files have to be prepared first."""
    if (named := registry.find("models", name)) is not None:
        check_prepared(name, named.preparation)


def _generator_problems(bound: Binding, registry: Registry) -> Iterator[str]:
    """The generator gets the student's weights: M0 by its name, every other model as a folder."""
    if implements(registry, bound.plugin, "endpoint"):
        yield (
            f"models.student.generator.plugin: {bound.plugin!r} calls a service, which does not have the models that "
            "the run trains; use a plugin that runs a folder of weights on this machine"
        )
    if not bound.model:
        yield (
            "models.student.model: missing; the generator needs it, because it does not know the default model of "
            "the student's plugin: name a folder or a hub name"
        )


def _check_prices(recipe: Recipe, registry: Registry, roles: frozenset[str], problems: Problems) -> None:
    for role in sorted(roles):
        endpoint = problems.attempt(bound_key(recipe, role), partial(endpoint_of, recipe, role, registry))
        if endpoint is not None and endpoint.cost(1, 1) is None:
            problems.add(
                f"budget: the price of {endpoint.model!r}, the {role}, is unknown; set models.{role}.settings."
                "price to {input: ..., output: ...}, in US dollars per million tokens (0 if it is free)"
            )


def _check_rubrics(
    recipe: Recipe, registry: Registry, known: Declared, roles: frozenset[str], problems: Problems
) -> None:
    def check(key: str, name: str, judges: set[str | None], is_comparison: bool = False) -> None:
        rubric = problems.attempt(key, lambda: registry.get("rubrics", name))
        if rubric is not None:
            of_text = {role for role in judges if role in roles and _reads_text(recipe, str(role), rubric, registry)}
            if key == "judging.rubric" and recipe.data.eft is not None:
                of_text.add("data.eft")
            problems.add_all(rubric_problems(rubric, is_comparison, ", ".join(sorted(of_text))), key)
            if "data.eft" in of_text and (keys := metadata_keys(rubric)):
                problems.add(
                    f"{key}: rubric {name!r} shows metadata ({', '.join(keys)}), which rows of data.eft do not have; "
                    "set it for single pipelines (pipelines.NAME.judging.rubric)"
                )
            if key == "evaluation.rubric" and not rubric.template and not rubric.is_bounded:
                problems.add(f"{key}: {name}; gold scores need a scale with limits: use another rubric")

    for (key, rubric), judges in _scoring_rubrics(recipe, known).items():
        check(key, rubric, judges)
    for name in recipe.pipelines:
        for one in known.pipelines[name].compares:
            judging = recipe.for_pipeline(name).judging
            key = "judging" if judging == recipe.judging else f"pipelines.{name}.judging"
            rubric = one.rubric or judging.pairwise_rubric
            check(f"{key}.pairwise_rubric", rubric, {answering_role(recipe, role_of(one.by))}, is_comparison=True)
    if (evaluation := recipe.evaluation) is not None:
        check("evaluation.rubric", evaluation.rubric, {"evaluator"})
        check("evaluation.comparison_rubric", evaluation.comparison_rubric, {"evaluator"}, is_comparison=True)


def _scoring_rubrics(recipe: Recipe, known: Declared) -> dict[tuple[str, str], set[str | None]]:
    """The rubrics that pipelines score answers with or pass to transforms, by key and name, with the judges' roles."""
    found: dict[tuple[str, str], set[str | None]] = {("judging.rubric", recipe.judging.rubric): set()}
    for name in recipe.pipelines:
        judging, pipeline = recipe.for_pipeline(name).judging, known.pipelines[name]
        uses = [(judging_of(step, judging).rubric, judging_roles(recipe, step.by)) for step in pipeline.judges]
        if "rubric" in pipeline.takes:
            uses.append((judging.rubric, ()))
        for rubric, roles in uses:
            key = "judging.rubric" if rubric == recipe.judging.rubric else f"pipelines.{name}.judging.rubric"
            found.setdefault((key, rubric), set()).update(roles)
    return found


def _pairs_samples(pipeline: Pipeline) -> bool:
    """Whether the pipeline makes pairs of scored answers that it samples at the temperature of the recipe."""
    sampled = {step.name for step in pipeline.samples if step.temperature is None}
    return any(step.scores and step.answers in sampled for step in pipeline.pairs)


def _reads_text(recipe: Recipe, role: str, rubric: Rubric, registry: Registry) -> bool:
    """Whether the plugin of a role runs a language model, which judges by the rubric's template.

    A rubric without limits is for reward models. A plugin that runs local models checks its model itself
    (``RunNeeds.rubrics``).
    """
    hooks = registry.hooks(bound_model(recipe, role, registry).plugin)
    is_checked_by_plugin = not rubric.is_bounded and "check_run" in hooks
    return "endpoint" in hooks or ("count_tokens" in hooks and not is_checked_by_plugin)


def _check_pair_rules(recipe: Recipe, registry: Registry, known: Declared, problems: Problems) -> None:
    for name in recipe.pipelines:
        pipeline, settings = known.pipelines[name], recipe.for_pipeline(name)
        for step in pipeline.pairs:
            key = "pairs" if settings.pairs == recipe.pairs else f"pipelines.{name}.pairs"
            rule_name = step.rule if step.fixed else settings.pairs.rule or step.rule
            rule = problems.attempt(f"{key}.rule", partial(guarded_rule, registry, rule_name))
            if rule is None or step.fixed:
                continue
            rubric = None
            if step.scores:
                scored = rubric_of_scores(pipeline, step.scores, settings.judging)
                try:
                    rubric = registry.get("rubrics", scored)
                except InputError:
                    continue  # reported by its own key
            found = pair_rule_problems(name, rule_name, rule, recipe, rubric, bool(step.demonstrations))
            problems.add_all(f"{key}.{line}" for line in found)
    for name in recipe.controls:
        own_rule = recipe.for_control(name).pairs.rule
        if own_rule not in (None, recipe.pairs.rule):
            problems.attempt(f"controls.{name}.pairs.rule", partial(guarded_rule, registry, str(own_rule)))


def _check_data(sources: Sources, problems: Problems) -> None:
    recipe, seed = sources.recipe, sources.recipe.seeds[0]
    held_out = problems.attempt("evaluation.prompts", lambda: sources.evaluation(seed))
    if held_out is not None and recipe.data.decontaminate is not None:
        before = len(problems.lines)
        problems.attempt("data.decontaminate.against", lambda: sources.known(seed))
        held_out = held_out if len(problems.lines) == before else None
    usable = sources if held_out is not None else without_decontamination(sources)
    checks: dict[str, Callable[[], object]] = {
        "data.prompts": lambda: _check_prompts(usable, seed),
        "data.ift": lambda: usable.ift(seed),
        "data.eft": lambda: usable.eft(seed),
        "data.preferences": lambda: _check_preferences(usable, seed),
    }
    for key, check in checks.items():
        problems.attempt(key, check)


def _check_prompts(sources: Sources, seed: int) -> None:
    """Raise InputError if the source has too few prompts for all rounds, or none that the writer can be shown."""
    recipe = sources.recipe
    if not any(one.uses_prompts for one in members_of(recipe, sources.declared)):
        return
    prompts = recipe.data.fresh_prompts
    if (self_instruct := prompts.self_instruct) is None:
        sources.fresh(seed)
        return
    seeds = load_seed_prompts(sources.sets, prompts.source, self_instruct.seeds, seed)
    if not showable(seeds, LISTINGS[self_instruct.listing]):
        raise InputError(
            f"{prompts.source}: no prompt in it can be shown as an example (listing {self_instruct.listing})"
        )


def _check_preferences(sources: Sources, seed: int) -> None:
    """Raise InputError if a pair cannot be trained on, if there are too few pairs, or if decontamination drops all."""
    dropped = [held for _, held in sources.preferences(seed)]
    if (source := sources.recipe.data.preferences) is None:
        return
    if source.count is None:
        raise InputError(
            f"count is missing; set the number of pairs ({source.source} has {len(dropped)} different ones)"
        )
    if all(dropped):
        raise InputError(f"{source.source}: every pair contains an evaluation prompt; see data.decontaminate")
