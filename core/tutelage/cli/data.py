"""``tutelage data``: create, import, inspect and export training data."""

from __future__ import annotations

import click

from tutelage.cli.data_export import export_command
from tutelage.cli.data_import import import_command
from tutelage.cli.data_oasst import oasst_command
from tutelage.cli.data_show import show_command, statistics_command
from tutelage.cli.lazy_group import CommandGroup


@click.group("data", cls=CommandGroup)
def command() -> None:
    """Create, import, inspect and export training data."""


for subcommand in (oasst_command, import_command, show_command, statistics_command, export_command):
    command.add_command(subcommand)
