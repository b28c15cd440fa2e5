import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from attrs import frozen
from known import known

from tutelage.errors import InputError, RunLockedError, StageError
from tutelage.files.jsonl import read_json
from tutelage.planning.made_from import MadeFrom
from tutelage.records import Candidate, Prompt
from tutelage.runs.store import Store, is_run, open_run


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


def test_the_folders_of_a_journal_are_made_when_its_first_item_is_appended(tmp_path: Path) -> None:
    journal = Store(tmp_path).journal("seed-0/M1/candidates.jsonl", Candidate)
    assert list(journal) == [] and list(tmp_path.iterdir()) == []
    journal.append([Candidate("p", 0, "one")])
    assert list(journal) == [Candidate("p", 0, "one")]


def test_items_that_could_not_be_made_durable_are_in_no_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Store(tmp_path).journal("candidates.jsonl", Candidate)
    first, second, third = (Candidate("p", index, "text" * index) for index in (1, 2, 3))
    journal.append([first])

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken, pytest.raises(StageError, match=r"candidates\.jsonl\.journal: cannot be"):
        broken.setattr(os, "fsync", fail)
        journal.append([second])
    assert list(journal) == [first]
    journal.append([third])
    assert list(journal) == [first, third]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs the names of open files")
def test_a_closed_journal_holds_no_file_and_is_opened_again_by_the_next_item(tmp_path: Path) -> None:
    journal = Store(tmp_path).journal("candidates.jsonl", Candidate)
    journal.close()
    journal.append([Candidate("p", 0, "one")])
    journal.close()
    held = {str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if os.path.lexists(entry)}
    assert str(journal.path) not in held
    journal.append([Candidate("p", 1, "two")])
    assert len(list(journal)) == 2


