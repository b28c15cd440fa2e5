"""AlpacaEval's length-controlled win rate from its two published tables (Dubois et al., 2024, section 3).

The win rate that a logistic model predicts at equal length. Its weights for a model are fitted on that model's
annotations together with those of two verbose and concise variants of the baseline; the published table has them for
the models of the leaderboard. So a figure from this table is right only for the annotations that it was fitted on, and
is given only where these are they: the fit's own win rate must be the annotations' one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from attrs import frozen

from tutelage.evaluation.alpaca_eval import Annotation, model_gain, percent, standard_error

ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
"""The leaderboard's annotator."""
BASELINE = "gpt4_1106_preview"
"""The leaderboard's baseline: its length-controlled win rate is 50."""
TOLERANCE = 0.5
"""Percentage points between the fit's win rate and the annotations' one. L1 regularisation lets them differ by 100 / C
over the number of instructions, which is 0.35 at C = 0.36, the smallest at which a fit of 805 rows is not all zero."""


@frozen
class Weights:
    """What was fitted for one model."""

    length: float
    """Weight of tanh of the standardised difference in length."""
    difficulty: float
    """Weight of the instruction's difficulty."""
    model: float
    """The model's own strength, in log-odds against the baseline."""


@frozen
class LengthTables:
    """The two published tables."""

    difficulty: Sequence[float]
    """Of each instruction, in the order of the benchmark."""
    weights: Mapping[str, Weights]
    """By the name of the model on the leaderboard."""


@frozen
class LengthControlled:
    """The length-controlled win rate in percent, or why there is none."""

    win_rate: float | None = None
    """As the leaderboard has it: an annotation takes the difficulty of its row number."""
    standard_error: float | None = None
    by_instruction: float | None = None
    """The same with each instruction's own difficulty. It differs where annotations are missing: every row after a
    missing one then has its neighbour's difficulty on the leaderboard. None where the benchmark's order is unknown."""
    note: str = ""
    """Where the figure is from, or why there is none."""


def from_published_weights(
    annotations: Sequence[Annotation], tables: LengthTables, positions: Sequence[int] | None = None
) -> LengthControlled:
    """The figure of a model of the leaderboard from its published weights.

    ``annotations`` in the order of the file; ``positions`` gives, for each, the number of its instruction in the
    benchmark, where that is known. Without a figure where the tables are not of these annotations.
    """
    if problem := _not_applicable(annotations, tables):
        return LengthControlled(note=problem)
    weights = tables.weights[annotations[0].generator_2]
    shares = _predicted(weights, tables.difficulty[: len(annotations)])
    own = None if positions is None else _predicted(weights, [tables.difficulty[number] for number in positions])
    return LengthControlled(
        win_rate=percent(shares),
        standard_error=standard_error(shares),
        by_instruction=None if own is None else percent(own),
        note="from the published weights",
    )


def _not_applicable(annotations: Sequence[Annotation], tables: LengthTables) -> str:
    """Why the published weights say nothing of these annotations; empty where they do."""
    if not annotations:
        return "there are no annotations"
    one = annotations[0]
    if one.annotator != ANNOTATOR or one.generator_1 != BASELINE:
        return f"the published weights are for the annotator {ANNOTATOR} and the baseline {BASELINE} only"
    if one.generator_2 not in tables.weights:
        return f"the published weights have no model {one.generator_2!r}"
    if len(annotations) > len(tables.difficulty):
        return f"{len(annotations)} annotations, and the table of difficulties has {len(tables.difficulty)} rows"
    gap = _gap(annotations, tables)
    if gap > TOLERANCE:
        return f"the published weights of {one.generator_2!r} were fitted on other annotations ({gap:.1f} points off)"
    return ""


def _gap(annotations: Sequence[Annotation], tables: LengthTables) -> float:
    """Percentage points between the win rate that the weights give at the answers' own lengths, and the real one."""
    import numpy as np

    weights = tables.weights[annotations[0].generator_2]
    lengths = np.array([len(one.output_1) - len(one.output_2) for one in annotations], float)
    spread = lengths.std(ddof=1) if len(lengths) > 1 else 0.0
    standardised = lengths / spread if spread else np.zeros(len(lengths))
    difficulty = tables.difficulty[: len(annotations)]
    fitted = _predicted(weights, difficulty, (weights.length * np.tanh(standardised)).tolist())
    pairs = [
        (share, gain)
        for share, annotation in zip(fitted, annotations, strict=True)
        if (gain := model_gain(annotation)) is not None
    ]
    return 100 * abs(math.fsum(share - gain for share, gain in pairs) / len(pairs)) if pairs else math.inf


def _predicted(weights: Weights, difficulty: Sequence[float], length: Sequence[float] | None = None) -> list[float]:
    """Probability of preferring the model on each instruction; at equal length where no ``length`` term is given."""
    terms = length or [0.0] * len(difficulty)
    return [
        1 / (1 + math.exp(-(weights.model + weights.difficulty * hard + term)))
        for hard, term in zip(difficulty, terms, strict=True)
    ]
