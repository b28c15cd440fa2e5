"""The hooks of a plugin that asks a chat service, for such plugins to share."""

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
    """Every stage but training, from a service that is opened for each call.

    The entry module of a plugin describes itself and takes the stages as its own::

        hooks = ChatHooks(open_service)
        generate_candidates = hooks.generate_candidates
        judge = hooks.judge
        demonstrate = hooks.demonstrate
        evaluate = hooks.evaluate
    """

    open_service: OpenService

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
        """Score answers by the rubric's prompt."""
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
        """Compare two answers by a pairwise rubric's prompt, weighted by log-probabilities where there are some."""
        with self.open_service(model, context) as service:
            yield from service.evaluate(comparisons, rubric, sampling)