def test_a_journal_is_dropped_whether_or_not_it_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.drop_journal("candidates.jsonl")
    store.journal("candidates.jsonl", Candidate).append([Candidate("p", 0, "one")])
    store.drop_journal("candidates.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_line_of_a_journal_is_an_error_that_names_the_line_and_the_artifact(tmp_path: Path) -> None:
    journal = Store(tmp_path).journal("M1/candidates.jsonl", Candidate)
    journal.append([Candidate("p", 0, "one")])
    with journal.path.open("a") as file:
        file.write("{}\n")
    with pytest.raises(
        StageError, match=r"journal, line 2: .*delete this line, and .* that part of M1/candidates.jsonl again"
    ):
        list(journal)


def test_the_lock_makes_the_folders_of_a_run_and_is_free_after_its_block(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs" / "one")
    for _ in range(2):
        with store.lock():
            assert store.path(".lock").is_file()
            with pytest.raises(RunLockedError, match=f"process {os.getpid()} is working"), Store(store.root).lock():
                pass


def test_a_run_in_a_folder_that_cannot_be_made_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/run/\.lock: cannot be written"), Store(tmp_path / "file/run").lock():
        pass


def test_the_log_has_each_step_with_its_seconds_in_milliseconds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.finished_steps() == {}
    store.note_step("a.jsonl", 1.23456, {"answered": 2}, rows=2)
    store.note_step("b.jsonl", 1.0, {}, cost=0.5)
    store.write("a.jsonl", [Candidate("p", 0, "one")])
    store.write("b.jsonl", [])
    first, second = store.finished_steps().values()
    assert (first.output, first.seconds, first.cost, first.rows, first.files) == ("a.jsonl", 1.235, 0.0, 2, {})
    assert (second.output, second.cost, second.rows) == ("b.jsonl", 0.5, None)
    store.note_step("a.jsonl", 2.0, {"answered": 1}, rows=1)
    assert store.finished_steps()["a.jsonl"].seconds == 2.0


def test_an_artifact_that_differs_from_its_record_is_not_read_and_the_error_says_what_to_delete(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("a.jsonl", [Candidate("p", 0, "one")])
    assert store.problems("a.jsonl", checksums=True) == []
    assert store.complete("a.jsonl") == tmp_path / "a.jsonl"
    store.note_step("a.jsonl", 1.0, {"answered": 2}, rows=2)
    assert store.problems("b.jsonl", checksums=True) == []
    with pytest.raises(InputError, match=f"has 1 rows, but 2 were written.*; delete the file {tmp_path}/a.jsonl, and"):
        store.read("a.jsonl", Candidate)

    folder = store.fresh_folder("M1/checkpoint")
    (folder / "weights").write_text("whole")
    store.note_step("M1/checkpoint", 1.0, {}, folder=folder)
    store.rename(folder, "M1/checkpoint")
    store.path("M1/checkpoint/weights").write_text("wrong")
    assert store.complete("M1/checkpoint") == tmp_path / "M1/checkpoint"
    (problem,) = store.problems("M1/checkpoint", checksums=True)
    assert f"delete the folder {tmp_path}/M1/checkpoint, and" in problem


def test_an_artifact_is_parsed_once_for_each_state_of_its_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("a.jsonl", [Candidate("p", 0, "one")])
    [first] = store.read("a.jsonl", Candidate)
    changed = store.read("a.jsonl", Candidate)
    assert changed[0] is first
    changed.clear()
    assert store.read("a.jsonl", Candidate) == [first]
    store.write("a.jsonl", [Candidate("p", 0, "two")])
    assert [answer.text for answer in store.read("a.jsonl", Candidate)] == ["two"]
    assert [row["text"] for row in store.read("a.jsonl", dict)] == ["two"]


@frozen
class Choice:
    name: Literal["a", "b"]


@frozen
class Listed:
    names: list[str]


@pytest.mark.parametrize(("record", "is_kept"), [(Choice("a"), True), (Listed(["a"]), False)])
def test_only_records_that_cannot_be_changed_are_given_to_several_readers(
    tmp_path: Path, record: object, is_kept: bool
) -> None:
    """A reader that changes a shared list would change what the next one reads."""
    store = Store(tmp_path)
    store.write("a.jsonl", [record])
    first, second = (store.read("a.jsonl", type(record)) for _ in range(2))
    assert first == second == [record]
    assert (first[0] is second[0]) == is_kept


def test_a_change_of_a_record_that_was_read_does_not_change_what_the_next_step_reads(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("a.jsonl", [Prompt("say 1", metadata={"right": "1"})])
    [prompt], [row] = store.read("a.jsonl", Prompt), store.read("a.jsonl", dict)
    prompt.metadata.pop("right")  # type: ignore[attr-defined]  # a careless plugin
    row.clear()
    assert store.read("a.jsonl", Prompt) == [Prompt("say 1", metadata={"right": "1"})]
    assert store.read("a.jsonl", dict)[0]["text"] == "say 1"


def test_what_an_artifact_was_made_from_is_known_only_while_the_artifact_exists(tmp_path: Path) -> None:
    store, made = Store(tmp_path), MadeFrom({"seed": 1}, {"prompts.jsonl": "abc"})
    store.write_made_from("a.jsonl", made)
    assert store.made_from("a.jsonl") is None
    store.write("a.jsonl", [])
    assert store.made_from("a.jsonl") == made
    record = store.path("made/a.json")
    assert read_json(record)["schema"] == 1
    assert (read_json(record)["artifact"], read_json(record)["fingerprint"]) == ("a.jsonl", made.fingerprint)
    store.write("b.jsonl", [])
    assert store.made_from("b.jsonl") is None
    record.write_text("{}")
    with pytest.raises(InputError, match=r"made/a.json: not a record of an artifact; delete this file"):
        store.made_from("a.jsonl")


def test_the_scratch_folder_of_a_step_is_kept_until_the_step_is_finished(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.scratch("M1/checkpoint") / "state").write_text("1")
    (store.scratch("M2/checkpoint") / "state").write_text("2")
    assert (store.scratch("M1/checkpoint") / "state").read_text() == "1"
    store.drop_scratch("M1/checkpoint")
    assert list(store.scratch("M1/checkpoint").iterdir()) == []
    assert (store.scratch("M2/checkpoint") / "state").read_text() == "2"
    store.drop_scratch()
    store.drop_scratch()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_a_run_if_it_has_a_recipe(tmp_path: Path) -> None:
    assert not is_run(tmp_path)
    with pytest.raises(InputError, match=r"contains no run \(recipe.yaml is missing\); `tutelage run RECIPE --run"):
        open_run(tmp_path)
    (tmp_path / "recipe.yaml").write_text("")
    assert is_run(tmp_path)
    assert open_run(tmp_path) == Store(tmp_path)
