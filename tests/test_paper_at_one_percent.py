"""The paper's recipes at a hundredth of their size: the tiny student, and local servers as Gemini and GPT-4.

Changed are addresses, and the keys of ``one_percent.ONE_PERCENT``. Everything else is the recipe.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_servers import running
from known import known
from one_percent import ONE_PERCENT

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
    changes: dict[str, Any] = {
        "models.student": {"plugin": "transformers", "model": "tiny/student", "settings": {"threads": 1}},
        "models.evaluator.settings": {"base_url": openai},
        **ONE_PERCENT,
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
