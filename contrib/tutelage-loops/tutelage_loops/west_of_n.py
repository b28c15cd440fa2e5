"""West-of-N: the best and the worst of N answers by a reward model, if it is confident.

Pace et al. (2024), "West-of-N: Synthetic Preferences for Self-Improving Reward Models", section 3:

- West-of-N self-training: N answers are sampled, and the best- and the worst-scored one make the pair. N is
  ``generation.n`` of the recipe, the reward model is its judge.
- Pseudo-preference filtering: only the pairs with a confident label are kept, those above a quantile of the probability
  that the chosen answer is better. With a reward model this probability grows with the difference of the scores, so
  the quantile is that of the difference; here the half with the largest differences. The filter by the likelihood of
  the answers is left out: every answer is the student's own.
- The paper trains the reward model with these pairs. Here they train the student by DPO.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tutelage import JudgeStep, PairStep, Pipeline, Preference, SampleStep, TrainStep, TransformStep


def confident(pairs: Sequence[Preference]) -> list[Preference]:
    """Keep the pairs whose scores differ by at least the median difference."""
    least = statistics.median(map(_difference, pairs))
    return [pair for pair in pairs if _difference(pair) >= least]


def _difference(pair: Preference) -> float:
    return (pair.score_chosen or 0.0) - (pair.score_rejected or 0.0)


WEST_OF_N = Pipeline(
    "West-of-N: best against worst of N answers by the judge, the half with the largest differences",
    (
        SampleStep("candidates"),
        JudgeStep("judgements", "candidates", by="judge"),
        PairStep("extremes", "candidates", rule="best-worst", scores="judgements"),
        TransformStep("preferences", confident, reads=("extremes",), makes="preferences", times=0.5),
        TrainStep("preferences"),
    ),
)
