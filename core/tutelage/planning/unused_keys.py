"""Keys of a recipe that differ from their defaults and cannot take effect: each is a notice of ``plan`` and ``run``.

Keys that contradict each other are problems instead, see ``recipe.problems`` and ``checks``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import attrs

from tutelage.objectives import Dpo
from tutelage.pipeline import Pipeline
from tutelage.pipeline_steps import CombineStep
from tutelage.planning.declared import BUILT_IN, Declared, member_key
from tutelage.planning.judging_uses import measures_judging
from tutelage.planning.pipelines import members_of, roles_needed
from tutelage.planning.roles import GENERATOR, jurors
from tutelage.preferences.pairing import RULES, unused_options
from tutelage.recipe.schema import OWN_PREFERENCES, Judging, Pairs, Recipe


def unused_keys(recipe: Recipe, known: Declared = BUILT_IN) -> Iterator[str]:
    """Yield a line for each key that has no effect in this recipe, with the reason.

    ``known`` has the declarations of the recipe's pipelines and controls.
    """
    yield from _unused_roles(recipe, known)
    yield from _unused_data(recipe, known)
    yield from _unused_sections(recipe, known)
    yield from _unused_objective_keys(recipe, known)
    yield from _unused_overrides(recipe, known)
    yield from _unused_rounds(recipe)
    yield from _unused_evaluation(recipe)


def _line(key: str, reason: str) -> str:
    return f"{key}: has no effect, because {reason}"


def _unused_roles(recipe: Recipe, known: Declared) -> Iterator[str]:
    """The judge and the generator. A teacher or an evaluator may be bound for other pipelines of the same file."""
    if recipe.models.student.generator is not None and GENERATOR not in roles_needed(recipe, known):
        yield _line("models.student.generator", "the student neither samples nor judges in this recipe")
    if recipe.models.judge is not None and "judge" not in roles_needed(recipe, known):
        yield _line("models.judge", "no pipeline of this recipe uses the judge")
    if recipe.models.judges and not set(jurors(recipe)) & roles_needed(recipe, known).keys():
        yield _line("models.judges", "no pipeline of this recipe uses the judge")


def _unused_data(recipe: Recipe, known: Declared) -> Iterator[str]:
    if recipe.data.prompts is not None and not any(one.uses_prompts for one in members_of(recipe, known)):
        yield _line("data.prompts", "no pipeline of this recipe uses fresh prompts")
    decontaminate = recipe.data.decontaminate
    if decontaminate is not None and recipe.evaluation is None and not decontaminate.against:
        yield from _changed("data.decontaminate", decontaminate, "there are no evaluation prompts to remove")


def _unused_sections(recipe: Recipe, known: Declared) -> Iterator[str]:
    """The keys of top-level sections that no step uses."""
    if not any(one.samples or one.demonstrates for one in members_of(recipe, known)):
        yield from _changed("generation", recipe.generation, "no pipeline of this recipe samples answers")
    yield from _unused_objectives(recipe, known)
    judging = [(one.judging, _judging_keys(known.pipelines[name])) for name, one in recipe.pipelines.items()]
    for key in _changed_keys(recipe.judging):
        if key in _OF_PIPELINES:
            if not _uses(key, recipe, known):
                yield _line(f"judging.{key}", _OF_PIPELINES[key])
            continue
        of_eft = key == "rubric" and recipe.data.eft is not None
        if (
            not of_eft
            and not measures_judging(recipe)
            and not any(key in used and key not in own for own, used in judging)
        ):
            yield _line(f"judging.{key}", "nothing in this recipe is judged by it")
        elif key in _OF_DECODING and not measures_judging(recipe) and _expects_all_scores(recipe, known):
            yield _line(f"judging.{key}", _SAMPLES_NOTHING)
    users = [(one.pairs, _pair_keys(recipe, name, known.pipelines[name])) for name, one in recipe.pipelines.items()]
    users += [(one.pairs, _pair_keys(recipe, name, known.controls[name])) for name, one in recipe.controls.items()]
    for key in _changed_keys(recipe.pairs):
        if not any(key in used and key not in own for own, used in users):
            yield _line(f"pairs.{key}", "no pipeline or control of this recipe uses it with its pair rule")


def _unused_objectives(recipe: Recipe, known: Declared) -> Iterator[str]:
    """The objectives, and the keys of ``sft`` and ``dpo``, that nothing is trained with."""
    replaced: dict[str, list[set[str]]] = {}
    for name, own in {**recipe.pipelines, **recipe.controls}.items():
        training = known.of(name).training
        replaced.setdefault(training.objective, []).append({*getattr(own, training.objective, ()), *training.settings})
    for name in recipe.objectives:
        if name not in replaced:
            yield _line(f"objectives.{name}", "no pipeline or control of this recipe trains with it (objective)")
    for key in _changed_keys(recipe.sft):
        if not recipe.data.has_seed_examples and all(key in own for own in replaced.get("sft", ())):
            yield _line(f"sft.{key}", "nothing is trained by SFT with it (without data.ift and data.eft)")
    for key in _changed_keys(recipe.dpo):
        if all(key in own for own in replaced.get("dpo", ())):
            yield _line(f"dpo.{key}", "nothing is trained by DPO with it")


_OF_PIPELINES = {
    "jury": "no pipeline of this recipe combines scores of several judges (models.judges)",
    "dispute_spread": "no pipeline of this recipe selects disputed answers",
    "dispute_share": "no pipeline of this recipe selects disputed answers",
    "pairwise_rubric": "no pipeline of this recipe compares candidates",
}
"""The keys of ``judging`` that only some pipelines use, with the reason why they have no effect in others."""


def _uses(key: str, recipe: Recipe, known: Declared) -> bool:
    """Whether a pipeline of the recipe uses a key of ``_OF_PIPELINES``."""
    pipelines = [known.pipelines[name] for name in recipe.pipelines]
    if key == "jury":
        combines = (step for one in pipelines for step in one.steps if isinstance(step, CombineStep))
        return bool(set(jurors(recipe)) & roles_needed(recipe, known).keys()) or any(
            step.how is None for step in combines
        )
    return any(one.compares if key == "pairwise_rubric" else one.disputes for one in pipelines)


_OF_DECODING = ("temperature", "top_p", "max_new_tokens", "top_k", "min_p")
"""The keys of ``judging`` that an expected score does not depend on."""


def _judging_keys(pipeline: Pipeline) -> tuple[str, ...]:
    """The keys of ``judging`` that a pipeline uses: all if it scores answers, few if it compares or transforms them."""
    if pipeline.judges:
        return tuple(one.name for one in attrs.fields(Judging))
    compares = (*_OF_DECODING, "pairwise_rubric") if pipeline.compares else ()
    return (*compares, *(("rubric",) if "rubric" in pipeline.takes else ()))


_SAMPLES_NOTHING = "with score: expected a judge samples nothing"


def _expects_all_scores(recipe: Recipe, known: Declared) -> bool:
    """Whether every judge of this recipe's pipelines gives expected scores."""
    scored = [name for name in recipe.pipelines if known.pipelines[name].judges]
    return all(recipe.for_pipeline(name).judging.score == "expected" for name in scored)


