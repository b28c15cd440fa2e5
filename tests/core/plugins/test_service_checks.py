"""The findings of a check of a service: up to an error, and one for the error."""

from collections.abc import Iterator

import pytest

from tutelage.errors import InputError, PluginError
from tutelage.plugin_info import Finding
from tutelage.plugins.service_checks import key_finding, service_findings
from tutelage.services.problems import CallError, Permanent, Transient, Unusable
from tutelage.services.proxies import CaughtByProxyError
from tutelage.services.requests import Endpoint

ELSEWHERE = Endpoint("shouty", "https://api.shouty.example/v1", "large", secret="key-0123456789")
HERE = Endpoint("shouty", "http://127.0.0.1:8000/v1", "large")


def last(error: Exception, endpoint: Endpoint = ELSEWHERE, subject: str = "model") -> Finding:
    """The finding of the error that ends a check."""

    def findings() -> Iterator[Finding]:
        yield Finding("SDK", True, "1.0")
        raise error

    def problem_of(error: Exception) -> CallError:
        assert isinstance(error, CallError)
        return error

    first, second = service_findings(findings(), endpoint, problem_of, subject)
    assert first == Finding("SDK", True, "1.0")
    return second


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (PluginError("not installed"), "SDK"),
        (InputError("no key"), "key"),
        (CaughtByProxyError("a proxy"), "endpoint"),
    ],
)
def test_an_error_of_tutelage_names_its_subject(error: Exception, what: str) -> None:
    assert last(error) == Finding(what, False, str(error))


def test_a_problem_of_the_request_is_of_the_model_or_of_the_given_subject() -> None:
    assert (last(Unusable("no such model")).what, last(Unusable("odd"), subject="endpoint").what) == (
        "model",
        "endpoint",
    )
    assert (last(Permanent("the key is refused")).what, last(Permanent("x")).ok) == ("endpoint", False)


def test_a_service_that_answers_with_a_temporary_error_is_available() -> None:
    assert last(Transient("overloaded")).ok is True
    assert last(Transient("no connection", unreachable=True)).ok is None
    assert last(Transient("no connection", unreachable=True), HERE).ok is False


def test_the_key_is_not_in_a_finding() -> None:
    assert "key-0123456789" not in last(Permanent("refused key-0123456789")).detail


def test_without_a_key_the_server_is_on_this_machine() -> None:
    assert key_finding(ELSEWHERE, "SHOUTY_KEY") == Finding("key", True, "SHOUTY_KEY is set")
    assert key_finding(HERE, "SHOUTY_KEY").detail == "not set; not required for a server on this machine"
