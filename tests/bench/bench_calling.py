"""Measure calls per second and memory of API calls, including plugin, SDK, retries and ledger.

    python tests/bench/bench_calling.py [--calls 100000] [--in-flight 64] [--latency 0.2] [--service openai]

The test server answers each call after a fixed latency, so the maximum rate is in-flight / latency. Memory is the
resident set of this process, after 1,000 calls and its maximum after that. The ledger is a new file.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from api_servers import running

from tutelage.context import Context
from tutelage.preferences.judging import ADDITIVE_RUBRIC
from tutelage.records import JudgeItem, Model, Sampling
from tutelage.services.caller import Caller
from tutelage.services.ledger import Ledger
from tutelage.services.requests import Limits

WARM = 1000
"""Number of calls before the measurement starts, so that imports, connections and caches are warm."""
MIB = 1024 * 1024


def measure(service: str, calls: int, in_flight: int, latency: float) -> dict[str, Any]:
    """Judge ``calls`` items; return the rates and the memory."""
    plugin: Any = importlib.import_module(f"tutelage_{service}")
    with tempfile.TemporaryDirectory() as folder, running(service, None, "--latency", str(latency)) as server:
        url = f"{server.url}/v1" if service == "openai" else server.url
        settings = plugin.describe().settings(base_url=url, revision="bench", limits=Limits(in_flight=in_flight))
        ledger = Ledger(Path(folder) / "ledger.db")
        context = Context(settings=settings, caller=Caller(ledger))
        items = (JudgeItem(str(number), f"Question {number}?", f"Answer {number}. " * 20) for number in range(calls))
        arguments = {"rubric": ADDITIVE_RUBRIC, "samples": 1, "sampling": Sampling(), "context": context}
        outcomes: Counter[str] = Counter()
        warm_at = warm_memory = warm_cpu = highest = 0.0
        for number, judgement in enumerate(plugin.judge(model=Model(service), items=items, **arguments), 1):
            outcomes[judgement.outcome] += 1
            if number == WARM:
                warm_at, warm_memory, warm_cpu = time.monotonic(), _resident(), _cpu_seconds()
            if number % 100 == 0:
                highest = max(highest, _resident())
        rate = (calls - WARM) / (time.monotonic() - warm_at)
        cpu = (_cpu_seconds() - warm_cpu) / (calls - WARM)
        stored = ledger.path.stat().st_size
    return {
        "service": service,
        "calls": calls,
        "outcomes": dict(outcomes),
        "calls_per_second": round(rate, 1),
        "of_possible": round(rate * latency / in_flight, 3),
        "cpu_ms_per_call": round(1000 * cpu, 2),
        "mib_at_1000_calls": round(warm_memory, 1),
        "mib_highest": round(highest, 1),
        "ledger_mib": round(stored / MIB, 1),
    }


def _resident() -> float:
    """Resident set of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--service", choices=("openai", "gemini"), default="openai")
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.2)
    options = parser.parse_args()
    print(json.dumps(measure(options.service, options.calls, options.in_flight, options.latency), indent=2))
