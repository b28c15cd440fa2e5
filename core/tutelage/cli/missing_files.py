"""The command that gets the missing files of a recipe, with the name of the recipe that the user gave."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tutelage.errors import InputError, PluginError
from tutelage.plugins.files import PluginFile
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import built_in, load_recipe
from tutelage.recipe.schema import Recipe
from tutelage.runs.store import is_run


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
    the command does not know the other options of the command line. For another file, such as that of the model of
    ``--student``, the command names a built-in recipe that needs it.
    """
    try:
        yield
    except (InputError, PluginError) as error:
        load = partial(load_recipe, name_of=registry.name_of)
        missing = _missing(lambda: recipe, registry) | _missing(partial(load, path), registry)
        for candidate, file in [(name, path), *sorted(built_in().items())] if missing else []:
            if missing & _missing(partial(load, file), registry):
                command = prepare_command(candidate, _files_to_name(candidate, plugin_files, registry))
                error.add_note(f"get the missing files with: {command}")
                break
        raise


def _missing(load: Callable[[], Recipe], registry: Registry) -> set[str]:
    """Return the missing files of a recipe; none if it has a mistake, as the error of the block is shown."""
    from tutelage.planning.preparations import missing_files  # not imported by commands without a recipe

    try:
        return set(missing_files(load(), registry))
    except Exception:
        return set()


def _files_to_name(recipe: str, given: Sequence[str], registry: Registry) -> Sequence[str]:
    """Return the plugin files that a command for ``recipe`` needs, as the user gave them: those of a run have paths.

    A command for the folder of a run loads those of the run by itself.
    """
    if is_run(Path(recipe)):
        return given
    as_given = {PluginFile.of(one).path: one for one in given}
    return [as_given.get(file.path, file.module or str(file.path)) for file in registry.files]
