from collections.abc import Mapping
from typing import Any

import pytest

from tutelage.errors import InputError
from tutelage.evaluation.health import FirstLast, HealthLimits, training_health


def dpo(chosen: float, rejected: float, steps: int = 20, beta: float = 0.1) -> list[dict[str, float]]:
    """Metric rows of a run whose log-probabilities change linearly, from 0 to the given changes at the last step."""
    return [
        {
            "step": step,
            "loss": 0.7 - 0.01 * step,
            "rewards/chosen": beta * chosen * step / steps,
            "rewards/rejected": beta * rejected * step / steps,
            "rewards/margins": beta * (chosen - rejected) * step / steps,
            "rewards/accuracies": 0.97,
            "logps/chosen": -10 + chosen * step / steps,
            "logps/rejected": -10 + rejected * step / steps,
        }
        for step in range(1, steps + 1)
    ]


def test_changes_are_in_nats_against_the_reference() -> None:
    health = training_health([*dpo(1.0, -4.0), {"step": 20, "train_runtime": 3.0}], beta=0.1)
    assert health.chosen_change.first == pytest.approx(0.075)
    assert health.chosen_change.last == pytest.approx(0.975)
    assert health.rejected_change.last == pytest.approx(-3.9)
    assert health.margin.last == pytest.approx(4.875)
    assert health.chosen_logp.last == pytest.approx(-9.025)
    assert (health.rows, health.warnings) == (21, ())


def test_a_collapse_is_reported_even_if_the_accuracy_is_high() -> None:
    health = training_health(dpo(-12.0, -30.0), beta=0.1)
    assert health.accuracy.last == pytest.approx(0.97)
    assert [warning.split()[0] for warning in health.warnings] == ["chosen", "rejected"]
    assert "lower the learning rate" in health.warnings[0]


def test_the_limits_are_settings() -> None:
    limits = HealthLimits(chosen_change=-20, rejected_change=-40)
    assert training_health(dpo(-12.0, -30.0), beta=0.1, limits=limits).warnings == ()


@pytest.mark.parametrize(("after", "warned"), [(10.0, False), (14.0, False), (16.0, True), (6.0, True)])
def test_longer_and_shorter_answers_are_both_reported(after: float, warned: bool) -> None:
    health = training_health(dpo(1.0, -1.0), beta=0.1, words_before=10.0, words_after=after)
    assert bool(health.warnings) is warned
    assert (health.words_before, health.words_after) == (10.0, after)


def test_a_supervised_training_may_change_the_length() -> None:
    assert training_health([{"loss": 1.0}], words_before=12.0, words_after=5.0).warnings == ()


@pytest.mark.parametrize(("words", "warned"), [(5.0, True), (10.0, True), (100.0, False)])
def test_longer_answers_may_lose_more(words: float, warned: bool) -> None:
    health = training_health(dpo(-12.0, -30.0), beta=0.1, words_before=words, words_after=words)
    assert bool(health.warnings) is warned


def test_a_number_that_is_not_finite_is_reported_and_not_averaged() -> None:
    rows: list[Mapping[str, float | None]] = [
        *dpo(1.0, -1.0, steps=3),
        {"step": 4, "loss": float("nan")},
        {"step": 5, "loss": None},
    ]
    health = training_health(rows, beta=0.1)
    assert health.loss.last == pytest.approx(0.67)
    assert health.warnings == ("not a finite number in some steps: loss; lower the learning rate",)


def test_supervised_training_has_a_loss_and_no_changes() -> None:
    health = training_health([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}])
    assert health.loss == FirstLast(2.0, 1.0)
    assert health.chosen_change == health.margin == FirstLast(None, None)


@pytest.mark.parametrize("beta", [None, 0.0, -0.1])
def test_rewards_without_their_beta_are_an_error(beta: float | None) -> None:
    with pytest.raises(InputError, match="beta"):
        training_health(dpo(1.0, -1.0), beta=beta)


def stuck(loss: float, rows: int = 20) -> list[dict[str, float]]:
    return [{**row, "loss": loss} for row in dpo(0.0, 0.0, steps=rows)]


@pytest.mark.parametrize(
    ("rows", "loss_type", "warned"),
    [
        (stuck(0.6931), "sigmoid", True),
        (stuck(0.6852), "sigmoid", True),
        (stuck(0.70), "sigmoid", True),
        (stuck(0.68), "sigmoid", False),
        (stuck(0.71), "sigmoid", False),
        (stuck(0.6931), "ipo", False),
        (stuck(0.6931), {"sigmoid": 1.0, "sft": 0.2}, False),
        (stuck(0.6931), None, False),
        (stuck(0.6931, rows=2), "sigmoid", False),
        ([*stuck(0.6931, 5), *stuck(0.5, 5)], "sigmoid", False),
        ([*stuck(0.5, 15), *stuck(0.6931, 5)], "sigmoid", True),
    ],
)
def test_a_sigmoid_loss_that_ends_at_ln_2_is_reported(
    rows: list[dict[str, float]], loss_type: object, warned: bool
) -> None:
    """Before the first update the loss is ln 2 in any training, so a training of two steps says nothing."""
    warnings = training_health(rows, beta=0.1, loss_type=loss_type).warnings
    assert any("nothing was learned: raise dpo.learning_rate" in warning for warning in warnings) is warned


