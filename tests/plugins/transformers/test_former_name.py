"""The plugin was once called ``phi2``: old recipes and commands still mean it, and ``phi2`` alone means Phi-2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tutelage.cli import cli
from tutelage.plugins.registry import Registry
from tutelage.records import Model
from tutelage_transformers.models import loading

COUNTS = {"data.ift.count": 10, "data.eft.count": 30, "data.prompts.count": 20, "evaluation.prompts.count": 10}
FEWER = [word for key, count in COUNTS.items() for word in ("--set", f"{key}={count}")]
"""A plan of the embedded recipe makes its prompts and examples; with fewer, it takes a fifth of the time."""


def output_of(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def plan(*arguments: object) -> Any:
    return json.loads(output_of("plan", *arguments, *FEWER, "--json"))


@pytest.fixture(scope="module")
def embedded_steps() -> Any:
    """The planned steps of the embedded recipe."""
    return plan("embedded")["steps"]


@pytest.fixture
def old_recipe(tmp_path: Path) -> Path:
    """The embedded recipe as it was written when the plugin was called ``phi2``."""
    text = output_of("recipes", "show", "embedded")
    assert text.count("plugin: transformers") == 1
    path = tmp_path / "recipe.yaml"
    path.write_text(text.replace("plugin: transformers", "plugin: phi2"), encoding="utf-8")
    return path


def test_an_old_recipe_plans_the_same_steps(old_recipe: Path, embedded_steps: Any) -> None:
    assert plan(old_recipe)["steps"] == embedded_steps


@pytest.mark.parametrize("student", ["phi2", "phi2:phi2/phi-2", "transformers:phi2/phi-2", "transformers"])
def test_phi_2_is_named_on_the_command_line_by_either_name(student: str, embedded_steps: Any) -> None:
    assert plan("embedded", "--student", student)["steps"] == embedded_steps


@pytest.mark.parametrize(("written", "given"), [("phi2", "transformers"), ("transformers", "phi2")])
def test_another_model_on_the_command_line_keeps_the_settings_whichever_name_is_used(
    tmp_path: Path, written: str, given: str
) -> None:
    text = output_of("recipes", "show", "embedded")
    before = "plugin: transformers\n    model: tiny/student\n    settings: {}\n"
    assert text.count(before) == 1
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text.replace(before, f"plugin: {written}\n    settings: {{threats: 1}}\n"), encoding="utf-8")
    planned = CliRunner().invoke(cli, ["plan", str(recipe), "--student", f"{given}:other", *FEWER])
    assert planned.exit_code == 2
    assert "did you mean 'threads'?" in planned.output


def test_the_one_word_means_the_published_weights() -> None:
    assert loading.location(Model("phi2")) == "microsoft/phi-2"
    named = Registry.discover(environment={}).find("models", "phi2/phi-2")
    assert named is not None and named.location == "microsoft/phi-2"
