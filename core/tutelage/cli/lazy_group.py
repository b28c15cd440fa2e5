"""The group of all commands: imports a command when it is called, and converts tutelage's errors to exit codes."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tutelage.cli.stopping import interrupt_on_termination
from tutelage.errors import Interrupted, StageError, TutelageError, nearest


class CommandGroup(click.Group):
    """A group that names the nearest command if one is misspelled."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the name, the command and the remaining arguments. Raises ``UsageError`` for an unknown command."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise click.UsageError(f"no command {name!r}{nearest(name, self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(CommandGroup):
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

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments. Report a wrong one as all other errors are reported."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            raise SystemExit(_report_usage(error)) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command. Report a ``TutelageError`` as a message with its exit code, without a traceback.

        The same applies to Ctrl-C, SIGTERM and SIGHUP, and to a disk that does not take what is written.
        """
        try:
            with interrupt_on_termination():
                return super().invoke(ctx)
        except click.UsageError as error:
            ctx.exit(_report_usage(error))
        except KeyboardInterrupt:
            from tutelage.cli.output import print_status

            print_status("interrupted")
            ctx.exit(Interrupted.exit_code)
        except OSError as error:
            from tutelage.files.disk_errors import disk_problem, is_disk_problem

            if not is_disk_problem(error):
                raise
            from tutelage.cli.output import discard_output, print_error

            discard_output()
            print_error(disk_problem(Path(error.filename or "the output"), error, "cannot be used"))
            ctx.exit(StageError.exit_code)
        except TutelageError as error:
            from tutelage.cli.output import print_error, print_status

            lines = [str(error), *getattr(error, "__notes__", ())]
            (print_status if isinstance(error, Interrupted) else print_error)("\n".join(lines))
            ctx.exit(error.exit_code)


def _report_usage(error: click.UsageError) -> int:
    """Print a wrong argument or option as a message; return the exit code."""
    from tutelage.cli.output import print_error

    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        raise error
    message = error.format_message().rstrip(".")
    if isinstance(error, click.NoSuchOption):
        known = error.possibilities or []
        message = f"no option {error.option_name!r}{nearest(error.option_name, known) if known else ''}"
    path = error.ctx.command_path if error.ctx else "tutelage"
    see = " See" if message.endswith("?") else "; see"
    print_error(f"{message[:1].lower()}{message[1:]}{see} `{path} --help`")
    return error.exit_code
