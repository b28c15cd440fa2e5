"""``python -m tests.prove coverage`` simulates the same with more studies, for more cases."""

import numpy as np
import pytest
from known import known
from scipy import stats
from tests.prove import coverage

from tutelage.evaluation.variation import Variation, jackknifed


def variation(values: np.ndarray, shared: bool) -> Variation:
    """Of the means of values of shape (seeds, prompts, statistics)."""
    seeds, prompts, count = values.shape
    influence = ((values - values.mean(axis=(0, 1))) / (seeds * prompts)).reshape(-1, count)
    of_seed = np.repeat(np.arange(seeds), prompts)
    of_prompt = np.tile(np.arange(prompts), seeds) if shared else np.arange(seeds * prompts)
    return Variation.of(influence, np.ones(influence.shape, bool), of_seed, of_prompt)


def test_the_interval_of_one_seed_is_that_of_students_t() -> None:
    values = np.random.default_rng(0).normal(size=12)
    made = variation(values.reshape(1, 12, 1), True)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert made.half_widths(0.05)[0] == pytest.approx((expected.high - expected.low) / 2)
    assert known(made.p_value(float(values.mean()), 0)) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert (made.seeds[0], made.prompts[0], made.between[0], made.shared[0]) == (1, 12, 0.0, 0.0)


def test_seeds_with_their_own_prompts_are_compared_by_their_means() -> None:
    values = np.random.default_rng(1).normal(0.5, 1, (4, 30, 1)) + np.array([0, 1, 2, 3]).reshape(4, 1, 1)
    made, means = variation(values, False), values.mean(axis=1)[:, 0]
    assert made.shared[0] == 0.0
    assert made.half_widths(0.05)[0] == pytest.approx(stats.t.ppf(0.975, 3) * means.std(ddof=1) / 2)
    assert known(made.p_value(float(means.mean()), 0)) == pytest.approx(stats.ttest_1samp(means, 0).pvalue)


@pytest.mark.parametrize("shared", [True, False])
def test_the_parts_estimate_the_variances_that_they_are_named_after(shared: bool) -> None:
    seeds, prompts, studies = 5, 40, 4000
    values = coverage.seed_values(np.random.default_rng(2), seeds, prompts, 0.3, shared, studies)
    made = variation(values.reshape(seeds, prompts, studies), shared)
    of_prompts = (1 if shared else 2) / (seeds * prompts)  # the residual, and a seed's own prompts
    assert made.between.mean() == pytest.approx(0.09 / seeds + of_prompts, rel=0.05)
    assert made.shared.mean() == pytest.approx(1 / prompts if shared else 0.0, rel=0.05)
    assert made.within.mean() == pytest.approx(1 / prompts + 1 / (seeds * prompts) if shared else 0.01, rel=0.05)
    assert values.mean(axis=0).var() == pytest.approx((made.between + made.shared).mean(), rel=0.1)


def test_seeds_that_agree_by_chance_still_have_the_variation_of_prompts() -> None:
    values = np.random.default_rng(3).normal(size=(2, 50, 1))
    values -= values.mean(axis=1, keepdims=True)
    made = variation(values, False)
    assert made.between[0] == pytest.approx(0.0)
    assert made.half_widths(0.05)[0] == pytest.approx(1.645 * np.sqrt(made.within[0]), rel=1e-3)


def test_a_statistic_of_one_of_several_seeds_has_only_the_variation_of_prompts() -> None:
    values = np.random.default_rng(4).normal(size=20)
    influence = np.concatenate([(values - values.mean()) / 20, np.zeros(20)])[:, None]
    involved = np.repeat([True, False], 20)[:, None]
    made = Variation.of(influence, involved, np.repeat([0, 1], 20), np.arange(40))
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (made.seeds[0], made.prompts[0]) == (1, 20)
    assert made.half_widths(0.05)[0] == pytest.approx((expected.high - expected.low) / 2)


def test_what_does_not_vary_has_no_width_and_no_p_value() -> None:
    made = variation(np.ones((3, 10, 1)), True)
    assert np.isnan(made.half_widths(0.05)[0])
    assert made.p_value(1.0, 0) is None


def test_the_jackknife_of_a_mean_is_its_influence() -> None:
    values = np.random.default_rng(5).random((9, 1))
    without = (values.sum(axis=0) - values) / 8
    assert jackknifed(values.mean(axis=0), without) == pytest.approx((values - values.mean()) / 9)
    without[3] = np.nan
    assert np.isfinite(jackknifed(values.mean(axis=0), without)).all()


def test_few_seeds_cover_the_truth_with_shared_prompts_and_with_prompts_of_their_own() -> None:
    for by_seeds in coverage.seeds(400, numbers=(2, 3, 5, 10), deviations=(0.0, 0.4), prompts=20).values():
        for number, row in by_seeds.items():
            for deviation, found in row.items():
                assert found["after"] >= 0.92, (number, deviation)  # 93%, less one standard error of 400 studies
                assert int(number) < 5 or found["after"] <= 0.99, (number, deviation)
    assert coverage.seeds(400, numbers=(2,), deviations=(0.2,))["prompts of their own"]["2"]["0.2"]["before"] < 0.93


def test_few_prompts_are_seldom_found_different_if_both_models_are_equal() -> None:
    for count, row in coverage.false_positives(500, prompts=(2, 3, 6, 8, 12, 20)).items():
        for name, found in row.items():
            assert found["after"] <= 0.075, (count, name)  # 5%, and three standard errors of 500 studies
            assert int(count) > 3 or name == "ten ties in eleven" or found["before"] > 0.10, (count, name)
