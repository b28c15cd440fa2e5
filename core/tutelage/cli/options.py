"""Arguments and options that several commands share, and the objects that commands receive for them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from tutelage.cli.missing_files import naming_missing_files
from tutelage.cli.models import find_model, split_run
from tutelage.cli.output import print_status
from tutelage.cli.progress import item_bar
from tutelage.cli.stopping import stop_on_interrupt
from tutelage.context import Context
from tutelage.errors import InputError
from tutelage.planning.artifacts import RECIPE
from tutelage.plugins.files import files_to_load, reload_problem
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import built_in, find_recipe, load_recipe, parse_override
from tutelage.recipe.schema import Recipe
from tutelage.records import Model
from tutelage.runs.description import plugin_files as plugin_files_of
from tutelage.runs.store import is_run
from tutelage.services.budget import Budget
from tutelage.services.caller import Caller

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]

PATH = click.Path(path_type=Path)
ROLES = ("student", "judge", "teacher", "evaluator")
DEFAULT_RECIPE = "embedded"
RUNS = Path("runs")
"""The folder that contains the folders of runs by default."""

run_argument = click.argument("run", type=PATH)
model_argument = click.argument("model")
seed_option = click.option("--seed", type=int, help="Seed of the run [default: its first seed].")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def rubric_option(default: str) -> Decorator:
    """Return the decorator that adds ``--rubric``."""
    return click.option("--rubric", default=default, show_default=True, help="Built-in rubric, or one of a plugin.")


def settings_option(help: str) -> Decorator:
    """Return the decorator that adds ``--set`` for a plugin's settings, as ``settings``."""
    return click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help=help)


def plugin_options(command: Command) -> Command:
    """Add ``--no-plugin``. The command receives the loaded plugins as ``registry``."""

    @wraps(command)
    def with_registry(no_plugin: tuple[str, ...], **others: Any) -> Any:
        registry = Registry.discover(no_plugin, may_be_files="plugin_files" in others)
        return command(registry=registry, **others)

    option = click.option("--no-plugin", metavar="NAME", multiple=True, help="Do not load this plugin; repeatable.")
    return option(with_registry)


plugin_file_option = click.option(
    "--plugin",
    "plugin_files",
    metavar="FILE",
    multiple=True,
    help="Load a plugin from a file FILE.py or a module; repeatable. Those of a run are loaded without it.",
)


def load_plugin_files(registry: Registry, given: Sequence[str], run: Path | None, needs_all: bool = True) -> None:
    """Load the plugin files that are given, and the other ones of the run in ``run``, if there is a run.

    Files that ``--no-plugin`` names are not imported. Files of the run that are missing or have changed are not
    imported either: ``InputError`` if the command needs all of them, otherwise their plugins cannot be used.
    """
    kept = plugin_files_of(run) if run is not None else []
    files = []
    for file in files_to_load(given, kept):
        if registry.block_file(file):
            continue
        reason = reload_problem(file) if file in kept else ""
        if reason and needs_all:
            raise InputError(f"{run}: {reason}")
        if reason:
            registry.refuse_file(file, reason)
        else:
            files.append(file)
    registry.check_blocked()
    registry.load_files(files)


@frozen
class RecipeOptions:
    """A recipe with the changes of the command line, and the run's folder."""

    recipe: Recipe
    directory: Path
    registry: Registry


def recipe_options(command: Command) -> Command:
    """Add the options that choose and change a recipe. The command receives ``RecipeOptions`` as ``options``."""

    @wraps(command)
    def with_recipe(
        recipe: str | None,
        directory: str | None,
        overrides: tuple[str, ...],
        plugin_files: tuple[str, ...],
        registry: Registry,
        **others: Any,
    ) -> Any:
        roles = {role: model for role in ROLES if (model := others.pop(role))}
        changes = dict(parse_override(text) for text in overrides)
        if (budget := others.pop("budget")) is not None:
            changes["budget"] = budget
        path = _recipe_path(recipe, directory)
        loaded = load_recipe(path, changes, roles, registry.name_of)
        folder = _run_named(recipe, directory) or RUNS / loaded.name
        load_plugin_files(registry, plugin_files, folder)
        if registry.files:  # their plugins may have aliases
            loaded = load_recipe(path, changes, roles, registry.name_of)
        name = recipe or directory or DEFAULT_RECIPE
        with naming_missing_files(loaded, name, path, registry, plugin_files):
            return command(options=RecipeOptions(loaded, folder, registry), **others)

    decorated = plugin_file_option(plugin_options(with_recipe))
    help = "Maximum cost of API calls in US dollars; the run stops before a call that could exceed it."
    decorated = click.option("--budget", type=click.FloatRange(min=0), metavar="USD", help=help)(decorated)
    for role in reversed(ROLES):
        help = f"Plugin and model of the {role}."
        decorated = click.option(f"--{role}", metavar="NAME[:MODEL]", help=help)(decorated)
    help = "Override a key of the recipe, such as dpo.beta=0.2; repeatable."
    decorated = click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help=help)(decorated)
    help = (
        "Folder of the run [default: runs/ and the recipe's name]. Without RECIPE, it must contain a run to continue."
    )
    decorated = click.option("--run", "directory", metavar="DIR", help=help)(decorated)
    return click.argument("recipe", required=False)(decorated)


