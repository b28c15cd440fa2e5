"""The check of ``tutelage doctor``: SDK, key, endpoint and model, with one call that is free of charge."""

from __future__ import annotations

from collections.abc import Iterator

from tutelage.errors import InputError, PluginError
from tutelage.plugin_info import Finding
from tutelage.plugins.doctor import service_finding
from tutelage.services.problems import Unusable
from tutelage.services.proxies import CaughtByProxyError
from tutelage_google_genai.settings import GoogleGenAiSettings, endpoint

_TIMEOUT_MILLISECONDS = 10_000


def check(settings: GoogleGenAiSettings | None, model: str) -> Iterator[Finding]:
    """Yield a finding for each item that the plugin needs, up to the first that is missing.

    The call requests the description of the model.
    """
    from tutelage_google_genai import client

    settings = settings or GoogleGenAiSettings()
    service = endpoint(settings, model)
    key = f"{settings.key_variable} is set" if service.secret else "not set; not required for a server on this machine"
    try:
        with client.connected(settings, model) as connection:
            from google import genai

            yield Finding("SDK", True, f"google-genai {genai.__version__}")
            yield Finding("key", True, key)
            connection.models.get(model=service.model, config={"http_options": {"timeout": _TIMEOUT_MILLISECONDS}})
        yield Finding("endpoint", True, settings.base_url)
        yield Finding("model", True, service.model)
    except PluginError as error:
        yield Finding("SDK", False, str(error))
    except CaughtByProxyError as error:
        yield Finding("endpoint", False, str(error))
    except InputError as error:
        yield Finding("key", False, str(error))
    except Exception as error:
        problem = client.problem_of(error, settings, service.model)
        yield service_finding(service, problem, "model" if isinstance(problem, Unusable) else "endpoint")
