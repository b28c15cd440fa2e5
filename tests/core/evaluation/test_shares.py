"""``python -m tests.prove coverage`` simulates the same with more studies, for more cases."""

from collections.abc import Sequence

import numpy as np
import pytest
from known import known
from tests.prove import coverage

from tutelage.evaluation.intervals import DEFAULT, Clusters, Metric, ratio_metrics, wilson


def share(hits: Sequence[float], units: Sequence[float], seeds: int = 1) -> Metric:
    prompts = len(hits) // seeds
    clusters = Clusters.of((seed, f"{number:03}") for seed in range(seeds) for number in range(prompts))
    columns = np.array(hits, float)[:, None], np.array(units, float)[:, None]
    return ratio_metrics(*columns, clusters, DEFAULT, proportion=True)[0]


def test_independent_trials_have_wilsons_interval() -> None:
    assert share([1, 0, 0, 1, 1, 0, 0], [1] * 7) == wilson(3, 7)
    assert share([1, 0, 0, 1, 0], [1, 1, 0, 1, 0]) == wilson(2, 3)


def test_answers_that_are_all_alike_count_as_one_trial_per_prompt() -> None:
    hits = [4.0 * (number % 5 == 0) for number in range(100)]
    made = share(hits, [4] * 100)
    alike = wilson(20, 100)
    assert (known(made.low), known(made.high)) == pytest.approx((known(alike.low), known(alike.high)))
    assert made.n == 400


def test_answers_that_do_not_depend_on_the_prompt_count_as_nearly_one_trial_each() -> None:
    hits = np.random.default_rng(0).binomial(4, 0.4, 500).astype(float)
    made, single = share(hits.tolist(), [4] * 500), wilson(hits.sum(), 2000)
    width = known(made.high) - known(made.low)
    assert width == pytest.approx(known(single.high) - known(single.low), rel=0.08)


@pytest.mark.parametrize("prompts", [1, 5, 50, 500])
def test_a_win_rate_of_ties_only_has_an_interval_that_shrinks_with_the_prompts(prompts: int) -> None:
    made = share([0.5] * prompts, [1] * prompts)
    assert known(made.low) < 0.5 < known(made.high)
    assert known(made.high) - 0.5 == pytest.approx(0.5 - known(made.low))
    assert known(made.high) - 0.5 < 4 / (prompts + 4)


def test_ties_make_a_win_rate_more_certain_than_wins_and_losses() -> None:
    tied, decided = share([0.5] * 90 + [1, 0] * 5, [1] * 100), share([1, 0] * 50, [1] * 100)
    assert known(tied.high) < known(decided.high) - 0.03


def test_a_share_of_seeds_that_differ_is_less_certain_than_one_of_prompts_alone() -> None:
    hits = [*[1, 0] * 25, *[1] * 50, *[1, 1, 1, 0, 0] * 10]
    together, apart = share(hits, [1] * 150), share(hits, [1] * 150, seeds=3)
    assert together.value == apart.value
    assert known(apart.low) < known(together.low) < known(together.high) < known(apart.high)
    assert known(apart.low) >= 0
    assert known(apart.high) <= 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_share_of_0_or_1_over_seeds_has_wilsons_interval_over_their_prompts(value: float) -> None:
    made = share([value] * 60, [1] * 60, seeds=3)  # the three seeds share 20 prompts
    assert (made.low, made.high) == (wilson(20 * value, 20).low, wilson(20 * value, 20).high)


def test_shares_near_0_and_1_cover_the_truth_where_answers_of_a_prompt_are_alike() -> None:
    for case, row in coverage.clustered_shares(800, shares=(0.03, 0.5, 0.97), correlations=(0.6,)).items():
        assert min(found["after"] for found in row.values()) >= 0.92, case  # 93%, less one standard error


def test_win_rates_with_many_ties_cover_the_truth() -> None:
    for case, row in coverage.win_rates(800, prompts=(10, 200), ties=(0.2, 0.95), shares=(0.5, 1.0)).items():
        assert min(found["after"] for found in row.values()) >= 0.92, case
