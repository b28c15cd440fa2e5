"""The list of all problems that the checks before a run find, each as one line with the key of the recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from tutelage.errors import InputError, PluginError, TutelageError
from tutelage.files.disk_errors import error_text

T = TypeVar("T")


class Problems:
    """Collects problems. The same line is kept once, at its first place."""

    def __init__(self) -> None:
        self._of_plugins: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._of_plugins)

    def __contains__(self, line: str) -> bool:
        return line in self._of_plugins

    @property
    def lines(self) -> tuple[str, ...]:
        """The problems, in the order in which they were found."""
        return tuple(self._of_plugins)

    def add(self, line: str, of_plugin: bool = False) -> None:
        """Add a problem. ``of_plugin``: a plugin is missing or violates its contract, and the recipe is not wrong."""
        self._of_plugins.setdefault(line, of_plugin)

    def include(self, other: Problems) -> None:
        """Add the problems of another list."""
        for line, of_plugin in other._of_plugins.items():
            self.add(line, of_plugin)

    def add_all(self, lines: Iterable[str], key: str = "") -> None:
        """Add several problems of the recipe, each with ``key`` before it if there is one."""
        for line in lines:
            self.add(f"{key}: {line}" if key else line)

    def attempt(self, key: str, check: Callable[[], T]) -> T | None:
        """Return the result of ``check``. If it raises, add each line of its error, and return None.

        ``key`` is put before each line if it is not empty. Any exception is collected, because a check may run the code
        of a plugin.
        """
        try:
            return check()
        except TutelageError as error:
            lines, of_plugin = str(error).splitlines(), isinstance(error, PluginError)
        except Exception as error:
            lines, of_plugin = [f"the check failed: {error_text(error)}"], True
        for line in lines:
            self.add(f"{key}: {line}" if key else line, of_plugin)
        return None

    def raise_all(self) -> None:
        """Raise one error with every problem, if there is one: PluginError if all are of plugins, else InputError."""
        if self._of_plugins:
            kind = PluginError if all(self._of_plugins.values()) else InputError
            raise kind("\n".join(self._of_plugins))
