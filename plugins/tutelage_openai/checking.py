"""What ``tutelage doctor`` looks at: SDK, key, endpoint and model, with one free call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tutelage.errors import InputError, PluginError, nearest
from tutelage.plugin_info import Finding
from tutelage.services.requests import Endpoint
from tutelage_openai.settings import OpenAiSettings, endpoint

if TYPE_CHECKING:
    import openai

_TIMEOUT_SECONDS = 10.0


def check(settings: OpenAiSettings | None, model: str) -> Iterator[Finding]:
    """One finding for each thing that is needed; the first that is missing ends it. The call lists the models."""
    from tutelage_openai import client

    settings = settings or OpenAiSettings()
    asked = endpoint(settings, model)
    try:
        with client.connected(settings, model) as connection:
            import openai

            yield Finding("SDK", True, f"openai {openai.__version__}")
            yield Finding("key", True, f"{settings.key_variable} is set" if asked.secret else "none: a local server")
            yield from _models(connection, asked)
    except PluginError as error:
        yield Finding("SDK", False, str(error))
    except InputError as error:
        yield Finding("key", False, str(error))
    except Exception as error:
        problem = client.problem_of(error, settings, asked.model)
        yield Finding("endpoint", False, asked.scrub(f"{settings.base_url}: {problem}"))


def _models(connection: openai.OpenAI, asked: Endpoint) -> Iterator[Finding]:
    """Not every server lists its models, nor every one that it serves: only where it is sure is a model missing."""
    import openai

    try:
        names = [offered.id for offered in connection.with_options(timeout=_TIMEOUT_SECONDS).models.list()]
    except (openai.NotFoundError, openai.InternalServerError) as error:
        yield Finding("endpoint", True, f"{asked.base_url} answers, but does not list its models ({error.status_code})")
        return
    yield Finding("endpoint", True, asked.base_url)
    if asked.model in names:
        yield Finding("model", True, asked.model)
    elif asked.on_this_machine:
        yield Finding("model", True, f"{asked.model!r} is not listed, but may be served")
    else:
        yield Finding("model", False, f"there is no {asked.model!r}{nearest(asked.model, names)}")
