"""A key is removed from texts in every form in which a library quotes it, and from the logs."""

from __future__ import annotations

import html
import json
import logging
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import pytest

from tutelage.services import redaction
from tutelage.services.redaction import WithoutExtras, keep_out_of_logs, redact, redact_values

CORE = "sk-canary/0123+4567=89&abc"
SECRETS = [
    CORE, f"{CORE}\n", f" {CORE}\t", f"{CORE}\r\n", f"\u201c{CORE}\u201d", f'"{CORE}"', f"\ufeff{CORE}\u200b",
    f"'{CORE}'\n", f"{CORE}\u00e9", f"{CORE}\udc80",
]  # fmt: skip


def forms(secret: str) -> Iterator[str]:
    yield from (secret, secret.strip(), repr(secret), ascii(secret), json.dumps(secret), html.escape(secret))
    data = secret.encode("utf-8", "surrogateescape")
    yield from (repr(data), repr(data.strip()), data.decode("latin-1"))
    yield from (quote(data), quote(data, safe=""), quote_plus(data), quote(data, safe="").lower())
    yield from (secret.upper(), f"Illegal header value {b'Bearer ' + data!r}")


@pytest.mark.parametrize("secret", SECRETS)
def test_every_form_of_a_secret_is_removed(secret: str) -> None:
    for form in forms(secret):
        redacted = redact(f"before {form} after", secret)
        assert "[key]" in redacted
        assert "canary" not in redacted.lower()
        assert "0123" not in redacted


def test_a_key_of_two_lines_is_removed_in_parts() -> None:
    secret = "sk-first-line\nsk-second-line"
    assert redact("sk-first-line, then sk-second-line", secret) == "[key], then [key]"


@pytest.mark.parametrize("placeholder", ["", "EMPTY", "ollama", "none", "short\n"])
def test_a_placeholder_is_not_removed(placeholder: str) -> None:
    assert redact("EMPTY ollama none short", placeholder) == "EMPTY ollama none short"


def test_values_are_redacted_in_every_depth() -> None:
    value = {CORE: [1, None, {"a": f"x{CORE}y"}], "b": (CORE, 2.5, True)}
    assert redact_values(value, CORE) == {"[key]": [1, None, {"a": "x[key]y"}], "b": ["[key]", 2.5, True]}


@pytest.fixture
def factory() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.usefixtures("factory")
def test_a_key_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    keep_out_of_logs(f"{CORE}\n")
    keep_out_of_logs("another-secret")
    caplog.set_level(logging.DEBUG)
    log = logging.getLogger("some.sdk")
    log.debug("headers: %s", {"authorization": f"Bearer {CORE}", "other": "another-secret"})
    log.info("harmless %d", 4)
    try:
        raise ValueError(f"Illegal header value b'Bearer {CORE}'")
    except ValueError:
        log.exception("failed")
    assert CORE not in caplog.text
    assert "another-secret" not in caplog.text
    assert caplog.text.count("[key]") == 3
    assert "harmless 4" in caplog.text
    assert "ValueError: Illegal header value b'Bearer [key]'" in caplog.text


@pytest.mark.usefixtures("factory")
def test_a_record_with_wrong_arguments_is_kept() -> None:
    keep_out_of_logs(CORE)
    record = logging.getLogRecordFactory()("a", 10, "p", 1, "two %s %s", (CORE,), None)
    assert "[key]" in record.getMessage()
    assert CORE not in record.getMessage()


@pytest.mark.usefixtures("factory")
def test_the_factory_is_installed_once() -> None:
    keep_out_of_logs(CORE)
    keep_out_of_logs(CORE)
    assert not isinstance(logging.getLogRecordFactory()._original, redaction._RedactingFactory)  # type: ignore[attr-defined]


def test_a_request_with_its_headers_is_removed_from_a_record() -> None:
    record = logging.makeLogRecord({"httpRequest": {"headers": {"x-goog-api-key": CORE}}, "kept": 1})
    assert WithoutExtras().filter(record)
    assert (hasattr(record, "httpRequest"), record.__dict__["kept"]) == (False, 1)
