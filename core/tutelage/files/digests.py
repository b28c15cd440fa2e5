"""Digests of values, files and folders: equal content has an equal digest on every machine.

A digest is 32 hexadecimal digits, the first 128 bits of a SHA-256. The digest of a large file is remembered in the
user's cache folder, so that gigabytes of weights are read once and not at each start. Several files, and the pieces of
a very large file in a folder, are read in parallel: one core computes about 1 GB/s.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tutelage.errors import InputError
from tutelage.files.jsonl import converter, dump
from tutelage.files.user_cache import cached

T = TypeVar("T")

DIGITS = 32
_LARGE = 1 << 24
"""Size in bytes from which the digest of a file is remembered."""
_VERY_LARGE = 1 << 30
"""Size in bytes above which the pieces of a file in a folder are read in parallel."""
_PIECE = 1 << 28
"""Size in bytes of these pieces."""
_BUFFER = 1 << 20
_MAX_THREADS = 16


def value_digest(value: Any) -> str:
    """Return the digest of a record or of plain values. The order of the keys of a mapping does not matter."""
    plain = converter().unstructure(value)
    text = json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def rows_digest(rows: Iterable[Any]) -> str:
    """Return the digest of records or mappings in their order, as they are written to a JSON-lines file."""
    found = hashlib.sha256()
    for row in rows:
        found.update(dump(row).encode() + b"\n")
    return found.hexdigest()[:DIGITS]


def file_digest(path: Path) -> str:
    """Return the digest of a file's content. Raises InputError if it cannot be read."""
    with _explained(path):
        stat = path.stat()
        if stat.st_size < _LARGE:
            return _read_digest(path)
        return str(cached("digests", _state(path, stat), lambda: _read_digest(path)))


def folder_digest(path: Path) -> str:
    """Return the digest of the names and contents of all files in a folder. Hidden files are not included.

    The content of a file of more than a gigabyte is represented by the digests of its pieces. Raises InputError if a
    file cannot be read.
    """
    files = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())
    visible = [file for file in files if not any(part.startswith(".") for part in file.parts)]
    with _threads() as pieces:
        digests = _in_parallel(partial(_digest_in_folder, pieces=pieces), [path / file for file in visible])
    return value_digest({file.as_posix(): digest for file, digest in zip(visible, digests, strict=True)})


def _digest_in_folder(path: Path, pieces: ThreadPoolExecutor) -> str:
    """Return the digest of a file; of a very large file that of the digests of its pieces, read by ``pieces``."""
    with _explained(path):
        stat = path.stat()
        if stat.st_size <= _VERY_LARGE:
            return file_digest(path)

        def digest_of_piece(start: int) -> str:
            found = hashlib.sha256()
            with path.open("rb") as file:
                file.seek(start)
                left = _PIECE
                while left and (content := file.read(min(left, _BUFFER))):
                    found.update(content)
                    left -= len(content)
            return found.hexdigest()

        def compute() -> str:
            return value_digest(list(pieces.map(digest_of_piece, range(0, stat.st_size, _PIECE))))

        return str(cached("digests", [*_state(path, stat), _PIECE], compute))


def _state(path: Path, stat: os.stat_result) -> list[object]:
    """What identifies the content of a file whose digest is remembered."""
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, read now. Raises ``OSError`` if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_each(paths: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of each of several files, read now and in parallel. Raises ``OSError`` as ``sha256_of``."""
    return _in_parallel(sha256_of, paths)


def _in_parallel(function: Callable[[Path], T], paths: Sequence[Path]) -> list[T]:
    """Return the results of ``function`` in the order of the paths."""
    with _threads() as threads:
        return list(threads.map(function, paths))


def _threads() -> ThreadPoolExecutor:
    """Return threads that compute digests: ``hashlib`` releases the GIL while it computes."""
    return ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1))


def _read_digest(path: Path) -> str:
    return sha256_of(path)[:DIGITS]
