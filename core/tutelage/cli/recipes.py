"""``tutelage recipes``: list, print and copy the recipes that are included in tutelage."""

from __future__ import annotations

from pathlib import Path

import click

from tutelage.cli.output import Table, print_line, print_status, print_table
from tutelage.errors import InputError
from tutelage.files.disk_errors import check_writable
from tutelage.files.whole import write_whole
from tutelage.recipe.loading import built_in, find_recipe, summary_line


@click.group("recipes", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """List, show and copy the built-in recipes."""
    if context.invoked_subcommand is None:
        rows = [(name, summary_line(path)) for name, path in built_in().items()]
        print_table(Table(("recipe", "description"), rows, left=frozenset({"description"})))


@command.command("show")
@click.argument("name")
def show_command(name: str) -> None:
    """Print a recipe. NAME is a built-in recipe or a file."""
    print_line(find_recipe(name).read_text(encoding="utf-8").rstrip("\n"))


@command.command("copy")
@click.argument("name")
@click.argument("file", required=False, type=click.Path(path_type=Path))
def copy_command(name: str, file: Path | None) -> None:
    """Copy a recipe to FILE [default: NAME.yaml in the current folder] for editing. Never overwrites a file."""
    source = find_recipe(name)
    target = file or Path(f"{source.stem}.yaml")
    if target.exists():
        raise InputError(f"{target}: already exists; choose another file")
    check_writable(target)
    if not target.parent.is_dir():
        raise InputError(f"{target}: cannot be written; there is no folder {target.parent}")
    content = source.read_bytes()
    write_whole(target, lambda temporary: temporary.write_bytes(content))
    print_status(f"copied to {target}; run it with `tutelage run {target}`")
