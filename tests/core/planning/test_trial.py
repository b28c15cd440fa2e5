"""Rubrics and pair rules are tried on a made-up item: the built-in ones pass, faults are named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import evolve

from tutelage.errors import InputError
from tutelage.planning.checks import checked_plan
from tutelage.planning.trial import pair_rule_problems, rubric_problems
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.functions import plugin
from tutelage.plugins.pair_rules import guarded_rule
from tutelage.plugins.registry import Registry
from tutelage.preferences.judging import ADDITIVE_RUBRIC, PAIRWISE_RUBRIC
from tutelage.preferences.pairing import RULES, Group, PairOptions, Proposal, ScoredAnswer
from tutelage.recipe.schema import Recipe
from tutelage.records import Rubric

Make = Callable[..., Recipe]


def test_the_rubrics_of_core_and_of_the_installed_plugins_have_no_problem() -> None:
    rubrics = Registry.discover().offered("rubrics")
    assert {"additive", "pairwise", "tiny/additive"} <= rubrics.keys()
    for name, rubric in rubrics.items():
        assert list(rubric_problems(rubric, is_comparison="{first}" in rubric.template)) == [], name


@pytest.mark.parametrize(
    ("rubric", "is_comparison", "problem"),
    [
        (evolve(ADDITIVE_RUBRIC, highest=0.0), False, "the scale of rubric 'additive' is 0 to 0; its highest"),
        (evolve(ADDITIVE_RUBRIC, highest=float("nan")), False, "the scale of rubric 'additive' is 0 to nan"),
        (evolve(ADDITIVE_RUBRIC, lowest=float("-inf")), False, "the scale of rubric 'additive' is -inf to 5"),
        (Rubric("r", "Rate {answer}"), False, "the template of rubric 'r' lacks the placeholder {prompt}; add it"),
        (PAIRWISE_RUBRIC, False, "lacks the placeholder {answer}"),
        (ADDITIVE_RUBRIC, True, "lacks the placeholder {first}"),
        (evolve(PAIRWISE_RUBRIC, tokens=("m", "m")), True, "they must be two different texts"),
        (evolve(ADDITIVE_RUBRIC, lowest=0.0, highest=1e12 / 3), False, "is read as"),
    ],
)
def test_the_problem_of_a_rubric_is_named(rubric: Rubric, is_comparison: bool, problem: str) -> None:
    found = list(rubric_problems(rubric, is_comparison))
    assert problem in found[0]


def test_a_rubric_for_a_program_needs_no_template() -> None:
    assert list(rubric_problems(Rubric("program"))) == []


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_built_in_rule_makes_a_pair_of_scored_and_demonstrated_answers(name: str, make_recipe: Make) -> None:
    for n in (2, 4, 16):
        recipe = make_recipe(generation={"n": n})
        assert list(pair_rule_problems("self-reward", name, RULES[name], recipe, ADDITIVE_RUBRIC, True)) == []


@pytest.mark.parametrize(
    ("name", "is_scored", "is_demonstrated", "reason"),
    [
        ("best-worst", False, True, "fewer than two scored answers"),
        ("all-ordered", False, True, "fewer than two scored answers"),
        ("similar-length", False, True, "no two scored answers of similar length"),
        ("demonstration-vs-own", True, False, "no demonstration"),
        ("demonstration-vs-worst", False, True, "no scored answer"),
    ],
)
def test_a_built_in_rule_without_scores_or_demonstrations_would_make_no_pair(
    name: str, is_scored: bool, is_demonstrated: bool, reason: str, make_recipe: Make
) -> None:
    rubric = ADDITIVE_RUBRIC if is_scored else None
    [found] = pair_rule_problems("self-reward", name, RULES[name], make_recipe(), rubric, is_demonstrated)
    assert found.startswith(f"rule: {name!r} would make no pair in the pipeline self-reward ({reason}")


@pytest.mark.parametrize(
    ("pairs", "problem"),
    [
        ({"margin": 5.5}, "margin: 5.5; no two scores on the scale 0 to 5 of rubric 'additive' have this difference"),
        (
            {"rule": "length-controlled", "near_best": -1.0},
            "rule: 'length-controlled' fails on a made-up prompt with 4 answers",
        ),
        ({"rule": "similar-length", "length_ratio": 0.5}, "rule: 'similar-length' would make no pair"),
    ],
)
def test_options_that_no_pair_can_fulfil_are_named(pairs: dict[str, Any], problem: str, make_recipe: Make) -> None:
    recipe = make_recipe(pairs=pairs)
    name = recipe.pairs.rule or "best-worst"
    [found] = pair_rule_problems(
        "self-reward", name, guarded_rule(Registry.empty(), name), recipe, ADDITIVE_RUBRIC, False
    )
    assert found.startswith(problem)


def test_a_rule_of_a_plugin_may_find_no_pair_in_a_made_up_prompt(make_recipe: Make) -> None:
    def rule(group: Group, options: PairOptions) -> Iterator[Any]:
        yield "no answer says a number"

    assert list(pair_rule_problems("self-reward", "mine/numbers", rule, make_recipe(), ADDITIVE_RUBRIC, False)) == []


def test_an_error_that_a_rule_raises_for_the_user_is_quoted(make_recipe: Make) -> None:
    def rule(group: Group, options: PairOptions) -> Iterator[Any]:
        raise InputError("set pairs.margin above 0")

    [found] = pair_rule_problems("self-reward", "mine/strict", rule, make_recipe(), ADDITIVE_RUBRIC, False)
    assert found == "rule: 'mine/strict' fails on a made-up prompt with 4 answers: set pairs.margin above 0"


def raising(group: Group, options: PairOptions) -> Iterator[Proposal]:
    raise SystemExit(3)
    yield


def returning_nothing(group: Group, options: PairOptions) -> None:
    return None


def inventing(group: Group, options: PairOptions) -> Iterator[Proposal]:
    yield ScoredAnswer("x", "Invented."), group.answers[0]


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (raising, f"failed: SystemExit: 3 (test_trial.py, line {raising.__code__.co_firstlineno + 1})"),
        (returning_nothing, "returned None; it must yield pairs, or reasons as texts"),
        (inventing, "proposed 'Invented.' (x), which is no answer to the prompt; use the answers of the group"),
    ],
    ids=["raises", "returns nothing", "invents"],
)
def test_a_fault_of_a_plugins_rule_is_found_before_the_run_and_named(
    rule: Any, problem: str, make_recipe: Make, numbers_registry: Registry
) -> None:
    numbers_registry.register(plugin(info=PluginInfo("x", pair_rules={"rule": rule})), "mine")
    recipe = make_recipe(pipelines={"self-reward": None}, controls={}, pairs={"rule": "mine/rule"})
    with pytest.raises(InputError) as found:
        checked_plan(recipe, numbers_registry)
    prompt = "4177ea2ad99a3e66"
    assert str(found.value) == (
        "pairs.rule: 'mine/rule' fails on a made-up prompt with 4 answers: pair rule 'mine/rule' of plugin 'mine' "
        f"(registered manually), for the prompt {prompt}, {problem}"
    )
