"""``tutelage plugins`` and ``tutelage recipes``: lists, details and copies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from attrs import field, frozen
from click.testing import Result

from tutelage.cli.output import plain
from tutelage.cli.plugins import info_tables
from tutelage.plugin_info import EnvironmentVariable, PluginInfo
from tutelage.preferences.pairing import RULES
from tutelage.recipe.loading import built_in, load_recipe

Invoke = Callable[..., Result]


def test_plugins_are_listed_with_where_they_come_from(invoke: Invoke) -> None:
    lines = [" ".join(line.split()) for line in invoke("plugins").stdout.splitlines()]
    assert any(line.startswith("numbers numbers-world 1.0 ok describe, ") for line in lines)


def test_plugins_as_json_have_exactly_the_promised_keys(invoke: Invoke) -> None:
    rows = json.loads(invoke("plugins", "--json").stdout)
    assert all(list(row) == ["name", "aliases", "distribution", "version", "status", "hooks", "error"] for row in rows)
    [numbers] = [row for row in rows if row["name"] == "numbers"]
    assert numbers == {
        "name": "numbers",
        "aliases": [],
        "distribution": "numbers-world",
        "version": "1.0",
        "status": "ok",
        "hooks": ["describe", "generate_candidates", "judge", "demonstrate", "train_step", "evaluate"],
        "error": None,
    }


def test_a_blocked_plugin_is_listed_as_blocked(invoke: Invoke) -> None:
    rows = json.loads(invoke("plugins", "--json", "--no-plugin", "numbers").stdout)
    assert [(row["status"], row["error"]) for row in rows if row["name"] == "numbers"] == [
        ("blocked", "blocked by --no-plugin")
    ]
    result = invoke("plugins", "--no-plugin", "nmbers")
    assert result.exit_code == 2
    assert "did you mean 'numbers'?" in result.stderr


def test_show_says_what_a_plugin_offers(invoke: Invoke) -> None:
    shown = invoke("plugins", "show", "numbers").stdout
    assert shown.startswith("numbers (numbers-world 1.0): ok\nA student and a teacher that say numbers.\n")
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "train 1,000" in lines
    assert "numbers 0 to 5" in lines
    assert "hooks: describe, generate_candidates, judge, demonstrate, train_step, evaluate" in lines


def test_a_plugin_is_listed_and_shown_with_its_aliases_under_its_real_name(invoke: Invoke) -> None:
    lines = [" ".join(line.split()) for line in invoke("plugins").stdout.splitlines()]
    assert any(line.startswith("transformers phi2 tutelage ") for line in lines)
    rows = {row["name"]: row["aliases"] for row in json.loads(invoke("plugins", "--json").stdout)}
    assert rows["transformers"] == ["phi2"]
    shown = invoke("plugins", "show", "phi2").stdout
    assert shown == invoke("plugins", "show", "transformers").stdout
    assert shown.startswith("transformers (tutelage ")
    assert "aliases: phi2" in shown.splitlines()


def test_a_plugin_that_is_blocked_by_its_alias_is_listed_as_blocked(invoke: Invoke) -> None:
    rows = json.loads(invoke("plugins", "--json", "--no-plugin", "phi2").stdout)
    [row] = [row for row in rows if row["name"] == "transformers"]
    assert (row["status"], row["error"], row["hooks"]) == ("blocked", "blocked by --no-plugin", [])


def test_show_of_an_unknown_plugin_names_the_nearest(invoke: Invoke) -> None:
    result = invoke("plugins", "show", "numbres")
    assert result.exit_code == 3
    assert result.stderr == "error: plugin 'numbres' is not installed; did you mean 'numbers'?\n"


@pytest.mark.parametrize(
    ("name", "error"),
    [("raises_on_import", "RuntimeError"), ("misspelled_hook", "did you mean"), ("argument_with_default", "default")],
)
def test_a_broken_plugin_is_shown_with_its_error_and_the_others_still_load(
    broken_plugins: Path, name: str, error: str
) -> None:
    command = [str(Path(sys.executable).with_name("tutelage")), "plugins"]
    environment = {**os.environ, "PYTHONPATH": str(broken_plugins)}
    listed = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True)
    rows = {row["name"]: row for row in json.loads(listed.stdout)}
    assert rows["transformers"]["status"] == "ok"
    [broken] = [row for row in rows.values() if name in (row["distribution"] or "").replace("-", "_")]
    assert broken["status"] == "failed"
    shown = subprocess.run(
        [*command, "show", broken["name"]], env=environment, capture_output=True, text=True, check=True
    )
    assert error in shown.stdout
    assert "Traceback (most recent call last):" in shown.stdout


@frozen
class Settings:
    url: str = field(metadata={"help": "Where it is."})
    retries: int = field(default=3, metadata={"help": "How often."})


def test_settings_and_environment_are_shown_and_no_value_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    monkeypatch.delenv("OTHER_KEY", raising=False)
    info = PluginInfo(
        "Help.",
        settings=Settings,
        environment=(EnvironmentVariable("SECRET_KEY", "A key."), EnvironmentVariable("OTHER_KEY", "Another.", False)),
        pair_rules={"my-rule": RULES["best-worst"]},
    )
    shown = "\n".join(plain(table) for table in info_tables(info))
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "url text (required) Where it is." in lines
    assert "retries whole number 3 How often." in lines
    assert "SECRET_KEY yes yes A key." in lines
    assert "OTHER_KEY no no Another." in lines
    assert "my-rule" in shown
    assert "hunter2" not in shown


def test_recipes_are_listed_shown_and_copied(invoke: Invoke, tmp_path: Path) -> None:
    assert "embedded" in invoke("recipes").stdout
    assert yaml.safe_load(invoke("recipes", "show", "embedded").stdout)["name"] == "embedded"
    assert invoke("recipes", "copy", "embedded").exit_code == 0
    assert load_recipe(tmp_path / "embedded.yaml") == load_recipe(built_in()["embedded"])


def test_a_copied_recipe_is_shown_with_the_values_of_the_recipe_that_it_extends(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("recipes", "copy", "small-gpu/no-paid-api", "mine.yaml").exit_code == 0
    shown = invoke("recipes", "show", "mine.yaml").stdout
    values = yaml.safe_load(shown)
    assert "extends" not in values
    assert (values["dpo"]["max_length"], values["data"]["prompts"]["count"]) == (1536, 400)  # paper/all, small-gpu/all
    assert values["generation"]["keep_thinking"] is False  # a default that no file has
    (tmp_path / "shown.yaml").write_text(shown)
    assert load_recipe(tmp_path / "shown.yaml") == load_recipe("small-gpu/no-paid-api")


def test_the_source_of_a_recipe_is_shown_with_its_comments(invoke: Invoke) -> None:
    shown = invoke("recipes", "show", "paper/all", "--source").stdout
    assert shown == built_in()["paper/all"].read_text()
    assert "# paper, settings" in shown


def test_a_wrong_recipe_is_shown_as_its_problems_and_its_source_as_it_is(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: embedded\ndpo: {bta: 1}\n")
    result = invoke("recipes", "show", "mine.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "mine.yaml: dpo.bta: unknown key; did you mean 'beta'?" in result.stderr
    assert invoke("recipes", "show", "mine.yaml", "--source").stdout == "extends: embedded\ndpo: {bta: 1}\n"


def test_every_built_in_recipe_says_in_its_first_line_what_it_is(invoke: Invoke) -> None:
    lines = invoke("recipes").stdout.splitlines()[2:]
    assert len(lines) == len(built_in())
    assert all(len(line.split()) > 3 for line in lines)


def test_a_copy_overwrites_nothing(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("mine")
    result = invoke("recipes", "copy", "embedded", "mine.yaml")
    assert result.exit_code == 2
    assert result.stderr == "error: mine.yaml: already exists; choose another file\n"
    assert (tmp_path / "mine.yaml").read_text() == "mine"
    assert invoke("recipes", "copy", "embedded", "no/folder.yaml").exit_code == 2
