"""GPT-4 as evaluator, and any OpenAI-compatible server as evaluator, judge, teacher or student's stand-in.

This module only answers pluggy. The SDK is imported when a hook is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tutelage.context import Context
from tutelage.hookspecs import hookimpl
from tutelage.plugin_info import EnvironmentVariable, PluginInfo
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
from tutelage.services import ChatService
from tutelage_openai.checking import check
from tutelage_openai.settings import KEY_VARIABLE, OpenAiSettings, endpoint


@hookimpl
def describe() -> PluginInfo:
    """One line of help, the settings, and the key's variable."""
    return PluginInfo(
        help="GPT-4 and any OpenAI-compatible server (Ollama, vLLM, llama.cpp): evaluates, judges, demonstrates.",
        settings=OpenAiSettings,
        environment=(
            EnvironmentVariable(KEY_VARIABLE, "The key; not needed by most servers on this machine.", required=False),
        ),
        item_by_item=True,
        endpoint=endpoint,
        check=check,
    )


@hookimpl
def generate_candidates(
    model: Model, prompts: Iterable[Prompt], n: int, sampling: Sampling, context: Context
) -> Iterator[Candidate]:
    """Answer each prompt ``n`` times."""
    with _service(model, context) as service:
        yield from service.generate_candidates(prompts, n, sampling)


@hookimpl
def judge(
    model: Model, items: Iterable[JudgeItem], rubric: Rubric, samples: int, sampling: Sampling, context: Context
) -> Iterator[Judgement]:
    """Score answers by the rubric's prompt."""
    with _service(model, context) as service:
        yield from service.judge(items, rubric, samples, sampling)


@hookimpl
def demonstrate(
    model: Model, prompts: Iterable[Prompt], sampling: Sampling, context: Context
) -> Iterator[Demonstration]:
    """Answer each prompt once."""
    with _service(model, context) as service:
        yield from service.demonstrate(prompts, sampling)


@hookimpl
def evaluate(
    model: Model, comparisons: Iterable[Comparison], rubric: Rubric, sampling: Sampling, context: Context
) -> Iterator[Verdict]:
    """Compare two answers by a pairwise rubric's prompt, weighted by log-probabilities where the server gives them."""
    settings = context.settings or OpenAiSettings()
    with _service(model, context) as service:
        yield from service.evaluate(comparisons, rubric, sampling, settings.log_probabilities)


@contextmanager
def _service(model: Model, context: Context) -> Iterator[ChatService]:
    from tutelage_openai import client

    settings = context.settings or OpenAiSettings()
    asked = endpoint(settings, model.name)
    with client.connected(settings, model.name) as connection:
        yield ChatService(
            caller=context.caller,
            endpoint=asked,
            body=lambda question: client.request_body(settings, asked.model, question),
            ask=client.asking(connection, settings),
            limits=settings.limits,
            thinking_tokens=settings.thinking_tokens,
        )
