"""The settings of the plugin, and the command of its server."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from attrs import field, frozen, validators

NEUTRAL_SETTINGS = (
    "python",
    "gpu_memory_utilization",
    "start_seconds",
    "request_seconds",
    "requests_at_once",
)
"""Settings that change no result. ``dtype``, ``arguments`` and ``command`` do: they may quantise, for example."""


@frozen
class VllmSettings:
    """How the server is started and called. Recipes set them under ``models.student.generator.settings``."""

    python: str = ""
    """Python interpreter with vLLM, such as `~/vllm/bin/python`. If empty, the one that runs tutelage."""
    command: tuple[str, ...] = ()
    """Command of another server with OpenAI's completions, such as SGLang's. {python}, {folder} and {port} are
    replaced. If empty, vLLM's server is started."""
    arguments: tuple[str, ...] = ()
    """Further arguments of the server, such as `--enforce-eager`."""
    dtype: str = "auto"
    """Type of the weights in vLLM: auto is that of the checkpoint, but bfloat16 for a checkpoint of float32."""
    gpu_memory_utilization: float = field(default=0.9, validator=[validators.gt(0.0), validators.le(1.0)])
    """Share of the GPU's memory that vLLM takes."""
    start_seconds: float = field(default=600.0, validator=validators.gt(0))
    """Maximum time from the start of the server until it answers, in seconds."""
    request_seconds: float = field(default=600.0, validator=validators.gt(0))
    """Maximum time of one request, in seconds."""
    requests_at_once: int = field(default=256, validator=validators.ge(1))
    """Maximum number of requests in flight."""


SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""Python then imports nothing from the current folder, nor from the folder of a script. A variable, not the option
``-P``: processes that the server starts inherit it, and Python before 3.11 ignores it instead of ending with an error.
"""


def interpreter(settings: VllmSettings) -> str:
    """Return the Python interpreter of the server."""
    return str(Path(settings.python).expanduser()) if settings.python else sys.executable


def command_of(settings: VllmSettings, folder: Path, port: int) -> list[str]:
    """Return the command that serves the weights in ``folder`` at ``port`` of 127.0.0.1."""
    if settings.command:
        values = {"{python}": interpreter(settings), "{folder}": str(folder), "{port}": str(port)}
        return [_filled(part, values) for part in (*settings.command, *settings.arguments)]
    return [
        *(interpreter(settings), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(folder)),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
        *("--dtype", settings.dtype),
        *("--gpu-memory-utilization", f"{settings.gpu_memory_utilization:g}"),
        *("--generation-config", "vllm"),  # else generation_config.json changes the sampling parameters
        "--disable-uvicorn-access-log",  # a line per request would hide the cause of an error
        *settings.arguments,
    ]


def path_variables(command: Sequence[str]) -> dict[str, str]:
    """Return the environment variables that decide from where the server of a command imports modules.

    A command that begins with ``python -m`` or ``python -c`` imports nothing from the folder in which the user calls
    tutelage. Another command may run a script, which may import the modules beside it; it is left as it is.
    """
    return SAFE_PATH if command[1:2] in (["-m"], ["-c"]) else {}


def _filled(part: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        part = part.replace(name, value)
    return part
