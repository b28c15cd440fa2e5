"""The paper's recipes at a hundredth of their size: the tiny student, and local servers as Gemini and GPT-4.

Changed are sizes, addresses, and what a model of 0.8M parameters needs to say anything: its own seed data and rubric,
lists of a prompt a line, and more epochs of full fine-tuning for M1. Everything else is the recipe.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_servers import running
from known import known

from tutelage.execution.runner import run
from tutelage.files.trl_format import read_preferences
from tutelage.recipe.loading import built_in, load_recipe
from tutelage.recipe.schema import Recipe
from tutelage.records import Prompt
from tutelage.runs.store import Store

PAPER = sorted(name for name in built_in() if name.startswith("paper/"))


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[str, str]]:
    with running("gemini", None) as gemini, running("openai", None) as openai:
        yield gemini.url, f"{openai.url}/v1"


def one_percent(name: str, gemini: str, openai: str) -> Recipe:
    changes = {
        "models.student": {"plugin": "transformers", "model": "tiny/student", "settings": {"threads": 1}},
        "models.evaluator.settings": {"base_url": openai},
        "data.ift": {"source": "tiny/ift", "count": 32},
        "data.eft": {"source": "tiny/eft", "count": 29},
        "data.prompts.source": "tiny/seed",
        "data.prompts.count": 10,
        "data.prompts.self_instruct.listing": "lines",
        "data.prompts.self_instruct.max_new_tokens": 64,
        "data.decontaminate": {"share": 1},
        "generation.max_new_tokens": 24,
        "judging.rubric": "tiny/additive",
        "judging.max_new_tokens": 24,
        "sft.epochs": 8,
        "sft.learning_rate": 5e-4,
        "sft.lora": None,
        "sft.max_length": 512,
        "dpo.max_length": 512,
        "evaluation.prompts": {"source": "tiny/held-out", "count": 2},
        "evaluation.agreement_prompts": 2,
        "evaluation.max_new_tokens": 24,
    }
    if name != "paper/self-reward":
        changes["models.teacher.settings"] = {"base_url": gemini}
    if name in ("paper/all", "paper/teacher-reward"):
        changes["pipelines.teacher-reward.judging.rubric"] = "additive"
    return load_recipe(built_in()[name], changes)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "paper/all" else pytest.mark.slow) for name in PAPER]
)
def test_a_recipe_of_the_paper_runs_whole_at_a_hundredth_of_its_size(
    name: str, tmp_path: Path, services: tuple[str, str]
) -> None:
    recipe = one_percent(name, *services)
    summary = known(run(recipe, tmp_path / "run"))
    store = Store(tmp_path / "run")
    assert len(store.read("seed-0/M1/samples/prompts.jsonl", Prompt)) == 10
    for pipeline in recipe.pipelines:
        folder = tmp_path / "run" / "seed-0" / pipeline / "M2"
        assert 0 < len(read_preferences(folder / "preferences.jsonl")) <= 10
        assert (folder / "checkpoint" / "model.safetensors").exists()
    assert [model.id for model in summary.models] == ["M0", "M1", *(f"M2/{pipeline}" for pipeline in recipe.pipelines)]
    models = len(summary.models)
    assert [row.n for row in summary.comparisons] == [2] * (models * (models - 1) // 2)
