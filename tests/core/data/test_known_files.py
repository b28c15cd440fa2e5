"""The data files that the built-in recipes name, and the commands that make them."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from command_words import parsed

from tutelage.data.known_files import KNOWN_FILES, KnownFiles, check_made, known_files
from tutelage.errors import InputError
from tutelage.planning.preparations import data_files
from tutelage.planning.sources import sets_of
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import built_in, load_recipe


def test_every_data_file_of_a_built_in_recipe_is_known() -> None:
    sets = sets_of(Registry.discover())
    shipped = [path for name, path in built_in().items() if name.startswith(("paper/", "small-gpu/"))]
    named = {source for path in shipped for source in data_files(load_recipe(path), sets)}
    assert named == {path for files in KNOWN_FILES for path in files.paths}
    assert data_files(load_recipe(built_in()["embedded"]), sets) == []


@pytest.mark.parametrize("files", KNOWN_FILES, ids=lambda files: files.paths[0])
def test_the_commands_are_those_of_the_command_line(files: KnownFiles) -> None:
    for arguments in (files.command, files.from_export):
        assert parsed(shlex.split(arguments)).name in ("oasst", "import")


def test_a_missing_file_is_reported_with_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^data/alpaca_eval.jsonl: does not exist; `tutelage recipes prepare RECIPE`"):
        check_made("data/alpaca_eval.jsonl")
    check_made("mine.jsonl")
    Path("data").mkdir()
    Path("data/alpaca_eval.jsonl").touch()
    check_made("data/alpaca_eval.jsonl")
    assert known_files("tiny/ift") is None
