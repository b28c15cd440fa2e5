"""The command line: one small file a command, imported when it is called.

``tutelage --help`` imports click and nothing else of weight: the commands' help lines stand here, and a test holds them
to the commands' own.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO, cast

import click

from tutelage.cli.lazy_group import LazyGroup

COMMANDS = {
    "run": "Run a recipe, or continue a run.",
    "plan": "Show the steps of a recipe, running nothing.",
    "status": "Show what of a run is done, and what is to come.",
    "chat": "Talk to a model of a run.",
    "export": "Copy a model of a run for others, with its model card.",
    "evaluate": "Measure models and judges, on a run or on plain files.",
    "data": "Make, import, look at and export what models learn from.",
    "stage": "Run one stage over files.",
    "recipes": "List, show and copy the built-in recipes.",
    "plugins": "List the installed plugins, or show one.",
    "ledger": "Show what was spent, prune and export the answers.",
    "doctor": "Check what the plugins need: SDK, key, endpoint, model, GPU.",
}

EXIT_CODES = """\b
Exit codes:
  0    done
  1    an unexpected error
  2    a recipe, an option or a file is wrong; nothing was run
  3    a plugin is broken, blocked or cannot do what is asked
  4    another process is working on the run
  5    the budget is used up
  6    a stage failed; what is finished is kept, the same command continues
  130  interrupted; what is finished is kept, the same command continues
"""


@click.group(
    cls=LazyGroup,
    lazy_commands=COMMANDS,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="tutelage")
def cli() -> None:
    """Align a small language model from its own judgement or from a stronger teacher.

    Start with `tutelage run`: it aligns a tiny model that ships with tutelage by all three pipelines, in about a
    minute, without key, network or GPU.
    """


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a replaced stream need not be a text file
            cast(TextIO, stream).reconfigure(errors="replace")  # type: ignore[attr-defined]
    cli(prog_name="tutelage")
