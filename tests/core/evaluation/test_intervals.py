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
    made = paired_ratio((left, ones), (right, ones), clusters(), DEFAULT).metrics([PROMPTS] * WORLDS, DEFAULT)
    assert 0.93 <= covered(made, 0.1) <= 0.97
    alone = ratio_metrics(left, ones, clusters(), DEFAULT)
    assert known(made[0].high) - known(made[0].low) < known(alone[0].high) - known(alone[0].low)


def test_an_interval_over_seeds_contains_their_variation() -> None:
    """If each seed has its own shift, an interval over prompts alone is far too narrow."""
    generator = np.random.default_rng(2)
    seeds = 20
    shift = np.repeat(generator.normal(size=(seeds, 400)), 20, axis=0)
    worlds = shift + generator.normal(size=shift.shape)
    nested = ratio_metrics(worlds, np.ones_like(worlds), clusters(20, seeds), DEFAULT)
    flat = ratio_metrics(worlds, np.ones_like(worlds), clusters(20 * seeds), DEFAULT)
    assert 0.93 <= covered(nested, 0.0) <= 0.98
    assert covered(flat, 0.0) < 0.6


def test_each_subset_of_few_prompts_is_used_once() -> None:
    weights = clusters(7).weights(DEFAULT)
    assert weights.shape == (127, 7)
    assert len({tuple(row) for row in weights.tolist()}) == 127
    assert set(weights.ravel().tolist()) == {0.0, 1.0}


def test_subsets_of_many_prompts_are_random_and_have_half_of_the_prompts() -> None:
    weights = clusters(100).weights(Bootstrap(resamples=1000))
    assert weights.shape == (1000, 100)
    assert np.allclose(weights.mean(axis=0), 0.5, atol=0.06)
    assert abs(np.corrcoef(weights[:, 0], weights[:, 1])[0, 1]) < 0.1


def test_a_prompt_that_seeds_share_is_in_a_subset_with_all_its_seeds() -> None:
    weights = clusters(100, seeds=3).weights(DEFAULT)
    assert (weights[:, :100] == weights[:, 100:200]).all()
    assert (weights[:, :100] == weights[:, 200:]).all()


@pytest.mark.parametrize("prompts", [6, 7, 10, 11, 12, 40])
def test_the_p_value_is_below_5_percent_exactly_if_the_interval_leaves_out_0(prompts: int) -> None:
    values = np.random.default_rng(prompts).normal(0.4, 1, size=(prompts, 300))
    ones = np.ones_like(values)
    for seeds in (1, 2):
        keys = Clusters.of((number % seeds, f"{number:03}") for number in range(prompts))
        made = paired_ratio((values, ones), (0 * values, ones), keys, DEFAULT)
        p_values = [known(made.p_value(column)) for column in range(300)]
        excluded = [known(one.low) > 0 or known(one.high) < 0 for one in made.metrics([prompts] * 300, DEFAULT)]
        assert [p < 0.05 for p in p_values] == excluded
    assert 0 < sum(excluded) < 300


@pytest.mark.parametrize("prompts", [1, 2, 5])
def test_fewer_than_six_prompts_have_no_interval(prompts: int) -> None:
    values = np.random.default_rng(0).random((prompts, 1))
    (metric,) = ratio_metrics(values, np.ones_like(values), clusters(prompts), DEFAULT)
    assert (metric.low, metric.high, metric.no_interval) == (None, None, "there are fewer than 6 prompts")
    assert metric.value == pytest.approx(values.mean())


def test_only_the_prompts_that_a_ratio_is_based_on_count() -> None:
    units = np.zeros((PROMPTS, 2))
    units[:5, 0] = units[:6, 1] = 1
    values = units * np.arange(PROMPTS)[:, None]
    few, enough = ratio_metrics(values, units, clusters(), DEFAULT)
    assert few.no_interval == "there are fewer than 6 prompts"
    assert (enough.low, enough.high) == (0.0, 5.0)


def test_the_interval_of_six_prompts_is_from_the_smallest_to_the_largest_value() -> None:
    values = np.array([[3.0], [1.0], [4.0], [1.5], [9.0], [2.0]])
    assert ratio_metrics(values, np.ones_like(values), clusters(6), DEFAULT) == [Metric(3.4166666667, 1.0, 9.0, 6)]


@pytest.mark.parametrize("value", [0.0, 4.0, 0.1])
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_value_that_is_the_same_on_all_prompts_has_no_interval(value: float, seeds: int) -> None:
    values = np.full((20 * seeds, 1), value)
    (metric,) = ratio_metrics(values, np.ones_like(values), clusters(20, seeds), DEFAULT)
    assert metric == Metric(value, None, None, 20 * seeds, "it is the same on all prompts")
    ones = np.ones_like(values)
    assert paired_ratio((values, ones), (0 * ones, ones), clusters(20, seeds), DEFAULT).p_value(0) is None


def test_a_p_value_beyond_the_subsets_follows_students_t() -> None:
    values = np.random.default_rng(0).normal(1.0, 1.0, size=(60, 1))
    ones = np.ones_like(values)
    made = known(paired_ratio((values, ones), (0 * ones, ones), clusters(60), DEFAULT).p_value(0))
    expected = stats.ttest_1samp(values[:, 0], 0).pvalue
    assert expected < 1e-6
    assert np.log10(made) == pytest.approx(np.log10(expected), abs=1.5)


def test_a_shifted_metric_without_an_interval_stays_without_one() -> None:
    assert Metric(0.5, None, None, 3, "few").shifted(-0.5) == Metric(0.0, None, None, 3, "few")
    assert Metric(0.5, 0.25, 0.75, 3).shifted(-0.5) == Metric(0.0, -0.25, 0.25, 3)


def test_a_share_over_two_seeds_that_differ_is_less_certain_than_one_of_as_many_independent_prompts() -> None:
    hits = np.concatenate([np.arange(PROMPTS) % 10 < share for share in (2, 8)]).astype(float)[:, None]
    (two,) = ratio_metrics(hits, np.ones_like(hits), clusters(PROMPTS, 2), DEFAULT, proportion=True)
    independent = wilson(PROMPTS, 2 * PROMPTS)
    assert two.value == independent.value == 0.5
    assert known(two.high) - known(two.low) > 2 * (known(independent.high) - known(independent.low))


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


def test_a_ratio_that_some_subsets_cannot_form_has_an_interval_from_the_others() -> None:
    units = np.zeros((PROMPTS, 1))
    units[:6] = 3
    (rare,) = ratio_metrics(units * np.arange(PROMPTS)[:, None], units, clusters(), DEFAULT)
    assert (rare.value, rare.low, rare.high, rare.n) == (2.5, 0.0, 5.0, 18)


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
    made = paired_ratio(
        (left, np.array([[1.0], [1.0], [0.0]])), (right, np.array([[1.0], [0.0], [1.0]])), clusters(3), DEFAULT
    )
    assert (made.values.tolist(), made.prompts.tolist()) == ([1.0], [1])


@given(st.integers(1, 60), st.data())
def test_wilson_matches_scipy(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    made = wilson(successes, n)
    assert made.low == pytest.approx(expected.low, abs=1e-9)
    assert made.high == pytest.approx(expected.high, abs=1e-9)


def test_a_ratio_is_of_sums_and_not_a_mean_of_ratios() -> None:
    made = ratio(np.array([[1.0], [9.0]]), np.array([[1.0], [3.0]]), clusters(2), DEFAULT)
    assert made.values.tolist() == [2.5]
    assert set(known(made.replicates)[:, 0].tolist()) == {1.0, 2.5, 3.0}
