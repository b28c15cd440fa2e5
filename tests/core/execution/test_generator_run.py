"""A run whose student is sampled by another plugin: the same artifacts, and each plugin released before the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import echoing_world as world
import pytest
from attrs import evolve
from interrupted_runs import artifacts_of
from known import known
from recipes import numbers_recipe

from tutelage.cli.plan import plan_values
from tutelage.context import Context
from tutelage.errors import StageError
from tutelage.execution.runner import run
from tutelage.hookspecs import hookimpl
from tutelage.objectives import Objective
from tutelage.planning.checks import checked_plan
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values
from tutelage.recipe.schema import Recipe
from tutelage.records import Candidate, JudgeItem, Judgement, Model, Prompt, Rubric, Sampling

Event = tuple[str, str, str]
"""The plugin, what it did, and with which model."""


class Part:
    """The echoing world as the trainer or as the engine: it notes what it does, and holds at most one model."""

    def __init__(self, name: str, events: list[Event]) -> None:
        self.name = name
        self.events = events
        self.fails_at = ""

    def note(self, event: str, model: Model) -> None:
        if (self.name, event, model.id) != (self.events or [("", "", "")])[-1]:
            self.events.append((self.name, event, model.id))
        if self.fails_at == f"{event} {model.id}":
            raise RuntimeError("out of memory")

    @hookimpl
    def release(self, model: Model) -> None:
        self.note("release", model)

    @hookimpl
    def judge(
        self, model: Model, items: Iterable[JudgeItem], rubric: Rubric, samples: int, sampling: Sampling
    ) -> Iterator[Judgement]:
        self.note("judge", model)
        yield from world.judge(model, items, rubric, samples, sampling)


class Trainer(Part):
    @hookimpl
    def describe(self) -> PluginInfo:
        return evolve(world.describe(), help="Trains.")

    @hookimpl
    def train_step(
        self, model: Model, reference: Model | None, objective: Objective, examples: Path, output: Path, context: Any
    ) -> Model:
        self.note("train", model)
        return world.train_step(model, reference, objective, examples, output, context)

    @hookimpl
    def demonstrate(self, prompts: Iterable[Prompt]) -> Iterator[Any]:
        yield from world.demonstrate(prompts)

    @hookimpl
    def evaluate(self, comparisons: Iterable[Any]) -> Iterator[Any]:
        yield from world.evaluate(comparisons)


class Engine(Part):
    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo("Answers and judges.")

    @hookimpl
    def generate_candidates(
        self, model: Model, prompts: Iterable[Prompt], n: int, sampling: Sampling
    ) -> Iterator[Candidate]:
        self.note("answer", model)
        yield from world.generate_candidates(model, prompts, n, sampling, Context())


def recipe_with(generator: bool) -> Recipe:
    values = numbers_recipe(controls={})
    values["models"]["student"] |= {"generator": {"plugin": "engine"}} if generator else {}
    return from_values(values)


@pytest.fixture
def parts() -> tuple[Registry, Trainer, Engine]:
    events: list[Event] = []
    trainer, engine = Trainer("trainer", events), Engine("engine", events)
    registry = Registry.empty()
    registry.register(trainer, "numbers")
    registry.register(engine, "engine")
    return registry, trainer, engine


def test_the_artifacts_are_those_of_a_run_without_a_generator(
    tmp_path: Path, numbers_registry: Registry, parts: tuple[Registry, Trainer, Engine]
) -> None:
    alone = run(recipe_with(False), tmp_path / "alone", numbers_registry)
    bound = run(recipe_with(True), tmp_path / "bound", parts[0])
    assert known(alone).models == known(bound).models
    written, expected = artifacts_of(tmp_path / "bound"), artifacts_of(tmp_path / "alone")
    assert written.keys() == expected.keys()
    different = {path for path in written if written[path] != expected[path]}
    assert not [path for path in different if path.endswith(("candidates.jsonl", "weights.json", "judgements.jsonl"))]


def test_each_plugin_is_released_before_the_other_one_loads(
    tmp_path: Path, parts: tuple[Registry, Trainer, Engine]
) -> None:
    registry, trainer, _ = parts
    run(recipe_with(True), tmp_path / "run", registry)
    held: dict[str, str] = {}
    for plugin, event, model in trainer.events:
        if event == "release":
            held.pop(plugin, None)
            continue
        others = {name: other for name, other in held.items() if (name, other) != (plugin, model)}
        assert not others, f"{plugin} does {event} with {model} while {others} is loaded"
        held[plugin] = model
    assert not held
    assert {event for plugin, event, model in trainer.events if plugin == "engine"} == {"answer", "judge", "release"}
    assert ("trainer", "train", "M0") in trainer.events and ("engine", "answer", "M0") in trainer.events


def test_the_judge_of_another_role_is_released_too_before_the_generator_loads(
    tmp_path: Path, parts: tuple[Registry, Trainer, Engine]
) -> None:
    registry, trainer, _ = parts
    run(recipe_with(True), tmp_path / "run", registry)
    assert ("trainer", "judge", "judge") in trainer.events
    assert ("trainer", "release", "judge") in trainer.events


def test_a_generator_that_fails_is_released_and_the_run_continues_from_there(
    tmp_path: Path, parts: tuple[Registry, Trainer, Engine], numbers_registry: Registry
) -> None:
    registry, _, engine = parts
    engine.fails_at = "judge M1"
    with pytest.raises(StageError, match="out of memory"):
        run(recipe_with(True), tmp_path / "run", registry)
    assert engine.events[-2:] == [("engine", "judge", "M1"), ("engine", "release", "M1")]
    engine.fails_at = ""
    run(recipe_with(True), tmp_path / "run", registry)
    run(recipe_with(True), tmp_path / "undisturbed", parts[0])
    assert artifacts_of(tmp_path / "run") == artifacts_of(tmp_path / "undisturbed")


def test_the_plan_of_the_command_names_the_generator(parts: tuple[Registry, Trainer, Engine]) -> None:
    values = plan_values("numbers", checked_plan(recipe_with(True), parts[0]))
    roles = {(total["stage"], total["model"]) for total in values["totals"]}
    assert {("generate", "generator"), ("judge", "generator"), ("train", "student")} <= roles
