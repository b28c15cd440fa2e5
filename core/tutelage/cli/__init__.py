"""The command line: one module per command, imported when the command is called.

``tutelage --help`` must stay fast, so it imports click and no command. ``COMMANDS`` therefore repeats the first help
line of each command; a test checks that both are equal.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import TextIO, cast

import click

from tutelage.cli.lazy_group import LazyGroup

COMMANDS = {
    "run": "Run a recipe, or continue a run.",
    "plan": "Show the steps of a recipe without running them.",
    "status": "Show which steps of a run are finished and which remain.",
    "watch": "Show the progress of a run until it ends, in another terminal.",
    "report": "Write one page about a finished run: plots, tables, and all answers side by side.",
    "explain": "Show what an artifact was made from, and why it would be made again.",
    "free": "Delete the artifacts that a run has set aside.",
    "chat": "Send prompts to a model.",
    "export": "Copy a model of a run to a folder or the hub, with a model card.",
    "compare": "Compare models of one or several runs on the prompts that they share.",
    "evaluate": "Measure models and judges, from a run or from files.",
    "data": "Create, import, inspect and export training data.",
    "stage": "Run one stage on files, without a recipe.",
    "recipes": "List, show and copy recipes, and fetch the files that they need.",
    "plugins": "List the installed plugins, or show one.",
    "ledger": "Show the cost of stored API answers; prune or export them.",
    "doctor": "Check what the plugins need: SDK, key, endpoint, model, GPU.",
}

EXIT_CODES = """\b
Exit codes:
  0    success
  1    unexpected error
  2    invalid recipe, option or file; nothing was run
  3    a plugin is broken, blocked or lacks a required feature
  4    another process is working on the run
  5    the budget is used up
  6    a stage failed; finished work is kept, the same command continues
  130  interrupted; finished work is kept, the same command continues
"""


@click.group(
    cls=LazyGroup,
    lazy_commands=COMMANDS,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="tutelage")
def cli() -> None:
    """Align a small language model with its own judgements or with those of a stronger teacher.

    Start with `tutelage run`: it aligns the tiny model that is included in tutelage with all three pipelines. This
    takes about a minute and needs no API key, network or GPU.
    """


def main() -> None:
    """Run the ``tutelage`` console script.

    Garbage is collected less often than by default. A training imports half a million objects that are never garbage,
    and each full collection visits all of them: the collections took a sixth of the time of the imports. For the same
    reason the objects that exist at the end are kept out of the collections by which the interpreter ends.

    Threads of libgomp, which torch uses on Linux, wait for each other in a loop before they sleep. Here the loop is
    short: with other programs on the same cores, a waiting thread would keep the core that the awaited thread needs.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # read when torch is imported; 300,000 by GCC's manual
    gc.set_threshold(50_000)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a replaced stream may lack `reconfigure`
            cast(TextIO, stream).reconfigure(errors="replace")  # type: ignore[attr-defined]
    try:
        cli(prog_name="tutelage")
    finally:
        gc.freeze()
