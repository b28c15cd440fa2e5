"""Trainings that are killed with SIGKILL and continued, compared with undisturbed trainings."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from killable_training import training

from tutelage.context import Context
from tutelage.errors import StageError
from tutelage.files.jsonl import read_rows, write_rows
from tutelage.objectives import Dpo, Lora, Objective, Sft
from tutelage.records import Model
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.objectives import Kto
from tutelage_transformers.training.request import TrainingRequest
from tutelage_transformers.training.resuming import MARK, step_of, training_folder
from tutelage_transformers.training.step import train

SFT = Sft(epochs=3, learning_rate=1e-2, batch_size=4, micro_batch_size=2)
DPO = Dpo(epochs=3, learning_rate=1e-3, batch_size=4, micro_batch_size=2)
KTO = Kto(epochs=3, learning_rate=1e-3, batch_size=4, micro_batch_size=2)
LORA = Lora(r=4, alpha=8, dropout=0.2)
STEPS = 12
EVERY_STEP = TransformersSettings(checkpoint_minutes=0)
NEVER = TransformersSettings(checkpoint_minutes=None)


class Training:
    """One training in a folder of its own, which runs in this process or in one that is killed."""

    def __init__(self, start: Path, objective: Objective, examples: Path, folder: Path) -> None:
        self.start, self.objective, self.examples, self.folder = start, objective, examples, folder
        self.scratch = folder / "scratch"
        self.scratch.mkdir(parents=True)

    def fresh_output(self) -> Path:
        """Return an empty output folder, as the runner does: nothing in the output survives a kill."""
        output = self.folder / f"checkpoint-{time.monotonic_ns()}"
        output.mkdir()
        target = self.folder / "output"
        if target.exists():
            target.rename(self.folder / f"abandoned-{time.monotonic_ns()}")
        return output.rename(target)

    def run(self, settings: TransformersSettings = EVERY_STEP, **context: Any) -> list[dict[str, Any]]:
        rows: list[Any] = []
        given = Context(settings=settings, scratch=self.scratch, log=rows.append, **context)
        train(Model("transformers", str(self.start)), None, self.objective, self.examples, self.fresh_output(), given)
        return rows

    def run_and_kill(self, after: int, delay: float, settings: TransformersSettings = EVERY_STEP) -> int:
        """Kill the training ``delay`` seconds after step ``after``; returns its number of reported steps.

        Steps that were repeated are counted again.
        """
        arguments = (self.start, self.objective, self.examples, self.fresh_output(), self.scratch, settings, None)
        done = 0
        with training(*arguments) as (process, reported):
            while done < after:
                done += reported.recv()
            time.sleep(delay)
            process.kill()
            process.join()
            assert process.exitcode == -9
            while reported.poll():
                try:
                    done += reported.recv()
                except EOFError:
                    break
        return done

    def kept(self) -> int:
        """Return the step of the newest complete training checkpoint, or 0."""
        return max((step_of(mark.parent) for mark in self.scratch.rglob(MARK)), default=0)


def weights(training: Training) -> bytes:
    return (training.folder / "output" / "model.safetensors").read_bytes()


@pytest.fixture
def make(base: Path, sft_file: Path, dpo_file: Path, tmp_path: Path) -> Any:
    """make(name, objective) returns a training on the objective's file."""

    labelled = tmp_path / "labelled.jsonl"
    write_rows(labelled, [{**row, "label": line % 3 > 0} for line, row in read_rows(sft_file)])

    def made(name: str, objective: Objective) -> Training:
        files = {"examples": sft_file, "preferences": dpo_file, "labelled": labelled}
        return Training(base, objective, files[objective.examples], tmp_path / name)

    return made


@pytest.mark.parametrize(
    ("objective", "lora"),
    [
        pytest.param(SFT, None, id="sft-full"),
        pytest.param(DPO, LORA, id="dpo-lora"),
        pytest.param(SFT, LORA, id="sft-lora", marks=pytest.mark.slow),
        pytest.param(DPO, None, id="dpo-full", marks=pytest.mark.slow),
        pytest.param(KTO, LORA, id="kto-lora", marks=pytest.mark.slow),
    ],
)
def test_a_training_killed_at_random_moments_ends_with_the_weights_of_an_undisturbed_one(
    make: Any, objective: Objective, lora: Lora | None
) -> None:
    objective = evolve(objective, lora=lora)
    expected = (undisturbed := make("undisturbed", objective)).run(NEVER)
    assert [row["step"] for row in expected] == list(range(1, STEPS + 1))
    killed, draw, last = make("killed", objective), random.Random(f"{objective}"), 0
    for latest in (5, 10):
        steps = killed.run_and_kill(draw.randint(last + 1, latest), draw.uniform(0, 0.03))
        last = killed.kept()
        assert last in (steps - 1, steps)
    reported: list[int] = []
    rows = killed.run(advance=reported.append)
    assert reported == [last] * bool(last) + [1] * (STEPS - last)
    assert json.dumps(rows) == json.dumps(expected)
    assert weights(killed) == weights(undisturbed)


