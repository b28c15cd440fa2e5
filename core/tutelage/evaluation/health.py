"""Health of a training run, from the metrics that it logged.

DPO can reduce its loss by making both answers improbable, the chosen one included, while its accuracy stays near 1 (Pal
et al., 2024, "Smaug"). The warnings are therefore based on the log-probabilities of the chosen and rejected answers
relative to the reference, and on the length of the model's answers, but not on the accuracy.

The metrics of a step are measured before its update. Those of the first step are therefore of a model that has not
changed, whose accuracy has no meaning: with dropout off, both changes are 0 and no pair is ordered. The figures leave
out the warm-up, which is every row before the first one at the highest learning rate, and every row before the second
update.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from tutelage.errors import InputError

LN_2 = math.log(2)
"""The sigmoid loss of DPO before the first update, when the policy equals the reference."""
_FIRST_UPDATES = 2
"""Number of first rows in which the policy may still equal the reference, if the rows have no learning rate."""
_FEWEST_ROWS = 3
"""Smallest number of rows from which a training is judged to be stuck, or to have been too easy."""
SHARE = 0.1
"""Share of the rows after the warm-up over which the first and the last value of a quantity are averaged."""


@frozen
class FirstLast:
    """A quantity at the start and at the end of training: means over the first and the last tenth of the rows after the
    warm-up."""

    first: float | None
    """None if the run did not log the quantity after the warm-up."""
    last: float | None
    """None if the run did not log the quantity after the warm-up."""


@frozen
class HealthLimits:
    """Limits beyond which a run may have collapsed.

    The defaults are from a prototype of the embedded world (the plugin ``tiny``), whose answers have about ten tokens.
    A log-probability is a sum over tokens, so the limits grow in proportion to the length of longer answers.
    """

    chosen_change: float = -2.0
    """Lowest change of a chosen answer's log-probability relative to the reference, in nats."""
    rejected_change: float = -8.0
    """Lowest change of a rejected answer's log-probability relative to the reference, in nats."""
    words: float = 10.0
    """Length of answers in words up to which the limits are not scaled."""
    length_ratio: float = 1.5
    """Largest factor by which the mean length of answers may grow or shrink."""
    stuck: float = 0.01
    """Smallest distance of the last loss from ln 2, the sigmoid loss of a policy that equals its reference."""
    accuracy: float = 0.99
    """Preference accuracy from which the pairs count as too easy."""


DEFAULT_LIMITS = HealthLimits()


@frozen
class TrainingHealth:
    """The development of a training run.

    A change, in nats, is the log-probability of an answer minus its log-probability under the reference.
    """

    rows: int
    """Number of logged rows."""
    loss: FirstLast
    chosen_change: FirstLast
    """Change of the chosen answers: TRL's ``rewards/chosen`` divided by beta."""
    rejected_change: FirstLast
    """Change of the rejected answers: TRL's ``rewards/rejected`` divided by beta."""
    margin: FirstLast
    """Chosen change minus rejected change: TRL's ``rewards/margins`` divided by beta."""
    accuracy: FirstLast
    """Share of pairs whose chosen change is larger than the rejected change. It stays high in a collapse."""
    chosen_logp: FirstLast
    """Log-probability of the chosen answers, in nats."""
    rejected_logp: FirstLast
    """Log-probability of the rejected answers, in nats."""
    words_before: float | None
    """Mean length of the parent model's answers in words."""
    words_after: float | None
    """Mean length of this model's answers to the same prompts in words."""
    warnings: tuple[str, ...]
    """Descriptions of signs of a collapse; empty for a healthy run."""
    updates: int | None = None
    """Number of steps that changed the weights: those with a learning rate and a gradient above 0. None if the run did
    not log its learning rate, as in summaries of older versions."""


def training_health(
    rows: Iterable[Mapping[str, Any]],
    beta: float | None = None,
    words_before: float | None = None,
    words_after: float | None = None,
    limits: HealthLimits = DEFAULT_LIMITS,
    loss_type: object = None,
) -> TrainingHealth:
    """Compute the health of a training run from its metric rows.

    ``rows`` have TRL's metric names (``loss``, ``rewards/chosen``, ``logps/chosen``, ...). ``beta`` is the objective's,
    None for SFT: TRL's rewards are beta times the change of log-probability (Rafailov et al., 2023, section 4), so
    dividing by beta gives nats. ``words_before`` and ``words_after`` are the mean lengths of the answers of the parent
    model and of the trained model. A change of length is a warning for DPO only: SFT of a base model is meant to change
    the length. ``loss_type`` is the objective's: only the loss ``sigmoid`` has a known value for a policy that learned
    nothing. Raises ``InputError`` if rows have rewards and beta is missing or not positive.
    """
    rows = list(rows)
    trained = rows[_warm_up(rows) :]
    has_rewards = any("rewards/chosen" in row for row in rows)
    if has_rewards and not (beta is not None and beta > 0):
        raise InputError(f"beta is {beta}, but the metrics have rewards: give the positive beta of the DPO objective")
    scale = 1 / beta if beta else 1.0
    length_factor = max(1.0, (words_before or 0.0) / limits.words)
    chosen_change = _first_last(trained, "rewards/chosen", scale)
    rejected_change = _first_last(trained, "rewards/rejected", scale)
    return TrainingHealth(
        rows=len(rows),
        loss=_first_last(trained, "loss"),
        chosen_change=chosen_change,
        rejected_change=rejected_change,
        margin=_first_last(trained, "rewards/margins", scale),
        accuracy=_first_last(trained, "rewards/accuracies"),
        chosen_logp=_first_last(trained, "logps/chosen"),
        rejected_logp=_first_last(trained, "logps/rejected"),
        words_before=words_before,
        words_after=words_after,
        warnings=(
            *_not_finite_warning(rows),
            *_probability_warning("chosen", chosen_change.last, length_factor * limits.chosen_change),
            *_probability_warning("rejected", rejected_change.last, length_factor * limits.rejected_change),
            *(_length_warning(words_before, words_after, limits.length_ratio) if has_rewards else ()),
            *(_stuck_warning(rows, limits.stuck) if loss_type == "sigmoid" else ()),
            *_easy_warning(rows, limits.accuracy),
        ),
        updates=_updates(rows),
    )


