"""``tutelage recipes prepare``: the files of a recipe in one command."""

from __future__ import annotations

import json
from pathlib import Path

import oasst_trees
import pytest
import yaml
from click.testing import CliRunner, Result
from prepared_world import NAME, PreparedWorld
from recipes import numbers_recipe
from wheels import use_only

from tutelage.cli import cli
from tutelage.files.prepared import prepared_folder
from tutelage.plugins.registry import Registry


@pytest.fixture
def world(tmp_path: Path, numbers_registry: Registry, monkeypatch: pytest.MonkeyPatch) -> PreparedWorld:
    use_only(tmp_path / "index", monkeypatch)
    world = PreparedWorld(tmp_path / "index")
    numbers_registry.register(world, NAME)
    monkeypatch.setattr(Registry, "discover", lambda *_, **__: numbers_registry)
    models = {role: {"plugin": "numbers"} for role in ("teacher", "evaluator")}
    models["student"] = {"plugin": "numbers", "model": "prepared/novice"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(numbers_recipe(models=models)))
    monkeypatch.chdir(tmp_path)
    return world


def prepare(*options: str, **more: object) -> Result:
    return CliRunner().invoke(cli, ["recipes", "prepare", "mine.yaml", *options], **more)  # type: ignore[arg-type]


def test_the_files_are_fetched_with_progress_and_are_kept(world: PreparedWorld) -> None:
    result = prepare("--accept-license")
    assert result.exit_code == 0, result.output
    folder = prepared_folder("weights")
    assert result.stdout == f"prepared/novice, only numbers: in {folder}\n"
    assert "prepared/novice, only numbers; licence: Open Numbers Licence; 0.0 MB to fetch" in result.stderr
    assert "package 1 of 1: numbers-data 1.0" in result.stderr
    assert "Count & share, but kindly.\n\naccepted by --accept-license" in result.stderr
    assert (folder / "numbers.txt").is_file()
    again = prepare()
    assert (again.exit_code, again.stdout, again.stderr) == (0, result.stdout, "")


def test_a_script_has_to_accept_the_licence_by_an_option(world: PreparedWorld) -> None:
    result = prepare()
    assert result.exit_code == 2
    assert "Open Numbers Licence" in result.stderr
    assert "--accept-license" in result.stderr
    assert not prepared_folder("weights").exists()


def test_a_missing_plugin_is_named_with_the_first_line_of_the_recipe(world: PreparedWorld, tmp_path: Path) -> None:
    models = {**numbers_recipe()["models"], "teacher": {"plugin": "verifier"}}
    text = yaml.safe_dump(numbers_recipe(models=models))
    (tmp_path / "mine.yaml").write_text(f"# Numbers; needs the package our-verifier.\n{text}")
    result = prepare()
    assert result.exit_code == 2
    assert "models.teacher.plugin: no plugin 'verifier' is installed" in result.stderr
    assert "mine.yaml: Numbers; needs the package our-verifier." in result.stderr


def test_a_model_whose_files_are_missing_is_not_loaded_by_any_command(world: PreparedWorld, tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "say 1"}\n')
    options = ("--model", "numbers:prepared/novice", "--out", "out.jsonl")
    result = CliRunner().invoke(cli, ["stage", "generate", "prompts.jsonl", *options])
    assert result.exit_code == 2
    assert "prepared/novice: its files are not on this machine" in result.stderr


def test_a_recipe_that_needs_no_files_says_so(world: PreparedWorld, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(numbers_recipe()))
    result = prepare()
    assert (result.exit_code, result.stderr) == (0, "mine.yaml needs no files that have to be prepared\n")


def test_the_data_files_of_a_built_in_recipe_are_made_from_the_hubs_files_or_the_command_is_printed(
    world: PreparedWorld, tmp_path: Path
) -> None:
    data = {
        **numbers_recipe()["data"],
        "ift": {"source": "data/oasst/ift.jsonl"},
        "eft": {"source": "data/oasst/eft.jsonl"},
        "decontaminate": {"against": ["data/alpaca_eval.jsonl", "own.jsonl"]},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(numbers_recipe(data=data)))
    folder = tmp_path / "OpenAssistant/oasst1"  # `datasets` reads a folder of this name instead of the hub
    folder.mkdir(parents=True)
    oasst_trees.write(folder / "train.jsonl", oasst_trees.MESSAGES)
    result = prepare()
    assert result.exit_code == 2
    assert result.stdout.endswith("data/oasst/ift.jsonl: in place\ndata/oasst/eft.jsonl: in place\n")
    assert len(Path("data/oasst/ift.jsonl").read_text().splitlines()) == 3
    assert "with a local export of it: tutelage data import prompts FILE data/alpaca_eval.jsonl" in result.stderr
    assert "own.jsonl: does not exist; make it from your own data" in result.stderr
    for name in ("data/alpaca_eval.jsonl", "own.jsonl"):
        Path(name).write_text('{"prompt": "Name a lake."}\n')
    again = prepare()
    assert (again.exit_code, again.stdout.count(": in place"), again.stderr) == (0, 4, "")


def test_the_doctor_names_what_has_to_be_prepared_and_the_command(world: PreparedWorld) -> None:
    """It said that there is no such folder, for a path that the user had never seen."""
    before = CliRunner().invoke(cli, ["doctor", "mine.yaml", "--json"])
    [missing] = [row["finding"] for row in json.loads(before.stdout) if not row["finding"]["ok"]]
    assert missing["detail"] == "prepared/novice: not on this machine; run: tutelage recipes prepare mine.yaml"
    assert before.exit_code == 3
    prepare("--accept-license")
    after = CliRunner().invoke(cli, ["doctor", "mine.yaml", "--json"])
    assert all(row["finding"]["ok"] for row in json.loads(after.stdout))
    assert after.exit_code == 0
