"""``tutelage evaluate``: measure models and judges, from a run or from files."""

from __future__ import annotations

import click

from tutelage.cli.evaluate.agreement import agreement_command
from tutelage.cli.evaluate.alpaca_eval import alpaca_eval_command
from tutelage.cli.evaluate.calibration import calibration_command
from tutelage.cli.evaluate.difference import difference_command
from tutelage.cli.evaluate.head_to_head import head_to_head_command
from tutelage.cli.lazy_group import CommandGroup


@click.group("evaluate", cls=CommandGroup)
def command() -> None:
    """Measure models and judges, from a run or from files."""


command.add_command(head_to_head_command)
command.add_command(alpaca_eval_command)
command.add_command(agreement_command)
command.add_command(calibration_command)
command.add_command(difference_command)
