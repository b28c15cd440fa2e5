"""AlpacaEval's length-controlled win rate from its two published tables (Dubois et al., 2024, section 3).

The length-controlled win rate is the win rate that a logistic model predicts for answers of equal length. The weights
of a model are fitted on its annotations, together with those of a verbose and a concise variant of the baseline. The
published table has the weights of the models on the leaderboard. They are valid only for the annotations that they were
fitted on, which ``evaluation.leaderboard`` recognises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from attrs import field, frozen

from tutelage.evaluation import leaderboard
from tutelage.evaluation.alpaca_eval import Annotation, percent, standard_error
from tutelage.evaluation.leaderboard import LeaderboardRow

ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
"""Name of the leaderboard's annotator."""
BASELINE = "gpt4_1106_preview"
"""Name of the leaderboard's baseline. Its length-controlled win rate is 50."""


@frozen
class Weights:
    """Fitted weights of one model."""

    length: float
    """Weight of the tanh of the standardised difference in length."""
    difficulty: float
    """Weight of the instruction's difficulty."""
    model: float
    """The model's own strength, in log-odds against the baseline."""


@frozen
class LengthTables:
    """The two published tables, and the published results by which annotations are recognised."""

    difficulty: Sequence[float]
    """Difficulty of each instruction, in the order of the benchmark."""
    weights: Mapping[str, Weights]
    """Weights by the name of the model on the leaderboard."""
    results: Mapping[str, LeaderboardRow] = field(factory=dict)
    """Published results by the name of the model on the leaderboard."""


@frozen
class LengthControlled:
    """The length-controlled win rate in percent, or the reason why there is none."""

    win_rate: float | None = None
    """Computed as on the leaderboard: an annotation has the difficulty of its row number."""
    standard_error: float | None = None
    """Standard error of ``win_rate``, in percentage points."""
    by_instruction: float | None = None
    """The win rate with each instruction's own difficulty. It differs from ``win_rate`` if annotations are missing: on
    the leaderboard, every row after a missing one has the difficulty of another instruction. None if the order of the
    benchmark is not known."""
    note: str = ""
    """The source of the figure, or the reason why there is none."""


def from_published_weights(
    annotations: Sequence[Annotation], tables: LengthTables, positions: Sequence[int] | None = None
) -> LengthControlled:
    """Compute the length-controlled win rate of a model on the leaderboard from its published weights.

    ``annotations`` are in the order of their file. ``positions`` has the row number of each annotation's instruction in
    the benchmark; None if it is not known. If the tables were not fitted on these annotations, the result has no win
    rate and its ``note`` gives the reason.
    """
    if problem := _not_applicable(annotations, tables):
        return LengthControlled(note=problem)
    weights = tables.weights[annotations[0].generator_2]
    shares = predicted_shares(weights, tables.difficulty[: len(annotations)])
    own = None if positions is None else predicted_shares(weights, [tables.difficulty[number] for number in positions])
    return LengthControlled(
        win_rate=percent(shares),
        standard_error=standard_error(shares),
        by_instruction=None if own is None else percent(own),
        note="from the published weights",
    )


def _not_applicable(annotations: Sequence[Annotation], tables: LengthTables) -> str:
    """The reason why the published weights do not apply to these annotations; empty if they do."""
    if not annotations:
        return "there are no annotations"
    one = annotations[0]
    if one.annotator != ANNOTATOR or one.generator_1 != BASELINE:
        return f"the published weights are for the annotator {ANNOTATOR} and the baseline {BASELINE} only"
    if one.generator_2 not in tables.weights:
        return f"the published weights have no model {one.generator_2!r}"
    if len(annotations) > len(tables.difficulty):
        return f"{len(annotations)} annotations, and the table of difficulties has {len(tables.difficulty)} rows"
    return leaderboard.difference(annotations, tables.results.get(one.generator_2), _log_odds(annotations, tables))


def _log_odds(annotations: Sequence[Annotation], tables: LengthTables) -> list[float]:
    """The log-odds that the published weights give each annotation, at the answers' own lengths."""
    import numpy as np

    weights = tables.weights[annotations[0].generator_2]
    lengths = np.array([len(one.output_1) - len(one.output_2) for one in annotations], float)
    spread = lengths.std(ddof=1) if len(lengths) > 1 else 0.0
    standardised = lengths / spread if spread else np.zeros(len(lengths))
    difficulty = np.array(tables.difficulty[: len(annotations)])
    odds = weights.model + weights.difficulty * difficulty + weights.length * np.tanh(standardised)
    return [float(one) for one in odds]


def predicted_shares(weights: Weights, difficulty: Sequence[float]) -> list[float]:
    """Return the probability that a model is preferred, per instruction, for answers of equal length."""
    return [1 / (1 + math.exp(-(weights.model + weights.difficulty * hard))) for hard in difficulty]
