"""``tutelage doctor``, called from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from click.testing import CliRunner
from recipes import numbers_recipe

from tutelage.cli import cli


def test_the_doctor_looks_at_every_plugin_and_is_no_error() -> None:
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    assert result.exit_code == 0
    assert "transformers" in {row["plugin"] for row in json.loads(result.output)}


def test_with_a_recipe_what_is_missing_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        yaml.safe_dump(numbers_recipe(models={"student": {"plugin": "transformers"}, "teacher": {"plugin": "nobody"}}))
    )
    result = CliRunner().invoke(cli, ["doctor", str(path)])
    assert result.exit_code == 3
    assert "'nobody' is not installed" in result.output
