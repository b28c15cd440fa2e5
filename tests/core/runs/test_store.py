import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from known import known

from tutelage.errors import RunLockedError, StageError
from tutelage.records import Candidate
from tutelage.runs.store import Store


def test_a_journal_line_that_a_kill_cut_short_is_ignored(tmp_path: Path) -> None:
    journal = Store(tmp_path).journal("candidates.jsonl", Candidate)
    first, second = Candidate("p", 0, "one"), Candidate("p", 1, "two")
    journal.append([first])
    with journal.path.open("a") as file:
        file.write('{"prompt_id": "p", "ind')
    again = Store(tmp_path).journal("candidates.jsonl", Candidate)
    assert list(again) == [first]
    again.append([second])
    assert list(again) == [first, second]


def test_a_second_process_on_a_run_is_refused_and_the_error_names_the_first(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tutelage.runs.store import Store\n"
        f"with Store(Path({str(tmp_path)!r})).lock(): print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert known(holder.stdout).readline() == b"locked\n"
        refusal = pytest.raises(RunLockedError, match=f"process {holder.pid} is working on this run")
        with refusal, Store(tmp_path).lock():
            pass
        holder.kill()
    with Store(tmp_path).lock():
        assert (tmp_path / ".lock").read_text().strip() == str(os.getpid())


def test_a_step_with_a_record_but_without_an_artifact_is_not_finished(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.note_step("M1/checkpoint", 1.0, {"steps": 3})
    assert store.finished_steps() == {}
    (tmp_path / "M1" / "checkpoint").mkdir(parents=True)
    assert store.finished_steps()["M1/checkpoint"].counts == {"steps": 3}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs the names of open files")
def test_the_files_of_a_folder_are_on_the_disk_before_their_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, written = Store(tmp_path), []
    original = os.fsync

    def fsync(descriptor: int) -> None:
        original(descriptor)
        written.append(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path).as_posix())

    folder = store.fresh_folder("M1/checkpoint")
    files = {f"{folder.relative_to(tmp_path).as_posix()}/{name}" for name in ("one", "two", "adapter/three")}
    (folder / "adapter").mkdir()
    for file in files:
        (tmp_path / file).write_text(file)
    monkeypatch.setattr(os, "fsync", fsync)
    store.note_step("M1/checkpoint", 1.0, {"steps": 3}, folder=folder)
    assert set(written[:3]) == files
    assert written[3:] == ["steps.jsonl"]


def test_a_folder_whose_files_cannot_be_made_durable_gets_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    folder = store.fresh_folder("M1/checkpoint")
    (folder / "weights").write_text("1")

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StageError, match="checkpoint: cannot be written"):
        store.note_step("M1/checkpoint", 1.0, {"steps": 3}, folder=folder)
    assert not (tmp_path / "steps.jsonl").exists()


def test_an_incomplete_folder_of_an_earlier_process_is_not_reused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.fresh_folder("M1/checkpoint") / "weights").write_text("half")
    folder = store.fresh_folder("M1/checkpoint")
    assert list(folder.iterdir()) == []
    (folder / "weights").write_text("whole")
    store.rename(folder, "M1/checkpoint")
    assert store.path("M1/checkpoint/weights").read_text() == "whole"
