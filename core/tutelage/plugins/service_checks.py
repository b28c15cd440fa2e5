"""What the checks of plugins for a service share: a finding for the key, and for the error that ends a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tutelage.errors import InputError, PluginError
from tutelage.plugin_info import Finding
from tutelage.services.problems import CallError, Transient, Unusable
from tutelage.services.proxies import CaughtByProxyError
from tutelage.services.requests import Endpoint


def key_finding(endpoint: Endpoint, variable: str) -> Finding:
    """Return the finding of a key that can be sent. Without one, the server is on this machine."""
    detail = f"{variable} is set" if endpoint.secret else "not set; not required for a server on this machine"
    return Finding("key", True, detail)


def service_findings(
    findings: Iterable[Finding],
    endpoint: Endpoint,
    problem_of: Callable[[Exception], CallError],
    subject: str = "model",
) -> Iterator[Finding]:
    """Yield the findings of a check up to an error, and the finding of that error.

    A missing SDK, a wrong key and a proxy are recognised by the errors of ``tutelage``. ``problem_of`` returns the
    problem of any other exception. ``subject`` is the subject of a problem with the request itself.
    """
    try:
        yield from findings
    except PluginError as error:
        yield Finding("SDK", False, str(error))
    except CaughtByProxyError as error:
        yield Finding("endpoint", False, str(error))
    except InputError as error:
        yield Finding("key", False, str(error))
    except Exception as error:
        problem = problem_of(error)
        yield _finding_of(endpoint, problem, subject if isinstance(problem, Unusable) else "endpoint")


def _finding_of(endpoint: Endpoint, problem: CallError, what: str) -> Finding:
    """Return the finding of a plugin's check whose request to a service failed. The key is removed from its text.

    A service that sends a temporary error (rate limit, overload) is available. Whether a service elsewhere is available
    is not known if there was no connection or no answer; a server on this machine is then missing.
    """
    detail = endpoint.scrub(f"{endpoint.base_url}: {problem}")
    if not isinstance(problem, Transient):
        return Finding(what, False, detail)
    if not problem.unreachable and not str(problem).startswith("time-out"):
        return Finding("endpoint", True, f"{detail} (it answers; the model was not checked)")
    return Finding("endpoint", False if endpoint.on_this_machine else None, detail)
