"""``tutelage data``: make, bring in, look at and hand out what models learn from."""

from __future__ import annotations

import click

from tutelage.cli.data_export import export_command
from tutelage.cli.data_import import import_command
from tutelage.cli.data_oasst import oasst_command
from tutelage.cli.data_show import show_command, statistics_command


@click.group("data")
def command() -> None:
    """Make, import, look at and export what models learn from."""


for one in (oasst_command, import_command, show_command, statistics_command, export_command):
    command.add_command(one)
