import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known import known
from scipy import stats

from tutelage.evaluation.intervals import (
    DEFAULT,
    NOTHING,
    Bootstrap,
    Clusters,
    Metric,
    metrics,
    paired_ratio,
    ratio,
    ratio_metrics,
    wilson,
)

PROMPTS = 200
WORLDS = 1000


def clusters(prompts: int = PROMPTS, seeds: int = 1) -> Clusters:
    return Clusters.of((seed, f"prompt-{number:04}") for seed in range(seeds) for number in range(prompts))


def covered(made: list[Metric], truth: float) -> float:
    return float(np.mean([m.low is not None and m.high is not None and m.low <= truth <= m.high for m in made]))


def test_the_interval_of_a_mean_covers_the_truth_at_200_prompts() -> None:
    worlds = np.random.default_rng(0).exponential(2.0, size=(PROMPTS, WORLDS))
    made = ratio_metrics(worlds, np.ones_like(worlds), clusters(), DEFAULT)
    assert 0.93 <= covered(made, 2.0) <= 0.97


def test_the_interval_of_a_share_covers_the_truth_where_answers_of_a_prompt_are_alike() -> None:
    generator = np.random.default_rng(0)
    chance = generator.beta(1.2, 1.8, size=(PROMPTS, WORLDS))
    answers = np.full((PROMPTS, WORLDS), 4.0)
    made = ratio_metrics(generator.binomial(4, chance).astype(float), answers, clusters(), DEFAULT, proportion=True)
    assert 0.93 <= covered(made, 0.4) <= 0.97
    as_if_independent = [wilson(m.value * m.n, m.n) for m in made if m.value is not None]
    assert covered(as_if_independent, 0.4) < 0.90


def test_the_interval_of_a_paired_difference_covers_the_truth_and_is_narrower_than_an_unpaired_one() -> None:
    generator = np.random.default_rng(1)
    difficulty = generator.normal(size=(PROMPTS, WORLDS))
    left, right = (difficulty + generator.normal(mean, 0.5, size=difficulty.shape) for mean in (0.1, 0.0))
    ones = np.ones_like(left)
    values, replicates, counts = paired_ratio((left, ones), (right, ones), clusters(), DEFAULT)
    made = metrics(values, replicates, counts, DEFAULT)
    assert 0.93 <= covered(made, 0.1) <= 0.97
    alone = ratio_metrics(left, ones, clusters(), DEFAULT)
    assert known(made[0].high) - known(made[0].low) < known(alone[0].high) - known(alone[0].low)


def test_seeds_are_resampled_before_prompts() -> None:
    """If each seed has its own shift, an interval that resamples only prompts is far too narrow."""
    generator = np.random.default_rng(2)
    seeds = 20
    shift = np.repeat(generator.normal(size=(seeds, 400)), 20, axis=0)
    worlds = shift + generator.normal(size=shift.shape)
    nested = ratio_metrics(worlds, np.ones_like(worlds), clusters(20, seeds), DEFAULT)
    flat = ratio_metrics(worlds, np.ones_like(worlds), clusters(20 * seeds), DEFAULT)
    assert 0.88 <= covered(nested, 0.0) <= 0.98
    assert covered(flat, 0.0) < 0.6


def test_a_share_over_two_seeds_that_differ_is_less_certain_than_one_of_as_many_independent_prompts() -> None:
    hits = np.concatenate([np.arange(PROMPTS) % 10 < share for share in (2, 8)]).astype(float)[:, None]
    (two,) = ratio_metrics(hits, np.ones_like(hits), clusters(PROMPTS, 2), DEFAULT, proportion=True)
    independent = wilson(PROMPTS, 2 * PROMPTS)
    assert two.value == independent.value == 0.5
    assert known(two.high) - known(two.low) > 2 * (known(independent.high) - known(independent.low))


