"""Texts for counts, metrics and durations."""

from __future__ import annotations

import pytest

from tutelage.evaluation.intervals import Metric
from tutelage.planning.steps import MakePairs, Step
from tutelage.results.wording import counts_words, metric_words, seconds_words, skill_words

PAIRS = MakePairs(output="o", count=512, prompts="p", candidates="c", rule="best-worst", margin=0.0)


def test_every_kind_of_step_has_a_word() -> None:
    words = {kind.__name__: kind.stage for kind in Step.__subclasses__()}
    assert {"Sample", "Judge", "Train"} <= words.keys()
    assert "" not in words.values()


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"pairs": 480, "tied": 30, "same text": 2}, "480 pairs (30 tied, 2 same text)"),
        ({"pairs": 512, "tied": 0}, "512 pairs"),
        ({}, "pairs"),
        ({"answered": 1500}, "1,500 pairs"),
        ({"answered": 3, "refused": 1, "cut": 2}, "6 pairs (1 refused, 2 cut)"),
    ],
)
def test_counts_begin_with_the_items_and_end_with_the_others_in_parentheses(counts: dict[str, int], words: str) -> None:
    assert counts_words(PAIRS, counts) == words


def test_a_figure_comes_with_its_interval() -> None:
    assert metric_words(Metric(3.4, 3.214, 3.58, 200)) == "3.40 [3.21, 3.58]"
    assert metric_words(Metric(0.37, 0.3, 0.44, 200), scale=100, decimals=0) == "37 [30, 44]"
    assert metric_words(Metric(0.4, -0.1, 0.9, 200), sign=True) == "+0.40 [-0.10, +0.90]"
    assert metric_words(Metric(0.4, None, None, 1)) == "0.40"
    assert metric_words(Metric(-0.001, -0.04, 0.02, 9), scale=100, decimals=0, sign=True) == "+0 [-4, +2]"


def test_an_interval_that_cannot_be_told_is_shown_as_such() -> None:
    assert metric_words(Metric(4.0, None, None, 3, "there are fewer than 6 prompts")) == "4.00 [cannot tell]"
    assert metric_words(Metric(0.0, None, None, 9, "it is the same on all prompts"), sign=True) == "+0.00 [cannot tell]"


def test_what_a_judge_without_skill_reaches_is_short() -> None:
    chance = {"random": {"pairwise_accuracy": 0.394, "spearman": 0.0}, "constant": {"pairwise_accuracy": 0.0}}
    assert [skill_words(chance, judge) for judge in ("random", "constant", "length")] == ["39%, 0.00", "0%, -", "-"]


def test_what_could_not_be_measured_is_a_dash() -> None:
    assert metric_words(Metric(None, None, None, 0)) == metric_words(None) == "-"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599.6, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_times_are_as_exact_as_they_need_be(seconds: float, words: str) -> None:
    assert seconds_words(seconds) == words