_KEYS_OF_LOSSES = {
    "label_smoothing": {"robust", "exo_pair", "aot", "aot_unpaired"},
    "discopop_tau": {"discopop"},
}
"""The keys of ``dpo`` that only some losses use."""


def _unused_objective_keys(recipe: Recipe, known: Declared) -> Iterator[str]:
    """The keys of objectives that their other keys make ineffective."""
    general: dict[str, tuple[Any, Collection[str]]] = {
        "sft": (recipe.sft.lr_scheduler_type, _changed_keys(recipe.sft)),
        "dpo": (recipe.dpo.lr_scheduler_type, _changed_keys(recipe.dpo)),
    }
    # The values of plugins' objectives may be wrong, which is a problem of its own.
    general |= {f"objectives.{name}": (own.get("lr_scheduler_type"), own) for name, own in recipe.objectives.items()}
    for where, (schedule, changed) in general.items():
        if schedule == "constant" and "warmup_ratio" in changed:
            yield _line(f"{where}.warmup_ratio", "lr_scheduler_type is constant; constant_with_warmup has a warm-up")
    sections: dict[str, Dpo] = {}
    for name in (*recipe.pipelines, *recipe.controls):
        if _objective(known.of(name)) == "dpo":
            own = known.settings(recipe, name).dpo
            sections["dpo" if own == recipe.dpo else f"{member_key(recipe, name)}.dpo"] = own
    for where, dpo in sections.items():
        changed = _changed_keys(dpo)
        losses = {dpo.loss_type} if isinstance(dpo.loss_type, str) else set(dpo.loss_type)
        for key, users in _KEYS_OF_LOSSES.items():
            if key in changed and not losses & users:
                yield _line(f"{where}.{key}", f"loss_type is {', '.join(sorted(losses))}")
        if "f_alpha_divergence_coef" in changed and dpo.f_divergence_type != "alpha_divergence":
            yield _line(f"{where}.f_alpha_divergence_coef", f"f_divergence_type is {dpo.f_divergence_type}")


