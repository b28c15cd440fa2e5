"""Hostile and broken services, with the vendors' SDKs: each item has one typed outcome, or the step stops.

The server has one reply for each kind of fault (``servers/hostile.py``), which the path of the address chooses.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_servers import ApiServer, running
from attrs import evolve

from tutelage.context import Context
from tutelage.errors import BudgetError, InputError, StageError
from tutelage.plugins.registry import BLOCK_VARIABLE
from tutelage.preferences.judging import ADDITIVE_RUBRIC
from tutelage.records import JudgeItem, Model, Outcome, Sampling
from tutelage.services.budget import Budget
from tutelage.services.caller import Caller
from tutelage.services.ledger import Ledger
from tutelage.services.prices import Price
from tutelage.services.requests import Limits

SERVERS = Path(__file__).parents[1] / "fixtures" / "servers"
CANARY = "sk-canary/0123456789+abcdef=="
"""A key whose percent-encoded form differs from the plain one."""
LIMITS = Limits(in_flight=8, attempts=2, attempt_seconds=30.0, first_wait=0.01)
ITEMS = [JudgeItem(f"item-{number}", f"Question {number}?", f"Answer {number}.") for number in range(24)]
PRICE = Price(input=100.0, output=100.0)
MALFORMED = {"newline": f"{CANARY}\n", "spaces": f"  {CANARY} ", "carriage-return": f"{CANARY}\r\n"}
"""Keys that can be sent after white space is removed."""
REFUSED_KEYS = {
    "curly quotes": f"\u201c{CANARY}\u201d",
    "straight quotes": f'"{CANARY}"',
    "inner newline": f"{CANARY[:9]}\n{CANARY[9:]}",
    "inner space": f"{CANARY} {CANARY}",
    "no-break space": f"{CANARY}\u00a0x",
    "escape": f"\x1b{CANARY}",
}


def kinds(group: str) -> Any:
    """A group of kinds in ``servers/hostile.py``, which is a module of the server's process."""

    sys.path.insert(0, str(SERVERS))
    try:
        return getattr(importlib.import_module("hostile"), group)
    finally:
        sys.path.remove(str(SERVERS))


