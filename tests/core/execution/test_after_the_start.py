"""Exit code 2 means that nothing was written: after the start of a run, no error has it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import echoing_world
import pytest

from tutelage.errors import InputError, StageError
from tutelage.execution.reporter import EarlierStep, Silent
from tutelage.execution.runner import run
from tutelage.hookspecs import hookimpl
from tutelage.planning.steps import Step
from tutelage.plugin_info import EnvironmentVariable, PluginInfo
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.records import Judgement, Model, Rubric, Sampling, Verdict

Make = Callable[..., Recipe]


class Deleting(Silent):
    """Deletes a file after the checks and before the first step, as another program may."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def planned(self, steps: Sequence[Step], earlier: Sequence[EarlierStep] = ()) -> None:
        self.path.unlink()


def data(path: Path) -> dict[str, Any]:
    path.write_text("".join(json.dumps({"prompt": f"say {n}", "answer": f"{n}"}) + "\n" for n in range(8)))
    return {"ift": {"source": str(path)}, "prompts": {"source": "numbers/train", "count": 8}}


def test_a_source_that_disappears_after_the_checks_is_used_as_it_was_checked(
    make_recipe: Make, numbers_registry: Registry, tmp_path: Path
) -> None:
    changes = {"iterations": 1, "evaluation": None, "controls": {}, "pipelines": {"teacher-reward": None}}
    data_of = {**data(tmp_path / "ift.jsonl"), "prompts": {"source": "numbers/train", "count": 30}}
    recipe = make_recipe(data=data_of, **changes)
    run(recipe, tmp_path / "run", numbers_registry, Deleting(tmp_path / "ift.jsonl"))
    assert (tmp_path / "run/seed-0/M1/examples.jsonl").read_bytes().count(b"\n") == 8


def test_an_input_error_after_the_checks_is_an_error_of_the_stage(
    make_recipe: Make, numbers_registry: Registry, tmp_path: Path
) -> None:
    class Failing(Silent):
        def planned(self, steps: Sequence[Step], earlier: Sequence[EarlierStep] = ()) -> None:
            raise InputError("found too late")

    with pytest.raises(StageError, match="found too late"):
        run(make_recipe(iterations=1), tmp_path / "run", numbers_registry, Failing())
    assert (tmp_path / "run/recipe.yaml").is_file()


def test_the_same_source_that_is_missing_before_the_run_is_an_input_error_and_nothing_is_written(
    make_recipe: Make, numbers_registry: Registry, tmp_path: Path
) -> None:
    source, directory = tmp_path / "ift.jsonl", tmp_path / "run"
    recipe = make_recipe(data=data(source), iterations=1)
    source.unlink()
    with pytest.raises(InputError, match=r"data\.ift: .*ift\.jsonl: cannot be read"):
        run(recipe, directory, numbers_registry)
    assert not directory.exists()


class Guarded:
    """The evaluator of the echoing world, which needs an environment variable."""

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo("Guarded.", environment=(EnvironmentVariable("GUARD", "Opens it."),))

    @hookimpl
    def judge(self, model: Model, items: Any, rubric: Rubric, samples: int, sampling: Sampling) -> Iterator[Judgement]:
        yield from echoing_world.judge(model, items, rubric, samples, sampling)

    @hookimpl
    def evaluate(self, comparisons: Any) -> Iterator[Verdict]:
        yield from echoing_world.evaluate(comparisons)


def test_a_finished_run_needs_no_check_of_its_models(
    make_recipe: Make, numbers_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers_registry.register(Guarded(), "guarded")
    student = {"plugin": "numbers", "model": "numbers/novice"}
    models = {"student": student, "teacher": {"plugin": "numbers"}, "evaluator": {"plugin": "guarded"}}
    recipe, directory = make_recipe(models=models, iterations=1), tmp_path / "run"
    monkeypatch.delenv("GUARD", raising=False)
    with pytest.raises(InputError, match=r"models\.evaluator: the environment variable GUARD is not set"):
        run(recipe, directory, numbers_registry)
    assert not directory.exists()
    monkeypatch.setenv("GUARD", "x")
    summary = run(recipe, directory, numbers_registry)
    monkeypatch.delenv("GUARD")
    assert run(recipe, directory, numbers_registry) == summary


def test_notices_reach_the_reporter_before_the_first_step(
    make_recipe: Make, numbers_registry: Registry, tmp_path: Path
) -> None:
    reports: list[str] = []

    class Noting(Silent):
        def note(self, text: str) -> None:
            reports.append(text)

        def planned(self, steps: Sequence[Step], earlier: Sequence[EarlierStep] = ()) -> None:
            reports.append("planned")

    recipe = make_recipe(iterations=1, preferences="all", evaluation=None)
    run(recipe, tmp_path / "run", numbers_registry, Noting())
    assert reports[:2] == ["preferences: has no effect, because there is one preference round", "planned"]
