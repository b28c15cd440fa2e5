"""Experiment trackers: a killed training that continues is one run there, with one curve, no gap and no double."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from killable_training import training

from tutelage.context import Context, Tracking
from tutelage.objectives import Sft
from tutelage.records import Model
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.step import train
from tutelage_transformers.training.tracking import problems, report

SFT = Sft(epochs=3, learning_rate=1e-2, batch_size=4, micro_batch_size=2)
STEPS = 12
EVERY_STEP, NEVER = TransformersSettings(checkpoint_minutes=0), TransformersSettings(checkpoint_minutes=None)


def curve_of_tensorboard(tracking: Tracking) -> tuple[list[tuple[int, float]], dict[str, list[int]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tracking.folder / "tensorboard" / tracking.run))
    events.Reload()
    tags = events.Tags()["scalars"]
    steps = {tag: [event.step for event in events.Scalars(tag)] for tag in tags}
    return [(event.step, event.value) for event in events.Scalars("train/loss")], steps


def curve_of_trackio(tracking: Tracking) -> tuple[list[tuple[int, float]], dict[str, list[int]]]:
    from trackio.sqlite_storage import SQLiteStorage

    assert SQLiteStorage.get_runs(tracking.project) == [tracking.run]
    rows = SQLiteStorage.get_logs(tracking.project, tracking.run)
    steps = {tag: [row["train/global_step"] for row in rows if tag in row] for row in rows for tag in row}
    return [(row["train/global_step"], row["train/loss"]) for row in rows if "train/loss" in row], steps


CURVES = {"tensorboard": curve_of_tensorboard, "trackio": curve_of_trackio}


@pytest.fixture
def trackio_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "trackio"
    monkeypatch.setenv("TRACKIO_DIR", str(folder))
    for module in ("utils", "sqlite_storage"):
        if find_spec("trackio"):
            monkeypatch.setattr(f"trackio.{module}.TRACKIO_DIR", folder)
    return folder


@pytest.mark.parametrize(
    ("tracker", "settings"),
    [
        pytest.param("tensorboard", EVERY_STEP, id="tensorboard-continues"),
        pytest.param("tensorboard", NEVER, id="tensorboard-starts-again", marks=pytest.mark.slow),
        pytest.param("trackio", EVERY_STEP, id="trackio-continues", marks=pytest.mark.slow),
        pytest.param("trackio", NEVER, id="trackio-starts-again", marks=pytest.mark.slow),
    ],
)
def test_a_killed_training_that_continues_is_one_curve_without_gap_or_double(
    tracker: str, settings: TransformersSettings, base: Path, sft_file: Path, tmp_path: Path, trackio_folder: Path
) -> None:
    if find_spec(tracker) is None:
        pytest.skip(f"{tracker} is not installed")
    tracking = Tracking((tracker,), "numbers", "run/seed-0/M1-ab12cd34", tmp_path / "tracking")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    report(tracking, {"pairs": 3}, 0)
    for attempt in range(2):
        output = tmp_path / f"killed-{attempt}" / "output"
        output.mkdir(parents=True)
        with training(base, SFT, sft_file, tmp_path / "output", scratch, settings, tracking) as (process, reported):
            done = 0
            while done < 4 * (attempt + 1):
                done += reported.recv()
            process.kill()
            process.join()
        time.sleep(1.1)  # TensorBoard orders files by the second in their names, and a real restart takes longer
    rows: list[Any] = []
    context = Context(settings=settings, scratch=scratch, log=rows.append, tracking=tracking)
    (tmp_path / "output").mkdir(exist_ok=True)
    train(Model("transformers", str(base)), None, SFT, sft_file, tmp_path / "output", context)
    report(tracking, {"gold": 2.5}, STEPS)
    curve, steps = CURVES[tracker](tracking)
    assert [step for step, _ in curve] == list(range(1, STEPS + 1))
    assert [loss for _, loss in curve] == pytest.approx([row["loss"] for row in rows], rel=1e-4)
    assert (steps["eval/pairs"], steps["eval/gold"]) == ([0], [STEPS])


def test_an_unknown_tracker_and_one_that_is_not_installed_are_problems_with_a_remedy() -> None:
    unknown, missing = problems(["tensorbord", "tensorboard", "clearml"])
    assert unknown.startswith("'tensorbord' is unknown") and "tensorboard" in unknown
    assert missing.startswith("clearml: not installed") and "pip install clearml" in missing
