"""The environment of the Python processes that tutelage starts: they import the same modules as this process.

``python -m MODULE`` and ``python -c`` put the current folder first on ``sys.path``, before the standard library. A file
``random.py`` in the folder in which the user calls tutelage would be imported by a worker process, though the command
``tutelage`` does not import it.
"""

from __future__ import annotations

import os
import sys


def python_environment() -> dict[str, str]:
    """Return the environment variables of a child process that runs this interpreter (``sys.executable``).

    Its ``sys.path`` is that of this process: ``PYTHONSAFEPATH`` adds neither the current folder nor that of a script,
    and ``PYTHONPATH`` has the whole path. So a child finds each plugin that this process finds, also one beside the
    user's script, and the current folder only if it is on the path here, as after ``python -m tutelage``. Processes
    that the child starts inherit both variables; this suits no other interpreter, because the path includes the
    standard library. It has to: the order is kept, and a launcher that appends the current folder to ``PYTHONPATH``, as
    accelerate does for DeepSpeed, replaces no module.
    """
    # absolute, because a child may have another current folder; an import ignores what is not a text
    path = [os.path.abspath(entry) for entry in sys.path if isinstance(entry, str)]  # noqa: PTH100
    return {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(path)}
