"""Run the tests of a module against its mutants: a server that imports the libraries once and forks for each mutant.

It runs in a copy of the tree, whose modules are first on ``PYTHONPATH``. It reads one request per line, a JSON object
with ``tests``, ``files`` and, of a mutant, ``file``, ``text`` and ``line``, and answers with one line each.
"""

import contextlib
import faulthandler
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

LIBRARIES = (
    *("hypothesis", "numpy", "pandas", "scipy.stats", "scipy.optimize", "click.testing", "httpx", "yaml", "datasketch"),
    *("torch", "datasets", "peft", "transformers.models.phi.modeling_phi", "trl.trainer.dpo_trainer"),
)
KILLER = Path("mutants-killer.txt").resolve()
"""The test that failed with the last mutant."""
SECONDS, TIMES = 15, 5
"""A test hangs if it takes this much longer, and this many times as long, as without a mutant."""


class Observer:
    """A plugin of pytest that orders the tests, ends one that hangs, and records what a run without a mutant covers."""

    def __init__(self, known: dict[str, dict[str, Any]], line: str, files: set[str], record: bool) -> None:
        self.known, self.line, self.files, self.record = known, line, files, record
        self.found: dict[str, dict[str, Any]] = {}
        self.lines: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Tests that run the changed line are first; of these, the fast ones and those that killed other mutants."""

        def order(item: pytest.Item) -> tuple[bool, float]:
            known = self.known.get(item.nodeid, {"lines": [], "seconds": 0.0, "kills": 0})
            return self.line not in known["lines"], known["seconds"] / (1 + known["kills"])

        if self.known:
            items.sort(key=order)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        usual = self.known.get(item.nodeid, {"seconds": 60.0})["seconds"]
        faulthandler.dump_traceback_later(SECONDS + TIMES * usual, exit=True)
        self.lines = set()
        if self.record:
            threading.settrace(self.trace)
            sys.settrace(self.trace)
        started = time.monotonic()
        yield
        sys.settrace(None)
        self.found[item.nodeid] = {"seconds": time.monotonic() - started, "lines": sorted(self.lines), "kills": 0}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            KILLER.write_text(report.nodeid)

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in self.files:
            return None
        self.lines.add(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        return self.trace


def main() -> None:
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    known: dict[str, dict[str, Any]] = {}
    moment = int(time.time())
    for number, line in enumerate(sys.stdin, start=1):
        request = json.loads(line)
        path = Path(request["file"]).resolve() if "file" in request else None
        before = path.read_bytes() if path else b""
        if path:
            path.write_text(request["text"], encoding="utf-8")
            os.utime(path, (moment - number, moment - number))  # no compiled file of another mutant is taken for it
        started = time.monotonic()
        answer: dict[str, Any] = {"status": _run(request, known, f"{path}:{request.get('line')}")}
        if path:
            path.write_bytes(before)
        else:
            known = json.loads(Path("mutants-known.json").read_text())
        if KILLER.exists():
            known.get(KILLER.read_text(), {"kills": 0})["kills"] += 1
            KILLER.unlink()
        print(json.dumps(answer | {"seconds": round(time.monotonic() - started, 1)}), flush=True)


def _run(request: dict[str, Any], known: dict[str, dict[str, Any]], line: str) -> int:
    """The exit status of the tests in a fork; processes that they leave behind are ended."""
    pid = os.fork()
    if not pid:
        os.setsid()
        output = os.open("mutants-output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        files = {str(Path(file).resolve()) for file in request["files"]}
        observer = Observer(known, line, files, record="file" not in request)
        status = int(pytest.main(["-x", "-p", "no:faulthandler", *request["tests"]], plugins=[observer]))
        if observer.record:
            Path("mutants-known.json").write_text(json.dumps(observer.found))
        os._exit(status)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return status


if __name__ == "__main__":
    del sys.path[0]  # this folder, whose modules have names of libraries
    main()
