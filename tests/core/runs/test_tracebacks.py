"""The traceback of a plugin's error is kept in the run, until the next process, and contains no key."""

from __future__ import annotations

from pathlib import Path

import pytest
from interrupted_runs import Interrupting
from recipes import numbers_recipe

from tutelage.errors import InputError, StageError
from tutelage.execution.runner import run
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values
from tutelage.runs.store import Store
from tutelage.runs.tracebacks import kept_traceback, read_traceback

SMALL = {"pipelines": {"self-reward": None}, "controls": {}, "iterations": 1, "evaluation": None}


def test_the_traceback_of_a_stage_is_kept_until_the_run_continues(numbers_registry: Registry, tmp_path: Path) -> None:
    recipe = from_values(numbers_recipe(**SMALL))
    numbers_registry.register(Interrupting(5), "interrupting")
    with pytest.raises(StageError, match="the power is gone"):
        run(recipe, directory=tmp_path, registry=numbers_registry)
    kept = read_traceback(Store(tmp_path))
    assert 'raise RuntimeError("the power is gone")' in kept
    assert "interrupted_runs.py" in kept
    numbers_registry.unregister("interrupting")
    run(recipe, directory=tmp_path, registry=numbers_registry)
    assert read_traceback(Store(tmp_path)) == ""


def test_a_key_is_not_written(tmp_path: Path) -> None:
    def call() -> None:
        try:
            raise RuntimeError("401 for the key sk-very-secret-key")
        except RuntimeError as error:
            raise StageError("the request failed") from error

    with pytest.raises(StageError), kept_traceback(Store(tmp_path), lambda: ["sk-very-secret-key"]):
        call()
    kept = read_traceback(Store(tmp_path))
    assert "401 for the key [key]" in kept
    assert "very-secret" not in kept


def test_an_error_without_a_cause_has_nothing_to_keep(tmp_path: Path) -> None:
    with pytest.raises(InputError), kept_traceback(Store(tmp_path), list):
        raise InputError("wrong")
    assert read_traceback(Store(tmp_path)) == ""