def test_every_resample_draws_as_many_clusters_as_there_are() -> None:
    weights = clusters(7, 3).weights(Bootstrap(resamples=50))
    assert weights.shape == (50, 21)
    assert (weights.sum(axis=1) == 21).all()
    of_seeds = weights.reshape(50, 3, 7).sum(axis=2)
    assert (of_seeds % 7 == 0).all()
    assert len(set(of_seeds[:, 0])) > 1


def test_the_same_call_gives_the_same_bytes_and_another_seed_gives_others() -> None:
    values = np.random.default_rng(0).random((PROMPTS, 1))
    first, again = (ratio_metrics(values, np.ones_like(values), clusters(), DEFAULT) for _ in range(2))
    assert first == again
    assert first != ratio_metrics(values, np.ones_like(values), clusters(), Bootstrap(seed=1))


def test_the_order_of_the_clusters_changes_nothing() -> None:
    keys = [(0, "b"), (1, "a"), (0, "a"), (0, "b")]
    assert Clusters.of(keys) == Clusters.of(reversed(keys))
    assert Clusters.of(keys).sums(keys, [1, 2, 3, 4]).tolist() == [3, 5, 2]


def test_nothing_measured_is_no_value() -> None:
    nothing = np.zeros((PROMPTS, 1))
    assert ratio_metrics(nothing, nothing, clusters(), DEFAULT) == [NOTHING]
    assert ratio_metrics(np.zeros((0, 2)), np.zeros((0, 2)), Clusters.of([]), DEFAULT) == [NOTHING, NOTHING]
    assert wilson(0, 0) == NOTHING


def test_a_ratio_that_some_resamples_cannot_form_has_an_interval_from_the_others() -> None:
    units = np.zeros((PROMPTS, 2))
    units[0, 0] = 3
    units[:, 1] = 1
    rare, _ = ratio_metrics(units * 2, units, clusters(), DEFAULT)
    assert rare == Metric(2.0, 2.0, 2.0, 3)


def test_a_share_of_exactly_one_has_wilsons_interval_over_prompts() -> None:
    answers = np.full((10, 1), 4.0)
    (metric,) = ratio_metrics(answers, answers, clusters(10), DEFAULT, proportion=True)
    assert metric == Metric(1.0, wilson(10, 10).low, 1.0, 40)
    assert metric.low == pytest.approx(0.7225, abs=1e-4)


def test_the_interval_of_a_rare_share_covers_the_truth_where_each_prompt_is_one_trial() -> None:
    hits = (np.random.default_rng(3).random((PROMPTS, WORLDS)) < 0.04).astype(float)
    made = ratio_metrics(hits, np.ones_like(hits), clusters(), DEFAULT, proportion=True)
    assert 0.93 <= covered(made, 0.04) <= 0.98
    assert made[0] == wilson(hits[:, 0].sum(), PROMPTS)


def test_a_difference_counts_only_the_prompts_that_both_have() -> None:
    left = np.array([[1.0], [5.0], [0.0]])
    right = np.array([[0.0], [0.0], [9.0]])
    values, _, counts = paired_ratio(
        (left, np.array([[1.0], [1.0], [0.0]])), (right, np.array([[1.0], [0.0], [1.0]])), clusters(3), DEFAULT
    )
    assert (values.tolist(), counts.tolist()) == ([1.0], [1])


@given(st.integers(1, 60), st.data())
def test_wilson_matches_scipy(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    made = wilson(successes, n)
    assert made.low == pytest.approx(expected.low, abs=1e-9)
    assert made.high == pytest.approx(expected.high, abs=1e-9)


def test_a_ratio_is_of_sums_and_not_a_mean_of_ratios() -> None:
    values, replicates = ratio(np.array([[1.0], [9.0]]), np.array([[1.0], [3.0]]), clusters(2), DEFAULT)
    assert values.tolist() == [2.5]
    assert set(replicates[:, 0].tolist()) == {1.0, 2.5, 3.0}
    assert not math.isnan(replicates.sum())
