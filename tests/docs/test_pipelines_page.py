"""The plugin of the page "A pipeline of your own": its pipeline and its control run, and the pipeline is better."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from recipes import numbers_recipe

from tutelage import Pipeline
from tutelage.execution.runner import run
from tutelage.pipeline_steps import PipelineStep
from tutelage.plugins.built_in_pipelines import SELF_REWARD
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values

PAGE = (Path(__file__).parents[2] / "docs/pipelines.md").read_text(encoding="utf-8")
LOOP, PLUGIN = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
[RECIPE] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("tutelage_corrector")
    exec(PLUGIN, module.__dict__)
    return module


def test_the_first_example_is_the_declaration_of_self_reward() -> None:
    names: dict[str, Pipeline] = {}
    exec(LOOP, names)
    assert names["SELF_REWARD"] == SELF_REWARD


def test_the_recipe_of_the_page_runs_the_plugin_of_the_page(
    plugin: ModuleType, numbers_registry: Registry, tmp_path: Path
) -> None:
    numbers_registry.register(plugin, "corrector")
    recipe = from_values(numbers_recipe(**yaml.safe_load(RECIPE), iterations=1))
    summary = run(recipe, directory=tmp_path, registry=numbers_registry)
    assert summary is not None
    gold = {model.id: model.metrics["gold_score"].value or 0.0 for model in summary.overall()}
    assert gold["M2/corrector/correct"] > max(gold["M1"], gold["M2/corrector/exchanged"])


def test_the_table_of_steps_names_every_step() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert named == {step.__name__ for step in PipelineStep.__args__}
