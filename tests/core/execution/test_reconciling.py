"""A change of a run's folder that a kill or a full disk stops at any write is continued, and nothing is lost."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from full_disk import FullDisk
from interrupted_runs import artifacts_of
from recipes import numbers_recipe

from tutelage.errors import StageError
from tutelage.execution.reconciling import apply
from tutelage.execution.runner import run
from tutelage.planning.pipelines import make_plan
from tutelage.planning.sources import Sources
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values
from tutelage.recipe.schema import Recipe
from tutelage.runs.artifact_cache import ArtifactCache
from tutelage.runs.changes import changes
from tutelage.runs.store import Store

MOMENTS = 10
FUNCTIONS = ("rename", "replace", "mkdir", "unlink", "rmdir", "link", "fsync")


class KillError(BaseException):
    """The process is gone: nothing is cleaned up."""


class Kill:
    """Ends this process, as far as its files are concerned, after a number of changes of the disk."""

    def __init__(self, after: int | None = None) -> None:
        self.after = after
        self.writes = 0

    @contextmanager
    def installed(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patched:
            for name in FUNCTIONS:
                patched.setattr(os, name, self._counted(getattr(os, name)))
            yield

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.writes += 1
            if self.after is not None and self.writes > self.after:
                raise KillError
            return real(*arguments, **named)

        return counted


def small(**changed: Any) -> Recipe:
    values = numbers_recipe(iterations=1, pipelines={"self-reward": None}, controls={}, **changed)
    values["data"]["prompts"]["count"] = 12
    values["evaluation"] |= {
        "sampled": 0,
        "agreement_prompts": 0,
        "prompts": {"source": "numbers/held-out", "count": 4},
    }
    return from_values(values)


FIRST = small()
SECOND = small(dpo={"beta": 0.05}, generation={"n": 3}, seeds=[0, 1])


def change(folder: Path, recipe: Recipe, registry: Registry, elsewhere: tuple[ArtifactCache, ...] = ()) -> None:
    sources = Sources(recipe, registry)
    apply(changes(Store(folder), make_plan(recipe), sources, elsewhere), elsewhere)


def in_use(folder: Path) -> dict[str, bytes]:
    return {path: data for path, data in artifacts_of(folder).items() if not path.startswith(".replaced/")}


def set_aside(folder: Path) -> set[str]:
    return {path for path in artifacts_of(folder) if path.startswith(".replaced/")}


@pytest.mark.parametrize("disturbance", [Kill, pytest.param(FullDisk, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "start", ["set aside", "taken back", pytest.param("taken from a cache", marks=pytest.mark.slow)]
)
def test_a_change_that_is_stopped_at_any_write_is_continued_or_undone(
    tmp_path: Path, numbers_registry: Registry, start: str, disturbance: type[Kill | FullDisk]
) -> None:
    base, folder = tmp_path / "base", tmp_path / "run"
    run(FIRST, base, numbers_registry)
    elsewhere: tuple[ArtifactCache, ...] = ()
    if start == "taken back":
        run(SECOND, base, numbers_registry)
        run(FIRST, base, numbers_registry)
    elif start == "taken from a cache":
        run(SECOND, tmp_path / "other", numbers_registry, cache=tmp_path / "cache")
        elsewhere = (ArtifactCache(tmp_path / "cache"),)

    def disturbed(after: int | None) -> Kill | FullDisk:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base, folder)
        return Kill(after) if disturbance is Kill else FullDisk(folder, after)

    counting = disturbed(None)
    with counting.installed():
        change(folder, SECOND, numbers_registry, elsewhere)
    expected, aside = in_use(folder), set_aside(folder)
    assert aside
    assert counting.writes > 50
    draw = random.Random(f"{start} {disturbance}")
    for after in sorted(draw.sample(range(counting.writes), MOMENTS)):
        for target, wanted in ((SECOND, expected), (FIRST, in_use(base))):
            disturbance_now = disturbed(after)
            with disturbance_now.installed(), pytest.raises((KillError, StageError)):
                change(folder, SECOND, numbers_registry, elsewhere)
            change(folder, target, numbers_registry, elsewhere)
            assert in_use(folder) == wanted, (after, target.seeds)
            assert target is FIRST or set_aside(folder) >= aside, after
