"""The server starts, is stopped with all of its processes, and its end is one error with its last words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

import tutelage_vllm as plugin
from serving import command, context_with, is_gone, until
from tutelage import Context, Model, Prompt, Sampling, StageError
from tutelage_vllm import answering
from tutelage_vllm.checking import check
from tutelage_vllm.settings import VllmSettings, command_of

PROMPTS = [Prompt(f"sort {letter} b a") for letter in "cdefghij"]
SAMPLING = Sampling(temperature=1.0, max_new_tokens=8)


def pids(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def test_the_server_is_kept_until_it_is_released_and_then_gone(tmp_path: Path, student: Model) -> None:
    context = context_with("--pid", str(tmp_path / "pid"))
    for _ in range(2):
        assert len(list(plugin.generate_candidates(student, iter(PROMPTS[:1]), 1, SAMPLING, context))) == 1
    [pid] = pids(tmp_path / "pid")
    plugin.release(Model("vllm", "another"))
    os.kill(pid, 0)
    log = answering._kept[-1].server.log
    plugin.release(student)
    assert is_gone(pid, seconds=0.5)
    assert not log.parent.exists()


def test_a_server_that_crashes_is_one_error_and_what_was_answered_is_kept(
    tmp_path: Path, student: Model, stopped: None
) -> None:
    context = context_with("--crash-after", "3", "--pid", str(tmp_path / "pid"))
    found = []
    with pytest.raises(StageError) as error:
        for one in plugin.generate_candidates(student, iter(PROMPTS), 1, SAMPLING, context):
            found.append(one)  # noqa: PERF402  # what was yielded before the error is kept
    assert len(found) == 3
    message, *tail = str(error.value).splitlines()
    assert message.startswith(
        f"plugin vllm, model {student.name}: its server ended while it answered (exit status 137)"
    )
    assert "finished answers are kept, and the same command continues" in message
    assert tail[-1] == "  CUDA error: an illegal memory access was encountered"
    log = Path(message.partition("of its log ")[2].rstrip(":"))
    assert "loading" in log.read_text()
    again = context_with()
    assert len(list(plugin.generate_candidates(student, iter(PROMPTS), 1, SAMPLING, again))) == len(PROMPTS)


def failing(code: str) -> Context:
    return Context(settings=VllmSettings(command=(sys.executable, "-c", code), start_seconds=3.0))


@pytest.mark.parametrize(
    ("code", "how"),
    [
        (
            "print('No CUDA GPUs are available'); raise SystemExit(3)",
            ": its server ended before it answered (exit status 3)",
        ),
        (
            "import time; print('still loading', flush=True); time.sleep(60)",
            "/health within 3 s (start_seconds): [Errno 111] Connection refused",
        ),
    ],
    ids=["it ends", "it hangs"],
)
def test_a_server_that_does_not_start_is_an_error_with_its_last_lines(student: Model, code: str, how: str) -> None:
    started = time.monotonic()
    with pytest.raises(StageError) as error:
        list(plugin.generate_candidates(student, iter(PROMPTS), 1, SAMPLING, failing(code)))
    assert how in str(error.value)
    assert "No CUDA GPUs" in str(error.value) or "still loading" in str(error.value)
    assert time.monotonic() - started < 20
    assert not answering._kept


ODD = """
import http.server, sys
class Odd(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): ...
    def do_GET(self):
        status, content = REPLIES[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Odd).serve_forever()
"""


@pytest.mark.parametrize(
    ("replies", "problem"),
    [
        ({"/health": (200, b""), "/v1/models": (404, b"no such path")}, "lists no model at /v1/models: no such path"),
        (
            {"/health": (200, b""), "/v1/models": (200, b"<html>")},
            "lists no model at /v1/models: the reply is not JSON",
        ),
        ({"/health": (200, b""), "/v1/models": (200, b'{"data": []}')}, "lists no model at /v1/models. The last"),
        ({"/health": (404, b"no such path")}, "/health within 3 s (start_seconds): no such path. The last lines"),
    ],
    ids=["no path", "no JSON", "no model", "no health"],
)
def test_a_server_that_is_no_openai_server_is_an_error_of_the_server(
    student: Model, replies: dict[str, tuple[int, bytes]], problem: str
) -> None:
    code = f"REPLIES = {replies!r}\n{ODD}"
    settings = VllmSettings(command=(sys.executable, "-c", code, "{port}"), start_seconds=3.0)
    with pytest.raises(StageError) as error:
        list(plugin.generate_candidates(student, iter(PROMPTS), 1, SAMPLING, Context(settings=settings)))
    assert str(error.value).startswith(f"plugin vllm, model {student.name}: its server ")
    assert problem in str(error.value)
    assert not answering._kept


def test_an_error_shows_the_end_of_a_log_of_any_size(student: Model) -> None:
    code = "print('x' * 3_000_000); print('last\\n' * 300_000, end='y' * 1_000); raise SystemExit(1)"
    with pytest.raises(StageError) as error:
        list(plugin.generate_candidates(student, iter(PROMPTS), 1, SAMPLING, failing(code)))
    _, *tail = str(error.value).splitlines()
    assert tail == ["  last"] * 19 + ["  " + "y" * 500]


def test_a_long_error_before_the_end_of_the_log_is_shown_from_its_beginning(student: Model) -> None:
    """torch's message of a GPU without free memory has 600 characters, and its cause is at the beginning."""
    error_line = "torch.OutOfMemoryError: CUDA out of memory." + " Tried to allocate 20 MiB." * 40
    code = f"print('Worker ' + {error_line!r}); print('last\\n' * 20, end=''); raise SystemExit(1)"
    with pytest.raises(StageError) as error:
        list(plugin.generate_candidates(student, iter(PROMPTS), 1, SAMPLING, failing(code)))
    _, first, *others = str(error.value).splitlines()
    assert first == "  " + error_line.removeprefix("torch.")[:500]
    assert others == ["  ...", *["  last"] * 20]


