"""SPPO: the best and the worst answer, trained with a squared loss towards their win rates.

Wu et al. (2024), "Self-Play Preference Optimization for Language Model Alignment", section 4 and Algorithm 1:

- Several answers are sampled (5 in the paper; ``generation.n``). The best and the worst one make the pair.
- The loss is the squared distance of each log-ratio to eta times (win rate - 1/2). TRL's loss ``sppo_hard`` takes the
  win rates 1 and 0 for the two sides, with eta = 1 / beta. The paper uses beta = 0.001, with estimated win rates. The
  recipe sets ``dpo.beta``.
- In the paper a model of pairwise preferences (PairRM) compares all answers, and the win rate is the mean of its
  probabilities. Here the judge scores each answer, and the order by score replaces the order by win rate.
- The reference is the model of the round before: ``reference: previous`` in the recipe, the default.
"""

from __future__ import annotations

from tutelage import JudgeStep, PairStep, Pipeline, SampleStep, TrainStep

SPPO = Pipeline(
    "SPPO: best against worst answer by the judge's scores, with the loss sppo_hard",
    (
        SampleStep("candidates"),
        JudgeStep("judgements", "candidates", by="judge"),
        PairStep("preferences", "candidates", rule="best-worst", scores="judgements"),
        TrainStep("preferences", settings={"loss_type": "sppo_hard"}),
    ),
)
