import numpy as np
import pytest
from known import known
from scipy import stats

from tutelage.errors import InputError
from tutelage.evaluation.calibration import JudgedItem, calibrate
from tutelage.evaluation.intervals import NOTHING


def test_scores_are_counted_and_unparsed_replies_are_not() -> None:
    made = calibrate([JudgedItem("a", "p", (4.0, 5.0, None), 3), JudgedItem("b", "p", (4.0,), 3)])
    assert made.distribution == {4.0: 2, 5.0: 1}
    assert (made.parsed.value, made.parsed.n) == (0.75, 4)


def test_repeated_is_the_share_of_equal_scores_among_pairs_of_samples() -> None:
    made = calibrate([JudgedItem("a", "p", (4.0, 4.0, 4.0), 3), JudgedItem("b", "p", (1.0, 2.0, None), 3)])
    assert (made.repeated.value, made.repeated.n) == (0.75, 4)


def test_ties_are_the_pairs_that_averaging_left_equal() -> None:
    made = calibrate([JudgedItem(name, "p", (score, 3.0), 3) for name, score in (("a", 3.0), ("b", 3.0), ("c", 4.0))])
    assert made.ties.value == pytest.approx(1 / 3)
    assert made.ties.n == 3


def test_the_correlation_with_length_is_scipys() -> None:
    generator = np.random.default_rng(0)
    words = generator.integers(1, 30, size=400)
    scores = np.clip(np.round(words / 8 + generator.normal(size=400)), 0, 5)
    items = [
        JudgedItem(f"{number}", f"p{number // 4}", (float(score),), int(count))
        for number, (score, count) in enumerate(zip(scores, words, strict=True))
    ]
    made = calibrate(items)
    assert made.length_correlation.value == pytest.approx(stats.spearmanr(scores, words).statistic)
    assert known(made.length_correlation.low) > 0
    assert known(made.length_correlation_within.value) > 0


def test_a_planted_preference_for_length_is_reported() -> None:
    """The longer of two equally good answers scores higher in 70% of the prompts."""
    generator = np.random.default_rng(1)
    items = []
    for prompt in range(1000):
        short, long = (1.0, 2.0) if generator.random() < 0.7 else (2.0, 1.0)
        items.append(JudgedItem(f"{prompt}/0", f"p{prompt}", (short,), 5, gold=3.0))
        items.append(JudgedItem(f"{prompt}/1", f"p{prompt}", (long,), 9, gold=3.0))
    made = calibrate(items).verbosity_bias
    assert made.value == pytest.approx(0.2, abs=0.04)
    assert known(made.low) <= 0.2 <= known(made.high)


def test_a_longer_answer_that_the_gold_finds_better_is_no_bias() -> None:
    items = [JudgedItem("a", "p", (1.0,), 3, gold=1.0), JudgedItem("b", "p", (2.0,), 9, gold=4.0)]
    assert calibrate(items).verbosity_bias == NOTHING


def test_the_confusion_is_by_gold_score_with_halves_rounded_up() -> None:
    items = [
        JudgedItem("a", "p", (2.0, 3.0), 1, gold=5.0),
        JudgedItem("b", "p", (5.0,), 1, gold=5.0),
        JudgedItem("c", "p", (0.0,), 1, gold=1.0),
        JudgedItem("d", "p", (None,), 1, gold=1.0),
    ]
    assert calibrate(items).confusion == {1.0: {0.0: 1}, 5.0: {3.0: 1, 5.0: 1}}


def test_the_order_of_the_items_changes_nothing() -> None:
    items = [
        JudgedItem(f"{number}", f"p{number % 3}", (float(number % 5),), number, number % 2) for number in range(20)
    ]
    assert calibrate(items) == calibrate(reversed(items))


def test_nothing_judged_has_no_values() -> None:
    made = calibrate([])
    assert (made.distribution, made.parsed, made.ties, made.length_correlation) == ({}, NOTHING, NOTHING, NOTHING)


def test_an_item_that_is_there_twice_is_an_error() -> None:
    with pytest.raises(InputError, match="item a occurs twice"):
        calibrate([JudgedItem("a", "p", (1.0,), 1)] * 2)
