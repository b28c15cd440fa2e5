"""What the measures share: who is asked, within which budget, and how far it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from tutelage.cli.models import find_model
from tutelage.cli.options import Command, plugin_options
from tutelage.context import Context
from tutelage.plugin.registry import Registry
from tutelage.records import Model
from tutelage.services.budget import Budget
from tutelage.services.caller import Caller

PATH = click.Path(path_type=Path)


@frozen
class Evaluator:
    """What the options say of who is asked."""

    registry: Registry
    spec: str | None
    """``PLUGIN[:MODEL]``, or a run's model."""
    settings: Sequence[str]
    budget: float | None

    def model(self, default: str | None = None) -> Model:
        """The model that is asked. Raises ``InputError`` or ``PluginError`` where there is none such."""
        spec = self.spec or default
        if spec is None:
            raise click.UsageError("--evaluator is needed: who compares the answers?")
        return find_model(spec, self.registry, None, self.settings)

    @contextmanager
    def context(self, run: str, stage: str, expected: int) -> Iterator[Context]:
        """Surroundings of a stage: the user's ledger, the budget, and a bar on a terminal."""
        budget = None if self.budget is None else Budget(self.budget)
        caller = Caller(budget=budget, run=run, stage=stage)
        with click.progressbar(length=expected, label=stage, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
            yield Context(advance=bar.update, caller=caller)


def evaluator_options(command: Command) -> Command:
    """Add who is asked; the command gets it as ``asked``."""

    @wraps(command)
    def with_evaluator(
        evaluator: str | None, settings: tuple[str, ...], budget: float | None, registry: Registry, **options: Any
    ) -> Any:
        return command(asked=Evaluator(registry, evaluator, settings, budget), **options)

    decorated = plugin_options(with_evaluator)
    options: tuple[Callable[[Command], Command], ...] = (
        click.option("--budget", type=click.FloatRange(min=0), metavar="USD", help="Stop before more is spent."),
        click.option(
            "--set", "settings", metavar="KEY=VALUE", multiple=True, help="Set one of the evaluator's settings."
        ),
        click.option("--evaluator", metavar="PLUGIN[:MODEL]", help="Who compares the answers."),
    )
    for option in options:
        decorated = option(decorated)
    return decorated
