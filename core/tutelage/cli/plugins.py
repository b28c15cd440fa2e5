"""``tutelage plugins``: list the installed plugins with their status, or show what one plugin provides."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import click

from tutelage.cli.lazy_group import CommandGroup
from tutelage.cli.options import as_json, load_plugin_files, plugin_file_option, plugin_options
from tutelage.cli.output import Table, print_line, print_table, print_text
from tutelage.files.settings import describe_settings
from tutelage.plugin_info import NamedSet, PluginInfo
from tutelage.plugins.discovery import PluginStatus
from tutelage.plugins.registry import Registry


@click.group("plugins", cls=CommandGroup, invoke_without_command=True)
@plugin_file_option
@plugin_options
@as_json
@click.pass_context
def command(context: click.Context, plugin_files: tuple[str, ...], registry: Registry, as_json: bool) -> None:
    """List the installed plugins, or show one."""
    load_plugin_files(registry, plugin_files, None)
    context.obj = registry
    if context.invoked_subcommand is not None:
        return
    if as_json:
        print_line(json.dumps([status.as_json() for status in registry.statuses()], indent=2))
        return
    rows = [_row(status) for status in registry.statuses()]
    columns = ("plugin", "aliases", "distribution", "status", "hooks")
    print_table(Table(columns, rows, left=frozenset(columns)))
    for status in registry.statuses():
        if status.error:
            print_text(f"\n{status.name}: {status.error}")


@command.command("show")
@click.argument("name")
@click.pass_obj
def show_command(registry: Registry, name: str) -> None:
    """Show a plugin's hooks, settings, environment variables and named objects.

    If the plugin failed to load, its traceback is shown.
    """
    statuses = [status for status in registry.statuses() if name in (status.name, *status.aliases)]
    if not statuses:
        registry.info(name)  # raises PluginError, which suggests the most similar name
    for status in statuses:
        print_line(f"{status.name} ({status.origin}): {status.status}")
        if status.status == "ok":
            _show_info(registry.info(status.name), status)
        else:
            print_text(status.error or "")
            print_line(f"\n{status.traceback.rstrip()}" if status.traceback else "")


def _row(status: PluginStatus) -> tuple[str, str, str, str, str]:
    return status.name, ", ".join(status.aliases), status.origin, status.status, ", ".join(status.hooks)


def _show_info(info: PluginInfo, status: PluginStatus) -> None:
    print_text(info.help)
    if status.aliases:
        print_text(f"aliases: {', '.join(status.aliases)}")
    print_text(f"hooks: {', '.join(status.hooks)}")
    if info.wrapped_roles:
        print_text(f"wraps the roles: {', '.join(info.wrapped_roles)}")
    for table in info_tables(info):
        print_line()
        print_table(table)


def info_tables(info: PluginInfo, environment: bool = True) -> Iterator[Table]:
    """Return the tables of a plugin's description: settings, environment variables and named objects.

    ``environment`` adds a column with whether each variable is set on this machine. Values are never shown.
    """
    if info.settings is not None:
        yield _settings_table(info.settings)
    if info.environment:
        columns = ("variable", "required", *(("set",) if environment else ()), "help")
        rows = [
            (
                variable.name,
                "yes" if variable.required else "no",
                *((("yes" if os.environ.get(variable.name) else "no"),) if environment else ()),
                variable.help,
            )
            for variable in info.environment
        ]
        yield Table(columns, rows, "Environment", left=frozenset(columns))
    yield from _offered_tables(info)


def _settings_table(settings: type) -> Table:
    rows = [
        (field.name, field.type.partition(" (")[0], default_words(field.default), field.help)
        for field in describe_settings(settings)
    ]
    columns = ("setting", "type", "default", "help")
    return Table(columns, rows, "Settings", left=frozenset(columns))


def default_words(default: str | None) -> str:
    """Return a setting's default for a table, "(required)" if it has none.

    The text is empty if the default is None, and for a section: the rows of its keys show their own defaults.
    """
    if default is None:
        return "(required)"
    is_section = default.endswith(")") and not default.startswith("(")
    return "" if default == "None" or is_section else default


def _offered_tables(info: PluginInfo) -> Iterator[Table]:
    if info.models:
        yield _named_table("Models", [(name, model.help) for name, model in info.models.items()])
    yield from _set_table("Prompt sets", info.prompt_sets)
    yield from _set_table("Example sets (IFT)", info.example_sets)
    yield from _set_table("Rated sets (EFT)", info.rated_sets)
    yield from _set_table("Preference sets", info.preference_sets)
    if info.rubrics:
        rows = [(name, f"{rubric.lowest:g} to {rubric.highest:g}") for name, rubric in info.rubrics.items()]
        yield Table(("name", "scale"), rows, "Rubrics", left=frozenset({"scale"}))
    if info.pair_rules:
        yield _named_table("Pair rules", [(name, _first_line(rule)) for name, rule in info.pair_rules.items()])
    if info.pair_losses:
        yield _named_table("Pair losses", [(name, loss.help) for name, loss in info.pair_losses.items()])
    for title, group in (("Pipelines", info.pipelines), ("Controls", info.controls)):
        if group:
            yield _named_table(title, [(name, one.help) for name, one in group.items()])


def _set_table(title: str, sets: Mapping[str, NamedSet[Any]]) -> Iterator[Table]:
    if sets:
        rows = [(name, "" if item.size is None else f"{item.size:,}", item.help) for name, item in sets.items()]
        yield Table(("name", "size", "help"), rows, title, left=frozenset({"help"}))


def _named_table(title: str, rows: list[tuple[str, str]]) -> Table:
    return Table(("name", "help"), rows, title, left=frozenset({"help"}))


def _first_line(documented: object) -> str:
    return (documented.__doc__ or "").strip().partition("\n")[0]
