"""Start Python processes that import the same modules as this process, and none from the current folder.

``python -m MODULE`` puts the current folder first on ``sys.path``, before the standard library: a file ``random.py`` in
the folder in which the user calls tutelage would be imported by a worker process, though the command ``tutelage`` does
not import it. So a child runs this file as a script. It takes over the path of its parent, and then runs the module.

The path is not handed over in ``PYTHONPATH``. Python reads that variable before it has started, so a file of the user
such as ``types.py`` would end the child, and other versions of Python that a library starts would import our library.
Other programs that a child starts are not affected.
"""

from __future__ import annotations

import json
import os
import runpy
import site
import sys
from collections.abc import Iterable, Sequence

_PATH = "TUTELAGE_SYS_PATH"


def python_command(program: str, *arguments: str) -> list[str]:
    """Return the command that runs a module, or a script (a path that ends with .py), in a child of this interpreter.

    It needs the variables of ``python_environment``.
    """
    return [sys.executable, *python_script(program, *arguments)]


def python_script(program: str, *arguments: str) -> list[str]:
    """Return the same without the interpreter, for a launcher that starts scripts."""
    return [__file__, program, *arguments]


def python_environment(first: Sequence[str] = ()) -> dict[str, str]:
    """Return the environment variables of a child, and of processes that it starts by ``python_command``.

    The path of the child has the folders ``first`` and the entries of the path of this process: the current folder only
    if it is on the path here, as after ``python -m tutelage``. Entries that Python does not add by itself come after
    the standard library, so that no file beside the user's script or notebook replaces a module of it.
    """
    path = _absolute(entry for entry in (*first, *sys.path) if isinstance(entry, str))  # an import ignores others
    environment = {**os.environ, _PATH: json.dumps(path, separators=(",", ":"))}  # accelerate drops values with a space
    if "PYTHONPATH" in environment:
        environment["PYTHONPATH"] = os.pathsep.join(_absolute(environment["PYTHONPATH"].split(os.pathsep)))
    return environment


def _absolute(path: Iterable[str]) -> list[str]:
    """Return the entries as absolute paths: a child may have another current folder."""
    return [os.path.abspath(entry) for entry in path]  # noqa: PTH100


def _taken_over(own: Sequence[str], parent: Sequence[str]) -> list[str]:
    """Return the path of a child that has ``own`` at its start, and whose parent has ``parent``.

    The current folder, which accelerate adds for DeepSpeed, is left out if the parent does not have it.
    """
    libraries = set(_absolute([*site.getsitepackages(), site.getusersitepackages()]))
    kept = [entry for entry in dict.fromkeys(_absolute(own)) if entry in parent or entry != os.getcwd()]  # noqa: PTH109
    missing = [entry for entry in dict.fromkeys(parent) if entry not in kept]
    first_library = next((number for number, entry in enumerate(parent) if entry in libraries), len(parent))
    before = [entry for entry in missing if parent.index(entry) < first_library]
    after = [entry for entry in missing if entry not in before]
    place = next((number for number, entry in enumerate(kept) if entry in libraries), len(kept))
    return [*kept[:place], *before, *kept[place:], *after]


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder of this file
    if (parent := os.environ.get(_PATH)) is not None:  # a launcher of several machines may not pass it on
        sys.path[:] = _taken_over(sys.path, json.loads(parent))
    del sys.argv[0]
    if sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
