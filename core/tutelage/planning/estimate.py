"""The estimated cost of a plan: requests, tokens and US dollars, for each stage that calls a service.

If the ledger has answers of the same stage and model, their mean numbers of tokens are used, otherwise a guess. The
cost is unknown if the price is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from attrs import frozen

from tutelage.planning.judge_steps import CompareCandidates
from tutelage.planning.roles import endpoint_of
from tutelage.planning.steps import (
    PROMPTS_A_REQUEST,
    REQUESTS_AT_ONCE,
    Compare,
    Demonstrate,
    Judge,
    Plan,
    Sample,
    Step,
    WritePrompts,
)
from tutelage.plugins.registry import Registry
from tutelage.recipe.data_section import SelfInstruct
from tutelage.recipe.schema import Recipe
from tutelage.services.ledger import Ledger, Spend
from tutelage.services.requests import Endpoint

ASKING = (Sample, Judge, Demonstrate, Compare, CompareCandidates, WritePrompts)
"""Steps that send requests to a model."""
TASK_TOKENS = 60
"""Guessed number of tokens of an instruction."""
QUESTION_TOKENS = {"generate": TASK_TOKENS, "judge": 600, "demonstrate": TASK_TOKENS, "evaluate": 750}
"""Guessed number of input tokens of a request, by stage. With the built-in rubrics, a request to judge contains one
answer and a request to compare contains two, of 256 tokens each."""


@frozen
class Estimate:
    """The estimated cost of one stage of one model."""

    stage: str
    role: str
    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    """US dollars; None if the price is unknown."""
    seen: bool
    """True if the tokens are the ledger's means, False if they are a guess, with answers of the maximum length."""
    in_batches: bool = False
    """Whether the requests are sent in batches, for which the cost is computed."""


def estimates(plan: Plan, recipe: Recipe, registry: Registry, ledger: Ledger | None = None) -> list[Estimate]:
    """Estimate the cost of each stage and role whose plugin calls a service, over all steps.

    If ``ledger`` is None, the user's ledger is used; it is opened only if a service is called. Answers that the ledger
    already has are not subtracted, although they are free: a repeated run costs less than its estimate, or nothing.
    """
    steps: dict[tuple[str, str], list[Step]] = {}
    for step in plan.steps:
        if isinstance(step, ASKING) and not step.worker.checkpoint:
            steps.setdefault((step.stage, step.worker.role), []).append(step)
    self_instruct = recipe.data.self_instruct or SelfInstruct()
    found = []
    for (stage, role), group in steps.items():
        if (endpoint := endpoint_of(recipe, role, registry)) is not None:
            ledger = ledger or Ledger()
            found.append(_estimate(stage, role, endpoint, group, self_instruct, ledger))
    return found


def _estimate(
    stage: str, role: str, endpoint: Endpoint, steps: Iterable[Any], self_instruct: SelfInstruct, ledger: Ledger
) -> Estimate:
    means = _mean_tokens(ledger.spend(by=("stage",), stage=stage, model=endpoint.model))
    calls = input_tokens = output_tokens = 0
    for step in steps:
        input_mean, output_mean = means or (_question_tokens(step, self_instruct), step.sampling.max_new_tokens)
        requests = _calls(step, self_instruct)
        calls += requests
        input_tokens += round(requests * input_mean)
        output_tokens += round(requests * output_mean)
    cost, share = endpoint.cost(input_tokens, output_tokens), endpoint.price_share(stage)
    return Estimate(
        stage,
        role,
        endpoint.model,
        calls,
        input_tokens,
        output_tokens,
        None if cost is None else cost * share,
        means is not None,
        share < 1,
    )


def _calls(step: Step, self_instruct: SelfInstruct) -> int:
    """Return the number of requests: one per item, or whole rounds of requests for lists of prompts."""
    if not isinstance(step, WritePrompts):
        return step.count
    rounds = math.ceil(step.count / PROMPTS_A_REQUEST / REQUESTS_AT_ONCE)
    return min(rounds * REQUESTS_AT_ONCE, self_instruct.max_requests)


def _question_tokens(step: Step, self_instruct: SelfInstruct) -> int:
    """Return the guessed number of input tokens of a request. A request for prompts contains ``shots`` prompts."""
    return TASK_TOKENS * (1 + self_instruct.shots) if isinstance(step, WritePrompts) else QUESTION_TOKENS[step.stage]


def _mean_tokens(lines: list[Spend]) -> tuple[float, float] | None:
    """Return the mean tokens of a request and of an answer; None if the ledger has no counted tokens."""
    answers = sum(line.answers for line in lines)
    input_tokens = sum(line.input_tokens for line in lines)
    output_tokens = sum(line.output_tokens for line in lines)
    return (input_tokens / answers, output_tokens / answers) if input_tokens else None
