from collections.abc import Mapping

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
