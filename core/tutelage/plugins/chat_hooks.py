"""Hook implementations that plugins for chat services share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

from attrs import frozen

from tutelage.context import Context
from tutelage.hookspecs import hookimpl
from tutelage.records import (
    Candidate,
    Comparison,
    Demonstration,
    JudgeItem,
    Judgement,
    Model,
    Prompt,
    Rubric,
    Sampling,
    Verdict,
)
from tutelage.services.chat import ChatService

OpenService = Callable[[Model, Context], AbstractContextManager[ChatService]]


@frozen
class ChatHooks:
    """The hooks of all stages except training. Each call opens the service and closes it at the end.

    The entry module of a plugin defines ``describe`` and assigns the other hooks::

        hooks = ChatHooks(open_service)
        generate_candidates = hooks.generate_candidates
        judge = hooks.judge
        demonstrate = hooks.demonstrate
        evaluate = hooks.evaluate
    """

    open_service: OpenService
    """Opens the service for a model; the context has the plugin's settings."""

    @hookimpl
    def generate_candidates(
        self, model: Model, prompts: Iterable[Prompt], n: int, sampling: Sampling, context: Context
    ) -> Iterator[Candidate]:
        """Answer each prompt ``n`` times."""
        with self.open_service(model, context) as service:
            yield from service.generate_candidates(prompts, n, sampling)

    @hookimpl
    def judge(
        self,
        model: Model,
        items: Iterable[JudgeItem],
        rubric: Rubric,
        samples: int,
        sampling: Sampling,
        context: Context,
    ) -> Iterator[Judgement]:
        """Score answers with the rubric's prompt."""
        with self.open_service(model, context) as service:
            yield from service.judge(items, rubric, samples, sampling)

    @hookimpl
    def demonstrate(
        self, model: Model, prompts: Iterable[Prompt], sampling: Sampling, context: Context
    ) -> Iterator[Demonstration]:
        """Answer each prompt once."""
        with self.open_service(model, context) as service:
            yield from service.demonstrate(prompts, sampling)

    @hookimpl
    def evaluate(
        self, model: Model, comparisons: Iterable[Comparison], rubric: Rubric, sampling: Sampling, context: Context
    ) -> Iterator[Verdict]:
        """Compare two answers with a pairwise rubric's prompt, weighted by log-probabilities if available."""
        with self.open_service(model, context) as service:
            yield from service.evaluate(comparisons, rubric, sampling)
