"""The recipes that ship with tutelage; the paper's recipes have its counts and settings."""

import json
from collections.abc import Callable
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from known import known

from tutelage.objectives import Dpo, Lora
from tutelage.planning.checks import checked_plan
from tutelage.planning.steps import (
    BuildExamples,
    Compare,
    Demonstrate,
    Judge,
    MakePairs,
    Plan,
    Sample,
    Step,
    Train,
    WritePrompts,
)
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import built_in, load_recipe, summary_line

PAPER = sorted(name for name in built_in() if name.startswith("paper/"))
SMALL = sorted(name for name in built_in() if name.startswith("small-gpu/"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data files that have the paths and the sizes that the recipes need."""
    folder = tmp_path_factory.mktemp("data")
    files: dict[str, list[dict[str, Any]]] = {
        "data/oasst/ift.jsonl": [{"prompt": f"Tell me about topic {n}.", "answer": f"It is {n}."} for n in range(3190)],
        "data/oasst/eft.jsonl": [{"prompt": f"Which {n}?", "answer": "This.", "score": n % 6} for n in range(2934)],
        "data/alpaca_eval.jsonl": [{"prompt": f"Instruction of number {n}, please."} for n in range(805)],
    }
    for name, rows in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def plan_of(data: Path) -> Callable[[str], Plan]:
    """The plan of a recipe by name, with the data files; each is made once."""

    @cache
    def planned(name: str) -> Plan:
        with chdir(data):
            return checked_plan(load_recipe(built_in()[name]), Registry.discover())

    return planned


def count(plan: Plan, kind: type[Step], **fields: Any) -> int:
    return sum(
        s.count for s in plan.steps if isinstance(s, kind) and all(getattr(s, k) == v for k, v in fields.items())
    )


@pytest.mark.parametrize("name", PAPER)
def test_the_plan_of_a_paper_recipe_has_the_papers_counts(name: str, plan_of: Callable[[str], Plan]) -> None:
    plan = plan_of(name)
    pipelines = {model.pipeline for model in plan.models if model.pipeline}
    expected = {"self-reward", "teacher-reward", "teacher-demonstration"} if name == "paper/all" else {name[6:]}
    assert pipelines == expected
    assert count(plan, BuildExamples) == 3190 + 2934
    assert count(plan, WritePrompts) == 1000
    assert count(plan, Sample, output="seed-0/M1/samples/candidates.jsonl") == 4000
    assert count(plan, MakePairs) == 1000 * len(pipelines)
    assert sum(s.count for s in plan.steps if isinstance(s, Judge) and s.output.endswith("M2/judgements.jsonl")) == (
        4000 * len(pipelines & {"self-reward", "teacher-reward"})
    )
    assert count(plan, Demonstrate) == 1000 * ("teacher-demonstration" in pipelines)
    models = 2 + len(pipelines)
    assert count(plan, Compare) == 2 * 200 * models * (models - 1) // 2


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_settings_reach_every_step(name: str, plan_of: Callable[[str], Plan]) -> None:
    plan = plan_of(name)
    first, *others = [step for step in plan.steps if isinstance(step, Train)]
    assert (first.objective.learning_rate, first.objective.lora) == (2e-4, Lora(64, 16, 0.1))
    assert others
    for step in others:
        assert isinstance(step.objective, Dpo)
        assert (step.objective.learning_rate, step.objective.beta) == (5e-5, 0.1)
        assert step.objective.lora == Lora(16, 16, 0.05)
        assert step.start == step.reference
        assert step.start.id == "M1"
    candidates = next(s for s in plan.steps if isinstance(s, Sample) and s.output.endswith("candidates.jsonl"))
    assert (candidates.sampling.temperature, candidates.sampling.top_p, candidates.sampling.max_new_tokens) == (
        0.7,
        0.9,
        256,
    )


def test_the_recipes_of_the_paper_differ_only_in_their_pipelines() -> None:
    whole = load_recipe(built_in()["paper/all"])
    assert set(PAPER) > {"paper/all"}
    for name in PAPER:
        recipe = load_recipe(built_in()[name])
        shared = evolve(recipe, name=whole.name, pipelines=whole.pipelines, models=whole.models)
        assert shared == whole
        assert dict(recipe.pipelines).items() <= dict(whole.pipelines).items()


@pytest.mark.parametrize("name", SMALL)
def test_a_recipe_for_a_small_gpu_has_the_papers_training_settings(name: str, plan_of: Callable[[str], Plan]) -> None:
    recipe, plan = load_recipe(built_in()[name]), plan_of(name)
    paper = load_recipe(built_in()["paper/all"])
    assert (recipe.sft, recipe.dpo) == (paper.sft, paper.dpo)
    assert recipe.sft.micro_batch_size is None  # what fits into the GPU follows from its memory
    assert count(plan, WritePrompts) == 400


def test_one_recipe_needs_no_paid_service() -> None:
    models = load_recipe(built_in()["small-gpu/no-paid-api"]).models
    for bound in map(known, (models.teacher, models.evaluator)):
        assert bound.settings["base_url"].startswith("http://127.0.0.1")
        assert bound.settings["price"] == {"input": 0, "output": 0}


@pytest.mark.parametrize("name", sorted(built_in()))
def test_the_first_line_of_every_recipe_describes_it(name: str) -> None:
    assert 20 < len(summary_line(built_in()[name])) <= 118


@pytest.mark.parametrize("name", PAPER)
def test_every_value_of_a_paper_recipe_names_its_source(name: str) -> None:
    sources = ("paper", "code", "Yuan", "ours", "as the candidates")
    lines = built_in()[name].read_text().splitlines()
    settings = lines[lines.index("generation:") :]
    values = [n for n, line in enumerate(settings) if ":" in line.partition("#")[0].strip()[:-1]]
    assert len(values) > 10
    for number in values:
        explained = settings[number].partition("#")[2] or settings[number - 1].partition("#")[2]
        assert explained.strip().startswith(sources), settings[number]
