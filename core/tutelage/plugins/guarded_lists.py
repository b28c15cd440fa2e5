"""Guarded calls of functions of plugins that return or yield several results: problems, files, findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from tutelage.errors import PluginError, TutelageError
from tutelage.files.disk_errors import error_text

T = TypeVar("T")


def guarded_list(label: str, function: Callable[..., Any], *arguments: Any, kind: type[T]) -> list[T]:
    """Return the results of ``function(*arguments)``, a list or an iterator of ``kind``. None is an empty list.

    ``label`` is the function and its plugin, for messages. Raises ``PluginError`` if the function raises an exception,
    or returns something else. A ``TutelageError`` of the function is raised unchanged.
    """
    try:
        found = function(*arguments)
        if isinstance(found, str) or not isinstance(found, Iterable | None):
            raise PluginError(
                f"{label} returned {found!r}; it must return or yield objects of the class {kind.__name__}"
            )
        listed = list(found or ())
    except TutelageError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"{label} failed: {error_text(error)}") from error
    for one in listed:
        if not isinstance(one, kind) or isinstance(one, bool):
            raise PluginError(f"{label} gave {one!r}, which is not of the class {kind.__name__}")
    return listed
