"""The connection of this process to a Ray cluster. All calls of Ray in the process of the run are in this module."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tutelage.errors import InputError, StageError

# Read when ray is imported. Otherwise a call after the end of the connection starts another cluster.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)

LOST = (RayActorError, NodeDiedError, WorkerCrashedError, OutOfMemoryError, ObjectLostError)
"""The errors after which an actor cannot be used any more, or its results are lost with its node."""
FAILED = RayError
"""Any error of Ray."""

_STORE_BYTES = 200 * 2**20
"""Object store of a cluster on this machine. Texts are small; Ray's default is a third of the memory."""
_REASON_CHARACTERS = 500

_address: list[str] = []
"""The cluster that this process is connected to."""


def connect(address: str) -> None:
    """Connect this process to a cluster; an empty address starts one on this machine.

    Ray replaces the handler of SIGTERM, by which a run stops. It is restored if this is called in the main thread.
    Raises ``StageError`` if the cluster does not answer, and ``InputError`` if the process uses another cluster.
    """
    if ray.is_initialized():
        if _address and _address[-1] != address:
            raise InputError(
                f"plugin ray, settings.address: {address!r} and {_address[-1]!r}; a run can use one cluster only"
            )
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports to its server only if the user wants it
    local = {} if address else {"object_store_memory": _STORE_BYTES, "include_dashboard": False}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
    except Exception as error:
        raise StageError(f"plugin ray, settings.address: no cluster at {address!r}: {reason(error)}") from error
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
    _address[:] = [address]


def start(create: Callable[..., Any], argument: object, cpus: float, gpus: float) -> Any:
    """Start an actor on any node that has room, as far as possible on different nodes. Does not wait for it.

    Ray does not restart it, because its node may be lost. The caller starts a new actor, on any node.
    """
    options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
    return ray.remote(create).options(**options).remote(argument)


def result(reference: Any) -> Any:
    """Wait for the result of a call of an actor. Raises one of ``LOST``, or another error of Ray."""
    return ray.get(reference)


def end(actor: Any) -> None:
    """End an actor, if it has not ended yet."""
    with suppress(Exception):  # the cluster may have ended before
        ray.kill(actor)


def free_resources() -> str:
    """Return what the cluster has free, for messages."""
    found = ray.available_resources()
    return amounts(found.get("CPU", 0.0), found.get("GPU", 0.0))


def amounts(cpus: float, gpus: float) -> str:
    """Return an amount of resources, for messages."""
    return f"{cpus:g} CPUs and {gpus:g} GPUs"


def reason(error: Exception) -> str:
    """Return the message of an error of Ray in one line of limited length."""
    return " ".join(str(error).split())[:_REASON_CHARACTERS] or type(error).__name__
