"""What ``tutelage doctor`` looks at: SDK, key, endpoint and model, with one free call."""

from __future__ import annotations

from collections.abc import Iterator

from tutelage.errors import InputError, PluginError, nearest
from tutelage.plugin_info import Finding
from tutelage_openai.settings import OpenAiSettings, endpoint

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
            names = [offered.id for offered in connection.with_options(timeout=_TIMEOUT_SECONDS).models.list()]
            yield Finding("endpoint", True, settings.base_url)
            there = asked.model in names
            yield Finding("model", there, asked.model if there else f"no {asked.model!r}{nearest(asked.model, names)}")
    except PluginError as error:
        yield Finding("SDK", False, str(error))
    except InputError as error:
        yield Finding("key", False, str(error))
    except Exception as error:
        problem = client.problem_of(error, settings, asked.model)
        yield Finding("endpoint", False, asked.scrub(f"{settings.base_url}: {problem}"))
