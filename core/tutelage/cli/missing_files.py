"""The command that gets the missing files of a recipe, with the name of the recipe that the user gave."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tutelage.errors import InputError, PluginError
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.schema import Recipe


def prepare_command(name: str, plugin_files: Sequence[str]) -> str:
    """Return the command line that prepares the recipe ``name``, a file, a built-in name or the folder of a run."""
    plugins = [word for file in plugin_files for word in ("--plugin", file)]
    return shlex.join(["tutelage", "recipes", "prepare", name, *plugins])


@contextmanager
def naming_missing_files(
    recipe: Recipe, name: str, path: Path, registry: Registry, plugin_files: Sequence[str]
) -> Iterator[None]:
    """Add the command that gets the missing files to an error of the block, if ``recipe`` lacks files.

    ``name`` and ``path`` are the recipe as the user named it and its file. Only files that the file itself needs count:
    the command does not know the other options of the command line.
    """
    try:
        yield
    except (InputError, PluginError) as error:
        from tutelage.planning.preparations import missing_files  # not imported by commands without a recipe

        with suppress(Exception):  # the recipe may have any mistake, and the error of the block is the one to show
            in_file = missing_files(load_recipe(path, name_of=registry.name_of), registry)
            if set(in_file).intersection(missing_files(recipe, registry)):
                error.add_note(f"get the files of this recipe with: {prepare_command(name, plugin_files)}")
        raise
