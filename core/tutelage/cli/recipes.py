"""``tutelage recipes``: the recipes that ship with tutelage, to read and to start one's own from."""

from __future__ import annotations

from pathlib import Path

import click

from tutelage.cli.output import Table, say, show, tell
from tutelage.errors import InputError
from tutelage.recipe.loading import built_in, find_recipe, summary_line


@click.group("recipes", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """List, show and copy the built-in recipes."""
    if context.invoked_subcommand is None:
        rows = [(name, summary_line(path)) for name, path in built_in().items()]
        show(Table(("recipe", "what it is"), rows, left=frozenset({"what it is"})))


@command.command("show")
@click.argument("name")
def show_command(name: str) -> None:
    """Print a recipe: a built-in one, or a file."""
    say(find_recipe(name).read_text(encoding="utf-8").rstrip("\n"))


@command.command("copy")
@click.argument("name")
@click.argument("file", required=False, type=click.Path(path_type=Path))
def copy_command(name: str, file: Path | None) -> None:
    """Copy a recipe to FILE (NAME.yaml in this folder, if left out), to change it. Never overwrites."""
    source = find_recipe(name)
    target = file or Path(f"{source.stem}.yaml")
    try:
        with target.open("xb") as out:
            out.write(source.read_bytes())
    except FileExistsError as error:
        raise InputError(f"{target}: is there already; name another file") from error
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from error
    tell(f"copied to {target}; run it with `tutelage run {target}`")
