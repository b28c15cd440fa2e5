import random

import pytest
from known import known

from tutelage.errors import InputError
from tutelage.evaluation.intervals import NOTHING, Metric
from tutelage.evaluation.scores import GradedAnswer, graded, score_differences, score_metrics
from tutelage.records import Candidate, Outcome


def model(mean: float, noise: int, prompts: int = 100, seeds: int = 2) -> list[GradedAnswer]:
    generator = random.Random(noise)
    return [
        GradedAnswer(
            f"p{number}", generator.randint(3, 9), float(min(5, max(0, round(generator.gauss(mean, 1))))), seed
        )
        for seed in range(seeds)
        for number in range(prompts)
    ]


def test_each_measure_is_what_its_name_says() -> None:
    answers = [
        GradedAnswer("a", 2, 5.0),
        GradedAnswer("a", 4, 3.0),
        GradedAnswer("b", 6, None),
        GradedAnswer("c", None, None),
    ]
    made = score_metrics(answers)
    assert {name: (metric.value, metric.n) for name, metric in made.items()} == {
        "gold_score": (4.0, 2),
        "gold_exact": (0.5, 2),
        "gold_scored": (0.5, 4),
        "answer_words": (4.0, 3),
    }


def test_answers_are_joined_with_their_scores_by_id() -> None:
    candidates = [
        Candidate("p", 0, "one two"),
        Candidate("p", 1, "one"),
        Candidate("p", 2, "", Outcome.FAILED),
        Candidate("p", 3, "one two three", Outcome.CUT),
    ]
    made = graded(candidates, {"p/1": 4.0, "p/0": 2.0, "other/0": 5.0}, seed=7)
    assert [(answer.words, answer.gold, answer.seed) for answer in made] == [
        (2, 2.0, 7),
        (1, 4.0, 7),
        (None, None, 7),
        (3, None, 7),
    ]


def test_the_order_of_the_answers_changes_nothing() -> None:
    answers = model(3, 1)
    shuffled = random.Random(0).sample(answers, len(answers))
    assert score_metrics(answers) == score_metrics(shuffled)
    assert score_differences(answers, model(4, 2)) == score_differences(shuffled, model(4, 2))


def test_a_model_does_not_differ_from_itself() -> None:
    differences = score_differences(model(3, 1), model(3, 1))
    assert {"gold_score", "gold_exact", "answer_words"} <= differences.keys()
    for metric in differences.values():
        assert metric == Metric(0.0, None, None, 200, "it is the same on all prompts")


def test_a_real_difference_has_an_interval_without_zero_and_changes_its_sign_with_the_sides() -> None:
    better, worse = model(4, 1, seeds=1), model(3, 2, seeds=1)
    difference = score_differences(better, worse)["gold_score"]
    assert known(difference.low) > 0
    assert known(difference.low) < known(difference.value) < known(difference.high)
    assert score_differences(worse, better)["gold_score"].value == -known(difference.value)


def test_a_prompt_without_a_gold_score_of_both_models_counts_for_their_lengths_only() -> None:
    left = [GradedAnswer("a", 2, 5.0), GradedAnswer("b", 6, None), GradedAnswer("c", 4, 3.0)]
    right = [GradedAnswer("a", 1, 4.0), GradedAnswer("b", 1, 5.0), GradedAnswer("c", 1, 5.0)]
    made = score_differences(left, right)
    assert {name: (metric.value, metric.n) for name, metric in made.items()} == {
        "gold_score": (-0.5, 2),
        "gold_exact": (0.0, 2),
        "answer_words": (3.0, 3),
    }


def test_models_are_paired_under_the_same_seed_only() -> None:
    left = [GradedAnswer("a", 1, 5.0, seed=0), GradedAnswer("a", 1, 5.0, seed=1)]
    right = [GradedAnswer("a", 1, 1.0, seed=1), GradedAnswer("a", 1, 0.0, seed=2), GradedAnswer("b", 1, None, seed=0)]
    difference = score_differences(left, right)
    assert (difference["gold_score"].value, difference["gold_score"].n) == (4.0, 1)


def test_models_with_no_prompt_in_common_have_no_difference() -> None:
    made = score_differences([GradedAnswer("a", 1, 5.0)], [GradedAnswer("b", 1, 5.0)])
    assert set(made.values()) == {NOTHING}


def test_a_model_without_answers_has_no_value() -> None:
    assert set(score_metrics([]).values()) == {NOTHING}


@pytest.mark.parametrize("score", [-1.0, 5.5, float("nan"), float("inf")])
def test_a_score_outside_the_scale_is_an_error(score: float) -> None:
    with pytest.raises(InputError, match="not between 0 and 5"):
        score_metrics([GradedAnswer("a", 1, score)])
    with pytest.raises(InputError, match="not between 0 and 5"):
        score_differences([GradedAnswer("a", 1, 1.0)], [GradedAnswer("a", 1, score)])
