"""Whether annotations are the ones from which the published leaderboard of AlpacaEval 2.0 was computed.

The published weights of length control predict a figure from the name of a model alone, so that renamed, shortened or
shuffled annotations would give a figure of the leaderboard. Three checks, the strongest that is possible:

1. the digest of the annotations, for models whose digest is known;
2. the published results of the model: number of annotations, win rate and its standard error;
3. the agreement of each preference with the published weights, which a shuffling of the preferences destroys.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence

from attrs import frozen

from tutelage.evaluation.alpaca_eval import Annotation, model_gain, win_rates

DIGESTS = {
    "alpaca-7b": "e54dd750abcb25ad707b351c280b96dd133acbc4e6180b0fd2c6c0226664d820",
    "phi-2": "4fd9f05f461726058195d041395018df41495c2e8760c105a433c9d30e094c5b",
}
"""Digests of published annotations by model. They were computed from ``results/MODEL/weighted_alpaca_eval_gpt4_turbo``
of the AlpacaEval repository."""
LEAST_AGREEMENT = 3.0
"""Smallest accepted ``agreement`` with the published weights. Shuffled preferences have a standard normal distribution
(accepted in 0.13% of cases). For the 198 models of the leaderboard other than the baseline, 4.9 or more is expected."""
_ROUNDING = 1e-4
"""Largest accepted difference to a published rate, in percentage points."""


@frozen
class LeaderboardRow:
    """The published results of a model; rates are in percent."""

    win_rate: float
    standard_error: float
    n_total: int
    """Number of annotations with a preference."""


def digest(annotations: Sequence[Annotation]) -> str:
    """Return the SHA-256 of instructions, outputs and preferences; the order of the annotations does not matter."""
    rows = sorted(
        ([one.instruction, one.output_1, one.output_2, one.preference] for one in annotations),
        key=lambda row: str(row[0]),
    )
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()


def difference(annotations: Sequence[Annotation], row: LeaderboardRow | None, log_odds: Sequence[float]) -> str:
    """Return why these are not the published annotations of their model; empty if they are.

    ``row`` has the published results, None if they are not known. ``log_odds`` has the log-odds of each annotation by
    the published weights, at the answers' own lengths.
    """
    name = annotations[0].generator_2
    if (expected := DIGESTS.get(name)) is not None:
        same = digest(annotations) == expected
        return "" if same else f"these are not the published annotations of {name!r}: their digest is another one"
    if row is None:
        return (
            f"the published results of {name!r} are needed to recognise its annotations: put leaderboard.csv beside "
            "the tables, or install alpaca_eval"
        )
    found = win_rates(annotations)
    for key in ("n_total", "win_rate", "standard_error"):
        value, published = getattr(found, key), getattr(row, key)
        if value is None or abs(value - published) > _ROUNDING:
            return f"these are not the published annotations of {name!r}: {key} is {value}, published is {published}"
    if agreement(annotations, log_odds) < LEAST_AGREEMENT:
        return f"these are not the published annotations of {name!r}: the preferences belong to other instructions"
    return ""


def agreement(annotations: Sequence[Annotation], log_odds: Sequence[float]) -> float:
    """Return the correlation of preferences and log-odds times the square root of n - 1.

    It is the standard score of the correlation among all permutations of the preferences, which have mean 0 and
    variance 1 / (n - 1). Infinite if all preferences or all log-odds are equal, because a permutation changes nothing.
    """
    import numpy as np

    pairs = [
        (gain, odds) for one, odds in zip(annotations, log_odds, strict=True) if (gain := model_gain(one)) is not None
    ]
    gains, odds = np.array(pairs).T if pairs else np.zeros((2, 1))
    if np.ptp(gains) == 0 or np.ptp(odds) == 0:
        return math.inf
    return float(np.corrcoef(gains, odds)[0, 1] * math.sqrt(len(gains) - 1))
