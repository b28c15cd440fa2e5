"""CREAM: self-reward with a soft label, the agreement of the student's judgements with those of the model before it.

Wang et al. (2024), "CREAM: Consistency Regularized Self-Rewarding Language Models", section 4 and Algorithm 1:

- The student M(t) ranks its answers, and so does the model before it, M(t-1). In the paper the rank is that of the DPO
  reward, the difference of log-probabilities to the reference. Here it is that of the scores that each model gives as a
  judge.
- The consistency rate C is the mean over all prompts of (tau + 1) / 2, with Kendall's tau of the two rankings. Scores
  can be equal, which ranks cannot: such a pair of answers counts as neither in the same nor in the other order.
- The loss is C times the DPO loss plus 1 - C times that of the reversed pair: conservative DPO with the soft label C,
  ``Preference.probability``. A rate below 0.5 counts as 0.5, which teaches nothing.
- If M(t-1) gave no scores, as an M0 that cannot judge, nothing is known of the consistency, and C is 1.

``CREAM_FILTER`` keeps or drops each pair instead: it keeps a pair if M(t-1) also gives its chosen answer the higher
score, or gave no score to one of its sides.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from attrs import evolve

from tutelage import (
    Judgement,
    JudgeStep,
    PairStep,
    Pipeline,
    Preference,
    SampleStep,
    TrainStep,
    TransformStep,
    average,
)


def softened(
    pairs: Sequence[Preference], judgements: Sequence[Judgement], earlier: Sequence[Judgement]
) -> list[Preference]:
    """Give all pairs the consistency rate as their soft label."""
    rate = consistency(_scores(judgements), _scores(earlier))
    return [evolve(pair, probability=max(0.5, rate)) for pair in pairs]


def consistency(scores: Mapping[str, float], earlier: Mapping[str, float]) -> float:
    """Return the mean of (tau + 1) / 2 over the prompts, by the ids of the answers; 1 if there is no prompt."""
    answers = defaultdict(list)
    for id in sorted(scores.keys() & earlier.keys()):
        answers[id.rpartition("/")[0]].append((scores[id], earlier[id]))
    rates = [(_tau(both) + 1) / 2 for both in answers.values() if len(both) > 1]
    return statistics.fmean(rates) if rates else 1.0


def _tau(both: Sequence[tuple[float, float]]) -> float:
    """Kendall's tau of two scores of each answer."""
    products = [(one[0] - other[0]) * (one[1] - other[1]) for one, other in combinations(both, 2)]
    return statistics.fmean((product > 0) - (product < 0) for product in products)


def _scores(judgements: Sequence[Judgement]) -> dict[str, float]:
    """The mean scores of the answers that have one."""
    return {id: one.score for id, one in average(judgements).items() if one.score is not None}


def consistent(pairs: Sequence[Preference], earlier: Sequence[Judgement]) -> Iterator[Preference]:
    """Keep the pairs whose order M(t-1) confirms, and those that it gave no scores for."""
    scores = _scores(earlier)
    for pair in pairs:
        chosen, rejected = scores.get(pair.chosen_id), scores.get(pair.rejected_id)
        if chosen is None or rejected is None or chosen > rejected:
            yield pair


_RANKED = (
    SampleStep("candidates"),
    JudgeStep("judgements", "candidates"),
    JudgeStep("earlier", "candidates", by="predecessor"),
    PairStep("ranked", "candidates", rule="best-worst", scores="judgements"),
)
CREAM = Pipeline(
    "CREAM: self-reward with the consistency of the student and the model before it as soft label",
    (
        *_RANKED,
        TransformStep("preferences", softened, reads=("ranked", "judgements", "earlier"), makes="preferences"),
        TrainStep("preferences"),
    ),
)
CREAM_FILTER = Pipeline(
    "CREAM as a filter: self-reward with the pairs that the model before the student confirms",
    (
        *_RANKED,
        TransformStep("preferences", consistent, reads=("ranked", "earlier"), makes="preferences"),
        TrainStep("preferences"),
    ),
)
