"""The ledger: an answer is stored once, found again by its exact request, and its cost is kept."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from known import known
from ledger_entry import ENTRY

from tutelage.errors import InputError, StageError
from tutelage.records import Outcome
from tutelage.services.ledger import Entry, Ledger, default_path, insert, key_of


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "folder" / "ledger.db")


def test_a_stored_answer_is_found_again_whole(ledger: Ledger) -> None:
    ledger.store(ENTRY)
    assert ledger.find("k1") == ENTRY
    assert ledger.find("k2") is None


def test_it_is_still_there_when_the_file_is_opened_again(ledger: Ledger) -> None:
    ledger.store(ENTRY)
    ledger.close()
    assert Ledger(ledger.path).find("k1") == ENTRY


def test_a_closed_ledger_is_one_file_in_a_folder_that_was_made_for_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "data" / "tutelage" / "ledger.db")
    ledger.store(ENTRY)
    ledger.find("k1")
    ledger.close()
    assert [path.name for path in ledger.path.parent.iterdir()] == ["ledger.db"]


def test_an_answer_has_the_second_in_which_it_was_requested_in_utc(ledger: Ledger) -> None:
    ledger.store(evolve(ENTRY, asked_at=Entry("k", "p", "u", "m", "", "", 0, Outcome.ANSWERED).asked_at))
    moment = datetime.fromisoformat(known(ledger.find("k1")).asked_at)
    assert moment.microsecond == 0
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=5)


def test_the_key_differs_with_each_part_of_the_question() -> None:
    parts = ("openai", "https://a", "m", "r", "{}", 0)
    others = [("x", *parts[1:]), (*parts[:1], "https://b", *parts[2:]), (*parts[:2], "n", *parts[3:])]
    others += [(*parts[:3], "s", *parts[4:]), (*parts[:4], "[]", 0), (*parts[:5], 1)]
    keys = {key_of(*arguments) for arguments in (parts, *others)}
    assert len(keys) == 7
    assert key_of("openai", "https://a/", "m", "r", "{}", 0) in keys  # equal: a trailing slash is ignored


def test_an_answer_goes_before_a_refusal_and_the_first_one_stays(ledger: Ledger) -> None:
    ledger.store(evolve(ENTRY, outcome=Outcome.REFUSED, text=""))
    assert ledger.find("k1", refusals=False) is None
    assert known(ledger.find("k1")).outcome is Outcome.REFUSED
    ledger.store(evolve(ENTRY, text="first"))
    ledger.store(evolve(ENTRY, text="second"))
    assert known(ledger.find("k1")).text == "first"


def test_a_reply_that_could_not_be_read_is_found_like_a_refusal(ledger: Ledger) -> None:
    ledger.store(evolve(ENTRY, outcome=Outcome.UNPARSED, text=""))
    assert ledger.find("k1", refusals=False) is None
    assert known(ledger.find("k1")).outcome is Outcome.UNPARSED
    ledger.store(ENTRY)
    assert ledger.find("k1", refusals=False) == ledger.find("k1") == ENTRY


@pytest.mark.parametrize("odd", [{"text": "\ud83d"}, {"request": "\udc80"}, {"input_tokens": 10**30}])
def test_a_value_that_cannot_be_stored_is_an_error_for_every_thread(ledger: Ledger, odd: dict[str, Any]) -> None:
    with pytest.raises(StageError, match="can't be stored in the ledger"):
        ledger.store(evolve(ENTRY, **odd))
    ledger.store(ENTRY)
    assert ledger.find("k1") == ENTRY


def test_a_file_that_is_damaged_while_it_is_used_is_an_error(ledger: Ledger) -> None:
    ledger.store(ENTRY)
    ledger._reader.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damaged = bytearray(ledger.path.read_bytes())
    damaged[100:] = b"x" * (len(damaged) - 100)
    ledger.path.write_bytes(damaged)
    with pytest.raises(StageError, match="can't be read"):
        Ledger.find(ledger, "k1")


def test_a_row_without_a_key_is_never_an_answer_but_was_paid(ledger: Ledger) -> None:
    ledger.store(evolve(ENTRY, key=None))
    assert ledger.find("") is None
    assert ledger.spent("runs/a") == 0.25


def test_spend_is_grouped_and_an_unknown_price_is_counted_not_guessed(ledger: Ledger) -> None:
    ledger.store(ENTRY)
    ledger.store(evolve(ENTRY, key="k2", stage="evaluate", cost=None))
    ledger.store(evolve(ENTRY, key="k3", run="runs/b", model="other", cost=1.0))
    lines = ledger.spend()
    assert [line.group for line in lines] == [
        ("runs/a", "evaluate", "gpt-4-turbo"),
        ("runs/a", "judge", "gpt-4-turbo"),
        ("runs/b", "judge", "other"),
    ]
    assert [(line.cost, line.unknown) for line in lines] == [(0.0, 1), (0.25, 0), (1.0, 0)]
    (total,) = ledger.spend(by=())
    assert (total.answers, total.input_tokens, total.output_tokens, total.cost) == (3, 3000, 30, 1.25)
    assert ledger.spent("runs/a") == 0.25


def test_an_unknown_group_is_named_with_the_nearest_one(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="'modell'; did you mean 'model'"):
        ledger.spend(by=("modell",))


def test_prune_forgets_what_was_named_and_nothing_else(ledger: Ledger) -> None:
    old = (datetime.now(UTC) - timedelta(days=9)).isoformat(timespec="seconds")
    entries = [evolve(ENTRY, asked_at=old), evolve(ENTRY, run="runs/b"), evolve(ENTRY, model="m"), ENTRY]
    for number, entry in enumerate(entries):
        ledger.store(evolve(entry, key=str(number)))
    assert ledger.prune(before=datetime.now(UTC) - timedelta(days=1)) == 1
    assert ledger.prune(run="runs/b") == 1
    assert ledger.prune(model="m") == 1
    assert [row["key"] for row in ledger.export()] == ["3"]


def test_prune_without_a_condition_forgets_nothing(ledger: Ledger) -> None:
    ledger.store(ENTRY)
    with pytest.raises(InputError, match="choose the answers to delete"):
        ledger.prune()
    assert ledger.find("k1") is not None


def test_several_threads_store_everything(ledger: Ledger) -> None:
    def store(start: int) -> None:
        for number in range(start, start + 25):
            ledger.store(evolve(ENTRY, key=str(number)))

    threads = [threading.Thread(target=store, args=(25 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {row["key"] for row in ledger.export()} == {str(number) for number in range(200)}


def _store_from_a_process(path: Path, start: int) -> None:
    ledger = Ledger(path)
    for number in range(start, start + 25):
        ledger.store(evolve(ENTRY, key=str(number)))


def test_several_processes_store_everything(ledger: Ledger) -> None:
    spawn = multiprocessing.get_context("fork")
    processes = [spawn.Process(target=_store_from_a_process, args=(ledger.path, 25 * index)) for index in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert {row["key"] for row in ledger.export()} == {str(number) for number in range(75)}


def test_a_transaction_changes_the_ledger_at_its_end_and_not_at_all_if_it_fails(ledger: Ledger) -> None:
    with pytest.raises(ZeroDivisionError), ledger.transaction() as connection:
        insert(connection, [ENTRY])
        raise ZeroDivisionError
    failing = pytest.raises(StageError, match=f"{ledger.path} can't be changed: no such table: missing")
    with failing, ledger.transaction() as connection:
        insert(connection, [ENTRY])
        connection.execute("DELETE FROM missing")
    assert ledger.find("k1") is None
    with ledger.transaction() as connection:
        insert(connection, [ENTRY])
        assert ledger.find("k1") is None
    assert ledger.find("k1") == ENTRY


def test_no_other_program_writes_during_a_transaction(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tutelage.services.ledger._BUSY_SECONDS", 0.05)
    impatient = Ledger(ledger.path)
    with ledger.transaction() as connection:
        with pytest.raises(StageError, match="locked"):
            impatient.store(ENTRY)
        insert(connection, [evolve(ENTRY, key="k2")])
    assert ledger.find("k1") is None
    assert ledger.find("k2") is not None


def test_a_full_disk_is_an_error_for_every_thread_that_stores(ledger: Ledger) -> None:
    pages = ledger._writer.execute("PRAGMA page_count").fetchone()[0]
    ledger._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StageError, match="can't be stored in the ledger"):
        ledger.store(evolve(ENTRY, text="x" * 100_000))
    ledger._writer.execute("PRAGMA max_page_count = 1000000")
    ledger.store(ENTRY)
    assert ledger.find("k1") == ENTRY


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("This is a diary, not a database. " * 100)
    with pytest.raises(InputError, match=f"the ledger {path} can't be opened"):
        Ledger(path)


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(InputError, match="written by a newer version of tutelage"):
        Ledger(tmp_path / "ledger.db")


def test_only_the_user_may_read_it(ledger: Ledger) -> None:
    assert ledger.path.stat().st_mode & 0o077 == 0


def test_the_file_is_named_by_variable_else_in_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_LEDGER", "/somewhere/l.db")
    assert default_path() == Path("/somewhere/l.db")
    monkeypatch.delenv("TUTELAGE_LEDGER")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_path() == Path("/data/tutelage/ledger.db")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_path() == Path.home() / ".local/share/tutelage/ledger.db"


def test_a_ledger_that_another_program_keeps_locked_is_named_and_used_afterwards(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tutelage.services.ledger._BUSY_SECONDS", 0.05)
    impatient = Ledger(ledger.path)
    with sqlite3.connect(ledger.path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StageError, match=r"locked; another program keeps the file locked; wait until it has ended"):
            impatient.store(ENTRY)
        with pytest.raises(InputError, match=f"{ledger.path} can't be opened: database is locked; another program"):
            Ledger(ledger.path)
        other.execute("ROLLBACK")
    impatient.store(ENTRY)
    assert ledger.find("k1") == ENTRY


def test_a_ledger_that_is_damaged_while_it_is_used_is_one_error(ledger: Ledger) -> None:
    for number in range(200):
        ledger.store(evolve(ENTRY, key=f"k{number}", text="x" * 2000))
    ledger.close()
    content = ledger.path.read_bytes()
    ledger.path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises((InputError, StageError), match=r"malformed; the file is damaged or no ledger: .*recover"):
        Ledger(ledger.path).find("k7")
    ledger.path.rename(ledger.path.with_suffix(".damaged"))
    assert Ledger(ledger.path).find("k7") is None


def test_a_ledger_with_damaged_rows_is_one_error_for_each_reader(ledger: Ledger) -> None:
    for number in range(200):
        ledger.store(evolve(ENTRY, key=f"k{number}", text="x" * 2000))
    ledger.close()
    content = ledger.path.read_bytes()
    ledger.path.write_bytes(content[: 8 * 4096] + b"\xff" * (len(content) - 8 * 4096))
    opened = Ledger(ledger.path)
    with pytest.raises(StageError, match=r"can't be read: .*; the file is damaged"):
        opened.find("k150")
    with pytest.raises(InputError, match=r"can't be read: .*; the file is damaged"):
        opened.spend()
    with pytest.raises(InputError, match=r"can't be read: .*; the file is damaged"):
        list(opened.export())


@pytest.mark.parametrize("taken", ["file", "folder"])
def test_a_path_that_is_taken_is_named(tmp_path: Path, taken: str) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    path = tmp_path / "file" / "ledger.db" if taken == "file" else tmp_path / "folder"
    with pytest.raises(InputError, match=f"the ledger {path} can't be opened: .*or set TUTELAGE_LEDGER"):
        Ledger(path)


def test_a_value_that_sqlite_cannot_take_fails_alone_and_nothing_waits_for_ever(ledger: Ledger) -> None:
    """The other answers of the same transaction waited for a result that never came."""
    wrong = [evolve(ENTRY, key="surrogate", text="\ud800"), evolve(ENTRY, key="huge", input_tokens=10**30)]
    right = [evolve(ENTRY, key=f"k{number}") for number in range(20)]
    batch: list[tuple[Entry, Future[None]]] = [(entry, Future()) for entry in [*right[:10], *wrong, *right[10:]]]
    ledger._write(batch)
    failed = {entry.key for entry, written in batch if written.exception(timeout=0)}
    assert failed == {"surrogate", "huge"}
    assert {row["key"] for row in ledger.export()} == {entry.key for entry in right}
    with pytest.raises(StageError, match=r"can't be stored in the ledger .*surrogates not allowed"):
        ledger.store(wrong[0])
