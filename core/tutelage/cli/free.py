"""``tutelage free``: show and delete the artifacts that a run has set aside."""

from __future__ import annotations

from pathlib import Path

import click

from tutelage.cli.options import run_argument
from tutelage.cli.output import Table, print_line, print_table
from tutelage.planning.artifacts import REPLACED, VARIANTS
from tutelage.runs.shelf import Shelf, Shelved
from tutelage.runs.store import Store, is_run, open_run

_MIB = 2**20


@click.command("free")
@run_argument
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
def command(run: Path, dry_run: bool) -> None:
    """Delete the artifacts that a run has set aside.

    When a recipe is changed, the artifacts that it replaces are kept until this command deletes them. Paid answers are
    in the ledger, too, and are not deleted.
    """
    store = open_run(run)
    stores = [store, *(Store(folder) for folder in sorted(store.path(VARIANTS).glob("*")) if is_run(folder))]
    found = [(one, shelved) for one in stores for shelved in Shelf(one.path(REPLACED)).contents()]
    if not found:
        print_line(f"{run}: nothing was set aside")
        return
    rows = [(_path(one, store, shelved), shelved.fingerprint[:8], _size(shelved.bytes)) for one, shelved in found]
    print_table(Table(("artifact", "fingerprint", "size"), rows, left=frozenset({"fingerprint"})))
    total = _size(sum(shelved.bytes for _, shelved in found))
    if dry_run:
        print_line(f"{len(found)} artifacts use {total}")
        return
    with store.lock():
        for one in stores:
            Shelf(one.path(REPLACED)).clear()
    print_line(f"deleted {len(found)} artifacts, {total}")


def _path(one: Store, base: Store, shelved: Shelved) -> str:
    artifact = shelved.artifact or "(incomplete)"
    return artifact if one == base else f"{one.root.relative_to(base.root)}/{artifact}"


def _size(size: int) -> str:
    return f"{size / _MIB:,.1f} MiB"
