"""What a plan will cost before it is run: requests, tokens and US dollars, for each stage that calls a service.

Tokens are guessed only until the ledger has seen the same stage of the same model; then its means are taken. A price
that is unknown stays unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from attrs import frozen

from tutelage.planning.roles import endpoint_of
from tutelage.planning.steps import REQUESTS_AT_ONCE, Compare, Demonstrate, Judge, Plan, Sample, Step, WritePrompts
from tutelage.plugin.registry import Registry
from tutelage.recipe.schema import Recipe, SelfInstruct
from tutelage.services.ledger import Ledger, Spend
from tutelage.services.requests import Endpoint

ASKING = (Sample, Judge, Demonstrate, Compare, WritePrompts)
"""Steps that ask a model."""
TASK_TOKENS = 60
"""Of an instruction, before any was seen."""
QUESTION_TOKENS = {"generate": TASK_TOKENS, "judge": 600, "demonstrate": TASK_TOKENS, "evaluate": 750}
"""Before anything was seen: with the built-in rubrics one answer or two of 256 tokens stand in a question."""
PROMPTS_A_REQUEST = 3
"""Prompts that a reply of 256 tokens is reckoned to give: it has room for four, and not each is a new one."""


@frozen
class Estimate:
    """One stage of one model."""

    stage: str
    role: str
    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    """US dollars; None where the price is unknown."""
    seen: bool
    """True where the tokens are the ledger's means, False where they are a guess, with answers of full length."""


def estimates(plan: Plan, recipe: Recipe, registry: Registry, ledger: Ledger | None = None) -> list[Estimate]:
    """An estimate for each stage and role whose plugin calls a service, all steps taken together.

    ``ledger`` None is the user's, which is opened only where a service is called. Nothing is taken off for answers that
    the ledger has: a repeated run costs less, down to nothing.
    """
    steps: dict[tuple[str, str], list[Step]] = {}
    for step in plan.steps:
        if isinstance(step, ASKING) and not step.worker.checkpoint:
            steps.setdefault((step.stage, step.worker.role), []).append(step)
    writing = recipe.data.prompts.self_instruct or SelfInstruct()
    found = []
    for (stage, role), same in steps.items():
        if (endpoint := endpoint_of(recipe, role, registry)) is not None:
            ledger = ledger or Ledger()
            found.append(_estimate(stage, role, endpoint, same, writing, ledger))
    return found


def _estimate(
    stage: str, role: str, endpoint: Endpoint, steps: Iterable[Any], writing: SelfInstruct, ledger: Ledger
) -> Estimate:
    seen = _mean_tokens(ledger.spend(by=("stage",), stage=stage, model=endpoint.model))
    calls = input_tokens = output_tokens = 0
    for step in steps:
        each_in, each_out = seen or (_question_tokens(step, writing), step.sampling.max_new_tokens)
        asked = _calls(step, writing)
        calls += asked
        input_tokens += round(asked * each_in)
        output_tokens += round(asked * each_out)
    cost = endpoint.cost(input_tokens, output_tokens)
    return Estimate(stage, role, endpoint.model, calls, input_tokens, output_tokens, cost, seen is not None)


def _calls(step: Step, writing: SelfInstruct) -> int:
    """One for each item; a reply that lists prompts gives several, and requests for them go out in whole rounds."""
    if not isinstance(step, WritePrompts):
        return step.count
    rounds = math.ceil(step.count / PROMPTS_A_REQUEST / REQUESTS_AT_ONCE)
    return min(rounds * REQUESTS_AT_ONCE, writing.max_requests)


def _question_tokens(step: Step, writing: SelfInstruct) -> int:
    """Of one request, before any was seen; one for prompts shows some."""
    return TASK_TOKENS * (1 + writing.shots) if isinstance(step, WritePrompts) else QUESTION_TOKENS[step.stage]


def _mean_tokens(lines: list[Spend]) -> tuple[float, float] | None:
    """Mean tokens of a question and of an answer, None where the ledger has not seen any counted."""
    answers = sum(line.answers for line in lines)
    input_tokens = sum(line.input_tokens for line in lines)
    output_tokens = sum(line.output_tokens for line in lines)
    return (input_tokens / answers, output_tokens / answers) if input_tokens else None
