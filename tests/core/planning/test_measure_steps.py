"""The plan of measures: one step for each measure and model, its inputs, its fingerprint, and its problems."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import approving_world
import measure_world
import pytest
from measure_world import USES

from tutelage.errors import InputError
from tutelage.files.jsonl import dump
from tutelage.hookspecs import hookimpl
from tutelage.planning.checks import checked_plan
from tutelage.planning.declared import declared
from tutelage.planning.made_from import MadeFrom, made_from
from tutelage.planning.measure_steps import TakeMeasure
from tutelage.planning.pipelines import make_plan
from tutelage.planning.sources import Sources
from tutelage.planning.steps import Train
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values, to_values
from tutelage.recipe.schema import Recipe

Make = Callable[..., Recipe]
SMALL = {"pipelines": {"teacher-reward": None}, "controls": {}, "iterations": 1}


@pytest.fixture
def registry(numbers_registry: Registry) -> Registry:
    numbers_registry.register(measure_world, "mine")
    return numbers_registry


def with_measures(make_recipe: Make, uses: dict[str, Any], **evaluation: Any) -> Recipe:
    values = to_values(make_recipe(**SMALL))
    return from_values({**values, "evaluation": {**values["evaluation"], "measures": uses, **evaluation}})


def steps_of(recipe: Recipe, registry: Registry) -> dict[str, TakeMeasure]:
    return {step.output: step for step in checked_plan(recipe, registry).steps if isinstance(step, TakeMeasure)}


def test_every_measure_has_a_step_for_each_model_that_it_is_taken_of(make_recipe: Make, registry: Registry) -> None:
    steps = steps_of(with_measures(make_recipe, USES), registry)
    taken = {name: [step.model for step in steps.values() if step.name == name] for name in USES}
    models = ["M0", "M1", "M2/teacher-reward"]
    assert taken == {**dict.fromkeys(USES, models), "pair-words": models[1:]}
    counts = {name: next(step.count for step in steps.values() if step.name == name) for name in USES}
    assert counts == {"right": 30, "digits": 30, "distinct": 30, "strictness": 20, "pair-words": 16, "skill": 1}


def test_a_step_reads_what_its_measure_is_computed_from(make_recipe: Make, registry: Registry) -> None:
    steps = steps_of(with_measures(make_recipe, USES), registry)
    own, gold = "seed-0/teacher-reward/M2", "evaluation/seed-0/M2/teacher-reward"
    prompts = "evaluation/seed-0/prompts.jsonl"
    inputs = {name: steps[f"{gold}/measured-{name}.jsonl"].inputs for name in USES}
    sampled = (prompts, f"{own}/samples/held-out-sampled.jsonl", f"{gold}/gold-sampled.jsonl")
    assert inputs["right"] == (prompts, f"{own}/samples/held-out-greedy.jsonl", f"{gold}/gold-greedy.jsonl")
    assert inputs["distinct"] == sampled
    assert inputs["strictness"] == (*sampled, f"{own}/samples/judgements-own.jsonl")
    assert inputs["pair-words"] == (f"{own}/preferences.jsonl",)
    assert inputs["skill"] == (f"{own}/checkpoint",)
    assert steps["evaluation/seed-0/M0/measured-skill.jsonl"].inputs == ()


def test_a_recipe_without_measures_has_the_plan_and_the_fingerprints_of_before(
    make_recipe: Make, registry: Registry
) -> None:
    plain, measured = make_recipe(**SMALL), with_measures(make_recipe, {"right": USES["right"]})
    before, after = fingerprints(plain, registry), fingerprints(measured, registry)
    added = {path for path in after if "measured-right" in path}
    assert len(added) == 3
    assert {path for path, one in before.items() if one != after[path]} == {"summary.json"}
    assert after.keys() - before.keys() == added
    assert "measures" not in dump(plain)


def fingerprints(recipe: Recipe, registry: Registry) -> dict[str, str]:
    return {path: one.fingerprint for path, one in origins(recipe, registry).items()}


def origins(recipe: Recipe, registry: Registry) -> dict[str, MadeFrom]:
    return made_from(checked_plan(recipe, registry), Sources(recipe, registry), lambda path: None)


def test_settings_that_differ_from_the_defaults_and_the_content_of_files_count_in_the_fingerprint(
    make_recipe: Make, registry: Registry, tmp_path: Path
) -> None:
    def of(**settings: Any) -> dict[str, str]:
        uses = {"skill": {"measure": "mine/skill", "settings": settings}}
        found = fingerprints(with_measures(make_recipe, uses), registry)
        return {path: one for path, one in found.items() if "measured-skill" in path}

    data = tmp_path / "items.jsonl"
    data.write_text("1\n")
    assert of() == of(items=10)
    assert len(set(of().values())) == 3
    assert not set(of().values()) & set(of(items=8).values())
    first = of(data=str(data))
    data.write_text("2\n")
    changed = of(data=str(data))
    assert not set(first.values()) & set(changed.values())
    assert of(data=str(data.rename(tmp_path / "moved.jsonl"))) == changed, "the same file at another path"


def test_a_measure_of_checkpoints_depends_on_the_bound_model_and_one_of_answers_does_not(
    make_recipe: Make, registry: Registry
) -> None:
    found = origins(with_measures(make_recipe, USES), registry)
    skill, right = (found[f"evaluation/seed-0/M0/measured-{name}.jsonl"].values for name in ("skill", "right"))
    assert (skill["student.plugin"], skill["student.model"]) == ("numbers", "novice")
    assert not [key for key in right if key.startswith("student")]


@pytest.mark.parametrize(
    ("use", "evaluation", "problem"),
    [
        (
            {"measure": "mine/skill", "settings": {"data": "/no/such/file"}},
            {},
            ": /no/such/file: no such file or folder, and the measure reads it",
        ),
        (
            {"measure": "mine/wright"},
            {},
            ".measure: plugin 'mine' (registered manually) has no measure 'mine/wright'; did",
        ),
        ({"measure": "right"}, {}, ".measure: no measure 'right'"),
        ({"measure": "yours/right"}, {}, ".measure: no measure 'yours/right': no plugin 'yours' is installed"),
        ({"measure": "numbers/right"}, {}, ".measure: no measure 'numbers/right'"),
        ({"measure": "mine/right", "settings": {"x": 1}}, {}, ".settings: the measure mine/right has no settings, but"),
        ({"measure": "mine/skill", "settings": {"item": 1}}, {}, ".settings: item: unknown key"),
        ({"measure": "mine/skill", "settings": {"items": 0}}, {}, ".settings.items: 0; set it to at least 1"),
        ({"measure": "mine/distinct"}, {"sampled": 0}, ": it measures sampled answers, and evaluation.sampled is 0"),
        ({"measure": "mine/strictness"}, {"agreement_prompts": 0}, ": it measures the models' own judgements, and"),
    ],
)
def test_a_wrong_measure_is_found_before_the_run(
    make_recipe: Make, registry: Registry, use: dict[str, Any], evaluation: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InputError) as caught:
        checked_plan(with_measures(make_recipe, {"a": use}, **evaluation), registry)
    assert f"evaluation.measures.a{problem}" in str(caught.value)


def test_the_name_of_a_measure_can_be_a_part_of_a_path(make_recipe: Make) -> None:
    with pytest.raises(InputError, match=r"evaluation\.measures: 'A b' is no name of a measure: use small letters"):
        with_measures(make_recipe, {"A b": {"measure": "mine/right"}})


@pytest.mark.parametrize(
    ("objective", "reads"),
    [
        (None, {"pairs": "preferences.jsonl"}),
        ("sft", {"examples": "trained-on.jsonl"}),
        ("approving/approve", {"labelled": "trained-on.jsonl"}),
        ("approving/other", {"pairs": "preferences.jsonl"}),
    ],
)
def test_a_measure_of_trainings_is_taken_of_the_models_of_every_objective(
    make_recipe: Make, registry: Registry, objective: str | None, reads: dict[str, str]
) -> None:
    registry.register(_Approving(), "approving")
    recipe = with_measures(make_recipe, {"pair-words": USES["pair-words"]})
    values = {"teacher-reward": {"objective": objective} if objective else None}
    recipe = from_values({**to_values(recipe), "pipelines": values})
    plan = make_plan(recipe, Sources(recipe, registry).counts(), declared(recipe, registry))
    [step] = [one for one in plan.steps if isinstance(one, TakeMeasure) and one.model == "M2/teacher-reward"]
    [training] = [one for one in plan.steps if isinstance(one, Train) and one.model == "M2/teacher-reward"]
    assert {kind: Path(path).name for kind, path in step.reads.items()} == reads
    assert [*step.reads.values()] == [training.examples]


class _Approving:
    """Offers an objective on labelled answers, and one on pairs that is no ``Dpo``."""

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo("", objectives={"approve": approving_world.Approve, "other": approving_world.Rank})
