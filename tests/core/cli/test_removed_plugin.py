"""The commands that read a run do so where the plugin that offers its pipelines is not installed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import critic_world
import echoing_world
import pytest
import yaml
from click.testing import Result
from recipes import numbers_recipe

from tutelage.execution.runner import run
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values

Invoke = Callable[..., Result]
MODEL = "M2/critic/revise"


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and its run, which tests must not change.

    The pipeline and the control are those of a plugin that the command line does not know.
    """
    folder, registry = tmp_path_factory.mktemp("removed-plugin"), Registry.empty()
    controls = {"critic/reversed": {"mirrors": "critic/revise"}}
    values = numbers_recipe(pipelines={"critic/revise": None}, controls=controls, iterations=1)
    registry.register(echoing_world, "numbers")
    registry.register(critic_world, "critic")
    run(from_values(values), directory=folder / "run", registry=registry)
    (folder / "critic.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.fixture
def finished(once: Path, tmp_path: Path) -> Path:
    """A copy of the run, with the recipe beside it."""
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


def test_status_data_show_report_compare_and_chat_read_the_run(finished: Path, invoke: Invoke) -> None:
    status = invoke("status", finished, "--all")
    assert "transform" in status.output and "the run is finished" in status.output
    shown = invoke("data", "show", finished, MODEL, "--json")
    assert all(pair["chosen"] == row["prompt"]["text"][4:] for row in json.loads(shown.stdout) for pair in row["pairs"])
    statistics = invoke("data", "statistics", finished, "M2/critic/reversed")
    assert "pairs, and dropped by reason" in statistics.output
    assert MODEL in invoke("compare", f"{finished}:{MODEL}", f"{finished}:M1").output
    assert "critic/reversed" in invoke("report", finished).output + (finished / "report.html").read_text("utf-8")
    chat = invoke("chat", f"{finished}:{MODEL}", "say 12")
    assert (chat.exit_code, chat.stdout.strip() != "") == (0, True)


def test_plan_names_the_missing_plugin(finished: Path, invoke: Invoke) -> None:
    planned = invoke("plan", finished.parent / "critic.yaml")
    assert planned.exit_code != 0
    assert "no pipeline 'critic/revise': no plugin 'critic' is installed" in planned.stderr


def test_plan_and_plugins_show_name_the_steps_and_the_pipelines_of_an_installed_plugin(
    finished: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    metadata = tmp_path / "critic_world-2.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: critic-world\nVersion: 2.0\n")
    (metadata / "entry_points.txt").write_text("[tutelage]\ncritic = critic_world\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    planned = invoke("plan", finished.parent / "critic.yaml", "--steps", "--run", tmp_path / "other")
    assert planned.exit_code == 0, planned.output
    assert "transform" in planned.output and "corrections.jsonl" in planned.output
    again = invoke("plan", finished.parent / "critic.yaml", "--run", finished)
    assert "nothing to do: every artifact is in place" in again.output
    shown = invoke("plugins", "show", "critic").output
    assert "the teacher corrects the student's answers" in shown and "reversed" in shown
