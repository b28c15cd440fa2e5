"""The plugin ``google-genai``: Google's Gemini models as judge, teacher, evaluator or candidate generator.

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
from tutelage.services.gemini import KEY_VARIABLE, OTHER_KEY_VARIABLE
from tutelage.services.requests import Endpoint
from tutelage_google_genai import checking
from tutelage_google_genai.settings import GoogleGenAiSettings
from tutelage_google_genai.settings import endpoint as endpoint_of


@hookimpl
def describe() -> PluginInfo:
    """Describe the plugin: help, settings, and the environment variables for the API key."""
    return PluginInfo(
        help="Google's Gemini models by the SDK google-genai: judge, demonstrate, evaluate, generate.",
        settings=GoogleGenAiSettings,
        neutral_settings=("key_variable", "price", "batch", "batch_limits", "limits"),
        sampling=("top_k",),
        environment=(
            EnvironmentVariable(KEY_VARIABLE, "API key.", required=False),
            EnvironmentVariable(OTHER_KEY_VARIABLE, "API key, under Google's older variable name.", required=False),
        ),
    )


@hookimpl
def endpoint(settings: GoogleGenAiSettings | None, name: str) -> Endpoint:
    """Return the service of a model."""
    return endpoint_of(settings, name)


@hookimpl
def check(settings: GoogleGenAiSettings | None, name: str) -> Iterator[Finding]:
    """Check SDK, key and model, with one request that is free."""
    yield from checking.check(settings, name)


@contextmanager
def _service(model: Model, context: Context) -> Iterator[ChatService]:
    from tutelage_google_genai import client
    from tutelage_google_genai.batches import opened

    settings = context.settings or GoogleGenAiSettings()
    service = endpoint_of(settings, model.name)
    with client.connected(settings, model.name) as connection, opened(settings, service) as batches:
        yield ChatService(
            caller=context.caller,
            endpoint=service,
            body=lambda question: client.request_body(settings, service.model, question),
            ask=client.make_ask(connection, settings),
            limits=settings.limits,
            thinking_tokens=settings.thinking_tokens,
            log_probabilities=settings.log_probabilities,
            batches=batches,
        )


_hooks = ChatHooks(_service)
generate_candidates = _hooks.generate_candidates
judge = _hooks.judge
demonstrate = _hooks.demonstrate
evaluate = _hooks.evaluate
