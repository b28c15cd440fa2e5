"""Whether a training run is healthy, from the metrics that it logged.

DPO can drive its loss down by making both answers improbable, the chosen one included, while its accuracy stays near 1
(Pal et al., 2024, "Smaug"): so what is watched is the log-probability of the chosen and the rejected answers against
the reference, and the length of what the model writes, and accuracy raises no alarm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from tutelage.errors import InputError

SHARE = 0.1
"""How much of the run the first and the last value are means of."""


@frozen
class FirstLast:
    """A quantity at the start and at the end of training: means over the first and the last tenth of the rows."""

    first: float | None
    """None where the run didn't log it."""
    last: float | None


@frozen
class HealthLimits:
    """When a run looks collapsed.

    The defaults are from a prototype of the embedded world, whose answers have some ten tokens. A log-probability is a
    sum over tokens, so the limits of longer answers are in proportion.
    """

    chosen_change: float = -2.0
    """Nats a chosen answer may lose against the reference."""
    rejected_change: float = -8.0
    """Nats a rejected answer may lose against the reference."""
    words: float = 10.0
    """Length of the answers, up to which the limits hold as they are."""
    length_ratio: float = 1.5
    """By how much answers may grow, or shrink, in length."""


DEFAULT_LIMITS = HealthLimits()


@frozen
class TrainingHealth:
    """How training went. The changes are in nats: log-probability of an answer less that under the reference."""

    rows: int
    """Logged rows that this rests on."""
    loss: FirstLast
    chosen_change: FirstLast
    rejected_change: FirstLast
    margin: FirstLast
    """Chosen change less rejected change: TRL's ``rewards/margins`` over beta."""
    accuracy: FirstLast
    """Share of pairs whose chosen answer gained more than the rejected one. Stays high in a collapse."""
    chosen_logp: FirstLast
    rejected_logp: FirstLast
    words_before: float | None
    """Mean length of the parent's answers."""
    words_after: float | None
    """Mean length of this model's answers to the same prompts."""
    warnings: tuple[str, ...]
    """What looks like a collapse, in words; empty for a healthy run."""


def training_health(
    rows: Iterable[Mapping[str, Any]],
    beta: float | None = None,
    words_before: float | None = None,
    words_after: float | None = None,
    limits: HealthLimits = DEFAULT_LIMITS,
) -> TrainingHealth:
    """Judge a run by its metric rows, which carry TRL's names (``loss``, ``rewards/chosen``, ``logps/chosen``, ...).

    ``beta`` is the objective's: TRL's rewards are beta times the change of log-probability (Rafailov et al., 2023,
    section 4), so dividing by it gives nats. None for SFT, whose rows have no rewards. Raises ``InputError`` where rows
    have rewards and beta is missing or not positive. Length is judged for preferences alone: a first supervised
    training is meant to change it.
    """
    rows = list(rows)
    has_rewards = any("rewards/chosen" in row for row in rows)
    if has_rewards and not (beta is not None and beta > 0):
        raise InputError(f"these metrics have rewards, so beta must be the objective's and positive, not {beta}")
    scale = 1 / beta if beta else 1.0
    longer = max(1.0, (words_before or 0.0) / limits.words)
    chosen_change = _first_last(rows, "rewards/chosen", scale)
    rejected_change = _first_last(rows, "rewards/rejected", scale)
    return TrainingHealth(
        rows=len(rows),
        loss=_first_last(rows, "loss"),
        chosen_change=chosen_change,
        rejected_change=rejected_change,
        margin=_first_last(rows, "rewards/margins", scale),
        accuracy=_first_last(rows, "rewards/accuracies"),
        chosen_logp=_first_last(rows, "logps/chosen"),
        rejected_logp=_first_last(rows, "logps/rejected"),
        words_before=words_before,
        words_after=words_after,
        warnings=(
            *_not_finite(rows),
            *_fallen("chosen", chosen_change.last, longer * limits.chosen_change),
            *_fallen("rejected", rejected_change.last, longer * limits.rejected_change),
            *(_drifted(words_before, words_after, limits.length_ratio) if has_rewards else ()),
        ),
    )


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


def _not_finite(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    keys = {
        key
        for row in rows
        for key, value in row.items()
        if value is None or (_is_number(value) and not math.isfinite(value))
    }
    if keys:
        yield f"not a finite number in some steps: {', '.join(sorted(keys))}; lower the learning rate"


def _fallen(side: str, change: float | None, limit: float) -> Iterator[str]:
    if change is not None and change < limit:
        yield (
            f"{side} answers lost {-change:.1f} nats against the reference (limit {-limit:g}): the model may have "
            "collapsed; lower the learning rate, train for fewer steps or raise beta"
        )


def _drifted(before: float | None, after: float | None, ratio: float) -> Iterator[str]:
    if before is not None and after is not None and not before / ratio <= after <= before * ratio:
        yield f"answers went from {before:.1f} to {after:.1f} words on average: length may be what was learned"
