"""Gemini as judge and teacher, and as evaluator or a student's stand-in.

This module only answers pluggy. The SDK is imported when a hook is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
from tutelage_gemini.checking import check
from tutelage_gemini.settings import KEY_VARIABLE, OTHER_KEY_VARIABLE, GeminiSettings, endpoint


@hookimpl
def describe() -> PluginInfo:
    """One line of help, the settings, and the key's variable."""
    return PluginInfo(
        help="Google's Gemini: judges, demonstrates, evaluates.",
        settings=GeminiSettings,
        environment=(
            EnvironmentVariable(KEY_VARIABLE, "The key.", required=False),
            EnvironmentVariable(OTHER_KEY_VARIABLE, "The key, by Google's older name.", required=False),
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
    return _service(model, context).generate_candidates(prompts, n, sampling)


@hookimpl
def judge(
    model: Model, items: Iterable[JudgeItem], rubric: Rubric, samples: int, sampling: Sampling, context: Context
) -> Iterator[Judgement]:
    """Score answers by the rubric's prompt."""
    return _service(model, context).judge(items, rubric, samples, sampling)


@hookimpl
def demonstrate(
    model: Model, prompts: Iterable[Prompt], sampling: Sampling, context: Context
) -> Iterator[Demonstration]:
    """Answer each prompt once."""
    return _service(model, context).demonstrate(prompts, sampling)


@hookimpl
def evaluate(
    model: Model, comparisons: Iterable[Comparison], rubric: Rubric, sampling: Sampling, context: Context
) -> Iterator[Verdict]:
    """Compare two answers by a pairwise rubric's prompt, weighted by log-probabilities where the server gives them."""
    settings = context.settings or GeminiSettings()
    return _service(model, context).evaluate(comparisons, rubric, sampling, settings.log_probabilities)


def _service(model: Model, context: Context) -> ChatService:
    from tutelage_gemini import client

    settings = context.settings or GeminiSettings()
    asked = endpoint(settings, model.name)
    connection = client.connect(settings, model.name)
    return ChatService(
        caller=context.caller,
        endpoint=asked,
        body=lambda question: client.request_body(settings, asked.model, question),
        ask=client.asking(connection, settings),
        limits=settings.limits,
        thinking_tokens=settings.thinking_tokens,
    )