@pytest.fixture(scope="module", params=["openai", "gemini"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def elsewhere(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """The server that redirects name."""
    with running(name, tmp_path_factory.mktemp("elsewhere") / "log.jsonl") as server:
        yield server


@pytest.fixture(scope="module")
def server(name: str, elsewhere: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    log = tmp_path_factory.mktemp("server") / "log.jsonl"
    with running(name, log, "--elsewhere", elsewhere.url) as server:
        yield server


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(variable, CANARY)
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)


@pytest.fixture
def plugin(name: str) -> Any:
    return importlib.import_module(f"tutelage_{name}")


Ask = Callable[..., list[Any]]


@pytest.fixture
def judge(plugin: Any, name: str, server: ApiServer) -> Ask:
    """Judge items by a service whose replies are all of one kind."""

    def ask(kind: str, items: list[JudgeItem] = ITEMS, caller: Caller | None = None, **settings: Any) -> list[Any]:
        base_url = f"{server.url}/kind/{kind}" + ("/v1" if name == "openai" else "")
        chosen = plugin.describe().settings(**{"base_url": base_url, "revision": "1", "limits": LIMITS, **settings})
        context = Context(settings=chosen, caller=caller or Caller())
        arguments = {"rubric": ADDITIVE_RUBRIC, "samples": 1, "sampling": Sampling(max_new_tokens=64)}
        return list(plugin.judge(model=Model(name, "m"), items=iter(items), context=context, **arguments))

    return ask


def asked(server: ApiServer) -> int:
    return len(server.asked())


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [(kind, outcome) for outcome in ("ANSWERED", "UNPARSED", "REFUSED") for kind in kinds(outcome)],
)
def test_a_complete_reply_is_one_typed_outcome_and_is_not_requested_again(
    judge: Ask, server: ApiServer, kind: str, outcome: str
) -> None:
    before = asked(server)
    first = judge(kind)
    assert {judgement.outcome for judgement in first} == {Outcome[outcome]}
    assert asked(server) - before == len(ITEMS)
    assert all(judgement.outcome is Outcome.ANSWERED or judgement.detail for judgement in first)
    again = judge(kind)
    assert asked(server) - before == len(ITEMS)
    assert sorted(map(str, again)) == sorted(map(str, first))


@pytest.mark.parametrize("kind", kinds("FAILED"))
def test_a_reply_that_is_too_large_fails_once_with_the_setting(judge: Ask, server: ApiServer, kind: str) -> None:
    before = asked(server)
    judgements = judge(kind, ITEMS[:3])
    assert {judgement.outcome for judgement in judgements} == {Outcome.FAILED}
    assert asked(server) - before == 3
    expected = "encoded as br" if kind == "unknown-encoding" else "larger than 2,097,152 bytes; the setting limits."
    assert all(expected in judgement.detail for judgement in judgements)


def test_the_limit_on_a_reply_is_a_setting(judge: Ask) -> None:
    (judgement,) = judge("gzip", ITEMS[:1], limits=evolve(LIMITS, response_bytes=100))
    assert judgement.detail.startswith("the reply is larger than 100 bytes")
    (judgement,) = judge("gzip", ITEMS[:1], limits=evolve(LIMITS, response_bytes=10_000))
    assert judgement.outcome is Outcome.ANSWERED


def test_parts_are_one_text_without_thoughts(judge: Ask) -> None:
    plain, parts = (
        {judgement.item_id: judgement.raw for judgement in judge(kind)} for kind in ("gzip", "content-parts")
    )
    assert plain == parts


OF_THE_ACCOUNT = {"denied": "rejects the key", "gone": "has no model", "quota": "out of credit|quota of the day"}
"""Kinds of ``servers/faults.py`` that stop a step, and what the message says."""
STOPPING = {**kinds("STOPPING"), **OF_THE_ACCOUNT}


@pytest.mark.parametrize("kind", sorted(STOPPING))
def test_an_error_that_no_retry_mends_stops_the_step_with_its_text_and_a_remedy(
    judge: Ask, server: ApiServer, elsewhere: ApiServer, name: str, kind: str
) -> None:
    """Google's session repeated a request three times after a 401, to refresh a credential that cannot be refreshed."""
    before = asked(server)
    with pytest.raises(StageError, match=STOPPING[kind]) as caught:
        judge(kind)
    assert caught.value.exit_code == 6
    assert str(caught.value).startswith(f"plugin {name!r}, model 'm' at {server.url}/kind/{kind}")
    assert asked(server) - before <= LIMITS.in_flight
    assert elsewhere.asked() == []
    if kind.startswith("redirect-3"):
        assert f"to {elsewhere.url}/kind/{kind}" in str(caught.value)


@pytest.mark.parametrize("kind", sorted(kinds("USAGE")))
def test_a_budget_holds_whatever_the_service_counts(
    judge: Ask, server: ApiServer, tmp_path: Path, name: str, kind: str
) -> None:
    """The estimate is booked, in this process and in the ledger, so that a later run counts it, too."""
    ledger = Ledger(tmp_path / "ledger.db")
    free = Caller(ledger, Budget(1e9), run="whole")
    judge(kind, caller=free, price=PRICE)
    whole = ledger.spent("whole")
    assert whole == pytest.approx(free.tally.cost)
    assert 0.1 < whole < 10  # 24 requests of some 1,000 tokens for $0.0001 each
    before = asked(server)
    half = Caller(Ledger(tmp_path / "other.db"), Budget(whole / 2), run="half")
    with pytest.raises(BudgetError, match="is used up"):
        judge(kind, caller=half, price=PRICE)
    assert half.ledger.spent("half") <= whole / 2
    assert asked(server) - before <= len(ITEMS) / 2


def written(folder: Path) -> str:
    return "".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", [*kinds("ECHOES"), "redirect-307", "deep"])
@pytest.mark.parametrize("form", sorted(MALFORMED))
def test_a_key_with_white_space_is_sent_without_it_and_is_in_no_output(
    judge: Ask,
    server: ApiServer,
    name: str,
    kind: str,
    form: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for variable in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(variable, MALFORMED[form])
    caplog.set_level(logging.DEBUG)
    caller = Caller()
    before = asked(server)
    try:
        output = repr(judge(kind, ITEMS[:3], caller=caller))
    except StageError as error:
        output = "".join(traceback.format_exception(error))
    assert asked(server) > before
    caller.ledger.close()
    records = "".join(f"{record.__dict__}" for record in caplog.records)
    everything = [output, *capfd.readouterr(), caplog.text, records, written(tmp_path)]
    for text in everything:
        assert not leaks(text)


def leaks(text: str) -> list[str]:
    """The forms of the key that the text contains, in upper or lower case."""
    forms = (CANARY, "canary/0123", "canary%2F0123", "0123456789+abc", "0123456789%2Babc")
    return [form for form in forms if form.lower() in text.lower()]


@pytest.mark.parametrize("form", sorted(REFUSED_KEYS))
def test_a_malformed_key_is_refused_before_connecting_and_not_quoted(
    judge: Ask, plugin: Any, server: ApiServer, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(variable, REFUSED_KEYS[form])
    before = asked(server)
    with pytest.raises(InputError, match=r"the key in the environment variable \w+_API_KEY contains") as caught:
        judge("gzip", ITEMS[:1])
    output = "".join(traceback.format_exception(caught.value))
    found = list(plugin.check(plugin.describe().settings(base_url=server.url), "m"))
    assert [(finding.what, finding.ok) for finding in found] == [("key", False)]
    assert not leaks(output + repr(found))
    assert asked(server) == before


@pytest.mark.parametrize("count", [1, 3])
def test_a_closed_port_stops_the_step_within_seconds(plugin: Any, name: str, judge: Ask, count: int) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(StageError, match=r"\(3 attempts\); check base_url, and that the server runs") as caught:
        judge("gzip", ITEMS[:count], base_url=address, limits=Limits(first_wait=0.05))
    assert str(caught.value).startswith(f"plugin {name!r}, model 'm' at {address}")


def test_an_unknown_host_stops_the_step(name: str, judge: Ask) -> None:
    with pytest.raises(StageError, match=f"plugin {name!r}, model 'm' at http://no-such-host.invalid"):
        judge("gzip", ITEMS[:1], base_url="http://no-such-host.invalid", limits=Limits(first_wait=0.05))


def test_a_proxy_that_does_not_answer_is_named(name: str, judge: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret-word@127.0.0.1:9")
    message = "go through the proxy 127.0.0.1:9 of the environment variable HTTPS_PROXY"
    with pytest.raises(StageError, match=re.escape(message)) as caught:
        judge("gzip", ITEMS[:1], base_url="https://api.shouty.invalid", limits=Limits(first_wait=0.05))
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_that_catches_a_local_server_is_named(
    judge: Ask, plugin: Any, server: ApiServer, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "http://user:secret-word@127.0.0.1:9")
    message = rf"go through the proxy 127\.0\.0\.1:9 of the environment variable {variable}: set NO_PROXY=127\.0\.0\.1"
    with pytest.raises(InputError, match=message) as caught:
        judge("gzip", ITEMS[:1])
    (found,) = plugin.check(plugin.describe().settings(base_url=server.url), "m")
    assert (found.what, found.ok, "secret-word" in f"{caught.value}{found}") == ("endpoint", False, False)
    for exempt in ("127.0.0.1", "127.0.0.0/8", "localhost,127.0.0.1", "*"):
        monkeypatch.setenv("NO_PROXY", exempt)
        assert judge("gzip", ITEMS[:1])[0].outcome is Outcome.ANSWERED


def command(folder: Path, name: str, base_url: str, *more: str) -> subprocess.CompletedProcess[str]:
    """``tutelage stage judge`` of one answer."""
    answers = folder / "answers.jsonl"
    answers.write_text(json.dumps({"prompt": "Why?", "answer": "Because."}) + "\n")
    arguments = ["stage", "judge", str(answers), "--model", f"{name}:m", "--out", str(folder / "judged.jsonl")]
    settings = [f"--set={setting}" for setting in (f"base_url={base_url}", *more)]
    return subprocess.run([sys.executable, "-m", "tutelage", *arguments, *settings], capture_output=True, text=True)


MORE_KINDS = ("content-null", "redirect-308", "no-credit", "too-long")


@pytest.mark.parametrize(
    "kind", ["moderated", "echo-repr", *(pytest.param(kind, marks=pytest.mark.slow) for kind in MORE_KINDS)]
)
def test_a_command_with_one_item_writes_its_outcome_or_ends_with_an_error(
    name: str, server: ApiServer, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(variable, f"{CANARY}\n")
    base_url = f"{server.url}/kind/{kind}" + ("/v1" if name == "openai" else "")
    done = command(tmp_path, name, base_url)
    has_outcome = kind in ("moderated", "content-null")
    assert done.returncode == (0 if has_outcome else 6), done.stderr
    assert (tmp_path / "judged.jsonl").exists() is has_outcome
    assert has_outcome or f"plugin {name!r}, model 'm' at {base_url}" in done.stderr
    assert not leaks(done.stdout + done.stderr + written(tmp_path))


@pytest.mark.parametrize("name", ["openai", pytest.param("gemini", marks=pytest.mark.slow)])
def test_a_command_with_a_closed_port_ends_within_seconds(name: str, tmp_path: Path) -> None:
    started = time.monotonic()
    done = command(tmp_path, name, "http://127.0.0.1:9")
    assert done.returncode == 6
    assert f"plugin {name!r}, model 'm' at http://127.0.0.1:9" in done.stderr
    assert time.monotonic() - started < 60  # 3 seconds of waits, and the imports on a busy machine


@pytest.fixture
def curly_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(variable, REFUSED_KEYS["curly quotes"])


@pytest.mark.parametrize("name", ["gemini", pytest.param("openai", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("curly_quotes")
def test_a_key_in_curly_quotes_is_refused_by_a_command_without_being_shown(name: str, tmp_path: Path) -> None:
    done = command(tmp_path, name, "https://no-such-host.invalid/v1")
    assert done.returncode == 2
    assert "contains the character U+201C, which no key contains" in done.stderr
    assert not leaks(done.stdout + done.stderr + written(tmp_path))


@pytest.mark.usefixtures("curly_quotes")
def test_keys_in_curly_quotes_are_refused_by_the_doctor_without_being_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BLOCK_VARIABLE, "transformers")  # its check imports torch
    doctor = subprocess.run([sys.executable, "-m", "tutelage", "doctor"], capture_output=True, text=True)
    for variable in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        assert f"{variable} contains the character U+201C" in doctor.stdout + doctor.stderr
    assert not leaks(doctor.stdout + doctor.stderr + written(tmp_path))
