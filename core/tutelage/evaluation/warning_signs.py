"""Signs that a run went wrong, from its counts, scores and metrics. The texts are in ``results.run_warnings``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import frozen

from tutelage.evaluation.intervals import Metric
from tutelage.records import Outcome


@frozen
class SignLimits:
    """Limits beyond which a number is a sign of a problem."""

    share: float = 0.2
    """Largest share of results of a step that are cut, unparsed, refused or failed."""
    optimizer_steps: int = 10
    """Smallest number of optimizer steps of a preference training."""
    scores: int = 20
    """Smallest number of scores from which a judge that gives one score is reported."""
    length_ratio: float = 1.5
    """Largest factor by which the mean length of answers may change over the whole series."""


DEFAULT_LIMITS = SignLimits()


def frequent_outcomes(counts: Mapping[str, int], limits: SignLimits = DEFAULT_LIMITS) -> dict[str, float]:
    """Return the share of each outcome other than answered that is above the limit.

    ``counts`` are those of one step, by outcome. Counts of other things give an empty result.
    """
    names = {str(outcome) for outcome in Outcome}
    total = sum(counts.values())
    if not total or not counts.keys() <= names:
        return {}
    shares = {name: count / total for name, count in counts.items() if name != Outcome.ANSWERED}
    return {name: share for name, share in shares.items() if share > limits.share}


def only_score(scores: Iterable[float | None], limits: SignLimits = DEFAULT_LIMITS) -> tuple[float, int] | None:
    """Return the score and the number of scores if all scores are equal; None otherwise, or for too few scores."""
    given = [score for score in scores if score is not None]
    return (given[0], len(given)) if len(given) >= limits.scores and len(set(given)) == 1 else None


def few_steps(pairs: int, batch_size: int, epochs: float, limits: SignLimits = DEFAULT_LIMITS) -> int | None:
    """Return the number of optimizer steps of a training on ``pairs`` pairs if it is below the limit; else None."""
    steps = max(1, round(-(-pairs // batch_size) * epochs))
    return steps if steps < limits.optimizer_steps else None


def is_above(metric: Metric | None) -> bool:
    """Return whether a difference is above 0 with its whole interval."""
    return metric is not None and metric.low is not None and metric.low > 0


def is_below(difference: Metric | None) -> bool:
    """Return whether the whole interval of a difference is below 0."""
    return difference is not None and difference.high is not None and difference.high < 0


def drift(first: float | None, last: float | None, limits: SignLimits = DEFAULT_LIMITS) -> float | None:
    """Return the factor by which a mean length changed, if it grew or shrank by more than the limit; else None."""
    if not first or not last:
        return None
    factor = last / first
    return factor if not 1 / limits.length_ratio <= factor <= limits.length_ratio else None
