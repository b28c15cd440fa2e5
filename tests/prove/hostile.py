"""A hostile server and one SDK: ``python -m tests.prove.hostile openai 2000`` prints the figures as JSON.

Each SDK runs in a process of its own, because its memory is measured.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures" / "servers"))
sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

import hostile
from api_servers import ApiServer, running

from tutelage.context import Context
from tutelage.errors import BudgetError, StageError
from tutelage.preferences.judging import ADDITIVE_RUBRIC
from tutelage.records import JudgeItem, Judgement, Model, Outcome, Sampling
from tutelage.services.budget import Budget
from tutelage.services.caller import Caller
from tutelage.services.ledger import Ledger
from tutelage.services.prices import Price
from tutelage.services.requests import Limits

IN_FLIGHT = 8
LIMITS = Limits(in_flight=IN_FLIGHT, attempts=2, attempt_seconds=30.0, first_wait=0.001, failures_in_a_row=10**9)
TRANSIENT = ("429", "500", "503", "drop", "html", "cut-json", "empty-object", "short")
"""Kinds of ``servers/faults.py`` that are tried again at once."""
STOPPING = (*hostile.STOPPING, "denied", "gone", "quota")
COMPLETE = {
    **dict.fromkeys(hostile.ANSWERED, Outcome.ANSWERED),
    **dict.fromkeys(hostile.UNPARSED, Outcome.UNPARSED),
    **dict.fromkeys(hostile.REFUSED, Outcome.REFUSED),
    "blocked": Outcome.REFUSED,
    "length": Outcome.UNPARSED,
}
CANARY = "sk-canary/0123456789+abcdef=="
FORMS = {
    "newline": f"{CANARY}\n",
    "spaces": f"  {CANARY} ",
    "carriage-return": f"{CANARY}\r\n",
    "curly-quotes": f"\u201c{CANARY}\u201d",
}
TRACES = ("canary/0123", "canary%2f0123", "0123456789+abc", "0123456789%2babc")
LEAKING = (*hostile.ECHOES, "echo-answer", "denied", "redirect-307", "deep")
PRICE = Price(input=100.0, output=100.0)


class Client:
    """One SDK that judges items by a server whose replies are of one kind."""

    def __init__(self, name: str, server: ApiServer, folder: Path) -> None:
        self.name = name
        self.server = server
        self._plugin = importlib.import_module(f"tutelage_{name}")
        self._folder = folder

    def base_url(self, kind: str) -> str:
        return f"{self.server.url}/kind/{kind}" + ("/v1" if self.name == "openai" else "")

    def judge(self, kind: str, calls: int, ledger: str, budget: Budget | None = None) -> Iterator[Judgement]:
        """Yield the judgements, with the answers of the ledger of that name."""
        settings = self._plugin.describe().settings(
            base_url=self.base_url(kind), revision="1", limits=LIMITS, price=PRICE if budget else None
        )
        caller = Caller(Ledger(self._folder / f"{ledger}.db"), budget, run="run")
        items = (JudgeItem(f"item-{number}", f"Question {number}?", f"Answer {number}.") for number in range(calls))
        try:
            yield from self._plugin.judge(
                model=Model(self.name, "m"),
                items=items,
                rubric=ADDITIVE_RUBRIC,
                samples=1,
                sampling=Sampling(max_new_tokens=64),
                context=Context(settings=settings, caller=caller),
            )
        finally:
            caller.ledger.close()

    def spent(self, ledger: str) -> float:
        opened = Ledger(self._folder / f"{ledger}.db")
        try:
            return opened.spent("run")
        finally:
            opened.close()

    def asked(self) -> int:
        """Number of requests that the server has received. The log is cut, so that it stays short."""
        assert self.server.log is not None
        rows = self.server.asked()
        os.truncate(self.server.log, 0)
        return len(rows)


def prove(name: str, calls: int) -> dict[str, Any]:
    """Return the figures of one SDK."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running(name, Path(folder) / "elsewhere.jsonl") as elsewhere,
        running(name, Path(folder) / "server.jsonl", "--elsewhere", elsewhere.url) as server,
    ):
        client = Client(name, server, Path(folder))
        started = time.monotonic()
        list(client.judge("ok", calls, "warm"))
        client.asked()
        warm = _memory_mib("VmRSS")
        peaks: dict[str, float] = {}
        kinds = {
            **_measured(peaks, COMPLETE, lambda kind: _complete(client, kind, calls)),
            **_measured(peaks, hostile.FAILED, lambda kind: _failing(client, kind, calls, 1)),
            **_measured(peaks, TRANSIENT, lambda kind: _failing(client, kind, calls, LIMITS.attempts)),
            **_measured(
                peaks, (*hostile.STOPPING, "denied", "gone", "quota"), lambda kind: _stopping(client, kind, calls)
            ),
        }
        budgets = {kind: _budget(client, kind, calls) for kind in hostile.USAGE}
        return {
            "calls_of_each_kind": calls,
            "kinds": len(kinds),
            "wrong_kinds": {kind: figures for kind, figures in kinds.items() if not figures["right"]},
            "requests": sum(figures["requests"] for figures in kinds.values()),
            "stored_answers_requested_again": sum(figures.get("again", 0) for figures in kinds.values()),
            "requests_after_a_stop": max(figures.get("most_after_stop", 0) for figures in kinds.values()),
            "in_flight": IN_FLIGHT,
            "requests_at_the_target_of_redirects": len(elsewhere.asked()),
            "budgets_exceeded": {kind: spent for kind, spent in budgets.items() if spent > 1.0},
            "budget_share_spent": [round(min(budgets.values()), 3), round(max(budgets.values()), 3)],
            "memory_mib": {"warm": warm, "peak": max(peaks.values()), "peak_of": max(peaks, key=peaks.__getitem__)},
            "leaks": _leaks(client, Path(folder)),
            "leak_trials": len(FORMS) * len(LEAKING),
            "seconds": round(time.monotonic() - started, 1),
        }


