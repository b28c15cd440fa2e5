"""Results that take long to compute and depend on their inputs alone, kept in the user's cache folder.

A result is stored as one JSON file whose name is the hash of its inputs. The folder may be deleted at any time. A file
that cannot be read or written is ignored: the result is then computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """Return ``$TUTELAGE_CACHE``, or ``tutelage`` in the user's cache folder (XDG base directories)."""
    if named := os.environ.get("TUTELAGE_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tutelage"


def cached(kind: str, inputs: object, compute: Callable[[], Any]) -> Any:
    """Return the result of ``compute``, a plain JSON value, from the cache if it was computed for equal inputs before.

    ``inputs`` is a JSON value that contains everything that the result depends on, versions of libraries included.
    ``kind`` names the folder of the results. An exception of ``compute`` is raised and not stored.
    """
    result = read_cached(kind, inputs)
    if result is None:
        result = compute()
        write_cached(kind, inputs, result)
    return result


def read_cached(kind: str, inputs: object) -> Any:
    """Return what was stored for these inputs; None if there is nothing, or if it cannot be read."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        return json.loads(_path(kind, inputs).read_text(encoding="utf-8"))["result"]
    return None


def write_cached(kind: str, inputs: object, result: Any) -> None:
    """Store a plain JSON value for these inputs, in place of an earlier one. A cache that cannot be written is ignored.

    The file is complete or does not exist, but it is not made durable: a cache may be lost.
    """
    path = _path(kind, inputs)
    temporary = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"result": result}), encoding="utf-8")
        temporary.replace(path)


def _path(kind: str, inputs: object) -> Path:
    text = json.dumps(inputs, sort_keys=True, ensure_ascii=False)
    return cache_folder() / kind / f"{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}.json"
