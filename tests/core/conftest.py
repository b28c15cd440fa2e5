"""Real distributions for the tests of discovery."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parents[1] / "fixtures" / "plugins"


def install(project: Path, folder: Path) -> None:
    """Build a project's wheel with its own build backend and unpack it, as an installer without a network would."""
    import hatchling.build

    with contextlib.chdir(project), contextlib.redirect_stdout(io.StringIO()):
        wheel = hatchling.build.build_wheel(str(folder))
    with zipfile.ZipFile(folder / wheel) as archive:
        archive.extractall(folder)
    (folder / wheel).unlink()


@pytest.fixture(scope="session")
def broken_plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ``PYTHONPATH`` in which every fixture distribution is installed."""
    folder = tmp_path_factory.mktemp("broken-plugins")
    for project in sorted(FIXTURES.iterdir()):
        install(project, folder)
    return folder
