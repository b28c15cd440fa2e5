"""The check of ``tutelage doctor``: SDK, key, endpoint and model, with one call that is free of charge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tutelage.errors import nearest
from tutelage.plugin_info import Finding
from tutelage.plugins.service_checks import key_finding, service_findings
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
    yield from service_findings(
        _found(settings, service), service, lambda error: client.problem_of(error, settings, service.model), "endpoint"
    )


def _found(settings: OpenAiSettings, service: Endpoint) -> Iterator[Finding]:
    from tutelage_openai import client

    with client.connected(settings, service.model) as connection:
        import openai

        yield Finding("SDK", True, f"openai {openai.__version__}")
        yield key_finding(service, settings.key_variable)
        yield from _models(connection, service)


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
