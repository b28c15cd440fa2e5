"""The steps of a plan that combine, select and compare for judging, as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from attrs import evolve, frozen

from tutelage.pipeline_steps import Combination
from tutelage.planning.steps import Judge, Step, Worker
from tutelage.records import Sampling


@frozen(kw_only=True)
class CombineScores(Step):
    """Combine the judgements of several files into one judgement per answer."""

    stage: ClassVar[str] = "combine"
    parts: tuple[str, ...]
    how: Combination
    unit: str = "judgements"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The judgements that are combined."""
        return self.parts


@frozen(kw_only=True)
class SelectDisputed(Step):
    """Select the answers on which the samples of a judge disagree."""

    stage: ClassVar[str] = "select"
    answers: str
    judgements: str
    spread: float
    share: float
    unit: str = "answers"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The answers and their judgements."""
        return (self.answers, self.judgements)


@frozen(kw_only=True)
class CompareCandidates(Step):
    """Let a model compare every two answers to a prompt, in both orders."""

    stage: ClassVar[str] = "evaluate"
    worker: Worker
    prompts: str
    answers: str
    rubric: str
    sampling: Sampling
    unit: str = "verdicts"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The prompts, the answers, and the checkpoint of the model that compares."""
        return tuple(path for path in (self.prompts, self.answers, self.worker.checkpoint) if path)


@frozen(kw_only=True)
class MakeWinRates(Step):
    """Make a judgement of each answer: its win rate among the candidates of its prompt."""

    stage: ClassVar[str] = "combine"
    prompts: str
    answers: str
    verdicts: str
    unit: str = "judgements"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The prompts, the answers and the verdicts."""
        return (self.prompts, self.answers, self.verdicts)


def jury_steps(step: Judge, roles: Sequence[str], how: Combination) -> Iterator[Step]:
    """Yield the steps of a jury in place of a step of one judge: a step for each judge, and one that combines them.

    Each judge has an artifact of its own beside that of the jury: ``judgements.NAME.jsonl``.
    """
    parts = []
    for role in roles:
        own = evolve(step, output=_part(step.output, role.partition(".")[2]), worker=Worker(role, role))
        parts.append(own.output)
        yield own
    count = step.count // step.samples
    yield CombineScores(output=step.output, count=count, seed=step.seed, parts=tuple(parts), how=how)


def win_rate_steps(step: CompareCandidates, count: int) -> Iterator[Step]:
    """Yield the comparisons, with their verdicts in a file of their own, and the step that makes ``count`` win rates.

    ``step.output`` is the path of the win rates.
    """
    verdicts = _part(step.output, "verdicts")
    yield evolve(step, output=verdicts)
    yield MakeWinRates(
        output=step.output, count=count, seed=step.seed, prompts=step.prompts, answers=step.answers, verdicts=verdicts
    )


def _part(path: str, name: str) -> str:
    """The path of a part of an artifact. No artifact of a declaration has a dot in its name."""
    return f"{path.removesuffix('.jsonl')}.{name}.jsonl"
