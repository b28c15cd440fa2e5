"""``run.json`` has the versions of the first start, and the plugin files of the last."""

import json
from pathlib import Path

import pytest

from tutelage.errors import InputError
from tutelage.planning.artifacts import DESCRIPTION
from tutelage.plugins.files import PluginFile
from tutelage.plugins.registry import Registry
from tutelage.runs.description import describe_run, plugin_files
from tutelage.runs.store import Store


def registry_with(path: Path, text: str) -> Registry:
    path.write_text(text)
    registry = Registry.empty()
    registry.load_files([PluginFile.of(str(path))])
    return registry


def test_the_plugin_files_of_the_last_start_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    path = tmp_path / "mine.py"
    registry = registry_with(path, "def judge(answer):\n    return 1\n")
    describe_run(store, registry)
    first = json.loads(store.path(DESCRIPTION).read_text())
    assert plugin_files(store.root) == list(registry.files)
    changed = registry_with(path, "def judge(answer):\n    return 2\n")
    describe_run(store, changed)
    second = json.loads(store.path(DESCRIPTION).read_text())
    assert plugin_files(store.root) == list(changed.files)
    assert {**first, "plugin_files": None} == {**second, "plugin_files": None}


def test_a_run_without_plugin_files_is_described_as_before(tmp_path: Path) -> None:
    store = Store(tmp_path)
    describe_run(store, Registry.empty())
    assert "plugin_files" not in json.loads(store.path(DESCRIPTION).read_text())
    assert plugin_files(tmp_path) == plugin_files(tmp_path / "no run") == []


def test_damaged_plugin_files_are_an_error_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / DESCRIPTION).write_text('{"plugin_files": {"mine": 3}}')
    with pytest.raises(InputError, match="plugin_files is damaged; remove the key, and add --plugin FILE"):
        plugin_files(tmp_path)
