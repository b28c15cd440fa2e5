"""Services of ``../shared/cases/servers``, each mode of which was once misread: an outcome for the item, or a stop."""

from __future__ import annotations

import importlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tutelage.context import Context
from tutelage.errors import StageError
from tutelage.preferences.judging import ADDITIVE_RUBRIC, PAIRWISE_RUBRIC
from tutelage.records import Comparison, JudgeItem, Model, Sampling
from tutelage.services.requests import Limits

SERVERS = Path(__file__).parents[3] / "shared" / "cases" / "servers"
GEMINI_PORT = "18432"
"""The port in the server's source."""
LIMITS = Limits(attempts=2, first_wait=0.01)
CANARY = "sk-canary-0123456789abcdef"

OUTCOMES = {
    "openai": {
        "azfilter": "refused", "ctx": "failed", "delta": "unparsed", "errin200": "failed", "finisherr": "unparsed",
        "nomodel": "answered", "nousage": "answered", "nullchoices": "unparsed", "nullcontent": "unparsed",
        "ok": "answered", "oldonly": "answered", "openrouter403": "refused", "parts": "answered", "ra": "answered",
        "rafar": "failed", "ranan": "answered", "sse": "unparsed", "thinkcut": "unparsed", "usage0": "answered",
        "usagestr": "answered",
    },
    "gemini": {
        "newreason": "unparsed", "newfield": "answered", "maxempty": "unparsed", "recit": "refused",
        "blockedq": "refused", "stopempty": "unparsed", "thought": "answered", "ok": "answered",
    },
}  # fmt: skip
STOPS = {
    "openai": {
        "mct": "does not accept max_tokens: Unsupported .*set length_parameter: max_completion_tokens",
        "temp": "does not accept temperature: Unsupported value.*set send_sampling: false",
        "seed422": r"does not accept seed: .*Extra inputs are not permitted; set extra: \{seed: null\}",
        "pay402": "out of credit: Insufficient Balance",
        "gone410": "no longer serves model 'm': model m was retired on 2026-01-01.*choose another model",
        "decom400": "no longer serves model 'm': The model `m` has been decommissioned",
        "fail3": "out of credit: Insufficient Balance",
        "unknown": "has no model 'm'.*not found",
    },
    "gemini": {
        "expired": "rejects the key in GEMINI_API_KEY, .* API key expired. Please renew the API key",
        "location": "not offered at this location: User location is not supported for the API use",
        "think400": "Developer instruction is not enabled for models/m; choose another model",
    },
}
SETTINGS: dict[str, dict[str, Any]] = {
    "mct": {"length_parameter": "max_completion_tokens"},
    "temp": {"send_sampling": False},
    "seed422": {"extra": {"seed": None}},
}
"""What the message of the stop says to set."""


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """The address of each server."""
    if not SERVERS.is_dir():
        pytest.skip(f"{SERVERS} does not exist: the cases are not part of the project")
    processes, addresses = [], {}
    for name in ("openai", "gemini"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        source = (SERVERS / f"{name}_modes.py").read_text().replace(GEMINI_PORT, port)
        processes.append(subprocess.Popen([sys.executable, "-c", source, port], stderr=subprocess.DEVNULL))
        addresses[name] = f"http://127.0.0.1:{port}"
        _wait_for(int(port))
    yield addresses
    for process in processes:
        process.kill()
        process.wait()


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"no server at port {port}")


def judged(servers: dict[str, str], service: str, mode: str, **changes: Any) -> Any:
    """The judgement of one item; both protocols name the mode, by the path or by the model."""
    plugin = importlib.import_module(f"tutelage_{service}")
    base_url = servers[service] + (f"/{mode}/v1" if service == "openai" else "")
    settings = plugin.describe().settings(**{"base_url": base_url, "revision": "1", "limits": LIMITS, **changes})
    model = Model(service, "m" if service == "openai" else mode)
    arguments = {"rubric": ADDITIVE_RUBRIC, "samples": 1, "sampling": Sampling()}
    items = iter([JudgeItem("1", "Why?", "Because.")])
    (judgement,) = plugin.judge(model=model, items=items, context=Context(settings=settings), **arguments)
    return judgement


@pytest.mark.parametrize(("service", "mode"), [(service, mode) for service in OUTCOMES for mode in OUTCOMES[service]])
def test_a_reply_has_a_typed_outcome(servers: dict[str, str], service: str, mode: str) -> None:
    judgement = judged(servers, service, mode)
    assert judgement.outcome == OUTCOMES[service][mode], judgement.detail
    assert (judgement.score == 4.0) is (judgement.outcome == "answered")
    assert judgement.score is not None or judgement.detail


@pytest.mark.parametrize(("service", "mode"), [(service, mode) for service in STOPS for mode in STOPS[service]])
def test_an_error_that_no_retry_mends_stops_with_the_services_text_and_what_to_set(
    servers: dict[str, str], service: str, mode: str
) -> None:
    with pytest.raises(StageError, match=STOPS[service][mode]) as caught:
        judged(servers, service, mode)
    assert str(caught.value).startswith(f"plugin {service!r}, model ")
    assert servers[service] in str(caught.value)
    if mode in SETTINGS:
        assert judged(servers, service, mode, **SETTINGS[mode]).score == 4.0


@pytest.mark.parametrize("mode", ["emptylogprobs", "nulltop", "oldlogprobs"])
def test_missing_log_probabilities_leave_the_stated_verdict(servers: dict[str, str], mode: str) -> None:
    plugin = importlib.import_module("tutelage_openai")
    settings = plugin.describe().settings(base_url=f"{servers['openai']}/{mode}/v1", limits=LIMITS)
    comparisons = iter([Comparison("1", "Why?", "One.", "Two.")])
    context = Context(settings=settings)
    (verdict,) = plugin.evaluate(Model("openai", "m"), comparisons, PAIRWISE_RUBRIC, Sampling(), context)
    assert (verdict.preference, str(verdict.outcome)) == (1.0, "answered")


@pytest.mark.parametrize("mode", ["pay402", "rafar", "ctx"])
def test_a_command_whose_items_all_fail_ends_with_an_exit_code_and_writes_no_file(
    servers: dict[str, str], mode: str, tmp_path: Path
) -> None:
    done = stage_judge(f"{servers['openai']}/{mode}/v1", tmp_path)
    assert done.returncode == 6, done.stderr
    assert f"plugin 'openai', model 'm' at {servers['openai']}/{mode}/v1" in done.stderr
    assert not (tmp_path / "judged.jsonl").exists()


def test_a_key_with_a_line_feed_is_in_no_file_and_on_no_screen(
    servers: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{CANARY}\n")
    for mode in ("ok", "pay402"):
        done = stage_judge(f"{servers['openai']}/{mode}/v1", tmp_path)
        assert CANARY not in done.stdout + done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


def stage_judge(base_url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """``tutelage stage judge`` of two answers."""
    answers = folder / "answers.jsonl"
    answers.write_text("".join(json.dumps({"prompt": f"Why {n}?", "answer": "Because."}) + "\n" for n in range(2)))
    command = [sys.executable, "-m", "tutelage", "stage", "judge", str(answers), "--model", "openai:m"]
    command += [
        "--out",
        str(folder / "judged.jsonl"),
        "--set",
        f"base_url={base_url}",
        "--set",
        "limits.first_wait=0.01",
    ]
    return subprocess.run(command, capture_output=True, text=True)
