"""The records of the JSON-lines files that were read last are kept in memory."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import Any

from tutelage.files.jsonl import read_records


class KeptRecords:
    """The records of the files that were read last, as far as the files have at most ``size`` bytes together.

    The records must be of a type whose values cannot be changed, because all readers get the same ones. The limit is
    not a number of files: the summary and the report read the same files, which are many and small in a short run.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: dict[tuple[Path, type[Any], int, int, int], tuple[Any, ...]] = {}
        """The records by path, type, inode, time of change and size of the file; the first were read longest ago."""
        self._lock = Lock()

    def read(self, path: Path, cls: type[Any], stat: os.stat_result) -> tuple[Any, ...]:
        """Return the records of a file whose state is ``stat``. A file that is kept in this state is not read again.

        Raises ``InputError`` as ``read_records`` does.
        """
        key = (path, cls, stat.st_ino, stat.st_mtime_ns, stat.st_size)
        with self._lock:
            found = self._kept.pop(key, None)
        if found is None:
            found = tuple(read_records(path, cls))
        with self._lock:
            self._kept[key] = found
            self._drop_oldest()
        return found

    def _drop_oldest(self) -> None:
        total = sum(size for *_, size in self._kept)
        while total > self._size:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            total -= oldest[-1]