def _run_named(name: str | None, directory: str | None) -> Path | None:
    """Return the folder of the run that the command line names; None if it names only a recipe."""
    if directory is not None:
        return Path(directory)
    is_named = name is not None and is_run(Path(name)) and recipe_path(name) == Path(name, RECIPE)
    return Path(name) if name is not None and is_named else None


def _recipe_path(name: str | None, directory: str | None) -> Path:
    """Return the file of the recipe to run: that of the run in ``directory`` if no recipe is named."""
    if name is not None:
        return recipe_path(name)
    if directory is None:
        return find_recipe(DEFAULT_RECIPE)
    if not is_run(Path(directory)):
        raise InputError(
            f"--run {directory}: {_without_run(Path(directory))}; to start a run there, name its recipe: "
            f"`tutelage run RECIPE --run {shlex.quote(directory)}`, for example {DEFAULT_RECIPE}"
        )
    return Path(directory, RECIPE)


def recipe_path(name: str) -> Path:
    """Return the path of a recipe that is given as a built-in name, a file or the folder of a run.

    Raises InputError if it is none of them.
    """
    if name in built_in() or Path(name).is_file():
        return find_recipe(name)
    if not Path(name).is_dir():
        if is_run(RUNS / name):
            raise InputError(f"no recipe {name!r}; did you mean the run {RUNS / name}?")
        return find_recipe(name)
    if not is_run(Path(name)):
        raise InputError(f"{name}: {_without_run(Path(name))}; name a recipe or the folder of a run")
    return Path(name, RECIPE)


def _without_run(folder: Path) -> str:
    return f"this folder contains no run ({RECIPE} is missing)" if folder.is_dir() else "this folder does not exist"


@frozen
class EvaluatorOptions:
    """The evaluator of ``tutelage evaluate``, its settings and its budget."""

    registry: Registry
    name: str | None
    """``PLUGIN[:MODEL]`` or ``RUN:MODEL``."""
    settings: Sequence[str]
    """``KEY=VALUE`` texts for the plugin."""
    budget: float | None
    """US dollars."""

    def model(self, default: str | None = None) -> Model:
        """Return the evaluator's model, or the model named ``default`` if no evaluator is given.

        Raises ``UsageError`` if neither is given, ``InputError`` if a run or its model does not exist, and
        ``PluginError`` if the plugin does not exist.
        """
        name = self.name or default
        if name is None:
            raise click.UsageError("--evaluator is required: the model that compares the answers")
        return find_model(name, self.registry, None, self.settings)

    @contextmanager
    def context(self, run: str, stage: str, expected: int, unit: str) -> Iterator[Context]:
        """Yield the context of a stage: the user's ledger, the budget, and on a terminal a bar of ``expected`` items.

        Ctrl-C, SIGTERM and SIGHUP cancel the stage.
        """
        budget = None if self.budget is None else Budget(self.budget)
        with stop_on_interrupt(lambda: 1) as asked, item_bar(unit, expected) as bar:

            def note(text: str) -> None:
                if not bar.hidden:
                    click.echo("\r\x1b[2K", nl=False, err=True)
                print_status(text)

            caller = Caller(budget=budget, run=run, stage=stage, cancelled=asked, note=note)
            yield Context(advance=bar.update, caller=caller, cancelled=asked)


def evaluator_options(command: Command) -> Command:
    """Add the options for the evaluator. The command receives ``EvaluatorOptions`` as ``options``."""

    @wraps(command)
    def with_evaluator(
        evaluator: str | None,
        settings: tuple[str, ...],
        budget: float | None,
        plugin_files: tuple[str, ...],
        registry: Registry,
        **others: Any,
    ) -> Any:
        run = split_run(evaluator)[0] if evaluator else None
        load_plugin_files(registry, plugin_files, run, needs_all=False)
        return command(options=EvaluatorOptions(registry, evaluator, settings, budget), **others)

    decorated = plugin_file_option(plugin_options(with_evaluator))
    help = "Maximum cost of API calls in US dollars; stops before a call that could exceed it."
    decorated = click.option("--budget", type=click.FloatRange(min=0), metavar="USD", help=help)(decorated)
    decorated = settings_option("Override a setting of the evaluator's plugin; repeatable.")(decorated)
    help = "Model that compares the answers: PLUGIN[:MODEL] or RUN:MODEL."
    return click.option("--evaluator", metavar="MODEL", help=help)(decorated)
