"""Results that take long to compute and depend on their inputs alone, kept in the user's cache folder.

A result is stored as one JSON file whose name is the hash of its inputs. The folder may be deleted at any time. A file
that cannot be read or written is ignored: the result is then computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tutelage.errors import TutelageError
from tutelage.files.whole import write_whole


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
    text = json.dumps(inputs, sort_keys=True, ensure_ascii=False)
    name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    path = cache_folder() / kind / f"{name}.json"
    with suppress(OSError, ValueError, LookupError, TypeError):
        return json.loads(path.read_text(encoding="utf-8"))["result"]
    result = compute()
    stored = json.dumps({"result": result})
    with suppress(OSError, TutelageError):
        write_whole(path, lambda temporary: temporary.write_text(stored, encoding="utf-8"))
    return result


def digest_of_files(files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of the content of each file, by name, for ``inputs`` of ``cached``."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)}
