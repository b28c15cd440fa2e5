"""The group of all commands: imports a command when it is called, and turns tutelage's errors into exit codes."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from tutelage.errors import Interrupted, TutelageError


class LazyGroup(click.Group):
    """Knows its commands by name and help line; ``tutelage.cli.NAME`` is imported when NAME is called."""

    def __init__(self, *args: Any, lazy_commands: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy_commands = lazy_commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(self.lazy_commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None where there is none of that name."""
        if cmd_name not in self.lazy_commands:
            return None
        command: click.Command = importlib.import_module(f"tutelage.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in ``--help``, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.lazy_commands.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command. An error that is meant for the user is one message and its exit code, no traceback."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(Interrupted.exit_code)
        except TutelageError as error:
            from tutelage.cli.output import fail, tell

            (tell if isinstance(error, Interrupted) else fail)(str(error))
            ctx.exit(error.exit_code)
