"""The plugin ``openai``: OpenAI's models and OpenAI-compatible servers as evaluator, judge, teacher or generator.

This module contains only the hooks. The SDK is imported when a stage is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tutelage.context import Context
from tutelage.hookspecs import hookimpl
from tutelage.plugin_info import EnvironmentVariable, Finding, PluginInfo
from tutelage.plugins.chat_hooks import ChatHooks
from tutelage.records import Model
from tutelage.services.chat import ChatService
from tutelage.services.requests import Endpoint
from tutelage_openai import checking
from tutelage_openai.settings import KEY_VARIABLE, OpenAiSettings
from tutelage_openai.settings import endpoint as endpoint_of


@hookimpl
def describe() -> PluginInfo:
    """Describe the plugin: help, settings, and the environment variable for the API key."""
    return PluginInfo(
        help="GPT-4 and OpenAI-compatible servers (Ollama, vLLM, llama.cpp): evaluate, judge, demonstrate, generate.",
        settings=OpenAiSettings,
        neutral_settings=("key_variable", "price", "batch", "batch_limits", "limits"),
        environment=(
            EnvironmentVariable(KEY_VARIABLE, "API key; most servers on this machine need none.", required=False),
        ),
    )


@hookimpl
def endpoint(settings: OpenAiSettings | None, name: str) -> Endpoint:
    """Return the service of a model."""
    return endpoint_of(settings, name)


@hookimpl
def check(settings: OpenAiSettings | None, name: str) -> Iterator[Finding]:
    """Check SDK, key and model, with one request that is free."""
    yield from checking.check(settings, name)


@contextmanager
def _service(model: Model, context: Context) -> Iterator[ChatService]:
    from tutelage_openai import client
    from tutelage_openai.batches import OpenAiBatches

    settings = context.settings or OpenAiSettings()
    service = endpoint_of(settings, model.name)
    with client.connected(settings, model.name) as connection:
        yield ChatService(
            caller=context.caller,
            endpoint=service,
            body=lambda question: client.request_body(settings, service.model, question),
            ask=client.make_ask(connection, settings),
            limits=settings.limits,
            thinking_tokens=settings.thinking_tokens,
            log_probabilities=settings.log_probabilities,
            batches=OpenAiBatches(connection, settings, service.model) if settings.batch else None,
        )


_hooks = ChatHooks(_service)
generate_candidates = _hooks.generate_candidates
judge = _hooks.judge
demonstrate = _hooks.demonstrate
evaluate = _hooks.evaluate
