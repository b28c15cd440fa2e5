import numpy as np
import pytest
from known import known

from tutelage.errors import InputError
from tutelage.evaluation.intervals import NOTHING, Metric
from tutelage.evaluation.significance import Observation, Separation, compare, compare_all, holm


def model(values: np.ndarray, seed: int = 0) -> list[Observation]:
    return [Observation(f"p{number:04}", float(value), seed) for number, value in enumerate(values)]


def test_a_difference_is_separated_with_about_the_prompts_that_were_said_to_be_needed() -> None:
    """About 80% of the studies with the needed number of prompts detect the difference."""
    generator = np.random.default_rng(0)
    pilot = compare(model(generator.normal(0.5, 1, 4000)), model(generator.normal(0, 1, 4000)))
    mean, size = known(pilot.difference.value), known(pilot.prompts_needed)
    assert size == pytest.approx(2 * (1.96 + 0.84) ** 2 / mean**2, rel=0.06)
    studies = (compare(model(generator.normal(mean, 1, size)), model(generator.normal(0, 1, size))) for _ in range(300))
    assert np.mean([known(study.difference.low) > 0 for study in studies]) == pytest.approx(0.8, abs=0.07)


def test_equal_models_are_seldom_found_different() -> None:
    generator = np.random.default_rng(1)
    pairs = ([model(generator.normal(size=200)) for _ in range(2)] for _ in range(200))
    p_values = [known(compare(left, right).p_value) for left, right in pairs]
    assert np.mean(np.array(p_values) < 0.05) <= 0.06


def test_a_model_compared_with_itself_shows_nothing() -> None:
    values = np.random.default_rng(2).random(50)
    made = compare(model(values), model(values))
    assert made.difference == Metric(0.0, None, None, 50, "it is the same on all prompts")
    assert (made.standard_error, made.p_value, made.prompts_needed) == (None, None, None)


def test_the_p_value_agrees_with_the_paired_t_test() -> None:
    from scipy import stats

    generator = np.random.default_rng(3)
    left, right = generator.normal(0.1, 1, 400), generator.normal(0, 1, 400)
    assert compare(model(left), model(right)).p_value == pytest.approx(stats.ttest_rel(left, right).pvalue, abs=0.03)


def test_models_with_no_prompt_in_common_are_not_compared() -> None:
    assert compare([Observation("a", 1.0)], [Observation("b", 1.0)]) == Separation(NOTHING, None, None, None)


def test_several_observations_of_a_prompt_count_as_one() -> None:
    made = compare([Observation("a", 1.0), Observation("a", 3.0), Observation("b", 0.0)], model(np.zeros(0)))
    assert made.difference == NOTHING
    made = compare([Observation("a", 1.0), Observation("a", 3.0)], [Observation("a", 0.0)])
    assert (made.difference.value, made.difference.n) == (2.0, 1)


def test_a_value_that_is_no_number_is_an_error() -> None:
    with pytest.raises(InputError, match="nan is not a finite number"):
        compare([Observation("a", float("nan"))], [])


def test_the_adjustment_by_holm_matches_the_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []


def test_every_two_models_are_compared_with_adjusted_p_values() -> None:
    generator = np.random.default_rng(5)
    made = compare_all({name: model(generator.normal(mean, 1, 300)) for name, mean in (("a", 0), ("b", 0), ("c", 1))})
    assert [(one.left, one.right) for one in made] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [known(one.p_value_adjusted) < 0.05 for one in made] == [False, True, True]
    assert all(known(one.p_value_adjusted) >= known(one.separation.p_value) for one in made)


def test_models_without_a_common_seed_are_paired_by_prompt_alone() -> None:
    left = [Observation(str(prompt), prompt + 1.0, seed=0) for prompt in range(30)]
    right = [Observation(str(prompt), float(prompt), seed=seed) for prompt in range(20) for seed in (1, 2)]
    (made,) = compare_all({"left": left, "right": right})
    assert made.separation.difference == Metric(1.0, None, None, 20, "it is the same on all prompts")
    (made,) = compare_all({"left": left, "right": [*right, Observation("0", 0.0, seed=0)]})
    assert made.separation.difference.n == 1


def test_one_prompt_has_neither_an_interval_nor_a_p_value() -> None:
    made = compare([Observation("a", 5.0)], [Observation("a", 1.0)])
    assert made == Separation(Metric(4.0, None, None, 1, "there are fewer than 6 prompts"), None, None, None)


@pytest.mark.parametrize(("prompts", "smallest"), [(2, 0.5), (5, 0.0625), (6, 0.03125), (10, 2 / 2**10)])
def test_the_p_value_of_few_prompts_is_that_of_all_sign_flips(prompts: int, smallest: float) -> None:
    """If all differences have the same sign, only one of the 2^n flips, and its opposite, is as far from 0."""
    values = np.arange(1.0, prompts + 1)
    made = compare(model(values), model(0 * values))
    assert made.p_value == pytest.approx(smallest)
    assert (made.difference.low is None) is (prompts < 6)
    mixed = values * np.where(np.arange(prompts) % 2, 1, -1)
    flips = np.array(np.meshgrid(*[[-1, 1]] * prompts)).reshape(prompts, -1).T @ mixed
    exact = np.mean(np.abs(flips) >= abs(mixed.sum()) - 1e-9)
    assert compare(model(mixed), model(0 * values)).p_value == pytest.approx(exact)


def test_a_difference_over_seeds_is_less_certain_than_over_prompts_alone() -> None:
    generator = np.random.default_rng(6)
    seeds = {seed: generator.normal(0.3 + shift, 1, 100) for seed, shift in enumerate((-0.4, 0.0, 0.4))}
    left = [one for seed, values in seeds.items() for one in model(values, seed)]
    right = [one for seed in seeds for one in model(np.zeros(100), seed)]
    over_seeds = compare(left, right)
    alone = compare(model(np.concatenate([*seeds.values()])), model(np.zeros(300)))
    assert (over_seeds.seeds, alone.seeds) == (3, 1)
    assert over_seeds.difference.value == pytest.approx(alone.difference.value)
    assert known(over_seeds.p_value) > 0.05 > known(alone.p_value)
    assert known(over_seeds.difference.low) < 0 < known(alone.difference.low)
    assert known(over_seeds.standard_error) > known(alone.standard_error)


def test_no_number_of_prompts_is_enough_if_the_seeds_vary_more_than_the_difference() -> None:
    generator = np.random.default_rng(7)

    def needed(deviation: float) -> int | None:
        shifts = (-deviation, 0.0, deviation)
        left = [one for seed, by in enumerate(shifts) for one in model(generator.normal(0.3 + by, 1, 200), seed)]
        return compare(left, [one for seed in range(3) for one in model(np.zeros(200), seed)]).prompts_needed

    assert needed(0.8) is None
    assert known(needed(0.0)) > 3


def test_a_large_difference_needs_no_fewer_prompts_than_an_interval_does() -> None:
    values = 5 + np.random.default_rng(8).normal(0, 0.1, 50)
    assert compare(model(values), model(0 * values)).prompts_needed == 6
