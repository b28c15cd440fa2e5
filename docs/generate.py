"""Write ``docs/reference/``: commands, hooks, recipe keys (also as a JSON Schema), plugins and the Python interface.

``python docs/generate.py`` writes the pages. ``--check`` writes nothing and exits with an error if a page is outdated.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from click.testing import CliRunner
from markdown_text import markdown, rst_to_markdown
from python_reference import sections as python_sections
from python_reference import signature

from tutelage import helper_specs, hookspecs
from tutelage.cli import cli
from tutelage.cli.output import Table
from tutelage.cli.plugins import default_words, info_tables
from tutelage.exporting.model_card import EXAMPLE_WORDS
from tutelage.files.settings import describe_settings
from tutelage.helper_specs import HELPERS
from tutelage.plugins.built_in import describe
from tutelage.plugins.built_in_pipelines import CONTROLS, PIPELINES
from tutelage.plugins.discovery import OWN_DISTRIBUTION
from tutelage.plugins.inspection import HOOKS, specification
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Control, PipelineSettings, Recipe

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by `make docs` from the code. Do not edit. -->"
WIDTH = 100


def main() -> None:
    stale = []
    for name, text in pages().items():
        path = REFERENCE / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(path))
        if "--check" not in sys.argv:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if "--check" in sys.argv and stale:
        sys.exit(f"not up to date: {', '.join(stale)}; run `make docs`")


def pages() -> dict[str, str]:
    """Return the text of every page by its file name."""
    return {
        "cli.md": page("Commands", cli_sections()),
        "hooks.md": page("Hooks", hook_sections()),
        "recipe.md": page("Recipe keys", recipe_sections()),
        "recipe.schema.json": CliRunner().invoke(cli, ["recipes", "schema"]).stdout,
        "plugins.md": page("Plugins", plugin_sections()),
        "python.md": page("Classes and functions", python_sections()),
    }


def page(title: str, sections: Iterable[str]) -> str:
    return "\n\n".join([f"# {title}", NOTE, *sections]) + "\n"


def cli_sections() -> Iterator[str]:
    """The help of each command, the groups' own commands after them."""
    yield from command_sections(
        cli, click.Context(cli, info_name="tutelage", terminal_width=WIDTH, **cli.context_settings)
    )


def command_sections(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from command_sections(
                inner, click.Context(inner, info_name=name, parent=context, terminal_width=WIDTH)
            )


def hook_sections() -> Iterator[str]:
    """The introductions of the modules, each before its hooks with their signatures."""
    yield rst_to_markdown(inspect.getdoc(hookspecs) or "")
    for name in HOOKS:
        if name == HELPERS[0]:
            yield f"## Helper hooks\n\n{rst_to_markdown(inspect.getdoc(helper_specs) or '')}"
        hook = specification(name)
        yield f"## {name}\n\n{signature(f'def {name}', hook)}\n\n{rst_to_markdown(inspect.getdoc(hook) or '')}"


def recipe_sections() -> Iterator[str]:
    """Yield the recipe keys, then the names that pipelines, controls, pair rules and rubrics can have."""
    yield (inspect.getdoc(inspect.getmodule(Recipe)) or "").replace("``", "`")
    yield f"## Top level\n\n{settings_table(Recipe)}"
    yield f"## Under `pipelines.NAME`\n\n{settings_table(PipelineSettings, nested=False)}"
    yield f"## Under `controls.NAME`\n\n{settings_table(Control, nested=False)}"
    pipelines = [
        (f"`{name}`", one.help, ", ".join(f"`{step.rule}`" for step in one.pairs)) for name, one in PIPELINES.items()
    ]
    yield f"## Pipelines\n\n{markdown(('name', 'what it does', 'pair rule'), pipelines)}"
    controls = [(f"`{name}`", one.help) for name, one in CONTROLS.items()]
    yield f"## Controls\n\n{markdown(('name', 'what it does'), controls)}"
    offered = Registry.discover(environment={}).offered("objectives")
    shipped = [name for name in offered if "/" not in name or name.partition("/")[0] in own_plugins()]
    objectives = [
        (f"`{name}`", first_paragraph(offered[name]), EXAMPLE_WORDS[offered[name].examples]) for name in shipped
    ]
    yield f"## Objectives\n\n{markdown(('name', 'what it is', 'what it trains on'), objectives)}"
    rules = [(f"`{name}`", first_paragraph(rule)) for name, rule in describe().pair_rules.items()]
    yield f"## Pair rules\n\n{markdown(('name', 'what it proposes'), rules)}"
    rubrics = [
        (f"`{rubric.name}`", f"{rubric.lowest:g} to {rubric.highest:g}") for rubric in describe().rubrics.values()
    ]
    yield f"## Rubrics\n\n{markdown(('name', 'scale'), rubrics)}"


def own_plugins() -> list[str]:
    """Return the names of the plugins that ship with tutelage."""
    statuses = Registry.discover(environment={}).statuses()
    return [status.name for status in statuses if status.distribution == OWN_DISTRIBUTION]


def plugin_sections() -> Iterator[str]:
    """Yield the plugins that ship with tutelage, with the tables of ``tutelage plugins show``."""
    registry = Registry.discover(environment={})
    for status in registry.statuses():
        if status.distribution != OWN_DISTRIBUTION:
            continue
        if status.status != "ok":
            sys.exit(f"{status.label}: {status.error}")
        info = registry.info(status.name)
        hooks = ", ".join(f"`{hook}`" for hook in status.hooks)
        tables = [f"### {table.title}\n\n{table_markdown(table)}" for table in info_tables(info, environment=False)]
        aliases = [f"Also found as: {', '.join(f'`{alias}`' for alias in info.aliases)}."] if info.aliases else []
        yield "\n\n".join([f"## {status.name}", info.help, *aliases, f"Hooks: {hooks}.", *tables])


def settings_table(cls: type, nested: bool = True) -> str:
    """Return a table of the keys of an attrs class."""
    rows = [
        (
            f"`{field.name}`",
            field.type.partition(" (")[0],
            default_words(field.default),
            field.help.replace("``", "`"),
        )
        for field in describe_settings(cls)
        if nested or "." not in field.name
    ]
    return markdown(("key", "type", "default", "help"), rows)


def table_markdown(table: Table) -> str:
    return markdown(table.columns, [(f"`{row[0]}`", *row[1:]) for row in table.rows])


def first_paragraph(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n\n")[0].replace("``", "`")


if __name__ == "__main__":
    main()
