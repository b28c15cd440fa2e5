"""The plugin passes tutelage's contract checks, and its results equal values that were computed manually."""

from __future__ import annotations

import pytest
import tutelage_echo
from tutelage_echo import COLOUR_PROMPTS, colour_prompts, kept

import tutelage
from tutelage import Comparison, Context, JudgeItem, Model, Outcome, Prompt, Registry, Rubric, Sampling
from tutelage.testing import check_plugin

RUBRIC = Rubric("short", lowest=1, highest=5)
PROMPT = Prompt("Mix red with blue")


@pytest.fixture
def registry() -> Registry:
    registry = Registry.empty()
    registry.register(tutelage_echo, "echo")
    return registry


def candidates(registry: Registry, sampling: Sampling, **settings: object) -> list[tuple[str, Outcome]]:
    found = tutelage.generate_candidates(registry, Model("echo", settings=settings), [PROMPT], 20, sampling, Context())
    return [(candidate.text, candidate.outcome) for candidate in found]


def test_the_contract_is_kept() -> None:
    check_plugin("echo").raise_for_problems()


def test_greedy_answers_keep_every_word(registry: Registry) -> None:
    assert (
        candidates(registry, Sampling(temperature=0), prefix="I will:")
        == [("I will: Mix red with blue", Outcome.ANSWERED)] * 20
    )


def test_sampled_answers_drop_words_and_follow_the_seed(registry: Registry) -> None:
    first, again, other = (candidates(registry, Sampling(seed=seed), drop=0.5) for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) > 5
    assert all(set(text.split()) <= set(PROMPT.text.split()) for text, _ in first)


def test_an_answer_over_the_limit_is_cut_and_says_so(registry: Registry) -> None:
    assert candidates(registry, Sampling(temperature=0, max_new_tokens=2))[0] == ("Mix red", Outcome.CUT)


def test_the_score_is_the_share_of_words_kept_on_the_rubrics_scale(registry: Registry) -> None:
    items = [JudgeItem("none", PROMPT.text, ""), JudgeItem("half", PROMPT.text, "blue mix")]
    items.append(JudgeItem("all", PROMPT.text, "Blue with red: mix red with blue"))
    judgements = tutelage.judge(registry, Model("echo"), items, RUBRIC, 1, Sampling(), Context())
    assert {judgement.item_id: judgement.score for judgement in judgements} == {"none": 1, "half": 3, "all": 5}


def test_the_answer_that_keeps_more_words_is_preferred(registry: Registry) -> None:
    texts = {"first": ("red blue", "red"), "second": ("", "red"), "neither": ("red", "blue")}
    comparisons = [Comparison(id, PROMPT.text, *pair) for id, pair in texts.items()]
    verdicts = tutelage.evaluate(registry, Model("echo"), comparisons, RUBRIC, Sampling(), Context())
    assert {verdict.comparison_id: verdict.preference for verdict in verdicts} == {
        "first": 1.0,
        "second": 0.0,
        "neither": 0.5,
    }


def test_a_prompt_without_words_is_kept_by_any_answer() -> None:
    assert kept("", "anything") == 1.0


def test_the_prompt_set_gives_all_it_has_and_no_more() -> None:
    assert sorted(colour_prompts(1000, 0)) == sorted(COLOUR_PROMPTS)
    assert len(set(COLOUR_PROMPTS)) == len(COLOUR_PROMPTS) == 112
