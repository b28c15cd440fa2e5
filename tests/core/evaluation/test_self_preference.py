"""Self-preference: the overrating of a judge's own answers, minus that of the answers of other models."""

from __future__ import annotations

import random

import pytest
from attrs import evolve

from tutelage.evaluation.agreement import Rating
from tutelage.evaluation.intervals import DEFAULT, NOTHING, Metric
from tutelage.evaluation.self_preference import Pairs, self_preference


def pairs(*scores: tuple[str, float | None, float | None], seed: int = 0) -> Pairs:
    """(prompt, judge, gold) of each answer."""
    return [
        (Rating(f"{prompt}/{n}", prompt, judge, seed), Rating(f"{prompt}/{n}", prompt, gold, seed))
        for n, (prompt, judge, gold) in enumerate(scores)
    ]


def test_the_value_is_the_difference_of_the_two_mean_overratings() -> None:
    own = pairs(("a", 5.0, 3.0), ("a", 4.0, 3.0), ("b", 2.0, 2.0))
    others = pairs(("a", 3.0, 3.0), ("b", 1.0, 2.0))
    found = self_preference(own, others)
    few = "there are fewer than 6 prompts"
    assert found.own_overrating == Metric(1.0, None, None, 3, few)
    assert found.others_overrating == Metric(-0.5, None, None, 2, few)
    assert found.self_preference == Metric(1.5, None, None, 2, few)


def test_an_answer_without_a_score_and_a_prompt_without_both_kinds_are_left_out() -> None:
    own = pairs(("a", 5.0, 3.0), ("b", 4.0, 0.0), ("c", 5.0, 0.0), ("c", None, 0.0))
    others = pairs(("a", 3.0, 3.0), ("c", None, 3.0), ("c", 1.0, None), ("d", 5.0, 0.0))
    found = self_preference(own, others)
    assert (found.self_preference.value, found.self_preference.n) == (2.0, 1)
    assert (found.own_overrating.n, found.others_overrating.n) == (1, 1)


def test_without_common_prompts_there_is_nothing_to_measure() -> None:
    found = self_preference(pairs(("a", 5.0, 3.0)), pairs(("b", 5.0, 3.0)))
    assert (found.self_preference, found.own_overrating, found.others_overrating) == (NOTHING, NOTHING, NOTHING)
    assert self_preference([], []).self_preference == NOTHING


def test_a_judge_that_overrates_every_answer_alike_has_none_however_good_its_own_answers_are() -> None:
    own = pairs(*((f"p{n}", 4.5, 4.0) for n in range(20)))
    others = pairs(*((f"p{n}", 1.5, 1.0) for n in range(20)))
    assert self_preference(own, others).self_preference.value == 0.0


def judged(draw: random.Random, bonus: float, seed: int = 0) -> tuple[Pairs, Pairs]:
    """The scores of a noisy judge that adds a bonus to its own answers, on 40 prompts of different difficulty."""
    own: list[tuple[str, float, float]] = []
    others: list[tuple[str, float, float]] = []
    for number in range(40):
        difficulty = draw.uniform(0, 3)
        for side, extra, count in ((own, bonus, 2), (others, 0.0, 3)):
            for _ in range(count):
                gold = 5 - difficulty - draw.random()
                side.append((f"p{number}", gold + extra + draw.gauss(0, 0.5), gold))
    return pairs(*own, seed=seed), pairs(*others, seed=seed)


def test_the_interval_contains_the_bonus_in_about_95_of_100_samples_and_excludes_0() -> None:
    draw = random.Random(0)
    found = [self_preference(*judged(draw, 0.5)).self_preference for _ in range(100)]
    covered = [one.low <= 0.5 <= one.high for one in found if one.low is not None and one.high is not None]
    assert len(covered) == 100 and 90 <= sum(covered) <= 99
    assert sum(one.low > 0 for one in found if one.low is not None) > 95
    without = [self_preference(*judged(draw, 0.0)).self_preference for _ in range(100)]
    assert sum(one.low > 0 or one.high < 0 for one in without if one.low is not None and one.high is not None) <= 10


@pytest.mark.parametrize("seeds", [2, 3])
def test_several_seeds_are_combined_as_everywhere(seeds: int) -> None:
    draw = random.Random(1)
    of_seeds = [judged(draw, 0.5, seed) for seed in range(seeds)]
    own, others = ([pair for one in of_seeds for pair in one[side]] for side in (0, 1))
    found = self_preference(own, others)
    assert found.self_preference.n == 40 * seeds
    assert found.self_preference.low is not None and found.self_preference.low < 0.5
    # the order of the answers has no effect
    again = self_preference(own[::-1], others[::-1], evolve(DEFAULT))
    assert again == found
