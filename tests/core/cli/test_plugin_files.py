"""``--plugin FILE.py``: commands that work with models load it, and commands that only read a run never do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from recipes import numbers_recipe

Invoke = Callable[..., Result]
Write = Callable[..., Path]

JUDGE = '''"""Knows the right answers."""

def judge(prompt, answer):
    return 5.0 if answer == prompt.rpartition("say ")[2] else 0.0
'''


@pytest.fixture
def judge_file(tmp_path: Path) -> Path:
    path = tmp_path / "exact.py"
    path.write_text(JUDGE)
    return path


@pytest.fixture
def recipe(recipe_file: Write, small: dict[str, Any]) -> Path:
    """A recipe whose judge is the plugin of the file."""
    models = {**numbers_recipe()["models"], "judge": {"plugin": "exact"}}
    return recipe_file(**{**small, "pipelines": {"teacher-reward": None}, "models": models})


def test_a_judge_from_a_file_runs_and_its_run_continues_without_the_option(
    invoke: Invoke, recipe: Path, judge_file: Path
) -> None:
    missing = invoke("plan", recipe)
    assert (missing.exit_code, "no plugin 'exact' is installed" in missing.stderr) == (2, True)
    assert invoke("plan", recipe, "--plugin", judge_file).exit_code == 0
    first = invoke("run", recipe, "--plugin", judge_file, "--quiet")
    assert first.exit_code == 0, first.output
    for again in (("run", recipe), ("run", "runs/numbers"), ("plan", "--run", "runs/numbers")):
        assert invoke(*again).exit_code == 0


def test_a_changed_file_is_not_imported_until_it_is_given_again(invoke: Invoke, recipe: Path, judge_file: Path) -> None:
    invoke("run", recipe, "--plugin", judge_file, "--quiet")
    judge_file.write_text("raise SystemExit('imported')\n")
    refused = invoke("run", "runs/numbers")
    assert refused.exit_code == 2
    assert f"the plugin file {judge_file} has changed since the run loaded it" in refused.stderr
    for reading in (
        ("status", "runs/numbers"),
        ("data", "show", "runs/numbers", "M2/teacher-reward"),
        ("compare", "runs/numbers"),
    ):
        found = invoke(*reading)
        assert "imported" not in found.output
        assert found.exit_code == 0, (reading, found.output)
    judge_file.write_text(JUDGE + "# another\n")
    assert invoke("run", "runs/numbers", "--plugin", judge_file, "--quiet").exit_code == 0
    assert invoke("run", "runs/numbers", "--quiet").exit_code == 0


def test_explain_loads_the_files_of_the_run_or_says_which_is_missing(
    invoke: Invoke, recipe: Path, judge_file: Path
) -> None:
    invoke("run", recipe, "--plugin", judge_file, "--quiet")
    judgements = "seed-0/teacher-reward/M2/judgements.jsonl"
    explained = invoke("explain", "runs/numbers", judgements)
    assert (explained.exit_code, "is up to date" in explained.stdout) == (0, True), explained.output
    judge_file.write_text(JUDGE + "# another\n")
    refused = invoke("explain", "runs/numbers", judgements)
    assert (refused.exit_code, refused.stderr) == (
        2,
        f"error: runs/numbers: the plugin file {judge_file} has changed since the run loaded it; to load it, add "
        f"--plugin {judge_file}\n",
    )
    assert invoke("explain", "runs/numbers", judgements, "--plugin", judge_file).exit_code == 0


STUDENT = '''"""Answers loudly."""

from tutelage import Candidate, hookimpl


@hookimpl
def generate_candidates(model, prompts, n):
    for prompt in prompts:
        yield from (Candidate(prompt.id, index, f"{prompt.text}!") for index in range(n))
'''


@pytest.fixture
def student_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(STUDENT)
    return path


def test_chat_loads_a_file_and_those_of_a_run(invoke: Invoke, student_file: Path) -> None:
    said = invoke("chat", "mine", "hello", "--plugin", student_file)
    assert (said.exit_code, said.stdout) == (0, "hello!\n"), said.output


def test_chat_with_a_model_of_a_run_needs_only_the_file_of_this_model(
    invoke: Invoke, recipe: Path, judge_file: Path
) -> None:
    """The judge of the run is not imported again if its file has changed, and the student answers without it."""
    invoke("run", recipe, "--plugin", judge_file, "--quiet")
    judge_file.write_text("raise SystemExit('imported')\n")
    for command in (("chat", "runs/numbers", "say 3"), ("export", "runs/numbers", "M1", "exported")):
        done = invoke(*command)
        assert done.exit_code == 0, done.output
    checked = invoke("doctor", "runs/numbers")
    assert checked.exit_code == 3
    assert "to load it, add --plugin" in " ".join(checked.stdout.split())
    compared = invoke("evaluate", "head-to-head", "runs/numbers", "--evaluator", "exact")
    assert "imported" not in checked.output + compared.output
    assert invoke("chat", "runs/numbers", "say 3", "--plugin", judge_file).exit_code != 0


def test_plugins_show_what_a_file_offers(invoke: Invoke, judge_file: Path) -> None:
    shown = invoke("plugins", "--plugin", judge_file, "show", "exact")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith(f"exact (file {judge_file}): ok\nKnows the right answers.\nhooks: judge\n")


def test_doctor_checks_a_recipe_with_a_file(invoke: Invoke, recipe: Path, judge_file: Path) -> None:
    checked = invoke("doctor", recipe, "--plugin", judge_file, "--json")
    assert checked.exit_code == 0, checked.output
    assert {row["plugin"] for row in json.loads(checked.stdout)} >= {"exact", "numbers"}


def test_a_stage_loads_a_file(invoke: Invoke, judge_file: Path, tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps({"id": "a", "prompt": "say 3", "answer": "3"}) + "\n")
    done = invoke("stage", "judge", items, "--model", "exact", "--plugin", judge_file, "--out", "scores.jsonl")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "scores.jsonl").read_text())["score"] == 5.0


WRAPPER = '''"""Lowers the scores of judges."""

from attrs import evolve

from tutelage import hookimpl


@hookimpl(wrapper=True)
def judge():
    judgements = yield
    return (evolve(one, score=one.score and one.score - 1) for one in judgements)
'''


def test_a_run_continues_without_a_file_that_was_deleted_if_its_plugin_is_blocked(
    invoke: Invoke, recipe: Path, judge_file: Path, tmp_path: Path
) -> None:
    lower = tmp_path / "lower.py"
    lower.write_text(WRAPPER)
    invoke("run", recipe, "--plugin", judge_file, "--plugin", lower, "--quiet")
    lower.unlink()
    refused = invoke("run", "runs/numbers")
    assert (refused.exit_code, "to work without it, add --no-plugin lower" in refused.stderr) == (2, True)
    planned = invoke("plan", "runs/numbers", "--no-plugin", "lower")
    assert (planned.exit_code, "judge.wrapped_by.lower: 1 -> none" in planned.output) == (0, True), planned.output
    assert invoke("run", "runs/numbers", "--no-plugin", "lower", "--quiet").exit_code == 0
    assert list(json.loads((tmp_path / "runs/numbers/run.json").read_text())["plugin_files"]) == ["exact"]
    again = invoke("plan", "runs/numbers")
    assert (again.exit_code, "nothing to do" in again.stdout) == (0, True), again.output


@pytest.mark.parametrize("name", ["exact", "exakt"])
def test_a_blocked_file_is_not_imported_and_a_name_without_a_plugin_is_refused(
    name: str, invoke: Invoke, recipe: Path, judge_file: Path
) -> None:
    judge_file.write_text("raise SystemExit('imported')\n")
    found = invoke("plan", recipe, "--plugin", judge_file, "--no-plugin", name)
    assert "imported" not in found.output
    reason = {
        "exact": f"plugin 'exact' (file {judge_file}) cannot be used: blocked by --no-plugin",
        "exakt": "plugin 'exakt', blocked by --no-plugin, is not installed",
    }
    assert (found.exit_code != 0, reason[name] in found.stderr) == (True, True), found.output


REQUIRED = '''"""Shifts the scores of judges."""

from attrs import frozen

from tutelage import PluginInfo, hookimpl


@frozen
class Settings:
    points: float
    """Points that are added."""


@hookimpl
def describe():
    return PluginInfo("Shifts.", settings=Settings, wrapped_roles=("ROLE",))


@hookimpl(wrapper=True)
def judge():
    return (yield)
'''


@pytest.mark.parametrize(("role", "is_called"), [("judge", True), ("teacher", False)])
def test_doctor_checks_a_wrapper_only_of_models_whose_hooks_it_wraps(
    role: str, is_called: bool, invoke: Invoke, recipe: Path, judge_file: Path, student_file: Path, tmp_path: Path
) -> None:
    wrapper = tmp_path / "shift.py"
    wrapper.write_text(REQUIRED.replace("ROLE", role))
    files = ("--plugin", judge_file, "--plugin", wrapper, "--plugin", student_file)
    values = yaml.safe_load(recipe.read_text())
    values["models"]["teacher"] = {"plugin": "mine"}
    recipe.write_text(yaml.safe_dump(values))
    rows = json.loads(invoke("doctor", recipe, *files, "--json").stdout)
    found = {row["plugin"]: (row["role"], row["finding"]["ok"]) for row in rows}
    assert found.get("shift") == (("wraps judge", False) if is_called else None)


def test_doctor_checks_a_wrapper_of_the_judge_with_its_settings_if_the_teacher_judges(
    invoke: Invoke, recipe: Path, judge_file: Path, tmp_path: Path
) -> None:
    wrapper = tmp_path / "shift.py"
    wrapper.write_text(REQUIRED.replace("ROLE", "judge"))
    values = yaml.safe_load(recipe.read_text())
    values["models"]["teacher"] = values["models"].pop("judge")
    details = {}
    for text, settings in (("none", {}), ("right", {"points": 1.0}), ("wrong", {"point": 1.0})):
        recipe.write_text(yaml.safe_dump({**values, "wrappers": {"shift": {"settings": settings}}}))
        rows = json.loads(invoke("doctor", recipe, "--plugin", judge_file, "--plugin", wrapper, "--json").stdout)
        (details[text],) = (row["finding"]["detail"] for row in rows if row["role"] == "wraps judge")
    missing = "plugin shift: points: missing; expected a number"
    assert details == {
        "none": missing,
        "right": "loaded; nothing else to check",
        "wrong": f"plugin shift: point: unknown key; did you mean 'points'?\n{missing}",
    }


@pytest.mark.parametrize(("role", "is_called"), [("judge", True), ("student", False)])
def test_doctor_checks_a_wrapper_of_a_hook_without_context(
    role: str, is_called: bool, invoke: Invoke, recipe: Path, judge_file: Path, tmp_path: Path
) -> None:
    marked = "from tutelage import hookimpl\n\n@hookimpl\ndef judge(): ...\n\n@hookimpl\ndef requests_at_once(): ...\n"
    judge_file.write_text(marked)
    wrapper = tmp_path / "shift.py"
    wrapper.write_text(REQUIRED.replace("ROLE", role).replace("def judge()", "def requests_at_once()"))
    rows = json.loads(invoke("doctor", recipe, "--plugin", judge_file, "--plugin", wrapper, "--json").stdout)
    found = [(row["role"], row["finding"]["ok"]) for row in rows if row["plugin"] == "shift"]
    assert found == ([("wraps judge", False)] if is_called else [])


def test_explain_names_an_unknown_wrapper_as_plan_does(invoke: Invoke, recipe: Path, judge_file: Path) -> None:
    invoke("run", recipe, "--plugin", judge_file, "--quiet")
    unknown = ("--set", "wrappers.shiftt.roles=[judge]")
    for found in (invoke("explain", "runs/numbers", *unknown), invoke("plan", recipe, *unknown)):
        assert found.exit_code != 0
        assert "wrappers.shiftt: plugin 'shiftt' is not installed" in found.stderr
