"""The libraries of a training are read from the disk while a run on one GPU is checked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from tutelage.objectives import Sft
from tutelage.plugin_info import RunNeeds
from tutelage_transformers.devices.capacity import Capacity
from tutelage_transformers.processes import pool
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training import ahead, reading

pytest.importorskip("trl")

GPU = Capacity(8 * 2**30, "the GPU", True)
NEEDS = RunNeeds(hooks=frozenset({"train_step"}), trainings=(Sft(),))


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process has not imported TRL, and what it started ends."""
    pool.end_all()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delitem(sys.modules, "trl", raising=False)
    yield
    reading.end()


def readers() -> list[subprocess.Popen[bytes]]:
    return list(reading._readers)


def test_a_run_that_trains_on_one_gpu_reads_the_libraries_once() -> None:
    assert ahead.start(TransformersSettings(), NEEDS, GPU) == ()
    [reader] = readers()
    assert ahead.start(TransformersSettings(), NEEDS, GPU) == ()
    assert readers() == [reader]
    reading.end()
    assert readers() == []
    assert reader.poll() not in (None, 0), "it is ended, and its imports are not waited for"


@pytest.mark.parametrize(
    ("needs", "capacity"),
    [
        (evolve(NEEDS, trainings=()), GPU),
        (evolve(NEEDS, download=False), GPU),
        (NEEDS, evolve(GPU, is_gpu=False)),
        (NEEDS, None),
    ],
    ids=["no training", "a command that only checks", "a CPU", "an unknown device"],
)
def test_libraries_that_a_run_does_not_need_soon_are_not_read(needs: RunNeeds, capacity: Capacity | None) -> None:
    assert ahead.start(TransformersSettings(), needs, capacity) == ()
    assert readers() == []


def test_libraries_that_are_imported_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", sys)
    ahead.start(TransformersSettings(), NEEDS, GPU)
    assert readers() == []


def test_a_run_continues_if_the_process_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert ahead.start(TransformersSettings(), NEEDS, GPU) == ()
    assert readers() == []


@pytest.mark.slow  # it imports torch and TRL
def test_the_process_that_reads_the_libraries_imports_them_without_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trl.py").write_text("raise RuntimeError('a module of the current folder was imported')")
    monkeypatch.chdir(tmp_path)
    reading.start()
    [reader] = readers()
    assert reader.wait(300) == 0
