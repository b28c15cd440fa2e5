"""A server of one folder of weights on this machine: started, called, and stopped with all of its processes."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field

from tutelage import StageError
from tutelage_vllm import keeper
from tutelage_vllm.settings import path_variables

HOST = "127.0.0.1"
_POLL_SECONDS = 0.1
_CHECK_SECONDS = 5.0
"""Maximum time that a server which has just failed needs to end or to answer again."""
_STOP_SECONDS = 30.0
_TAIL_LINES, _TAIL_BYTES, _LINE_CHARACTERS = 20, 1_000_000, 500
"""How much of the end of a log an error shows, and of each line. A log may have millions of lines, or one of many
megabytes."""
_ERROR, _ERROR_LINES = re.compile(r"\b[A-Z]\w*(?:Error|Exception): .*"), 3
"""The last line of a traceback, and how many of them an error shows. vLLM logs more than 20 lines after the cause."""
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
"""The server gets a folder with all files. It has no reason to connect to another machine."""
_KEYS = ("VLLM_API_KEY", "SGLANG_API_KEY")
"""Variables by which the server would expect a key."""


class RequestError(Exception):
    """A request that the server did not answer, or answered with an error that another attempt may not have."""


class Rejected(Exception):
    """A request that the server cannot answer: it is too long or malformed. The message is the server's."""


@define(eq=False)
class Server:
    """A running server. ``start`` returns one that answers."""

    name: str
    """The model, for messages."""
    process: subprocess.Popen[bytes]
    """The keeper, which ends together with the server."""
    port: int
    log: Path
    model: str = ""
    """The name under which the server has the model."""
    context: int | None = None
    """Maximum number of tokens of a prompt and its answer, if the server states it."""
    _stopping: bool = field(default=False, init=False)
    _log_is_named: bool = field(default=False, init=False)
    """Whether an error has named the log. It is kept then: vLLM exits with status 0 also if its engine has died."""

    @classmethod
    def start(
        cls,
        name: str,
        command: Callable[[int], Sequence[str]],
        seconds: float,
        cancelled: Callable[[], bool],
    ) -> Server | None:
        """Start the command for a free port and wait until the server answers.

        Returns None if ``cancelled`` returned true. Raises ``StageError`` with the last lines of its log if the server
        ends, does not answer within ``seconds``, or lists no model.
        """
        port = _free_port()
        log = Path(tempfile.mkdtemp(prefix="tutelage-vllm-")) / "server.log"
        own = command(port)
        environment = {name: value for name, value in os.environ.items() if name not in _KEYS}
        environment |= _OFFLINE | path_variables(own)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, str(keeper.__file__), str(os.getpid()), *own],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        server = cls(name, process, port, log)
        try:
            return server if server._wait(seconds, cancelled) else None
        except BaseException:
            server.stop()
            raise

    def _wait(self, seconds: float, cancelled: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + seconds
        while problem := self._health_problem():
            if self.process.poll() is not None:
                raise StageError(self._ended("ended before it answered"))
            if cancelled():
                self.stop()
                return False
            if time.monotonic() > deadline:
                how = f"did not answer at http://{HOST}:{self.port}/health within {seconds:g} s (start_seconds)"
                raise StageError(self._ended(f"{how}: {problem}"))
            time.sleep(_POLL_SECONDS)
        try:
            listed = self._send("GET", "/v1/models", None, _CHECK_SECONDS).get("data")
        except (RequestError, Rejected) as error:
            raise StageError(self._ended(f"lists no model at /v1/models: {error}")) from error
        if not isinstance(listed, list) or not listed or not isinstance(listed[0], Mapping):
            raise StageError(self._ended("lists no model at /v1/models"))
        self.model = str(listed[0].get("id", ""))
        limit = listed[0].get("max_model_len")
        self.context = limit if isinstance(limit, int) and limit > 0 else None
        return True

    def complete(self, body: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
        """Return the reply to ``POST /v1/completions``.

        Raises ``Rejected``, or ``RequestError`` if another attempt may succeed.
        """
        return self._send("POST", "/v1/completions", {"model": self.model, **body}, seconds)

    def check(self) -> None:
        """Raise ``StageError`` with the last lines of the log if the server has ended or does not answer any more."""
        deadline = time.monotonic() + _CHECK_SECONDS
        while True:
            if self.process.poll() is not None or self._stopping:
                raise StageError(self._ended("ended while it answered", finished=True))
            if not self._health_problem():
                return
            if time.monotonic() > deadline:
                raise StageError(self._ended("does not answer any more", finished=True))
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End the server and all of its processes. A server that has ended is fine.

        Deletes its log unless the server has failed or an error has named the log.
        """
        failed = self.process.poll() not in (None, 0)
        self._stopping = True
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if not (failed or self._log_is_named):
            self.log.unlink(missing_ok=True)
            self.log.parent.rmdir()

    def _health_problem(self) -> str:
        """Return why the server does not answer at /health; an empty text if it does."""
        try:
            self._request("GET", "/health", None, 1.0)
        except (RequestError, Rejected) as error:
            return str(error)
        return ""

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float) -> Mapping[str, Any]:
        content = self._request(method, path, body, seconds)
        try:
            value = json.loads(content)
        except ValueError as error:
            raise RequestError(f"the reply is not JSON: {content[:200]!r}") from error
        if not isinstance(value, Mapping):
            raise RequestError(f"the reply is no object: {content[:200]!r}")
        return value

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float) -> bytes:
        """Return the content of a reply. The connection is made to this machine directly, never through a proxy."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=seconds)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            received = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise RequestError(str(error) or type(error).__name__) from error
        finally:
            connection.close()
        if 400 <= reply.status < 500 and reply.status not in (408, 429):
            raise Rejected(_error_text(received) or f"status {reply.status}")
        if reply.status != 200:
            raise RequestError(f"status {reply.status}: {_error_text(received)}")
        return received

    def _ended(self, how: str, finished: bool = False) -> str:
        self._log_is_named = True
        status = self.process.poll()
        with_status = f" (exit status {status})" if status is not None else ""
        kept = "; finished answers are kept, and the same command continues" if finished else ""
        lines = self._shown_lines()
        tail = "\n".join(f"  {line}" for line in lines) if lines else "  (it wrote nothing)"
        return (
            f"plugin vllm, model {self.name}: its server {how}{with_status}{kept}. The last lines of its log "
            f"{self.log}:\n{tail}"
        )

    def _shown_lines(self) -> list[str]:
        """The last lines of the log, after those of the last different errors before them."""
        with self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
        found = (_ERROR.search(line) for line in lines[:-_TAIL_LINES])
        errors = list(dict.fromkeys(error[0][:_LINE_CHARACTERS] for error in found if error))[-_ERROR_LINES:]
        tail = [line[-_LINE_CHARACTERS:] for line in lines[-_TAIL_LINES:]]
        return [*errors, "...", *tail] if errors else tail


def _error_text(content: bytes) -> str:
    """The message of an error in OpenAI's format, in vLLM's older one, or the text itself."""
    text = content.decode(errors="replace").strip()
    try:
        value = json.loads(text)
    except ValueError:
        return text[:500]
    error = value.get("error", value) if isinstance(value, Mapping) else value
    return str(error.get("message", error) if isinstance(error, Mapping) else error)[:500]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
        return port
