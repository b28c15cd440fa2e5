"""Caches of finished artifacts: nothing is lost at any moment of a move."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from full_disk import PROBLEM, FullDisk

from tutelage.errors import InputError, StageError
from tutelage.planning.artifacts import beside
from tutelage.planning.made_from import MadeFrom
from tutelage.runs.artifact_cache import ArtifactCache, checked_cache
from tutelage.runs.store import Store

CHECKPOINT = "seed-0/M1/checkpoint"
METRICS = "seed-0/M1/metrics.jsonl"
MADE = MadeFrom({"step": "Train", "beta": 0.1}, {"seed-0/M1/examples.jsonl": "ab"})


def finished_run(root: Path) -> Store:
    """A run with one checkpoint, as the runner writes it."""
    store = Store(root)
    folder = store.fresh_folder(CHECKPOINT)
    (folder / "weights").write_bytes(b"12345")
    store.write_made_from(CHECKPOINT, MADE)
    store.note_step(CHECKPOINT, 12.0, {"steps": 1}, 0.5, folder=folder)
    store.write(METRICS, [{"step": 1}])
    store.rename(folder, CHECKPOINT)
    return store


def test_an_artifact_is_set_aside_and_fetched_with_everything_that_is_known_about_it(tmp_path: Path) -> None:
    store, cache = finished_run(tmp_path / "run"), ArtifactCache(tmp_path / "run/.replaced")
    cache.set_aside(store, CHECKPOINT)
    assert not store.has(CHECKPOINT)
    assert not store.has("seed-0"), "an empty folder is left"
    assert store.made_from(CHECKPOINT) is None
    assert [(one.artifact, one.fingerprint) for one in cache.contents()] == [(CHECKPOINT, MADE.fingerprint)]
    assert not store.has("made"), "an empty folder is left"
    assert cache.fetch(store, CHECKPOINT, MADE, keep=False)
    assert store.made_from(CHECKPOINT) == MADE
    assert store.path(METRICS).exists()
    assert store.problems(CHECKPOINT, checksums=True) == []
    assert store.finished_steps()[CHECKPOINT].seconds == 12.0
    assert list(cache.contents()) == []


@pytest.mark.parametrize("moved", range(3))
def test_a_move_that_was_killed_is_continued_or_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    store, cache = finished_run(tmp_path / "run"), ArtifactCache(tmp_path / "run/.replaced")
    left = iter(range(moved))
    original = Path.rename

    class Killed(BaseException):
        pass

    def dying(self: Path, target: Path) -> Path:
        if self.name in ("checkpoint", "metrics.jsonl") and next(left, None) is None:
            raise Killed
        return original(self, target)

    with monkeypatch.context() as patched, suppress(Killed):
        patched.setattr(Path, "rename", dying)
        patched.setattr(Path, "replace", dying)
        cache.set_aside(store, CHECKPOINT)
    if store.has(CHECKPOINT):
        cache.give_back(store, CHECKPOINT, MADE.fingerprint)
        assert store.path(METRICS).exists()
        assert store.problems(CHECKPOINT, checksums=True) == []
        cache.set_aside(store, CHECKPOINT)
    else:
        assert moved == 2
    assert cache.has(MADE.fingerprint, CHECKPOINT)
    assert cache.fetch(store, CHECKPOINT, MADE, keep=False)
    assert store.problems(CHECKPOINT, checksums=True) == []


def test_an_artifact_on_a_shared_cache_is_on_the_disk_once_and_paid_once(tmp_path: Path) -> None:
    first, second, cache = (
        finished_run(tmp_path / "first"),
        Store(tmp_path / "second"),
        ArtifactCache(tmp_path / "cache"),
    )
    cache.put(first, CHECKPOINT)
    assert cache.fetch(second, CHECKPOINT, MADE, keep=True)
    files = [root / CHECKPOINT / "weights" for root in (first.root, second.root)]
    assert files[0].stat().st_ino == files[1].stat().st_ino
    assert second.finished_steps()[CHECKPOINT].cost == 0
    assert cache.has(MADE.fingerprint, CHECKPOINT)
    assert {path for path in beside(CHECKPOINT) if second.has(path)} == {METRICS}


def _overwrite(path: Path, data: bytes) -> None:
    """Replace a file and not the other links to it."""
    path.unlink()
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "other content": lambda entry: _overwrite(entry / CHECKPOINT / "weights", b"54321"),
    "missing file": lambda entry: (entry / CHECKPOINT / "weights").unlink(),
    "missing metrics": lambda entry: (entry / METRICS).unlink(),
    "damaged notes": lambda entry: (entry / "step.json").write_text("{"),
    "missing notes": lambda entry: (entry / "step.json").unlink(),
    "missing artifact": lambda entry: shutil.rmtree(entry / CHECKPOINT),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_artifact_is_not_taken_and_the_next_run_replaces_it(tmp_path: Path, damage: str) -> None:
    first, second, cache = (
        finished_run(tmp_path / "first"),
        Store(tmp_path / "second"),
        ArtifactCache(tmp_path / "cache"),
    )
    cache.put(first, CHECKPOINT)
    DAMAGES[damage](tmp_path / "cache" / MADE.fingerprint)
    assert [one.fingerprint for one in cache.contents()] == [MADE.fingerprint]
    assert not cache.fetch(second, CHECKPOINT, MADE, keep=True)
    assert not second.has(CHECKPOINT)
    cache.put(first, CHECKPOINT)
    assert cache.fetch(second, CHECKPOINT, MADE, keep=True)
    assert second.problems(CHECKPOINT, checksums=True) == []


def test_a_damaged_artifact_that_was_set_aside_is_replaced_by_the_next_one(tmp_path: Path) -> None:
    store, cache = finished_run(tmp_path / "run"), ArtifactCache(tmp_path / "run/.replaced")
    cache.set_aside(store, CHECKPOINT)
    (tmp_path / "run/.replaced" / MADE.fingerprint / "step.json").unlink()
    cache.set_aside(finished_run(tmp_path / "run"), CHECKPOINT)
    assert cache.fetch(store, CHECKPOINT, MADE, keep=False)


def test_a_cache_whose_disk_is_full_has_no_half_entry(tmp_path: Path) -> None:
    store, cache = finished_run(tmp_path / "run"), ArtifactCache(tmp_path / "cache")
    with FullDisk(tmp_path / "cache", 2).installed(), pytest.raises(StageError, match=PROBLEM):
        cache.put(store, CHECKPOINT)
    assert list(cache.contents()) == []
    cache.put(store, CHECKPOINT)
    assert cache.has(MADE.fingerprint, CHECKPOINT)


def test_a_cache_that_is_read_only_is_an_error_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path} is read-only"):
        checked_cache(tmp_path)


def _put(root: Path, cache: Path) -> None:
    for _ in range(30):
        ArtifactCache(cache).put(Store(root), CHECKPOINT)


def test_two_processes_add_the_same_artifact_at_the_same_time(tmp_path: Path) -> None:
    finished_run(tmp_path / "run")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_put, args=(tmp_path / "run", tmp_path / "cache")) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [MADE.fingerprint]


def test_clearing_a_cache_twice_is_no_error(tmp_path: Path) -> None:
    store, cache = finished_run(tmp_path / "run"), ArtifactCache(tmp_path / "run/.replaced")
    cache.set_aside(store, CHECKPOINT)
    cache.clear()
    cache.clear()
    assert list(cache.contents()) == []
