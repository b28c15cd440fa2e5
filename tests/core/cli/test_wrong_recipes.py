"""An invalid recipe gives one error message with the key path, exit code 2, and no run folder."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from recipes import numbers_recipe

Real = Callable[..., "subprocess.CompletedProcess[str]"]
Invoke = Callable[..., Result]

BOUND = numbers_recipe()["models"]
DATA = numbers_recipe()["data"]
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": (
        {"generation": {"temprature": 1}},
        "generation.temprature: unknown key; did you mean 'temperature'?",
    ),
    "a wrong type": (
        {"iterations": "two"},
        "numbers.yaml: iterations: expected a whole number, got text 'two'",
    ),
    "a plugin that is not installed": (
        {"models": {**BOUND, "teacher": {"plugin": "numbres"}}},
        "models.teacher.plugin: no plugin 'numbres' is installed; did you mean 'numbers'?",
    ),
    "no iterations": ({"iterations": 0}, "numbers.yaml: iterations: 0; at least one preference round is needed"),
    "one candidate": ({"generation": {"n": 1}}, "numbers.yaml: generation.n: 1; a pair needs at least 2 candidates"),
    "a missing file": (
        {"data": {**DATA, "ift": {"source": "nowhere.jsonl"}}},
        "data.ift: nowhere.jsonl: cannot be read (No such file or directory)",
    ),
    "a file that is not JSON lines at line 7": (
        {"data": {**DATA, "prompts": {"source": "prompts.jsonl", "count": 3}}},
        "data.prompts: prompts.jsonl, line 7: not JSON",
    ),
    "an unknown pipeline": (
        {"pipelines": {"self-rewards": None}, "controls": {}},
        "pipelines: no pipeline 'self-rewards'; did you mean 'self-reward'?",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_recipe_is_one_error_with_its_place(
    case: str, invoke: Invoke, recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    changes, message = WRONG[case]
    lines = [json.dumps({"prompt": f"say {number}"}) for number in range(9)]
    lines[6] = '{"prompt": "say 6"'
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    found = invoke("run", recipe_file(**changes))
    assert found.exit_code == 2
    assert found.stdout == ""
    assert found.stderr.startswith("error: ")
    assert message in found.stderr
    assert "Traceback" not in found.stderr
    assert found.stderr.count("error") == 1
    assert not (tmp_path / "runs").exists()


def test_a_wrong_recipe_ends_the_process_with_one_error(
    real: Real, recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    changes, message = WRONG["an unknown key"]
    found = real("run", recipe_file(**changes))
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("error: ")
    assert message in found.stderr
    assert "Traceback" not in found.stderr
    assert found.stderr.count("error") == 1
    assert not (tmp_path / "runs").exists()


def test_all_problems_of_a_recipe_are_named_at_once(invoke: Invoke, recipe_file: Callable[..., Path]) -> None:
    found = invoke("plan", recipe_file(iterations=0, generation={"n": 1}, seeds=[]))
    assert found.exit_code == 2
    assert [line.partition(".yaml: ")[2].partition(":")[0] for line in found.stderr.splitlines()] == [
        "iterations",
        "generation.n",
        "seeds",
    ]


def test_a_wrong_set_is_named_as_it_was_given(invoke: Invoke, recipe_file: Callable[..., Path]) -> None:
    found = invoke("run", recipe_file(), "--set", "dpo.bta=1")
    assert found.exit_code == 2
    assert "dpo.bta: unknown key; did you mean 'beta'?" in found.stderr
    found = invoke("run", recipe_file(), "--set", "dpo")
    assert found.exit_code == 2
    assert "--set dpo: expected KEY=VALUE" in found.stderr


def test_a_plugin_that_is_blocked_is_a_plugin_error(real: Real, recipe_file: Callable[..., Path]) -> None:
    found = real("run", recipe_file(), "--no-plugin", "numbers")
    assert found.returncode == 3
    assert "blocked by --no-plugin" in found.stderr
