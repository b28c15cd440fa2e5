"""Services with all kinds of faults, runs that are killed while they call a service, and the throughput of calls."""

import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from api_runs import IN_FLIGHT, MODELS, kill_and_continue, undisturbed_run
from api_servers import ApiServer, running
from bench_calling import measure

from tutelage.context import Context
from tutelage.preferences.judging import ADDITIVE_RUBRIC
from tutelage.records import JudgeItem, Judgement, Model, Outcome, Sampling
from tutelage.services.caller import Caller
from tutelage.services.ledger import Ledger
from tutelage.services.requests import Limits

CALLS = 5000
SERVED = {"ok": Outcome.ANSWERED, "blocked": Outcome.REFUSED, "length": Outcome.UNPARSED}
"""Kinds of replies that complete a request, and the outcome of each."""


def prove_faults(calls: int = CALLS, share: float = 0.3) -> dict[str, Any]:
    """Send judge calls to a server on which ``share`` of the requests fail. Every item must have one typed outcome."""
    return {service: _judge_with_faults(service, calls, share) for service in MODELS}


def prove_kills(kills: int = 20) -> dict[str, Any]:
    """Kill API runs at random moments and continue them.

    The artifacts must be the same, and only requests that were in flight may be repeated.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.jsonl"
        with running("openai", log, "--latency", "0.05") as server:
            undisturbed = undisturbed_run("openai", server, Path(folder) / "undisturbed")
            found = kill_and_continue("openai", server, Path(folder), undisturbed, kills)
    return {
        "kills": kills,
        "same_artifacts": sum(killed.same for killed in found),
        "in_flight": IN_FLIGHT,
        "most_repeated": max(killed.repeated for killed in found),
        "killed_after_seconds": [killed.after_seconds for killed in found],
    }


def prove_hostile(calls: int = 2000) -> dict[str, Any]:
    """Send calls to a server that sends each kind of fault; see ``tests.prove.hostile``.

    Every item must have one typed outcome or the step must stop, no stored answer may be requested again, the budget
    must hold with false token counts, and the key must be in no output.
    """
    command = [sys.executable, "-m", "tests.prove.hostile"]
    clients = {
        service: subprocess.Popen([*command, service, str(calls)], stdout=subprocess.PIPE, text=True)
        for service in MODELS
    }
    return {service: json.loads(client.communicate()[0]) for service, client in clients.items()}


def prove_stops(stops: int = 20) -> dict[str, Any]:
    """Stop API runs by SIGTERM and by SIGHUP at random moments and continue them.

    The artifacts must be the same. Answers in flight are waited for, so that no request is repeated.
    """
    return {name.lower(): _prove_stops_by(name, stops) for name in ("SIGTERM", "SIGHUP")}


def _prove_stops_by(name: str, stops: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.jsonl"
        with running("openai", log, "--latency", "0.05") as server:
            undisturbed = undisturbed_run("openai", server, Path(folder) / "undisturbed")
            found = kill_and_continue("openai", server, Path(folder), undisturbed, stops, by=name)
    return {
        "stops": stops,
        "same_artifacts": sum(stopped.same for stopped in found),
        "most_repeated": max(stopped.repeated for stopped in found),
        "stopped_after_seconds": [stopped.after_seconds for stopped in found],
    }


def prove_throughput(calls: int = 100_000) -> dict[str, Any]:
    """Measure calls per second with a latency of 200 ms and 64 in flight, and the memory from 1,000 calls on."""
    return measure("openai", calls, in_flight=64, latency=0.2)


def _judge_with_faults(service: str, calls: int, share: float) -> dict[str, Any]:
    plugin = importlib.import_module(f"tutelage_{service}")
    limits = Limits(in_flight=64, attempts=15, attempt_seconds=2.0, first_wait=0.1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.jsonl"
        caller = Caller(Ledger(Path(folder) / "ledger.db"))
        with running(service, log, "--faults", str(share)) as server:
            url = f"{server.url}/v1" if service == "openai" else server.url
            settings = plugin.describe().settings(base_url=url, revision="1", limits=limits)
            items = [JudgeItem(f"item-{number}", f"Question {number}?", f"Answer {number}.") for number in range(calls)]
            context = Context(settings=settings, caller=caller)
            judgements = list(
                plugin.judge(
                    model=Model(service, MODELS[service]),
                    items=iter(items),
                    rubric=ADDITIVE_RUBRIC,
                    samples=1,
                    sampling=Sampling(),
                    context=context,
                )
            )
            seconds = time.monotonic() - started
            return _compared(server, judgements, items, caller, seconds)


def _compared(
    server: ApiServer, judgements: list[Judgement], items: list[JudgeItem], caller: Caller, seconds: float
) -> dict[str, Any]:
    """Return the counts of the client compared with the counts of the server."""
    asked = server.asked()
    kinds = Counter(row["kind"] for row in asked)
    ours = Counter(judgement.outcome for judgement in judgements)
    theirs = {outcome: kinds[kind] for kind, outcome in SERVED.items()}
    served = Counter(row["question"] for row in asked if row["kind"] in SERVED)
    return {
        "calls": len(items),
        "every_item_once": sorted(j.item_id for j in judgements) == sorted(item.id for item in items),
        "outcomes": {str(outcome): count for outcome, count in sorted(ours.items())},
        "outcomes_match_the_servers_log": all(ours[outcome] == count for outcome, count in theirs.items()),
        "attempts": caller.tally.attempts,
        "attempts_match_the_servers_log": caller.tally.attempts == len(asked),
        "answered_items_asked_twice": sum(count > 1 for count in served.values()),
        "faults": {kind: count for kind, count in sorted(kinds.items()) if kind != "ok"},
        "calls_per_second": round(len(items) / seconds, 1),
    }