def _measured(peaks: dict[str, float], kinds: Any, measure: Any) -> dict[str, dict[str, Any]]:
    """The figures of each kind; the peak of the memory is added to ``peaks``."""
    found = {}
    for kind in kinds:
        _reset_peak()
        found[kind] = measure(kind)
        peaks[kind] = _memory_mib("VmHWM")
        print(f"{sys.argv[1:2]} {kind}: {found[kind]}, {peaks[kind]} MiB", file=sys.stderr, flush=True)
    return found


def _complete(client: Client, kind: str, calls: int) -> dict[str, Any]:
    """A complete reply has one outcome, and a second pass sends no request."""
    ids, outcomes = _judged(client.judge(kind, calls, kind))
    requests = client.asked()
    again, _ = _judged(client.judge(kind, calls, kind))
    repeated = client.asked()
    right = ids == again == _every_id(calls) and outcomes == {COMPLETE[kind]: calls} and requests == calls
    return {"right": right and not repeated, "requests": requests, "again": repeated, "outcomes": outcomes}


def _failing(client: Client, kind: str, calls: int, attempts: int) -> dict[str, Any]:
    """A reply that cannot be used fails after this number of attempts."""
    ids, outcomes = _judged(client.judge(kind, calls, kind))
    requests = client.asked()
    right = ids == _every_id(calls) and outcomes == {Outcome.FAILED: calls} and requests == attempts * calls
    return {"right": right, "requests": requests, "outcomes": outcomes}


def _stopping(client: Client, kind: str, calls: int) -> dict[str, Any]:
    """A step is stopped and started again until the server has received the calls."""
    requests = most = stops = 0
    while requests < calls:
        try:
            list(client.judge(kind, calls, kind))
        except StageError as error:
            stops += str(error).startswith(f"plugin {client.name!r}, model 'm' at {client.base_url(kind)}: ")
        else:
            return {"right": False, "requests": requests}
        gc.collect()  # a process ends after a stop; here the same one starts a thousand clients of the SDK
        sent = client.asked()
        most, requests = max(most, sent), requests + sent
    return {"right": stops > 0 and most <= IN_FLIGHT, "requests": requests, "most_after_stop": most, "stops": stops}


def _budget(client: Client, kind: str, calls: int) -> float:
    """The share of a budget of half the cost that is spent with false counts."""
    list(client.judge(kind, calls, f"whole-{kind}", Budget(1e9)))
    half = client.spent(f"whole-{kind}") / 2
    try:
        list(client.judge(kind, calls, f"half-{kind}", Budget(half)))
    except BudgetError:
        client.asked()
        return client.spent(f"half-{kind}") / half
    return float("inf")


def _leaks(client: Client, folder: Path) -> list[str]:
    """The trials in which the key was in a file, in a log or on the terminal. The logs of the SDKs are on."""
    found = []
    for form, key in FORMS.items():
        for kind in LEAKING:
            trial = folder / f"{form}-{kind}"
            trial.mkdir()
            done = _command(client, kind, trial, key)
            files = [path.read_bytes().decode("latin-1") for path in trial.rglob("*") if path.is_file()]
            everything = "".join([done.stdout, done.stderr, *files]).lower()
            if any(trace in everything for trace in TRACES) or "canary/" in everything:
                found.append(f"{form}, {kind}")
    client.asked()
    return found


def _command(client: Client, kind: str, folder: Path, key: str) -> subprocess.CompletedProcess[str]:
    answers = folder / "answers.jsonl"
    answers.write_text(json.dumps({"prompt": "Why?", "answer": "Because."}) + "\n")
    environment: Mapping[str, str] = {
        **os.environ,
        "OPENAI_API_KEY": key,
        "GEMINI_API_KEY": key,
        "TUTELAGE_LEDGER": str(folder / "ledger.db"),
        "OPENAI_LOG": "debug",
        "GOOGLE_SDK_PYTHON_LOGGING_SCOPE": "google",
    }
    arguments = ["stage", "judge", str(answers), "--model", f"{client.name}:m", "--out", str(folder / "out.jsonl")]
    settings = (f"base_url={client.base_url(kind)}", "revision=1", "limits.attempts=2", "limits.first_wait=0.01")
    command = [sys.executable, "-m", "tutelage", *arguments, *(f"--set={setting}" for setting in settings)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def _judged(judgements: Iterator[Judgement]) -> tuple[list[str], dict[str, int]]:
    ids, outcomes = [], Counter[str]()
    for judgement in judgements:
        ids.append(judgement.item_id)
        outcomes[str(judgement.outcome)] += 1
    return sorted(ids), dict(outcomes)


def _every_id(calls: int) -> list[str]:
    return sorted(f"item-{number}" for number in range(calls))


def _reset_peak() -> None:
    """Let ``VmHWM`` start at the memory that is in use now (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def _memory_mib(field: str) -> float:
    """A value of /proc/self/status in MiB: VmRSS is the memory in use, VmHWM its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = (int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
    return round(kib / 1024, 1)


if __name__ == "__main__":
    print(json.dumps(prove(sys.argv[1], int(sys.argv[2]))))
