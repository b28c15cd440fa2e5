"""The group of all commands: imports a command when it is called, and converts tutelage's errors to exit codes."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from tutelage.errors import Interrupted, TutelageError


class LazyGroup(click.Group):
    """A group with a table of command names and help lines; ``tutelage.cli.NAME`` is imported when NAME is called."""

    def __init__(self, *args: Any, lazy_commands: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy_commands = lazy_commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the command names, in the order of the table."""
        return list(self.lazy_commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None if the name is unknown."""
        if cmd_name not in self.lazy_commands:
            return None
        command: click.Command = importlib.import_module(f"tutelage.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands of ``--help`` from the table, without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.lazy_commands.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command. Report a ``TutelageError`` as a message with its exit code, without a traceback."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(Interrupted.exit_code)
        except TutelageError as error:
            from tutelage.cli.output import print_error, print_status

            (print_status if isinstance(error, Interrupted) else print_error)(str(error))
            ctx.exit(error.exit_code)
