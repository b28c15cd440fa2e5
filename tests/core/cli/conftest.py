"""Fixtures for the command line; the plugin of ``echoing_world`` is installed as a third-party distribution."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from recipes import numbers_recipe

from tutelage.cli import cli

FIXTURES = Path(__file__).parents[2] / "fixtures"
Invoke = Callable[..., Result]


@pytest.fixture(scope="session")
def numbers_distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ``sys.path`` with the distribution ``numbers-world``, which provides the plugin ``numbers``."""
    folder = tmp_path_factory.mktemp("numbers-world")
    metadata = folder / "numbers_world-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: numbers-world\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[tutelage]\nnumbers = echoing_world\n")
    shutil.copy(FIXTURES / "echoing_world.py", folder)
    return folder


@pytest.fixture
def invoke(numbers_distribution: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Invoke:
    """Call the command line in this process, with an empty working folder."""
    monkeypatch.syspath_prepend(str(numbers_distribution))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments, **options: CliRunner().invoke(cli, [str(each) for each in arguments], **options)


@pytest.fixture
def real(numbers_distribution: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Call the installed command as a separate process, with an empty working folder."""
    path = os.pathsep.join(filter(None, (str(numbers_distribution), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("tutelage")), *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return call


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a recipe for the plugin ``numbers``; keyword arguments replace top-level keys."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "numbers.yaml"
        path.write_text(yaml.safe_dump(numbers_recipe(**changes)), encoding="utf-8")
        return path

    return write


SMALL = {"pipelines": {"self-reward": None}, "controls": {}, "iterations": 1}
"""Changes for a short recipe with the models M0, M1 and M2/self-reward."""


@pytest.fixture
def small() -> dict[str, Any]:
    """Changes for a short recipe."""
    return dict(SMALL)


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A copy of a finished run, which a test may change."""
    return Path(shutil.copytree(FIXTURES / "golden-run", tmp_path / "golden"))
