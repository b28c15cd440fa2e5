"""Options that several commands share, and what they choose: a recipe, and the plugins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from tutelage.planning.artifacts import RECIPE
from tutelage.plugin.registry import Registry
from tutelage.recipe.loading import find_recipe, load_recipe, parse_override
from tutelage.recipe.schema import Recipe
from tutelage.runs.store import is_run

Command = Callable[..., Any]

ROLES = ("student", "judge", "teacher", "evaluator")
DEFAULT_RECIPE = "embedded"

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@frozen
class Chosen:
    """What the options of ``run`` and ``plan`` say."""

    recipe: Recipe
    directory: Path
    """Of the run."""
    registry: Registry


def plugin_options(command: Command) -> Command:
    """Add ``--no-plugin``; the command gets the loaded plugins as ``registry``."""

    @wraps(command)
    def with_registry(no_plugin: tuple[str, ...], **options: Any) -> Any:
        return command(registry=Registry.discover(no_plugin), **options)

    option = click.option("--no-plugin", metavar="NAME", multiple=True, help="Do not load this plugin; repeatable.")
    return option(with_registry)


def recipe_options(command: Command) -> Command:
    """Add everything that chooses and changes a recipe; the command gets it as ``chosen``."""

    @wraps(command)
    def with_choice(
        recipe: str | None, directory: str | None, overrides: tuple[str, ...], registry: Registry, **options: Any
    ) -> Any:
        roles = {role: spec for role in ROLES if (spec := options.pop(role))}
        changes = dict(parse_override(text) for text in overrides)
        if (budget := options.pop("budget")) is not None:
            changes["budget"] = budget
        return command(chosen=_choose(recipe, directory, changes, roles, registry), **options)

    decorated = plugin_options(with_choice)
    help = "US dollars that the run may spend on services; it stops before it would spend more."
    decorated = click.option("--budget", type=click.FloatRange(min=0), help=help)(decorated)
    for role in reversed(ROLES):
        help = f"Bind the {role} to a plugin."
        decorated = click.option(f"--{role}", metavar="NAME[:MODEL]", help=help)(decorated)
    help = "Set one key of the recipe, such as dpo.beta=0.2; repeatable."
    decorated = click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help=help)(decorated)
    help = "The run's folder [default: runs/ and the recipe's name]. Without RECIPE, the run there is continued."
    decorated = click.option("--run", "directory", metavar="DIR", help=help)(decorated)
    return click.argument("recipe", required=False)(decorated)


def _choose(
    name: str | None, directory: str | None, changes: Mapping[str, Any], roles: Mapping[str, str], registry: Registry
) -> Chosen:
    recipe = load_recipe(_recipe_path(name, directory), changes, roles, registry.name_of)
    return Chosen(recipe, Path(directory) if directory else Path("runs") / recipe.name, registry)


def _recipe_path(name: str | None, directory: str | None) -> Path:
    if name is None and directory is not None and is_run(Path(directory)):
        return Path(directory, RECIPE)
    return find_recipe(name or DEFAULT_RECIPE)
