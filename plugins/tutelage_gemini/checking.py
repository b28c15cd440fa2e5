"""The check of ``tutelage doctor``: SDK, key, endpoint and model, with one call that is free of charge."""

from __future__ import annotations

from collections.abc import Iterator

from tutelage.errors import InputError, PluginError
from tutelage.plugin_info import Finding
from tutelage.plugins.doctor import service_finding
from tutelage.services.problems import Unusable
from tutelage.services.proxies import CaughtByProxyError
from tutelage_gemini.settings import GeminiSettings, endpoint

_TIMEOUT_SECONDS = 10.0


def check(settings: GeminiSettings | None, model: str) -> Iterator[Finding]:
    """Yield a finding for each item that the plugin needs, up to the first that is missing.

    The call requests the description of the model.
    """
    from tutelage_gemini import client

    settings = settings or GeminiSettings()
    service = endpoint(settings, model)
    try:
        models = client.connect(settings, model, "model")
        yield Finding("SDK", True, f"google-generativeai {_version()}")
        yield Finding(
            "key",
            True,
            f"{settings.key_variable} is set"
            if service.secret
            else "not set; not required for a server on this machine",
        )
        models.get_model(name=f"models/{service.model}", retry=None, timeout=_TIMEOUT_SECONDS)
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
        what = "model" if isinstance(problem, Unusable) else "endpoint"
        yield service_finding(service, problem, what)


def _version() -> str:
    from importlib.metadata import version

    return version("google-generativeai")