@pytest.mark.parametrize("objective", [SFT, DPO], ids=["sft", "dpo"])
def test_a_packed_training_with_a_bfloat16_adapter_continues_to_the_same_weights(
    make: Any, objective: Objective
) -> None:
    objective = evolve(objective, lora=LORA)
    packed = TransformersSettings(checkpoint_minutes=0, packing=True, adapter_dtype="bfloat16")
    expected = (undisturbed := make("undisturbed", objective)).run(packed)
    halted = make("halted", objective)
    stopped(halted, after=7, settings=packed)
    assert halted.run(packed) == expected
    assert weights(halted) == weights(undisturbed)


def test_a_finished_training_deletes_its_training_checkpoints(make: Any) -> None:
    finished, plain = (make(name, evolve(SFT, epochs=1, lora=LORA)) for name in ("finished", "plain"))
    finished.run()
    plain.run(NEVER)
    assert not list(finished.scratch.iterdir())
    files, expected = (
        {path.relative_to(one.folder / "output") for path in (one.folder / "output").rglob("*")}
        for one in (finished, plain)
    )
    assert files == expected


def stopped(training: Training, after: int, settings: TransformersSettings = EVERY_STEP) -> str:
    """Cancel a training after ``after`` steps; returns the message of its error."""
    steps: list[int] = []
    with pytest.raises(StageError) as error:
        training.run(settings, advance=steps.append, cancelled=lambda: len(steps) >= after)
    return str(error.value)


def test_a_training_that_is_cancelled_continues_after_its_last_step(make: Any) -> None:
    expected = make("undisturbed", SFT).run(NEVER)
    halted = make("halted", SFT)
    assert stopped(halted, after=3) == (
        "training was cancelled after 3 of 12 steps; the same command continues after step 3"
    )
    assert halted.run() == expected


def test_a_short_training_saves_no_training_checkpoint(make: Any) -> None:
    short = make("short", SFT)
    assert stopped(short, after=3, settings=TransformersSettings()).endswith("the same command starts this step again")
    assert not list(short.scratch.iterdir())


def test_a_training_checkpoint_without_its_mark_is_incomplete_and_not_used(make: Any) -> None:
    cut = make("cut", evolve(SFT, epochs=1))
    stopped(cut, after=2)
    (mark,) = cut.scratch.rglob(MARK)
    mark.unlink()
    (mark.parent / "model.safetensors").write_bytes(b"half")
    reported: list[int] = []
    cut.run(advance=reported.append)
    assert reported == [1] * 4


@pytest.mark.parametrize("how", ["truncated", "changed"])
def test_a_training_checkpoint_whose_weights_were_damaged_is_not_used(make: Any, how: str) -> None:
    damaged = make("damaged", evolve(SFT, epochs=1))
    stopped(damaged, after=2)
    (mark,) = damaged.scratch.rglob(MARK)
    [weights] = mark.parent.glob("*.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] if how == "truncated" else content[:-4] + bytes(4))
    reported: list[int] = []
    damaged.run(advance=reported.append)
    assert reported == [1] * 4


@pytest.mark.parametrize("changed", ["objective", "examples", "start", "settings"])
def test_the_checkpoint_of_another_training_is_deleted(
    make: Any, other_base: Path, tmp_path: Path, changed: str
) -> None:
    again = make("again", evolve(SFT, epochs=1))
    stopped(again, after=2)
    settings = EVERY_STEP
    if changed == "objective":
        again.objective = evolve(again.objective, learning_rate=2e-2)
    elif changed == "examples":
        lines = again.examples.read_text().splitlines(keepends=True)
        again.examples = tmp_path / "examples.jsonl"
        again.examples.write_text("".join(lines[::-1]))
    elif changed == "start":
        again.start = other_base
    else:
        settings = evolve(settings, attention="sdpa")
    reported: list[int] = []
    again.run(settings, advance=reported.append)
    assert reported == [1] * 4


def test_a_moved_run_keeps_its_training_checkpoint(make: Any, tmp_path: Path) -> None:
    moved = make("here", evolve(SFT, epochs=1))
    stopped(moved, after=2)
    moved.folder = moved.folder.rename(tmp_path / "there")
    moved.scratch = moved.folder / "scratch"
    reported: list[int] = []
    moved.run(advance=reported.append)
    assert reported == [2, 1, 1]


def test_two_trainings_may_share_a_scratch_folder(make: Any, tmp_path: Path) -> None:
    one = make("one", SFT)
    folders = {
        training_folder(
            TrainingRequest(
                Model("transformers", str(one.start)), None, SFT, one.examples, tmp_path / name, tmp_path, EVERY_STEP
            )
        ).path
        for name in ("M1", "M2")
    }
    assert len(folders) == 2


def test_a_negative_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="checkpoint_minutes"):
        TransformersSettings(checkpoint_minutes=-1)
