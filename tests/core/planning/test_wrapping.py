"""``wrappers`` of a recipe: which hooks a plugin wraps, with which settings, and what is refused before a run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen
from recipes import numbers_recipe

from tutelage.context import Context
from tutelage.errors import InputError, PluginError
from tutelage.execution.runner import run
from tutelage.files.jsonl import read_records
from tutelage.hookspecs import hookimpl
from tutelage.planning.checks import checked_plan
from tutelage.planning.declared import BUILT_IN
from tutelage.planning.made_from import made_from
from tutelage.planning.pipelines import make_plan
from tutelage.planning.preflight import preflight
from tutelage.planning.roles import wrappers_of
from tutelage.planning.sources import Sources
from tutelage.planning.wrapping import idle_wrappers, wrapped_hooks, wrapped_words, wrapping_roles
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.helpers import wrapper_settings
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values
from tutelage.recipe.schema import Recipe
from tutelage.records import Candidate, Judgement, Model

OF_TEACHER = "seed-0/teacher-reward/M2/judgements.jsonl"
OF_STUDENT = "seed-0/self-reward/M2/judgements.jsonl"
ANSWERS = "seed-0/M1/samples/candidates.jsonl"


@frozen
class Shift:
    points: float = 0.0
    """Points that are added to each score."""
    note: str = ""
    """Changes no result."""


@frozen
class Required:
    points: float
    """Points that are added to each score."""


class Shifting:
    """Adds points to the scores of judges."""

    def __init__(self, *roles: str, **info: Any) -> None:
        self.info = PluginInfo("Adds points.", settings=Shift, wrapped_roles=roles, neutral_settings=("note",))
        self.info = evolve(self.info, **info)

    @hookimpl
    def describe(self) -> PluginInfo:
        return self.info

    @hookimpl(wrapper=True)
    def judge(self, context: Context) -> Generator[None, Iterable[Judgement], Iterable[Judgement]]:
        points = context.wrapper_settings(Shift).points
        judgements = yield
        return (evolve(one, score=one.score and min(5.0, one.score + points)) for one in judgements)


class Counting:
    """Wraps the sampling, and only counts."""

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo("Counts.", result_version=0)

    @hookimpl(wrapper=True)
    def generate_candidates(self) -> Generator[None, Iterable[Candidate], Iterable[Candidate]]:
        return (yield)


@pytest.fixture
def registry(numbers_registry: Registry) -> Registry:
    numbers_registry.register(Shifting(), "shift")
    return numbers_registry


def made(recipe: Recipe, registry: Registry) -> dict[str, str]:
    found = made_from(make_plan(recipe), Sources(recipe, registry), lambda artifact: None)
    return {path: one.fingerprint for path, one in found.items()}


def with_wrappers(**wrappers: Any) -> Recipe:
    return from_values(numbers_recipe(wrappers=wrappers))


def test_a_wrapper_gets_its_settings_and_wraps_only_the_roles_of_the_recipe(
    tmp_path: Path, registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    pipelines = {"self-reward": None, "teacher-reward": None}
    few: dict[str, Any] = {"pipelines": pipelines, "controls": {}, "iterations": 1, "evaluation": None}
    wrapped = make_recipe(**few, wrappers={"shift": {"roles": ["judge"], "settings": {"points": 1.5}}})
    for name, recipe in (("plain", make_recipe(**few)), ("wrapped", wrapped)):
        run(recipe, tmp_path / name, registry)

    def scores(name: str, path: str) -> list[float | None]:
        return [one.score for one in read_records(tmp_path / name / path, Judgement)]

    assert scores("wrapped", OF_STUDENT) == scores("plain", OF_STUDENT)
    plain = [score and min(5.0, score + 1.5) for score in scores("plain", OF_TEACHER)]
    assert scores("wrapped", OF_TEACHER) == plain != scores("plain", OF_TEACHER)


@pytest.mark.parametrize(
    ("own", "given", "roles"),
    [
        ((), None, ["evaluator", "generator", "judge", "judges.strict", "student"]),
        (("student",), None, ["generator", "student"]),
        (("judge",), None, ["judge", "judges.strict"]),
        (("student",), ["evaluator"], ["evaluator"]),
        ((), ["judges.strict"], ["judges.strict"]),
        ((), ["generator"], ["generator"]),
        (("student",), [], []),
    ],
    ids=str,
)
def test_the_roles_of_the_recipe_come_before_those_of_the_plugin(
    numbers_registry: Registry, own: tuple[str, ...], given: list[str] | None, roles: list[str]
) -> None:
    numbers_registry.register(Shifting(*own), "shift")
    bound = {"plugin": "numbers", "model": "numbers/novice", "generator": {"plugin": "numbers"}}
    models = {**numbers_recipe()["models"], "student": bound, "judges": {"strict": {"plugin": "numbers"}}}
    recipe = from_values(numbers_recipe(models=models, wrappers={"shift": {"roles": given}}))
    every = ("student", "generator", "judge", "judges.strict", "evaluator")
    assert {role for role in every if wrappers_of(recipe, role, numbers_registry)} == set(roles)


def test_settings_count_for_the_steps_that_the_wrapper_wraps_and_neutral_ones_do_not(registry: Registry) -> None:
    recipes = [
        with_wrappers(shift={"roles": ["judge"], "settings": settings})
        for settings in ({}, {"points": 1.0}, {"note": "x"})
    ]
    default, other, noted = (made(recipe, registry) for recipe in recipes)
    changed = {path for path in default if default[path] != other[path]}
    assert {OF_TEACHER, "seed-0/teacher-reward/M2/checkpoint"} <= changed
    assert not {OF_STUDENT, ANSWERS, "seed-0/self-reward/M2/checkpoint"} & changed
    assert default == noted


def test_a_wrapper_that_is_turned_off_changes_no_fingerprint(registry: Registry, numbers_registry: Registry) -> None:
    off = made(with_wrappers(shift={"roles": []}), registry)
    registry.unregister("shift")
    assert off == made(with_wrappers(), numbers_registry)


def test_a_wrapper_that_the_recipe_does_not_name_has_the_fingerprint_of_its_version_alone(registry: Registry) -> None:
    recipe = with_wrappers()
    found = made_from(make_plan(recipe), Sources(recipe, registry), lambda artifact: None)[OF_TEACHER]
    assert {key: value for key, value in found.values.items() if "wrapped_by" in key} == {"judge.wrapped_by.shift": 1}


@pytest.mark.parametrize(
    ("wrappers", "problem"),
    [
        ({"shiftt": {}}, "wrappers.shiftt: plugin 'shiftt' is not installed; did you mean 'shift'?"),
        (
            {"numbers": {}},
            "wrappers.numbers: plugin 'numbers' (registered manually) wraps no hook; leave it out, or bind it to a "
            "role in models",
        ),
        ({"shift": {"roles": ["jugde"]}}, "wrappers.shift.roles: no role 'jugde'; did you mean 'judge'?"),
        ({"shift": {"roles": ["judges.mild"]}}, "wrappers.shift.roles: no role 'judges.mild'; did you mean 'judge'?"),
        (
            {"shift": {"settings": {"point": 1}}},
            "wrappers.shift.settings: point: unknown key; did you mean 'points'?",
        ),
        ({"shift": {}, "moved": {}}, "wrappers.moved: shift is the same plugin; leave one of them out"),
    ],
    ids=str,
)
def test_a_wrong_section_is_refused_before_the_run(
    numbers_registry: Registry, wrappers: dict[str, Any], problem: str
) -> None:
    numbers_registry.register(Shifting(aliases=("moved",)), "shift")
    with pytest.raises((InputError, PluginError)) as found:
        checked_plan(with_wrappers(**wrappers), numbers_registry)
    assert str(found.value) == problem


def test_a_key_of_the_section_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError) as found:
        with_wrappers(shift={"role": ["judge"]})
    assert str(found.value) == "recipe: wrappers.shift.role: unknown key; did you mean 'roles'?"


def test_required_settings_of_a_wrapper_that_the_recipe_does_not_name_are_missed_before_the_run(
    numbers_registry: Registry,
) -> None:
    numbers_registry.register(Shifting(settings=Required, neutral_settings=()), "shift")
    with pytest.raises(InputError) as found:
        checked_plan(with_wrappers(), numbers_registry)
    assert str(found.value) == "wrappers.shift.settings: points: missing; expected a number"
    checked_plan(with_wrappers(shift={"roles": []}), numbers_registry)


def test_the_plan_names_the_hooks_and_roles_of_each_wrapper(registry: Registry) -> None:
    registry.register(Counting(), "count")
    wrapped = wrapped_hooks(with_wrappers(shift={"roles": ["student", "judge"]}), registry)
    assert wrapped_words(wrapped) == [
        "count wraps generate_candidates of student",
        "shift wraps judge of student, judge",
    ]


def test_a_wrapper_of_a_role_that_does_not_call_its_hook_is_a_notice(registry: Registry) -> None:
    recipe = from_values(numbers_recipe(wrappers={"shift": {"roles": ["teacher"]}}))
    found = preflight(Sources(recipe, registry)).notices
    assert found == (
        "wrappers.shift: has no effect, because no step calls a hook that it wraps with a model of its roles",
    )
    assert wrapped_hooks(recipe, registry, BUILT_IN) == {}


class Doubling:
    """Wraps a hook without ``context``."""

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo("Doubles the requests.", settings=Shift)

    @hookimpl(wrapper=True)
    def requests_at_once(self) -> Generator[None, int, int]:
        return 2 * (yield)


class Answering:
    """Answers one request at once."""

    @hookimpl
    def generate_candidates(self) -> Iterable[Candidate]:
        return ()

    @hookimpl
    def judge(self) -> Iterable[Judgement]:
        return ()

    @hookimpl
    def requests_at_once(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("own", "notices"),
    [
        ({"roles": ["judge"]}, []),
        (
            {"roles": ["judge"], "settings": {"points": 1.0}},
            [
                "wrappers.double.settings: has no effect, because the wrappers of requests_at_once get no settings: "
                "only those of hooks with context do"
            ],
        ),
        (
            {"roles": ["student"], "settings": {"points": 1.0}},
            [
                "wrappers.double: has no effect, because no step calls a hook that it wraps with a model of its roles",
            ],
        ),
    ],
    ids=["wraps", "settings", "another plugin"],
)
def test_settings_of_a_wrapper_that_gets_none_are_a_notice(
    numbers_registry: Registry, own: dict[str, Any], notices: list[str]
) -> None:
    numbers_registry.register(Doubling(), "double")
    numbers_registry.register(Answering(), "answering")
    models = {**numbers_recipe()["models"], "judge": {"plugin": "answering"}}
    recipe = from_values(numbers_recipe(models=models, wrappers={"double": own}))
    assert list(idle_wrappers(recipe, numbers_registry, BUILT_IN)) == notices
    called = {"double": ["judge"]} if own["roles"] == ["judge"] else {}
    assert wrapping_roles(recipe, numbers_registry) == called


@pytest.mark.parametrize("section", [{"shift": {"roles": ["jugde"]}}, {"numbers": {"roles": ["judge"]}}])
def test_a_wrapper_with_a_problem_has_no_notice_too(section: dict[str, Any], registry: Registry) -> None:
    recipe = with_wrappers(**section)
    assert list(idle_wrappers(recipe, registry, BUILT_IN)) == []


def test_required_settings_of_a_wrapper_are_missed_without_a_recipe_with_the_remedy(registry: Registry) -> None:
    registry.register(Shifting(settings=Required, neutral_settings=()), "strict")
    with pytest.raises(InputError) as found:
        wrapper_settings(registry, Model("numbers"), "strict")
    assert str(found.value) == (
        "wrappers.strict.settings: points: missing; expected a number; only a recipe gives them; leave the plugin out "
        "with --no-plugin strict"
    )


def test_the_settings_of_a_wrapper_are_found_by_their_class_or_the_error_says_why() -> None:
    context = Context(wrappers={"one": Shift(1.0), "two": Required(2.0), "three": None})
    assert context.wrapper_settings(Shift) == Shift(1.0)
    with pytest.raises(PluginError) as none:
        context.wrapper_settings(Model)
    assert str(none.value) == "wrapper_settings: no plugin that wraps this call has settings of the class Model"
    twice = evolve(context, wrappers={"one": Shift(1.0), "two": Shift(2.0)})
    with pytest.raises(PluginError) as several:
        twice.wrapper_settings(Shift)
    assert str(several.value) == "wrapper_settings: one and two have settings of the class Shift"
