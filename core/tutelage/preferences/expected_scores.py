"""Scores from one forward pass: the expectation over the probabilities of the scores as the next token.

After the text before the score (``Rubric.score_prefix``), each whole number of the scale has a probability as the next
token. The score is their mean, weighted by these probabilities (G-Eval: Liu et al., 2023, the scoring function of
section 2). Nothing is decoded, the score has no randomness, and two different answers hardly ever get the same score.

The paper does not divide by the sum of the probabilities. It is done here, because other tokens have some probability,
too, and would pull every score towards 0. If they have most of it, there is no score.

The text before the score is given to the model. So a base model, too, has a score for most answers, although it would
never write one by itself: the share of answers with a score says less than that of parsed scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tutelage.records import Judgement, Outcome, Rubric

LEAST_MASS = 0.5
"""Minimum sum of the probabilities of all scores. Below it, the model would rather write something else there."""
_MOST_SCORES = 100
"""Maximum number of scores of a scale."""


def expected_score_problem(rubric: Rubric) -> str | None:
    """Return why a rubric cannot be used with expected scores, and the remedy; None if it can."""
    name = f"rubric {rubric.name!r}"
    if not rubric.score_prefix:
        return (
            f"{name} has no score_prefix: expected scores need a rubric whose reply begins with the score, as that of "
            "'additive' does; use another rubric, or set score to parsed"
        )
    if not (float(rubric.lowest).is_integer() and float(rubric.highest).is_integer()) or rubric.lowest < 0:
        return (
            f"{name} has the scale {rubric.lowest:g} to {rubric.highest:g}: expected scores need whole numbers from 0 "
            "on; use another rubric, or set score to parsed"
        )
    if rubric.highest - rubric.lowest >= _MOST_SCORES:
        return f"{name} has more than {_MOST_SCORES} scores; use another rubric, or set score to parsed"
    return None


def score_levels(rubric: Rubric) -> tuple[int, ...]:
    """Return the whole-number scores of a rubric, the lowest one first."""
    return tuple(range(int(rubric.lowest), int(rubric.highest) + 1))


def score_replies(rubric: Rubric) -> tuple[str, ...]:
    """Return the beginnings of replies whose last token is a score, one for each of ``score_levels``."""
    return tuple(f"{rubric.score_prefix}{level}" for level in score_levels(rubric))


def expected_judgement(item_id: str, probabilities: Sequence[float], rubric: Rubric) -> Judgement:
    """Return the judgement of one item, given the probability of each of ``score_levels``.

    Its score is the expectation. If the probabilities sum to less than ``LEAST_MASS``, there is none, and the outcome
    is ``UNPARSED``. Raises ``ValueError`` if their number is not that of the scores, or if one is not a probability.
    """
    levels = score_levels(rubric)
    if len(probabilities) != len(levels) or not all(0 <= one <= 1 for one in probabilities):
        raise ValueError(f"{item_id}: {probabilities!r} are not the probabilities of {len(levels)} scores")
    kept, mass = tuple(probabilities), math.fsum(probabilities)
    if mass < LEAST_MASS:
        detail = f"the scores have the probability {mass:.3f} together, less than {LEAST_MASS:g}"
        return Judgement(item_id, 0, None, Outcome.UNPARSED, detail=detail, probabilities=kept)
    score = math.fsum(level * one for level, one in zip(levels, kept, strict=True)) / mass
    inside = min(max(score, rubric.lowest), rubric.highest)  # rounding may exceed the scale
    return Judgement(item_id, 0, inside, probabilities=kept)
