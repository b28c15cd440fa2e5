"""Plugins from Python files and modules that are named on the command line, without an installation.

A file is code, so it is imported only by the commands that do work, and only as it was given: a run keeps the path and
the digest of each file, and imports a file by itself only if the digest is still the same.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from attrs import frozen

from tutelage.errors import InputError, PluginError
from tutelage.files.digests import sha256_of
from tutelage.plugins.functions import of_namespace
from tutelage.plugins.inspection import has_marked_hooks

MODULE_PREFIX = "tutelage_plugin_file_"
"""A file is imported as the module with this prefix and the name of its plugin."""


@frozen
class PluginFile:
    """A file that a plugin is loaded from. The name of the plugin is that of the file without its suffix."""

    path: Path
    """Absolute."""
    sha256: str
    module: str = ""
    """Name under which it is imported, if it was given as a module; empty for a file."""

    @classmethod
    def of(cls, given: str) -> PluginFile:
        """Return the file of a path (``judge.py``) or of a module that can be imported (``my_package.judge``).

        Raises ``InputError`` if there is no such file or module, or the file cannot be read.
        """
        is_path = given.endswith(".py") or "/" in given or "\\" in given
        path = Path(given) if is_path else _path_of_module(given)
        if path.suffix != ".py":
            raise InputError(f"--plugin {given}: the name of a plugin file ends with .py")
        try:
            return cls(path.resolve(), sha256_of(path), "" if is_path else given)
        except OSError as error:
            raise InputError(f"--plugin {given}: the file cannot be read ({error.strerror})") from error

    @property
    def is_unchanged(self) -> bool:
        """Whether the file still has this digest."""
        try:
            return sha256_of(self.path) == self.sha256
        except OSError:
            return False

    @property
    def name(self) -> str:
        """Name of the plugin: ``judge`` for ``judge.py``."""
        return self.path.parent.name if self.path.name == "__init__.py" else self.path.stem

    def load(self) -> object:
        """Import the file and return its plugin: the module, or its plain functions that have names of hooks.

        Raises ``PluginError`` with file and line if the import fails.
        """
        try:
            module = importlib.import_module(self.module) if self.module else self._import()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a file may even call sys.exit()
            raise PluginError(f"{self.path}{_line_of(error, self.path)}: {type(error).__name__}: {error}") from error
        if has_marked_hooks(module):
            return module
        return of_namespace(vars(module), (module.__doc__ or "").partition("\n")[0])

    def _import(self) -> ModuleType:
        name = f"{MODULE_PREFIX}{self.name}"  # a part of the fingerprint of its transforms
        spec = importlib.util.spec_from_file_location(name, self.path)
        assert spec is not None and spec.loader is not None, "the name of the file ends with .py"
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # the classes of the file are looked up by the name of their module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module


def stored_files(rows: Mapping[str, Mapping[str, str]]) -> list[PluginFile]:
    """Return the files that ``run.json`` has under ``plugin_files``."""
    return [PluginFile(Path(row["path"]), row["sha256"], row.get("module", "")) for row in rows.values()]


def as_stored(files: Iterable[PluginFile]) -> dict[str, dict[str, str]]:
    """Return the files as ``run.json`` has them, by the name of the plugin."""
    return {file.name: {"path": str(file.path), "sha256": file.sha256, "module": file.module} for file in files}


def files_to_load(given: Sequence[str], kept: Sequence[PluginFile]) -> list[PluginFile]:
    """Return the files that a command loads: those that are given, and the other files of the run that it works on."""
    named = {file.name: file for file in map(PluginFile.of, given)}
    for file in kept:
        named.setdefault(file.name, file)
    return list(named.values())


def reload_problem(file: PluginFile) -> str:
    """Return why a file of a run is not imported by itself, and the remedy; empty if it is still the same."""
    if file.is_unchanged:
        return ""
    if not file.path.exists():
        return (
            f"the plugin file {file.path} is missing; to load it, add --plugin FILE, named {file.path.name}; "
            f"to work without it, add --no-plugin {file.name}"
        )
    given = file.module or file.path
    return f"the plugin file {file.path} has changed since the run loaded it; to load it, add --plugin {given}"


def _path_of_module(given: str) -> Path:
    try:
        spec = importlib.util.find_spec(given)
    except (ImportError, ValueError) as error:
        raise InputError(f"--plugin {given}: {error}") from error
    if spec is None or spec.origin is None or not spec.has_location:
        raise InputError(f"--plugin {given}: no such module; name a module that can be imported, or a file FILE.py")
    return Path(spec.origin)


def _line_of(error: BaseException, path: Path) -> str:
    """The last line of the file that the error passed through: `, line 3`."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f", line {error.lineno}"
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f", line {lines[-1]}" if lines else ""
