"""Runs on a cluster: problems that are found before them, their artifacts, signals, and the recipes of the package."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

ray = pytest.importorskip("ray", reason="ray is not installed; run: pip install ./contrib/tutelage-ray")

from tutelage import Dpo, Model, Registry, run  # noqa: E402
from tutelage.errors import InputError  # noqa: E402
from tutelage.files.settings import describe_settings, structure  # noqa: E402
from tutelage.plugin_info import RunNeeds  # noqa: E402
from tutelage.plugins import helpers  # noqa: E402
from tutelage.recipe.loading import from_values, load_recipe  # noqa: E402
from tutelage.testing import check_plugin  # noqa: E402
from tutelage_ray.settings import RaySettings  # noqa: E402

pytest_plugins = ["nodes"]
FOLDER = Path(__file__).parents[1]
RECIPE: dict[str, Any] = {
    "name": "tiny",
    "data": {
        "ift": {"source": "tiny/ift", "count": 24},
        "eft": {"source": "tiny/eft", "count": 96},
        "prompts": {"source": "tiny/train", "count": 24},
        "decontaminate": None,
    },
    "pipelines": {"self-reward": None},
    "generation": {"n": 4, "temperature": 0.8, "top_p": 0.95, "max_new_tokens": 24},
    "judging": {"rubric": "tiny/additive", "samples": 2, "temperature": 1.0, "max_new_tokens": 3},
    "sft": {"epochs": 3, "learning_rate": 5e-4, "batch_size": 16},
    "dpo": {"epochs": 1, "learning_rate": 1e-4, "batch_size": 16, "beta": 2.0},
    "chunk": 8,
}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"worker": {"plugin": "transfomers"}}, "settings.worker.plugin: plugin 'transfomers' is not installed; did"),
        ({"worker": {"settings": {"thread": 1}}}, "settings.worker.settings: thread: "),
        ({"worker": {"plugin": "tiny"}}, "does not implement generate_candidates; name another plugin"),
        ({"worker": {"plugin": "openai"}}, "calls a service, with the budget of this machine; bind"),
        ({"address": "127.0.0.1:9"}, "settings.address: nothing answers at 127.0.0.1:9"),
    ],
)
def test_problems_are_found_before_a_run(
    registry: Registry, weights: str, settings: dict[str, Any], problem: str
) -> None:
    needs = RunNeeds(hooks=frozenset({"generate_candidates", "judge"}))
    found = helpers.check_run(registry, Model("ray", weights, settings), needs)
    assert found
    assert [finding.ok for finding in found] == [False]
    assert problem in found[0].detail


def test_the_plugin_cannot_run_itself(registry: Registry) -> None:
    with pytest.raises(InputError, match=r"worker.plugin: the plugin ray cannot run itself"):
        helpers.check_run(registry, Model("ray", "", {"worker": {"plugin": "ray"}}), RunNeeds(hooks=frozenset()))


def test_objectives_are_checked_by_the_plugin_that_trains(registry: Registry) -> None:
    [problem] = helpers.check_objective(registry, Model("ray"), Dpo(loss_type="no-such-loss"))
    assert problem.startswith("loss_type: ")


def test_the_plugin_keeps_the_contract(weights: str, settings: dict[str, Any]) -> None:
    check_plugin("ray", model=Model("ray", weights, settings)).raise_for_problems()


def test_a_run_on_a_cluster_ends_with_the_artifacts_of_one_process(
    registry: Registry,
    settings: dict[str, Any],
    tmp_path: Path,
    until: Callable[..., None],
    free_cpus: Callable[[], float],
) -> None:
    """The student is trained here. The actors then sample and judge with each new checkpoint."""
    trained = {"plugin": "transformers", "model": "tiny/student", "settings": {"threads": 1}}
    students = {
        "one": trained,
        "spread": {"plugin": "ray", "model": "tiny/student", "settings": settings},
        "generator": {**trained, "generator": {"plugin": "ray", "settings": settings}},
    }
    for name, student in students.items():
        recipe = from_values({**RECIPE, "models": {"student": student}}, name)
        run(recipe, tmp_path / name, registry)
        until(lambda: free_cpus() == 2)
    one = {path.relative_to(tmp_path / "one"): path for path in (tmp_path / "one/seed-0").rglob("*") if path.is_file()}
    compared = [path for path in one if path.suffix in (".jsonl", ".safetensors")]
    assert {"candidates.jsonl", "judgements.jsonl", "preferences.jsonl"} <= {path.name for path in compared}
    for name in ("spread", "generator"):
        for path in compared:
            assert one[path].read_bytes() == (tmp_path / name / path).read_bytes(), (name, path)


@pytest.mark.parametrize("name", ["embedded", "self-reward"])
def test_the_recipes_bind_the_plugin_as_generator(name: str) -> None:
    generator = load_recipe(FOLDER / f"{name}.yaml").models.student.generator
    assert generator is not None
    assert generator.plugin == "ray"
    assert structure(RaySettings, dict(generator.settings), name).worker.plugin == "transformers"


def test_the_settings_of_the_page_are_those_of_the_plugin() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", (FOLDER / "README.md").read_text(), re.MULTILINE)
    named = {name: default for names, default in rows for name in re.findall("`([a-z_.]+)`", names)}
    assert set(named) == {one.name for one in describe_settings(RaySettings)} - {"worker"}
    assert (named["actors"], named["start_seconds"]) == (str(RaySettings().actors), f"{RaySettings().start_seconds:g}")


def test_the_models_of_the_page_are_bindings() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    values = [yaml.safe_load(block) for block in blocks]
    models = {role: bound for value in values for role, bound in value.get("models", value).items()}
    from_values({**RECIPE, "models": models}, "README.md")
    for bound in (models["student"]["generator"], models["judge"]):
        structure(RaySettings, bound["settings"], "README.md")


@pytest.mark.parametrize(("number", "actors"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_a_run_stops_by_a_signal_and_ends_its_own_cluster(
    tmp_path: Path, number: signal.Signals, actors: int, until: Callable[..., None]
) -> None:
    """Without ``address``, the run has a cluster of its own. Ray would end the process at SIGTERM."""
    student = {"plugin": "ray", "model": "tiny/student", "settings": {"actors": actors, "batch_size": 1}}
    recipe = {**RECIPE, "models": {"student": student}, "generation": {**RECIPE["generation"], "n": 64}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    command = [str(Path(sys.executable).with_name("tutelage")), "run", str(tmp_path / "recipe.yaml"), "--run"]
    with subprocess.Popen([*command, str(tmp_path / "run")], stderr=subprocess.PIPE, text=True) as process:
        journal = tmp_path / "run/seed-0/M1/samples/.candidates.jsonl.journal"
        until(lambda: journal.exists() or process.poll() is not None, 120)
        assert processes_of(f"_{process.pid}/")
        process.send_signal(number)
        errors = process.communicate()[1]
    assert process.returncode == 130, errors
    assert "stopped as requested; finished work is kept, and the same command continues" in errors
    assert "SIGTERM received" not in errors
    until(lambda: not processes_of(f"_{process.pid}/"))


def processes_of(session: str) -> list[str]:
    """The command lines of the processes whose session of Ray ends in this way."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if "/session_" in line and session in line]
