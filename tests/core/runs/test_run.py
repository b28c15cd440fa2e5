"""A run is opened by one class, which all readers of runs use."""

from __future__ import annotations

import shutil
from pathlib import Path

import echoing_world
import pytest
from recipes import numbers_recipe

from tutelage.errors import InputError
from tutelage.execution.runner import run
from tutelage.planning.checks import checked_plan
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values
from tutelage.runs.run import Run, RunModels


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, which tests must not change."""
    registry = Registry.empty()
    registry.register(echoing_world, "numbers")
    folder = tmp_path_factory.mktemp("run") / "run"
    run(from_values(numbers_recipe(pipelines={"self-reward": None}, controls={}, iterations=1)), folder, registry)
    return folder


@pytest.fixture
def finished(once: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(once, tmp_path / "run"))


def test_an_opened_run_has_the_plan_of_its_recipe(finished: Path, numbers_registry: Registry) -> None:
    opened = Run.open(finished)
    assert opened.plan == checked_plan(opened.recipe, numbers_registry)
    assert opened.summary.is_file()
    assert opened.models().trained() == ["M0", "M1", "M2/self-reward"]
    assert opened.models().last() == "M2/self-reward"


def test_a_trained_model_has_its_checkpoint_and_the_base_model_has_the_bound_weights(
    finished: Path, numbers_registry: Registry
) -> None:
    models = RunModels.open(finished)
    trained = models.model("M2/self-reward", numbers_registry)
    assert Path(trained.name) == finished / "seed-0/self-reward/M2/checkpoint"
    assert (trained.id, models.model("M0", numbers_registry).id) == ("M2/self-reward", "M0")
    assert not Path(models.model("M0", numbers_registry).name).is_absolute()


def test_the_error_for_an_unknown_seed_or_model_names_the_known_ones(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no seed 7; the seeds of this run are 0"):
        RunModels.open(finished, 7)
    with pytest.raises(InputError, match="did you mean 'M2/self-reward'"):
        RunModels.open(finished).planned("M2/self-rewards")
    (finished / "seed-0/self-reward/M2/checkpoint").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is not trained yet; the finished models are M0, M1"):
        RunModels.open(finished).planned("M2/self-reward")
    with pytest.raises(InputError, match="nothing: contains no run"):
        Run.open(tmp_path / "nothing")