DYING = """
import http.server, json, os, sys
class Dying(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): ...
    def reply(self, status, value):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def do_GET(self):
        self.reply(200, {"data": [{"id": "served"}]})
    def do_POST(self):
        self.reply(500, {"error": {"message": "EngineCore encountered an issue."}})
        for prefix in ("(Worker pid=7) ERROR", "(EngineCore pid=6) ERROR"):
            print(f"{prefix} torch.OutOfMemoryError: CUDA out of memory.")
        print("(APIServer pid=5) ERROR EngineDeadError: See stack trace (above) for the root cause.")
        print("(APIServer pid=5) INFO: Shutting down\\n" * 30, flush=True)
        os._exit(0)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Dying).serve_forever()
"""


def test_a_server_whose_engine_dies_exits_with_status_0_and_its_error_shows_the_cause_and_keeps_the_log(
    student: Model, stopped: None
) -> None:
    """As vLLM 0.25.1 ends: it logs the cause, then many lines of its shutdown, and exits with status 0."""
    context = Context(settings=VllmSettings(command=(sys.executable, "-c", DYING, "{port}"), start_seconds=30.0))
    with pytest.raises(StageError) as error:
        list(plugin.generate_candidates(student, iter(PROMPTS[:1]), 1, SAMPLING, context))
    message, *shown = str(error.value).splitlines()
    assert "ended while it answered (exit status 0)" in message
    assert shown[:3] == [
        "  OutOfMemoryError: CUDA out of memory.",
        "  EngineDeadError: See stack trace (above) for the root cause.",
        "  ...",
    ]
    assert shown[3:] == ["  (APIServer pid=5) INFO: Shutting down"] * 20
    answering.release_all()
    log = Path(message.partition("of its log ")[2].rstrip(":"))
    assert log.is_file()


def test_a_user_who_stops_while_the_server_starts_waits_for_nothing(student: Model) -> None:
    context = Context(settings=VllmSettings(command=(sys.executable, "-c", "import time; time.sleep(60)")))
    stopping = Context(settings=context.settings, cancelled=lambda: True)
    started = time.monotonic()
    assert list(plugin.generate_candidates(student, iter(PROMPTS), 1, SAMPLING, stopping)) == []
    assert time.monotonic() - started < 15


PROGRAM = """
import sys, time
import tutelage_vllm as plugin
from tutelage import Context, Model, Prompt, Sampling
from tutelage_vllm.settings import VllmSettings
context = Context(settings=VllmSettings(command=tuple(sys.argv[2:])))
list(plugin.generate_candidates(Model("vllm", sys.argv[1]), [Prompt("sort b a")], 1, Sampling(), context))
print("answered", flush=True)
{end}
"""


def parent(student: Model, pid_file: Path, end: str) -> subprocess.Popen[str]:
    """A process that asks a server of its own, and then does ``end``."""
    code = PROGRAM.replace("{end}", textwrap.dedent(end))
    arguments = [sys.executable, "-c", code, student.name, *command("--pid", str(pid_file))]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "exit"])
def test_no_server_is_left_when_the_process_of_the_run_ends(tmp_path: Path, student: Model, how: str) -> None:
    end = "" if how == "exit" else "time.sleep(60)"
    with parent(student, tmp_path / "pid", end) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "answered\n"
        [pid] = pids(tmp_path / "pid")
        if how != "exit":
            os.kill(pid, 0)
            process.send_signal(getattr(signal, how))
        process.wait(30)
    assert is_gone(pid)


