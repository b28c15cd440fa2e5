"""``tutelage doctor``: check that each plugin finds its SDK, key, endpoint, model and GPU."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from attrs import asdict

from tutelage.cli.missing_files import prepare_command
from tutelage.cli.options import ROLES, as_json, load_plugin_files, plugin_file_option, plugin_options, recipe_path
from tutelage.cli.output import Table, print_line, print_table
from tutelage.data.known_files import known_files
from tutelage.errors import InputError, PluginError
from tutelage.planning.checks import without_unknown
from tutelage.planning.declared import declared
from tutelage.planning.preparations import missing_files
from tutelage.planning.roles import GENERATOR, bound_model, jurors, wrappers_of
from tutelage.planning.wrapping import wrapping_roles
from tutelage.plugin_info import Finding
from tutelage.plugins.doctor import Diagnosis, examine
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.schema import Recipe
from tutelage.records import Model


@click.command("doctor")
@click.argument("recipe", required=False)
@plugin_file_option
@plugin_options
@as_json
def command(recipe: str | None, plugin_files: tuple[str, ...], registry: Registry, as_json: bool) -> None:
    """Check what the plugins need: SDK, key, endpoint, model, GPU.

    With RECIPE (a file, the name of a built-in recipe, or the folder of a run), check only what its models need, with
    its settings, and the files that `tutelage recipes prepare` gets; a missing item is then an error. Each check makes
    at most one API call, which is free of charge.
    """
    load_plugin_files(registry, plugin_files, Path(recipe) if recipe else None, needs_all=False)
    diagnoses = _of_recipe(recipe, registry, plugin_files) if recipe else examine(registry)
    if as_json:
        print_line(json.dumps([asdict(diagnosis) for diagnosis in diagnoses], indent=2))
    else:
        columns = ("plugin", "role", "item", "found", "detail")
        print_table(Table(columns, [_row(diagnosis) for diagnosis in diagnoses], left=frozenset(columns)))
    missing = [diagnosis for diagnosis in diagnoses if not diagnosis.finding.ok]
    if recipe and missing:
        raise PluginError(f"{recipe}: {len(missing)} of {len(diagnoses)} items are missing")


def _of_recipe(name: str, registry: Registry, plugin_files: Sequence[str]) -> list[Diagnosis]:
    """Check the models of a recipe. Files that have to be prepared are named with the command that prepares them.

    Such a line replaces the plugin's own finding on the model, which would name a folder in tutelage's cache.
    """
    recipe = load_recipe(recipe_path(name))
    models = _models(recipe, registry)
    try:
        missing = missing_files(recipe, registry)
    except (InputError, PluginError):  # of a plugin that is not installed, which is one of the diagnoses
        missing = {}
    offered = registry.offered("models")
    locations = {offered[one].location for one in missing if one in offered}
    replaced = {(model.plugin, model.id, "model") for model in models if model.name in locations}
    command = prepare_command(name, plugin_files)
    files = {one: Finding("files", False, f"{one}: {fault}; run: {command}") for one, fault in missing.items()}
    return [
        *(one for one in examine(registry, models) if (one.plugin, one.role, one.finding.what) not in replaced),
        *(Diagnosis(_plugin_of(one), "", finding) for one, finding in files.items()),
    ]


def _plugin_of(name: str) -> str:
    """Return the plugin of a model or a set; an empty text for a data file, which belongs to none."""
    return "" if known_files(name) else name.partition("/")[0]


def _models(recipe: Recipe, registry: Registry) -> list[Model]:
    """Return the model of each role, and the plugins that wrap a hook of these models."""
    roles = [role for role in ROLES if getattr(recipe.models, role) is not None]
    if recipe.models.student.generator is not None:
        roles.append(GENERATOR)
    roles += jurors(recipe)
    return [*(bound_model(recipe, role, registry) for role in roles), *_wrappers(recipe, registry)]


def _wrappers(recipe: Recipe, registry: Registry) -> Iterator[Model]:
    known = without_unknown(recipe, declared(recipe, registry))
    for name, roles in wrapping_roles(known, registry, declared(known, registry)).items():
        settings = wrappers_of(known, roles[0], registry)[name]
        yield Model(name, settings=settings, id=f"wraps {', '.join(roles)}", wrappers={})


def _row(diagnosis: Diagnosis) -> tuple[str, str, str, str, str]:
    finding = diagnosis.finding
    found = "not known" if finding.ok is None else "yes" if finding.ok else "no"
    return diagnosis.plugin, diagnosis.role, finding.what, found, finding.detail
