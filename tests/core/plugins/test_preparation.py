"""Prepared files are complete or not there; a call that was interrupted continues; a licence is accepted first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve
from wheels import use_only, write_wheel

from tutelage.errors import InputError, PluginError, StageError
from tutelage.files.locking import hold_lock
from tutelage.files.prepared import prepared_folder
from tutelage.plugin_info import Preparation
from tutelage.plugins.preparation import check_prepared, is_prepared, prepare, to_fetch


def join(packages: Path, output: Path, report: Callable[[str], None]) -> None:
    report("joining")
    parts = sorted(packages.glob("*/part*.txt"))
    (output / "whole.txt").write_text("".join(part.read_text() for part in parts))


@pytest.fixture
def fetched() -> Path:
    """The folder of the wheels that an earlier call has fetched."""
    return prepared_folder("words").with_name(".words.downloads")


@pytest.fixture
def parts(fetched: Path) -> Preparation:
    """Two packages that are fetched already: pip is called in the first test only."""
    return words_in(fetched)


def words_in(folder: Path) -> Preparation:
    packages = (
        write_wheel(folder, "words-one", {"words_one/part1.txt": "one ", "words_one/TERMS.txt": "Be kind."}),
        write_wheel(folder, "words-two", {"words_two/part2.txt": "two"}),
    )
    terms = "words_one/TERMS.txt"
    return Preparation(folder="words", packages=packages, make=join, license="Kind Licence", terms=terms)


def yes(name: str, terms: Path) -> bool:
    return (name, terms.read_text()) == ("Kind Licence", "Be kind.")


def test_the_files_are_made_from_all_packages_and_nothing_else_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_only(tmp_path / "index", monkeypatch)
    parts = words_in(tmp_path / "index")
    lines: list[str] = []
    assert to_fetch(parts) == sum(package.size for package in parts.packages)
    folder = prepare(parts, yes, lines.append)
    assert folder == prepared_folder("words")
    assert (folder / "whole.txt").read_text() == "one two"
    assert [line.partition(",")[0] for line in lines] == [
        "package 1 of 2: words-one 1.0",
        "package 2 of 2: words-two 1.0",
        "joining",
    ]
    assert {path.name for path in folder.parent.iterdir()} <= {"words", ".words.lock"}


def test_files_that_are_in_place_are_not_made_again(parts: Preparation) -> None:
    folder = prepare(parts, yes, print)
    (folder / "whole.txt").write_text("mine, and longer")
    assert prepare(parts, lambda name, terms: False, print) == folder
    assert (folder / "whole.txt").read_text() == "mine, and longer"


def test_an_empty_folder_is_not_taken_for_the_files(parts: Preparation) -> None:
    folder = prepared_folder("words")
    folder.mkdir()
    assert not is_prepared(parts)
    assert (prepare(parts, yes, print) / "whole.txt").read_text() == "one two"


def test_a_folder_that_lost_a_file_is_replaced_and_the_user_is_told(parts: Preparation, fetched: Path) -> None:
    folder = prepare(parts, yes, print)
    (folder / "whole.txt").unlink()
    (folder / "left.txt").write_text("left")
    assert not is_prepared(parts)
    lines: list[str] = []
    prepare(words_in(fetched), yes, lines.append)
    aside = folder.with_name("words.replaced")
    fault = f"incomplete ({folder / 'whole.txt'} is missing)"
    assert lines[-1] == f"the files were {fault}; what was there is now in {aside}, which you can delete"
    assert (folder / "whole.txt").read_text() == "one two"
    assert not (folder / "left.txt").exists()
    assert (aside / "left.txt").read_text() == "left"
    assert is_prepared(parts)


def test_a_folder_that_is_not_complete_stays_until_its_files_are_made(parts: Preparation, fetched: Path) -> None:
    folder = prepare(parts, yes, print)
    (folder / "whole.txt").write_text("one")
    with pytest.raises(InputError, match="was not accepted"):
        prepare(words_in(fetched), lambda name, terms: False, print)
    assert (folder / "whole.txt").read_text() == "one"


def test_without_the_licence_nothing_after_it_is_fetched(
    parts: Preparation, fetched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_only(fetched, monkeypatch)
    next(fetched.glob("words_two*")).unlink()  # fetching it would fail in another way
    with pytest.raises(InputError, match="the licence Kind Licence was not accepted"):
        prepare(parts, lambda name, terms: False, print)
    assert not is_prepared(parts)


def test_an_interrupted_preparation_leaves_no_folder_and_keeps_what_was_fetched(parts: Preparation) -> None:
    def interrupted(packages: Path, output: Path, report: Callable[[str], None]) -> None:
        (output / "whole.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(evolve(parts, make=interrupted), yes, print)
    assert not is_prepared(parts)
    assert to_fetch(parts) == 0
    assert (prepare(parts, yes, print) / "whole.txt").read_text() == "one two"


def test_the_files_of_a_call_that_was_killed_are_deleted_first_and_its_processes_write_elsewhere(
    parts: Preparation, fetched: Path
) -> None:
    made: list[Path] = []

    def killed(packages: Path, output: Path, report: Callable[[str], None]) -> None:
        made.append(output)
        (output / "whole.txt").write_text("half")
        shutil.copytree(output.parent, fetched / "tmp-killed")  # as a kill leaves it
        raise KeyboardInterrupt

    def again(packages: Path, output: Path, report: Callable[[str], None]) -> None:
        assert output not in made
        assert [path for path in fetched.iterdir() if path.is_dir()] == [output.parent]
        join(packages, output, report)

    with pytest.raises(KeyboardInterrupt):
        prepare(evolve(parts, make=killed), yes, print)
    assert not is_prepared(parts)
    assert (prepare(evolve(parts, make=again), yes, print) / "whole.txt").read_text() == "one two"


def test_packages_without_the_text_of_the_licence_are_an_error_of_the_plugin(parts: Preparation) -> None:
    with pytest.raises(PluginError, match="its packages have no file words_one/LICENCE"):
        prepare(evolve(parts, terms="words_one/LICENCE"), yes, print)


def test_a_preparation_that_makes_no_file_is_an_error_of_the_plugin(parts: Preparation) -> None:
    nothing = evolve(parts, make=lambda *_: None)
    with pytest.raises(PluginError, match="the function `make` of its preparation wrote no file"):
        prepare(nothing, yes, print)
    assert not prepared_folder("words").exists()


def test_two_processes_do_not_prepare_the_same_files(parts: Preparation) -> None:
    lock = prepared_folder("words").with_name(".words.lock")
    with hold_lock(lock), pytest.raises(StageError, match=r"process \d+ prepares it; wait until it ends"):
        prepare(parts, yes, print)


def test_missing_files_are_named_with_the_command_that_fetches_them(parts: Preparation) -> None:
    with pytest.raises(InputError, match=r"^words/all: its files are not on this machine; get them with `tutelage"):
        check_prepared("words/all", parts)
    prepare(parts, yes, print)
    check_prepared("words/all", parts)
    check_prepared("other", None)