def test_processes_that_the_server_has_started_end_with_it(tmp_path: Path) -> None:
    """vLLM computes in a process of its own, which must not keep the GPU's memory."""
    child = f"import os, time; open({str(tmp_path / 'child')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    keeper = [sys.executable, str(Path(answering.__file__).with_name("keeper.py")), str(os.getpid())]
    process = subprocess.Popen([*keeper, sys.executable, "-c", code])
    until(lambda: bool(pids(tmp_path / "child")))
    [pid] = pids(tmp_path / "child")
    process.terminate()
    process.wait(30)
    assert is_gone(pid)


def test_vllm_is_started_on_the_folder_at_this_machine_alone_and_keeps_its_own_sampling_defaults() -> None:
    settings = VllmSettings(python="/venv/bin/python", arguments=("--enforce-eager",), gpu_memory_utilization=0.5)
    sent = command_of(settings, Path("/run/checkpoint"), 4321)
    assert sent[:3] == ["/venv/bin/python", "-m", "vllm.entrypoints.openai.api_server"]
    options = dict(zip(sent[3:-2:2], sent[4:-2:2], strict=True))
    assert options == {
        "--model": "/run/checkpoint",
        "--host": "127.0.0.1",
        "--port": "4321",
        "--dtype": "auto",
        "--gpu-memory-utilization": "0.5",
        "--generation-config": "vllm",
    }
    assert sent[-2:] == ["--disable-uvicorn-access-log", "--enforce-eager"]


def test_another_command_gets_the_folder_and_the_port() -> None:
    launch = ("{python}", "-m", "sglang.launch_server", "--model-path", "{folder}", "--port={port}")
    sent = command_of(VllmSettings(python="/sgl/bin/python", command=launch), Path("/run/checkpoint"), 4321)
    assert sent == [
        "/sgl/bin/python", "-m", "sglang.launch_server", "--model-path", "/run/checkpoint", "--port=4321",
    ]  # fmt: skip


def test_the_server_gets_no_key_and_may_not_connect_to_a_hub(
    tmp_path: Path, student: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    file = tmp_path / "environment.json"
    code = f"import json, os; json.dump(dict(os.environ), open({str(file)!r}, 'w'))"
    with pytest.raises(StageError):
        list(plugin.generate_candidates(student, iter(PROMPTS), 1, SAMPLING, failing(code)))
    environment: dict[str, Any] = json.loads(file.read_text())
    assert "VLLM_API_KEY" not in environment
    assert environment["HF_HUB_OFFLINE"] == environment["VLLM_NO_USAGE_STATS"] == "1"


NAMES_ITS_MODULE = "import other; raise SystemExit(f'imported {other.__file__}')"
"""A server that ends with the place from which it imports the module ``other``."""


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (("-c", NAMES_ITS_MODULE), "installed"),
        (("-m", "program"), "installed"),
        (("-c", "import subprocess, sys; subprocess.run([sys.executable, '-m', 'program'])"), "installed"),
        (("scripts/serve.py",), "scripts"),
        (("-W", "ignore", "scripts/serve.py"), "scripts"),
    ],
    ids=["-c", "-m", "a process of the server", "a script", "a script after options"],
)
def test_a_server_imports_nothing_from_the_current_folder(
    tmp_path: Path, student: Model, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], folder: str
) -> None:
    for name in ("installed", "scripts", "."):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "other.py").touch()
    (tmp_path / "installed/program.py").write_text(NAMES_ITS_MODULE)
    (tmp_path / "scripts/serve.py").write_text(NAMES_ITS_MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    context = Context(settings=VllmSettings(command=(sys.executable, *arguments), start_seconds=30.0))
    with pytest.raises(StageError) as error:
        list(plugin.generate_candidates(student, iter(PROMPTS), 1, SAMPLING, context))
    assert str(error.value).splitlines()[-1] == f"  imported {tmp_path / folder / 'other.py'}"


def test_a_folder_of_the_current_folder_is_not_the_installed_vllm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vllm").mkdir()
    monkeypatch.chdir(tmp_path)
    [finding] = check(VllmSettings(python=sys.executable), "any")
    assert "has no vllm" in finding.detail


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"python": "/no/such/python"}, "settings.python: no program '/no/such/python'"),
        ({"command": ("/no/such/server",)}, "settings.command: no program '/no/such/server'"),
        ({"python": sys.executable}, "has no vllm"),
        ({"command": (sys.executable, "{folder}", "8000")}, "settings.command: {port} missing"),
        ({"command": (sys.executable,), "arguments": ("--port={port}",)}, "settings.command: {folder} missing"),
        ({"command": (sys.executable,)}, "settings.command: {folder} and {port} missing"),
    ],
    ids=["no python", "no program", "no vllm", "no port", "no folder", "neither"],
)
def test_a_program_that_does_not_exist_is_found_before_work(settings: dict[str, Any], problem: str) -> None:
    [finding] = check(VllmSettings(**settings), "any")
    assert finding.ok is False
    assert problem in finding.detail


def test_the_stand_in_is_found() -> None:
    [finding] = check(VllmSettings(command=command()), "any")
    assert finding.ok
