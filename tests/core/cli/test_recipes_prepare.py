"""``tutelage recipes prepare``: the files of a recipe in one command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import echoing_world
import oasst_trees
import pytest
import yaml
from click.testing import CliRunner, Result
from prepared_world import NAME, PreparedWorld
from recipes import numbers_recipe
from wheels import use_only

from tutelage.cli import cli
from tutelage.files.prepared import prepared_folder
from tutelage.hookspecs import hookimpl
from tutelage.plugin_info import Finding
from tutelage.plugins.files import PluginFile, as_stored
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
    missing = "get them with `tutelage recipes prepare RECIPE`, where RECIPE is a recipe that uses them"
    assert result.stderr == f"error: prepared/novice: its files are not on this machine; {missing}\n"


@pytest.mark.parametrize("command", ["plan", "run"])
def test_the_error_of_a_recipe_that_lacks_files_ends_with_the_command_for_this_recipe(
    command: str, world: PreparedWorld, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").rename(tmp_path / "my own.yaml")
    result = CliRunner().invoke(cli, [command, "my own.yaml"])
    assert result.exit_code == 2
    assert "models.student.model: prepared/novice: its files are not on this machine" in result.stderr
    *_, last = result.stderr.splitlines()
    assert last == "get the missing files with: tutelage recipes prepare 'my own.yaml'"


def test_another_mistake_beside_the_missing_files_does_not_hide_the_command(world: PreparedWorld) -> None:
    result = CliRunner().invoke(cli, ["plan", "mine.yaml", "--set", "models.teacher.plugin=nothing"])
    assert "models.teacher.plugin: no plugin 'nothing' is installed" in result.stderr
    assert result.stderr.endswith("get the missing files with: tutelage recipes prepare mine.yaml\n")


def test_the_command_for_a_run_names_its_folder_also_when_its_artifacts_are_explained(world: PreparedWorld) -> None:
    recipe = numbers_recipe(data={**numbers_recipe()["data"], "prompts": {"source": "prepared/train", "count": 20}})
    Path("mine.yaml").write_text(yaml.safe_dump({**recipe, "iterations": 1}))
    prepare("--accept-license")
    assert CliRunner().invoke(cli, ["run", "mine.yaml", "--run", "first", "--quiet"]).exit_code == 0
    shutil.rmtree(prepared_folder("prompts"))
    for arguments in (["run", "--run", "first", "--set", "seeds=[1]"], ["explain", "first", "--set", "seeds=[1]"]):
        result = CliRunner().invoke(cli, arguments)
        assert result.stderr.endswith("get the missing files with: tutelage recipes prepare first\n")


@pytest.mark.parametrize("is_given", [True, False])
def test_the_command_for_a_recipe_names_the_plugin_files_also_those_of_the_run_that_is_continued(
    world: PreparedWorld, is_given: bool
) -> None:
    """Without them it ended with "no plugin is installed": a run keeps its plugin files, a recipe does not."""
    data = {**numbers_recipe()["data"], "prompts": {"source": "prepared/train", "count": 20}}
    Path("mine.yaml").write_text(yaml.safe_dump(numbers_recipe(data=data, iterations=1)))
    Path("marker.py").write_text("from tutelage import hookimpl\n\n@hookimpl\ndef requests_at_once(): ...\n")
    options = ["--plugin", "marker.py"] if is_given else []
    if not is_given:
        Path("first").mkdir()
        Path("first/run.json").write_text(json.dumps({"plugin_files": as_stored([PluginFile.of("marker.py")])}))
    result = CliRunner().invoke(cli, ["run", "mine.yaml", "--run", "first", "--quiet", *options])
    named = "marker.py" if is_given else Path("marker.py").resolve()
    assert result.stderr.endswith(f"tutelage recipes prepare mine.yaml --plugin {named}\n")


def test_a_data_file_that_can_be_made_is_reported_with_the_command_for_the_recipe(world: PreparedWorld) -> None:
    data = {**numbers_recipe()["data"], "decontaminate": {"against": ["data/alpaca_eval.jsonl"]}}
    Path("mine.yaml").write_text(yaml.safe_dump(numbers_recipe(data=data)))
    result = CliRunner().invoke(cli, ["plan", "mine.yaml"])
    assert "data/alpaca_eval.jsonl: does not exist; `tutelage recipes prepare RECIPE` makes" in result.stderr
    assert result.stderr.endswith("get the missing files with: tutelage recipes prepare mine.yaml\n")
    rows = json.loads(CliRunner().invoke(cli, ["doctor", "mine.yaml", "--json"]).stdout)
    [missing] = [(row["plugin"], row["finding"]["detail"]) for row in rows if not row["finding"]["ok"]]
    run = "does not exist; run: tutelage recipes prepare mine.yaml"
    assert missing == ("", f"data/alpaca_eval.jsonl: {run}")


def test_files_that_only_an_option_needs_are_no_files_of_the_recipe(world: PreparedWorld) -> None:
    Path("mine.yaml").write_text(yaml.safe_dump(numbers_recipe()))
    result = CliRunner().invoke(cli, ["plan", "mine.yaml", "--student", "numbers:prepared/novice"])
    assert "prepared/novice: its files are not on this machine" in result.stderr
    assert "get the missing files" not in result.stderr


def test_an_error_of_a_recipe_whose_files_are_in_place_has_no_command_for_them(world: PreparedWorld) -> None:
    prepare("--accept-license")
    result = CliRunner().invoke(cli, ["plan", "mine.yaml", "--set", "data.ift.source=mine.jsonl"])
    assert result.exit_code == 2
    assert "mine.jsonl" in result.stderr
    assert "recipes prepare" not in result.stderr


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


def test_the_doctor_shows_no_other_finding_on_a_model_that_has_to_be_prepared(
    world: PreparedWorld, numbers_registry: Registry
) -> None:
    """A folder with a part of the files may pass the check of the plugin."""

    class Checked:
        @hookimpl
        def check(self, name: str) -> Iterator[Finding]:
            yield Finding("GPU", True, "none")
            yield Finding("model", True, f"{name} is on this machine")

        train_step = staticmethod(echoing_world.train_step)

    numbers_registry.register(Checked(), "checked")
    models = {**numbers_recipe()["models"], "student": {"plugin": "checked", "model": "prepared/novice"}}
    Path("mine.yaml").write_text(yaml.safe_dump(numbers_recipe(models=models)))

    def student() -> list[str]:
        rows = json.loads(CliRunner().invoke(cli, ["doctor", "mine.yaml", "--json"]).stdout)
        return [row["finding"]["what"] for row in rows if row["plugin"] in ("checked", NAME)]

    assert student() == ["GPU", "files"]
    prepare("--accept-license")
    assert student() == ["GPU", "model"]
