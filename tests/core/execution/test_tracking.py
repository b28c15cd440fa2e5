"""Metrics of steps for experiment trackers, through the plugin that trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import echoing_world
import pytest

from tutelage.context import Tracking
from tutelage.errors import InputError
from tutelage.execution.reporter import Silent
from tutelage.execution.runner import run
from tutelage.hookspecs import hookimpl
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe

Make = Callable[..., Recipe]


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def tracking_registry(report: Callable[..., None], problems: Callable[..., list[str]] = lambda _: []) -> Registry:
    """The echoing world, whose student reports to trackers with ``report``."""

    @hookimpl
    def check_report_to(names: Sequence[str]) -> list[str]:
        return problems(names)

    @hookimpl(specname="report")
    def report_metrics(tracking: Tracking, metrics: Mapping[str, float], step: int) -> None:
        report(tracking, metrics, step)

    world = ModuleType("reporting_world")
    vars(world).update(vars(echoing_world), check_report_to=check_report_to, report_metrics=report_metrics)
    registry = Registry.empty()
    registry.register(world, "numbers")
    return registry


def test_the_metrics_of_steps_are_reported_once_to_the_run_of_their_model(tmp_path: Path, make_recipe: Make) -> None:
    reported: list[tuple[str, str, int]] = []

    def report(tracking: Tracking, metrics: Mapping[str, float], step: int) -> None:
        assert (tracking.trackers, tracking.project) == (("board",), "numbers")
        assert tracking.folder == tmp_path / "run" / "tracking"
        model = tracking.run.removeprefix("run/seed-0/").rpartition("-")[0]
        reported.extend((model, name, step) for name in metrics)

    recipe = make_recipe(iterations=1, report_to=["board"])
    run(recipe, tmp_path / "run", tracking_registry(report))
    names = {name for model, name, _ in reported if model == "M2/self-reward"}
    assert {"pairs", "score_judgements", "gold_score", "win_rate_over_M1"} <= names
    assert any(model == "M0" and name == "gold_score" for model, name, _ in reported)
    assert len(set(reported)) == len(reported)
    before = len(reported)
    run(recipe, tmp_path / "run", tracking_registry(report))
    assert len(reported) == before


def test_a_tracker_that_fails_is_a_warning_and_the_key_changes_no_artifact(tmp_path: Path, make_recipe: Make) -> None:
    def report(*_: Any) -> None:
        raise ConnectionError("the board does not answer")

    plain, tracked, notes = make_recipe(iterations=1), make_recipe(iterations=1, report_to=["board"]), Notes()
    run(plain, tmp_path / "plain", tracking_registry(report))
    run(tracked, tmp_path / "tracked", tracking_registry(report), notes)
    assert any("the board does not answer" in line for line in notes.lines)
    for file in (tmp_path / "plain").rglob("*.json*"):
        name = file.relative_to(tmp_path / "plain")
        if name.name not in ("run.json", "steps.jsonl"):
            assert (tmp_path / "tracked" / name).read_bytes() == file.read_bytes(), name
    continued = Notes()
    run(tracked, tmp_path / "plain", tracking_registry(report), continued)
    assert continued.lines == []


def test_a_tracker_that_cannot_be_used_is_found_before_the_first_step(
    tmp_path: Path, make_recipe: Make, numbers_registry: Registry
) -> None:
    recipe = make_recipe(report_to=["bord"])
    registry = tracking_registry(lambda *_: None, lambda names: [f"{names[0]!r} is unknown"])
    with pytest.raises(InputError, match="report_to: 'bord' is unknown"):
        run(recipe, tmp_path / "run", registry)
    with pytest.raises(InputError, match="report_to: the plugin 'numbers' reports to no tracker"):
        run(recipe, tmp_path / "run", numbers_registry)
    assert not (tmp_path / "run").exists()