@pytest.mark.parametrize(
    ("accuracies", "warned"),
    [
        ([0, 0, 1, 1, 1], True),
        ([0, 0.5, 1, 1, 0.99, 0.2, 0.2], True),
        ([0, 0, 1, 1, 0.98], False),
        ([0, 0, 1, 1], False),
        ([1, 1, 0.5, 1, 1, 1], False),
        ([0, 0, *[1.0] * 4, 0.9, *[1.0] * 43], False),
        ([0, 0, *[1.0] * 5, *[0.9] * 43], True),
    ],
)
def test_pairs_that_are_told_apart_at_once_are_reported(accuracies: list[float], warned: bool) -> None:
    """With warm-up the policy equals the reference for two steps. After them, a tenth of the steps counts, or three."""
    rows = [{**dpo(1.0, -1.0, steps=1)[0], "rewards/accuracies": accuracy} for accuracy in accuracies]
    warnings = training_health(rows, beta=0.1).warnings
    assert any("accuracy is about 1 after two updates" in warning for warning in warnings) is warned


def scheduled(rates: list[float], gradient: float | None = 1.0) -> list[dict[str, Any]]:
    """Rows with a learning rate. A row is measured before its update: the model has changed from the next row on."""
    rows: list[dict[str, Any]] = []
    for step, rate in enumerate(rates, 1):
        changed = any(earlier > 0 for earlier in rates[: step - 1]) and gradient != 0
        accuracy, chosen = (0.8 + step / 100, 0.1) if changed else (0.0, 0.0)
        row = {"step": step, "learning_rate": rate, "loss": 0.5, "rewards/accuracies": accuracy}
        rows.append({**row, "rewards/chosen": chosen, **({} if gradient is None else {"grad_norm": gradient})})
    return rows


@pytest.mark.parametrize(
    ("rates", "updates", "first", "last"),
    [
        ([0.0, 0.5, 1.0, 0.5, 0.1], 4, 0.83, 0.85),  # a warm-up of two steps, the first of which changes nothing
        ([0.5, 1.0, 0.5], 3, 0.82, 0.83),
        ([1.0, 1.0, 1.0], 3, 0.82, 0.83),  # no warm-up: only the first row is of a model that has not changed
        ([0.0, 1.0, 1.0], 2, 0.83, 0.83),
        ([1.0, 0.5, 0.0], 2, 0.82, 0.83),  # the last step changes nothing
        ([0.0, 1.0], 1, None, None),  # no step was measured after the only update
        ([0.0, 0.0], 0, None, None),
        ([1.0], 1, None, None),
    ],
)
def test_the_figures_begin_after_the_warm_up_with_a_model_that_has_changed(
    rates: list[float], updates: int, first: float | None, last: float | None
) -> None:
    health = training_health(scheduled(rates), beta=0.1)
    assert health.updates == updates
    assert (health.accuracy.first, health.accuracy.last) == (first, last)
    assert health.loss.first == (None if first is None else 0.5)
    assert health.chosen_change.first == (None if first is None else pytest.approx(1.0))
    assert health.rows == len(rates)


@pytest.mark.parametrize(("gradient", "updates"), [(0.0, 0), (float("nan"), 0), (None, 3), (0.1, 3)])
def test_a_step_without_a_gradient_changes_no_weights(gradient: float | None, updates: int) -> None:
    assert training_health(scheduled([0.0, 0.5, 1.0, 0.5], gradient), beta=0.1).updates == updates


def test_rows_at_the_end_that_are_not_steps_are_no_updates() -> None:
    assert training_health([*scheduled([0.5, 1.0]), {"step": 2, "train_runtime": 3.0}], beta=0.1).updates == 2


def test_rows_without_a_learning_rate_all_count_and_their_updates_are_not_known() -> None:
    health = training_health(dpo(1.0, -1.0, steps=10), beta=0.1)
    assert health.updates is None
    assert health.accuracy == FirstLast(0.97, 0.97)
    assert health.chosen_change.first == pytest.approx(0.1)


def test_a_long_start_without_updates_is_no_sign_of_pairs_that_are_too_easy() -> None:
    rows = [*scheduled([0.0] * 6), *scheduled([1.0] * 8)]
    for row in rows:
        row["rewards/accuracies"] = 1.0
    rows[-1]["rewards/accuracies"] = rows[-3]["rewards/accuracies"] = 0.5
    assert any("about 1 after two updates" in text for text in training_health(rows, beta=0.1).warnings)
    rows[7]["rewards/accuracies"] = 0.5  # the first row of a model that has changed
    assert training_health(rows, beta=0.1).warnings == ()
