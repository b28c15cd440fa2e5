"""The messages of steps that leave nothing: causes in one unit, with the keys that change them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from recipes import numbers_recipe

from tutelage.planning.pipelines import make_plan
from tutelage.planning.steps import MakePairs
from tutelage.preferences.pairing import RULES, Pairing, PairOptions, pair
from tutelage.recipe.loading import from_values
from tutelage.recipe.schema import Recipe
from tutelage.records import Candidate, Demonstration, Outcome, Prompt
from tutelage.results.nothing_left import cause_of, no_pair

PROMPTS = {prompt.id: prompt for prompt in map(Prompt, ("sort pear fig", "sort cat dog", "sort red blue"))}


@pytest.fixture
def recipe() -> Recipe:
    return from_values(numbers_recipe())


@pytest.fixture
def step(recipe: Recipe) -> MakePairs:
    return next(step for step in make_plan(recipe).steps if isinstance(step, MakePairs))


def answers(*texts: str, outcome: Outcome = Outcome.ANSWERED) -> list[Candidate]:
    """The same answers to every prompt."""
    return [Candidate(id, index, text, outcome) for id in PROMPTS for index, text in enumerate(texts)]


def scores(*values: float | None) -> dict[str, float | None]:
    return {f"{id}/{index}": value for id in PROMPTS for index, value in enumerate(values)}


def made(rule: str, candidates: list[Candidate], given: Mapping[str, float | None], **options: float) -> Pairing:
    return pair(RULES[rule], PROMPTS, candidates, given, options=PairOptions(**options))  # type: ignore[arg-type]


CASES = [
    (made("best-worst", answers("a", "b"), scores(3, 3)), "tied", "judging.samples"),
    (made("all-ordered", answers("a", "b", "c"), scores(3, 3, 3)), "tied", "generation.temperature"),
    (made("best-worst", answers("a", "b"), scores(3, 2), margin=2.0), "margin too small", "pairs.margin"),
    (made("best-worst", answers("a", "a"), scores(3, 2)), "same text", "generation.temperature"),
    (made("best-worst", answers("a", "b", outcome=Outcome.CUT), {}), "answer cut", "generation.max_new_tokens"),
    (made("best-worst", answers("", "b", outcome=Outcome.REFUSED), {}), "answer refused", "data.prompts"),
    (made("best-worst", answers(" ", ""), scores(3, 2)), "answer empty", "sft.epochs"),
    (made("best-worst", answers("a", "b", "c"), scores(3, None, None)), "answer without a score", "judging.rubric"),
    (made("best-worst", answers("a"), scores(3)), "fewer than two scored answers", "generation.n"),
    (made("random-pairs", answers("a", "a"), {}), "fewer than two different answers", "generation.temperature"),
    (
        made("similar-length", answers("a", "b c d"), scores(3, 2)),
        "no two scored answers of similar length",
        "length",
    ),
    (pair(RULES["demonstration-vs-own"], PROMPTS, answers("a")), "no demonstration", "models.teacher"),
    (
        pair(
            RULES["demonstration-vs-own"],
            PROMPTS,
            answers("a"),
            demonstrations={id: Demonstration(id, "a b", Outcome.CUT) for id in PROMPTS},
        ),
        "demonstration cut",
        "generation.max_new_tokens",
    ),
    (pair(lambda group, options: ["too easy"], PROMPTS, answers("a", "b")), "too easy", "pairs.rule"),
    (pair(lambda group, options: [], PROMPTS, answers("a", "b")), "the rule proposed nothing", "pairs.rule"),
]


@pytest.mark.parametrize(("pairing", "cause", "key"), CASES, ids=[cause for _, cause, _ in CASES])
def test_each_cause_counts_prompts_and_names_the_key_that_changes_it(
    recipe: Recipe, step: MakePairs, pairing: Pairing, cause: str, key: str
) -> None:
    assert pairing.preferences == ()
    assert pairing.causes == {cause: 3}
    message = no_pair(step, recipe, pairing.causes, len(PROMPTS), "tutelage data show run M2")
    assert "(3 of 3)" in message
    (line,) = (line for line in message.splitlines() if line.startswith("  "))
    assert line.startswith("  3 because ") and key in line


def test_prompts_are_counted_once_each_however_many_answers_they_lost() -> None:
    first, second, third = PROMPTS
    candidates = [
        *(Candidate(first, index, "long", Outcome.CUT) for index in range(4)),
        Candidate(second, 0, "a"),
        Candidate(second, 1, "", Outcome.FAILED),
        Candidate(second, 2, "", Outcome.FAILED),
        Candidate(second, 3, "long", Outcome.CUT),
        *(Candidate(third, index, text) for index, text in enumerate(("a", "b"))),
    ]
    given = {f"{second}/0": 3.0, f"{third}/0": 2.0, f"{third}/1": 1.0}
    pairing = pair(RULES["best-worst"], PROMPTS, candidates, given)
    assert len(pairing.preferences) == 1
    assert pairing.dropped == {"answer cut": 5, "answer failed": 2, "fewer than two scored answers": 2}
    assert pairing.causes == {"answer cut": 1, "answer failed": 1}


def test_every_reason_of_the_built_in_rules_has_a_text(recipe: Recipe, step: MakePairs) -> None:
    """A reason without a text would be shown with the advice for a third-party rule."""
    for _, reason, _ in CASES[:-2]:
        assert "its documentation" not in cause_of(reason, step, recipe).change, reason
    for outcome in (Outcome.CUT, Outcome.REFUSED, Outcome.FAILED, Outcome.UNPARSED):
        for text in ("answer", "demonstration"):
            assert "its documentation" not in cause_of(f"{text} {outcome}", step, recipe).change


def test_keys_that_a_message_names_are_keys_of_a_recipe(recipe: Recipe, step: MakePairs) -> None:
    from tutelage.recipe.loading import to_yaml

    text = to_yaml(recipe)
    for _, reason, _ in CASES:
        change = cause_of(reason, step, recipe).change
        for section, key in re.findall(r"\b(generation|judging|pairs|sft|data|models)\.(\w+)", change):
            assert re.search(rf"^{section}:", text, re.MULTILINE), section
            assert re.search(rf"^  {key}:", text, re.MULTILINE), f"{section}.{key}"


def test_a_source_without_prompts_is_named(recipe: Recipe, step: MakePairs) -> None:
    assert f"{step.prompts} has no prompt; see data.prompts" in no_pair(step, recipe, {}, 0, "show")