def _unused_overrides(recipe: Recipe, known: Declared) -> Iterator[str]:
    """The overrides of pipelines and controls that they do not use."""
    for name, settings in recipe.pipelines.items():
        pipeline = known.pipelines[name]
        if name == OWN_PREFERENCES:
            continue  # its overrides are problems
        if _objective(pipeline) != "dpo":
            yield from _overridden(
                f"pipelines.{name}.dpo", settings.dpo, (), f"{name} trains by {_objective(pipeline)}"
            )
        for objective in settings.objectives:
            if objective != _objective(pipeline):
                reason = f"{name} trains by {_objective(pipeline)}"
                yield _line(f"pipelines.{name}.objectives.{objective}", reason)
        if not pipeline.judges:
            reason = f"{name} {'compares answers and scores none' if pipeline.compares else 'judges nothing'}"
            used = _judging_keys(pipeline)
            yield from _overridden(f"pipelines.{name}.judging", settings.judging, used, reason)
        elif recipe.for_pipeline(name).judging.score == "expected":
            used = tuple(key for key in settings.judging if key not in _OF_DECODING)
            yield from _overridden(f"pipelines.{name}.judging", settings.judging, used, _SAMPLES_NOTHING)
        rules = dict.fromkeys(recipe.for_pipeline(name).pairs.rule or step.rule for step in pipeline.pairs)
        reason = f"the pair rule {', '.join(rules)} does not use it" if rules else f"{name} has no pair rule"
        reason = f"{name} labels answers by pairs.threshold" if pipeline.labels else reason
        yield from _overridden(f"pipelines.{name}.pairs", settings.pairs, _pair_keys(recipe, name, pipeline), reason)
    for name, control in recipe.controls.items():
        reason = f"the control {name} does not use it"
        keys = _pair_keys(recipe, name, known.controls[name])
        yield from _overridden(f"controls.{name}.pairs", control.pairs, keys, reason)
        unused = "sft" if _objective(known.controls[name]) == "dpo" else "dpo"
        yield from _overridden(f"controls.{name}.{unused}", getattr(control, unused), (), reason)


def _objective(pipeline: Pipeline) -> str:
    return pipeline.training.objective


def _pair_keys(recipe: Recipe, name: str, pipeline: Pipeline) -> set[str]:
    """The keys of ``pairs`` that have an effect in a pipeline. A rule of a plugin may use every key."""
    used: set[str] = {"threshold", "keep_cut"} if pipeline.labels else set()
    if "options" in pipeline.takes:
        used |= {one.name for one in attrs.fields(Pairs)} - {"rule"}
    own_rule = (recipe.controls if name in recipe.controls else recipe.pipelines)[name].pairs.get("rule")
    for step in pipeline.pairs:
        if step.fixed:
            used.add("keep_cut")
            continue
        rule = own_rule or recipe.pairs.rule or step.rule
        keys = {field.name for field in attrs.fields(Pairs)} - unused_options(rule) - {"threshold"}
        used |= keys - {"margin"} if rule in RULES and not step.scores else keys
    return used


def _unused_rounds(recipe: Recipe) -> Iterator[str]:
    if recipe.iterations > 1:
        return
    reason = "there is one preference round"
    if recipe.start == "M1":
        yield _line("start", f"{reason}, which starts from M1 in any case")
    if recipe.reference == "M1":
        yield _line("reference", f"{reason}, whose previous model is M1 in any case")
    if recipe.preferences == "all":
        yield _line("preferences", reason)


def _unused_evaluation(recipe: Recipe) -> Iterator[str]:
    evaluation = recipe.evaluation
    if evaluation is None:
        return
    if evaluation.agreement_prompts > 0 and evaluation.sampled < 2:
        yield _line(
            "evaluation.agreement_prompts",
            f"evaluation.sampled is {evaluation.sampled}, and own judging is compared on at least 2 sampled answers",
        )
    if evaluation.self_preference and not measures_judging(recipe):
        yield _line("evaluation.self_preference", "the models' own judging is not compared with the gold scores")
    if evaluation.sampled == 0:
        for key in ("temperature", "top_p", "top_k", "min_p"):
            if getattr(evaluation, key) != attrs.fields_dict(type(evaluation))[key].default:
                yield _line(f"evaluation.{key}", "evaluation.sampled is 0")


def _changed_keys(section: Any) -> list[str]:
    """The keys of a section whose values are not the defaults."""
    default = type(section)()
    return [f.name for f in attrs.fields(type(section)) if getattr(section, f.name) != getattr(default, f.name)]


def _changed(key: str, section: Any, reason: str) -> Iterator[str]:
    for name in _changed_keys(section):
        yield _line(f"{key}.{name}", reason)


def _overridden(key: str, own: Mapping[str, object], used: Collection[str], reason: str) -> Iterator[str]:
    """The overrides of a member, without those that it uses."""
    for name in own:
        if name not in used:
            yield _line(f"{key}.{name}", reason)
