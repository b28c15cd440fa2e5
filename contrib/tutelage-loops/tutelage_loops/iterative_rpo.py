"""Iterative RPO: pairs of winners and losers, trained with DPO and the log-likelihood of the winner.

Pang et al. (2024), "Iterative Reasoning Preference Optimization", section 2:

- Pairs: each prompt has several answers with a reward. The winners have the highest reward, the losers a lower one. K
  pairs are made by going through both sets at once, each from its start again if it ends; K = 10. In the paper the
  reward is 1 for the right final answer and 0 for a wrong one. Here it is the judge's score. For a task with known
  answers, use a judge that compares with them.
- Eq. 1: the loss is DPO plus alpha times the negative log-likelihood of the winner, divided by its length; alpha = 1.
  TRL's loss ``sft`` divides by the number of tokens of the batch instead of that of each answer.
- The reference is the model of the round before: ``reference: previous`` in the recipe, the default.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tutelage import JudgeStep, PairOptions, PairStep, Pipeline, SampleStep, TrainStep
from tutelage.preferences.pairing import Group, Proposal

PAIRS_PER_PROMPT = 10
ALPHA = 1.0


def winners_losers(group: Group, options: PairOptions) -> Iterator[Proposal]:
    """Pair the answers that have the highest score with the others, at most ten pairs per prompt."""
    scored = list({answer.text.strip(): answer for answer in group.scored}.values())
    if len(scored) < 2:
        yield "fewer than two scored answers"
        return
    random.Random(f"{options.seed}/{group.prompt.id}").shuffle(scored)
    highest = max(answer.score or 0.0 for answer in scored)
    winners = [answer for answer in scored if answer.score == highest]
    losers = [answer for answer in scored if answer.score != highest]
    if not losers:
        yield "tied"
        return
    for number in range(PAIRS_PER_PROMPT):
        yield winners[number % len(winners)], losers[number % len(losers)]


ITERATIVE_RPO = Pipeline(
    "Iterative RPO: winners and losers by the judge, with the log-likelihood of the winner in the loss",
    (
        SampleStep("candidates"),
        JudgeStep("judgements", "candidates", by="judge"),
        PairStep("preferences", "candidates", rule="loops/winners-losers", scores="judgements"),
        TrainStep("preferences", settings={"loss_type": {"sigmoid": 1.0, "sft": ALPHA}}),
    ),
)
