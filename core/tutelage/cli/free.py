"""``tutelage free``: show and delete the artifacts that a run has set aside."""

from __future__ import annotations

from pathlib import Path

import click

from tutelage.cli.options import run_argument
from tutelage.cli.output import Table, print_line, print_table, print_text
from tutelage.files.moving import size_of
from tutelage.planning.artifacts import REPLACED, VARIANTS
from tutelage.recipe.variants import variants_of
from tutelage.runs.artifact_cache import ArtifactCache, CachedArtifact
from tutelage.runs.run import Run
from tutelage.runs.store import Store, is_run

_MIB = 2**20


@click.command("free")
@run_argument
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
def command(run: Path, dry_run: bool) -> None:
    """Delete the artifacts that a run has set aside.

    When a recipe is changed, the artifacts that it replaces are kept until this command deletes them, and so are
    variants that the recipe no longer has. Paid answers are in the ledger, too, and are not deleted.
    """
    opened = Run.open(run)
    store, used = opened.store, {variant.name for variant in variants_of(opened.recipe)}
    folders = [folder for folder in sorted(store.path(VARIANTS).glob("*")) if is_run(folder)]
    unused = [folder for folder in folders if folder.name not in used]
    stores = [store, *(Store(folder) for folder in folders if folder.name in used)]
    found = [(one, cached) for one in stores for cached in ArtifactCache(one.path(REPLACED)).contents()]
    if not found and not unused:
        print_line(f"{run}: nothing was set aside")
        return
    rows = [(_path(one, store, cached), cached.fingerprint[:8], cached.bytes) for one, cached in found]
    rows += [(f"{folder.relative_to(run)}/", "", size_of(folder)) for folder in unused]
    shown = [(path, fingerprint, _size(size)) for path, fingerprint, size in rows]
    print_table(Table(("artifact", "fingerprint", "size"), shown, left=frozenset({"fingerprint"})))
    total = _size(sum(size for _, _, size in rows))
    if dry_run:
        print_text(f"{len(rows)} artifacts use at most {total}: links to shared files free nothing")
        return
    with store.lock():
        for one in stores:
            ArtifactCache(one.path(REPLACED)).clear()
        for folder in unused:
            ArtifactCache(folder).clear()
    print_text(f"deleted {len(rows)} artifacts, at most {total}")


def _path(one: Store, base: Store, cached: CachedArtifact) -> str:
    artifact = cached.artifact or "(incomplete)"
    return artifact if one == base else f"{one.root.relative_to(base.root)}/{artifact}"


def _size(size: int) -> str:
    return f"{size / _MIB:,.1f} MiB"
