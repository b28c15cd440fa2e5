"""CREAM as a filter: only the self-rewarded pairs are kept whose order the model before the student confirms.

Wang et al. (2024), "CREAM: Consistency Regularized Self-Rewarding Language Models", section 4 and Algorithm 1:

- The student M(t) ranks its answers, and so does the model before it, M(t-1). In the paper the rank is that of the DPO
  reward, the difference of log-probabilities to the reference. Here it is that of the scores that each model gives as a
  judge.
- The paper computes one consistency rate for all pairs from Kendall's tau of the two rankings, and uses it as a soft
  label. Here a pair is kept if M(t-1) also gives its chosen answer the higher score, and dropped otherwise. The name of
  the pipeline says so: ``cream-filter``.
- A pair is also kept if M(t-1) gave no score to one of its sides. If M0 cannot judge at all, the pairs of the
  first round are therefore those of ``self-reward``, and the filter begins with the second round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def consistent(pairs: Sequence[Preference], earlier: Sequence[Judgement]) -> Iterator[Preference]:
    """Keep the pairs whose order M(t-1) confirms, and those that it gave no scores for."""
    scores = {id: one.score for id, one in average(earlier).items()}
    for pair in pairs:
        chosen, rejected = scores.get(pair.chosen_id), scores.get(pair.rejected_id)
        if chosen is None or rejected is None or chosen > rejected:
            yield pair


CREAM_FILTER = Pipeline(
    "CREAM as a filter: self-reward with the pairs that the model before the student confirms",
    (
        SampleStep("candidates"),
        JudgeStep("judgements", "candidates"),
        JudgeStep("earlier", "candidates", by="predecessor"),
        PairStep("ranked", "candidates", rule="best-worst", scores="judgements"),
        TransformStep("preferences", consistent, reads=("ranked", "earlier"), makes="preferences"),
        TrainStep("preferences"),
    ),
)
