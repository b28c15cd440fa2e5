"""GPT-4 as evaluator, and any OpenAI-compatible server as evaluator, judge, teacher or student's stand-in.

This module only answers pluggy. The SDK is imported when a hook is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tutelage.context import Context
from tutelage.hookspecs import hookimpl
from tutelage.plugin.chat_hooks import ChatHooks
from tutelage.plugin_info import EnvironmentVariable, PluginInfo
from tutelage.records import Model
from tutelage.services.chat import ChatService
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
            log_probabilities=settings.log_probabilities,
        )


_hooks = ChatHooks(_service)
generate_candidates = _hooks.generate_candidates
judge = _hooks.judge
demonstrate = _hooks.demonstrate
evaluate = _hooks.evaluate
