"""A finished artifact that was truncated or changed afterwards is found, and the error says how to make it again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import echoing_world
import pytest
from attrs import evolve
from recipes import numbers_recipe

from tutelage.errors import InputError, Interrupted, StageError
from tutelage.execution.runner import run
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values
from tutelage.recipe.schema import Recipe
from tutelage.records import Candidate
from tutelage.runs.integrity import FinishedStep
from tutelage.runs.run import Run, RunModels
from tutelage.runs.store import Store

GOLDEN = Path(__file__).parents[2] / "fixtures/golden-run"
CANDIDATES = "seed-0/M1/samples/candidates.jsonl"
CHECKPOINT = "seed-0/M1/checkpoint"
MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return from_values(numbers_recipe(pipelines={"self-reward": None}, controls={}, iterations=1))


@pytest.fixture(scope="module")
def once(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, which tests must not change."""
    registry = Registry.empty()
    registry.register(echoing_world, "numbers")
    folder = tmp_path_factory.mktemp("integrity") / "run"
    run(recipe, folder, registry)
    return folder


@pytest.fixture
def finished(once: Path, tmp_path: Path) -> Store:
    """A copy of the finished run."""
    return Store(shutil.copytree(once, tmp_path / "run"))


def without_last_row(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))


def test_a_whole_row_that_is_missing_is_found_and_the_remedy_works(
    finished: Store, numbers_registry: Registry, recipe: Recipe
) -> None:
    whole = finished.path(CANDIDATES).read_bytes()
    rows = len(finished.read(CANDIDATES, Candidate))
    without_last_row(finished.path(CANDIDATES))
    with pytest.raises(InputError) as raised:
        finished.read(CANDIDATES, Candidate)
    assert str(raised.value) == (
        f"{finished.path(CANDIDATES)} has {rows - 1} rows, but {rows} were written, so it was truncated or changed; "
        f"delete the file {finished.path(CANDIDATES)}, and `tutelage run --run {finished.root}` makes it again"
    )
    finished.path(CANDIDATES).unlink()
    run(recipe, finished.root, numbers_registry)
    assert finished.path(CANDIDATES).read_bytes() == whole


@pytest.mark.parametrize(
    "artifact",
    ["seed-0/M1/examples.jsonl", "seed-0/self-reward/M2/preferences.jsonl", "evaluation/seed-0/prompts.jsonl"],
)
def test_every_kind_of_artifact_is_compared_with_its_rows(finished: Store, artifact: str) -> None:
    assert finished.problems(artifact, checksums=True) == []
    without_last_row(finished.path(artifact))
    [problem] = finished.problems(artifact, checksums=False)
    assert str(finished.path(artifact)) in problem
    with finished.path(artifact).open("a") as file:
        file.write('{"half a row')
    assert finished.problems(artifact, checksums=False) == [problem]


def test_a_run_that_continues_stops_at_a_truncated_artifact(
    finished: Store, numbers_registry: Registry, recipe: Recipe
) -> None:
    without_last_row(finished.path("seed-0/self-reward/M2/preferences.jsonl"))
    shutil.rmtree(finished.path("seed-0/self-reward/M2/checkpoint"))
    with pytest.raises(StageError, match=r"preferences.jsonl has \d+ rows, but \d+ were written"):
        run(recipe, finished.root, numbers_registry)


def test_metrics_are_compared_with_the_number_of_steps(finished: Store) -> None:
    without_last_row(finished.path("seed-0/M1/metrics.jsonl"))
    with pytest.raises(InputError, match=r"metrics.jsonl has 15 rows, but 16 were written"):
        finished.complete(CHECKPOINT)


def test_weights_are_compared_by_size_whenever_they_are_used(finished: Store, numbers_registry: Registry) -> None:
    models = RunModels.open(finished.root)
    models.model("M1", numbers_registry)
    weights = finished.path(CHECKPOINT) / "weights.json"
    size = weights.stat().st_size
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{weights} has {size - 1} bytes, but {size} were written"):
        models.model("M1", numbers_registry)
    weights.unlink()
    with pytest.raises(InputError, match=f"{weights} is missing.*delete the folder {weights.parent}"):
        models.model("M1", numbers_registry)


def test_weights_are_compared_by_checksum_when_a_run_continues(
    tmp_path: Path, numbers_registry: Registry, recipe: Recipe
) -> None:
    store = Store(tmp_path / "run")
    with pytest.raises(Interrupted):
        run(recipe, store.root, numbers_registry, cancelled=lambda: store.has(CHECKPOINT))
    weights = store.path(CHECKPOINT) / "weights.json"
    right = weights.read_bytes()
    weights.write_bytes(right.replace(b"5", b"4"))
    assert store.problems(CHECKPOINT, checksums=False) == []
    for _ in range(2):
        with pytest.raises(StageError, match=f"{weights} has another checksum .*delete the folder"):
            run(recipe, store.root, numbers_registry)
    weights.write_bytes(right)
    run(recipe, store.root, numbers_registry)


def test_a_run_of_an_earlier_version_is_compared_by_its_counts(tmp_path: Path) -> None:
    store = Store(Path(shutil.copytree(GOLDEN, tmp_path / "golden")))
    plan = Run.open(store.root).plan
    assert [problem for step in plan.steps for problem in store.problems(step.output, checksums=True)] == []
    for artifact in (CANDIDATES, "seed-0/self-reward/M2/preferences.jsonl", "seed-0/M1/samples/prompts.jsonl"):
        without_last_row(store.path(artifact))
        with pytest.raises(InputError, match=r"rows, but \d+ were written"):
            store.complete(artifact)


def test_the_rows_that_are_expected() -> None:
    old = FinishedStep("x", 1.0, {"answered": 10, "refused": 2})
    assert old.expected_rows == 12
    assert evolve(old, rows=3).expected_rows == 3
    assert evolve(old, counts={"pairs": 4, "tied": 9}).expected_rows == 4
    assert evolve(old, counts={"ift": 4, "eft": 4}).expected_rows is None
    assert evolve(old, counts={"steps": 4}).expected_rows is None
    assert evolve(old, counts={}).expected_rows is None