def _changes_weights(row: Mapping[str, Any]) -> bool:
    gradient = row.get("grad_norm")
    return _is_positive(row.get("learning_rate")) and (gradient is None or _is_positive(gradient))


def _updates(rows: Sequence[Mapping[str, Any]]) -> int | None:
    if not any(_is_number(row.get("learning_rate")) for row in rows):
        return None
    return sum(_changes_weights(row) for row in rows)


def _warm_up(rows: Sequence[Mapping[str, Any]]) -> int:
    """Number of first rows that belong to the warm-up; 0 if the rows have no learning rate."""
    rates = [row["learning_rate"] if _is_number(row.get("learning_rate")) else -1.0 for row in rows]
    highest = max(rates, default=-1.0)
    return 0 if highest < 0 else max(rates.index(highest), _first_changed(rows))


def _first_changed(rows: Sequence[Mapping[str, Any]]) -> int:
    """Index of the first row that was measured after an update."""
    return next((number + 1 for number, row in enumerate(rows) if _changes_weights(row)), len(rows))


def _first_last(rows: Sequence[Mapping[str, Any]], key: str, scale: float = 1.0) -> FirstLast:
    values = [scale * float(row[key]) for row in rows if _is_number(row.get(key)) and math.isfinite(row[key])]
    if not values:
        return FirstLast(None, None)
    part = max(1, round(SHARE * len(values)))
    return FirstLast(_mean(values[:part]), _mean(values[-part:]))


def _mean(values: Sequence[float]) -> float:
    return round(math.fsum(values) / len(values), 10)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value) and value > 0


def _not_finite_warning(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    keys = {
        key
        for row in rows
        for key, value in row.items()
        if value is None or (_is_number(value) and not math.isfinite(value))
    }
    if keys:
        yield f"not a finite number in some steps: {', '.join(sorted(keys))}; lower the learning rate"


def _probability_warning(side: str, change: float | None, limit: float) -> Iterator[str]:
    if change is not None and change < limit:
        yield (
            f"{side} answers lost {-change:.1f} nats against the reference (limit {-limit:g}): the model may have "
            "collapsed; lower the learning rate, train for fewer steps or raise beta"
        )


def _stuck_warning(rows: Sequence[Mapping[str, Any]], distance: float) -> Iterator[str]:
    last = _first_last(rows, "loss").last
    if len(rows) >= _FEWEST_ROWS and last is not None and abs(last - LN_2) < distance:
        yield (
            f"the loss stayed at {last:.3f}; {LN_2:.3f} is that of a model that equals the reference, so nothing was "
            "learned: raise dpo.learning_rate or dpo.epochs, and look at the pairs (`tutelage data show`): the two "
            "sides may not differ"
        )


def _easy_warning(rows: Sequence[Mapping[str, Any]], accuracy: float) -> Iterator[str]:
    """Warn if the preference accuracy is 1 as soon as the model has changed."""
    unchanged = _FIRST_UPDATES if _updates(rows) is None else max(_FIRST_UPDATES, _first_changed(rows))
    values = [row["rewards/accuracies"] for row in rows if _is_number(row.get("rewards/accuracies"))]
    first = values[unchanged : unchanged + max(_FEWEST_ROWS, round(SHARE * len(values)))]
    if len(first) >= _FEWEST_ROWS and min(first) >= accuracy:
        yield (
            "accuracy is about 1 after two updates: the sides may differ in something simple, such as length, "
            "format or language; look at the pairs (`tutelage data show`), set pairs.rule similar-length, or lower "
            "dpo.learning_rate"
        )


def _length_warning(before: float | None, after: float | None, ratio: float) -> Iterator[str]:
    if before is not None and after is not None and not before / ratio <= after <= before * ratio:
        yield f"answers went from {before:.1f} to {after:.1f} words on average: length may be what was learned"
