"""The check of ``tutelage doctor``: SDK, key, endpoint and model, with one call that is free of charge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tutelage.errors import InputError, PluginError, nearest
from tutelage.plugin_info import Finding
from tutelage.plugins.doctor import service_finding
from tutelage.services.proxies import CaughtByProxyError
from tutelage.services.requests import Endpoint
from tutelage_openai.settings import OpenAiSettings, endpoint

if TYPE_CHECKING:
    import openai

_TIMEOUT_SECONDS = 10.0


def check(settings: OpenAiSettings | None, model: str) -> Iterator[Finding]:
    """Yield a finding for each item that the plugin needs, up to the first that is missing.

    The call requests the list of models.
    """
    from tutelage_openai import client

    settings = settings or OpenAiSettings()
    service = endpoint(settings, model)
    try:
        with client.connected(settings, model) as connection:
            import openai

            yield Finding("SDK", True, f"openai {openai.__version__}")
            yield Finding(
                "key",
                True,
                f"{settings.key_variable} is set"
                if service.secret
                else "not set; not required for a server on this machine",
            )
            yield from _models(connection, service)
    except PluginError as error:
        yield Finding("SDK", False, str(error))
    except CaughtByProxyError as error:
        yield Finding("endpoint", False, str(error))
    except InputError as error:
        yield Finding("key", False, str(error))
    except Exception as error:
        problem = client.problem_of(error, settings, service.model)
        yield service_finding(service, problem, "endpoint")


def _models(connection: openai.OpenAI, service: Endpoint) -> Iterator[Finding]:
    """Findings on endpoint and model. A local server may list no models, or not all that it serves."""
    import openai

    try:
        names = [offered.id for offered in connection.with_options(timeout=_TIMEOUT_SECONDS).models.list()]
    except (openai.NotFoundError, openai.InternalServerError) as error:
        yield Finding(
            "endpoint", True, f"{service.base_url} answers, but does not list its models ({error.status_code})"
        )
        return
    yield Finding("endpoint", True, service.base_url)
    if service.model in names:
        yield Finding("model", True, service.model)
    elif service.on_this_machine:
        yield Finding("model", True, f"{service.model!r} is not listed, but may be served")
    else:
        yield Finding("model", False, f"no model {service.model!r}{nearest(service.model, names)}")
