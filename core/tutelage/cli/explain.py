"""``tutelage explain``: what an artifact of a run was made from, and why it would be made again."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tutelage.cli.missing_files import naming_missing_files
from tutelage.cli.options import PATH, as_json, load_plugin_files, plugin_file_option, plugin_options, run_argument
from tutelage.cli.output import Table, print_line, print_table, print_text
from tutelage.errors import InputError, nearest
from tutelage.files.jsonl import converter
from tutelage.planning.artifacts import RECIPE
from tutelage.planning.member_checks import member_problems
from tutelage.planning.pipelines import make_plan
from tutelage.planning.problem_list import Problems
from tutelage.planning.sources import Sources
from tutelage.planning.wrapping import check_wrappers
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import find_recipe, load_recipe, parse_override
from tutelage.results.changes_words import brief
from tutelage.runs.changes import Changes, StepChange, changes
from tutelage.runs.store import open_run

_WORDS = {"kept": "is up to date", "reused": "would be reused from elsewhere", "new": "is not made yet"}


@click.command("explain")
@run_argument
@click.argument("artifact", required=False)
@click.option("--recipe", type=PATH, metavar="RECIPE", help="Compare with this recipe [default: that of the run].")
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a key of the recipe; repeatable."
)
@as_json
@plugin_file_option
@plugin_options
def command(
    run: Path,
    artifact: str | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
    plugin_files: tuple[str, ...],
    registry: Registry,
) -> None:
    """Show what an artifact was made from, and why it would be made again.

    ARTIFACT is a path in the run's folder, such as seed-0/M1/checkpoint. Without it, all artifacts of the run are
    listed. With --recipe or --set, the run is compared with another recipe. Nothing is run or written.
    """
    store = open_run(run)
    load_plugin_files(registry, plugin_files, run)
    path = find_recipe(str(recipe)) if recipe else store.path(RECIPE)
    chosen = load_recipe(path, dict(parse_override(text) for text in overrides), name_of=registry.name_of)
    sources = Sources(chosen, registry)
    if problems := list(member_problems(sources)):
        raise InputError("\n".join(problems))
    of_wrappers = Problems()
    check_wrappers(chosen, registry, sources.declared, of_wrappers)
    of_wrappers.raise_all()
    with naming_missing_files(chosen, str(recipe or run), path, registry, plugin_files):
        found = changes(store, make_plan(chosen, sources.counts(), sources.declared), sources)
    if artifact is None:
        _print_all(found, as_json)
    else:
        _print_one(_change_of(found, artifact, run), found, as_json)


def _change_of(found: Changes, artifact: str, run: Path) -> StepChange:
    path, root = Path(artifact).absolute(), run.absolute()
    name = (path.relative_to(root) if path.is_relative_to(root) else Path(artifact)).as_posix()
    by_output = {change.step.output: change for change in found.steps}
    if name not in by_output:
        raise InputError(f"{run}: the recipe makes no artifact {name!r}{nearest(name, by_output)}")
    return by_output[name]


def _print_all(found: Changes, as_json: bool) -> None:
    if as_json:
        print_line(json.dumps([_values(change) for change in found.steps], indent=2))
        return
    rows = [(change.step.output, change.state, brief(change.why)) for change in found.steps]
    print_table(Table(("artifact", "state", "why"), rows, left=frozenset({"state", "why"})))


def _print_one(change: StepChange, found: Changes, as_json: bool) -> None:
    if as_json:
        print_line(json.dumps(_values(change), indent=2))
        return
    output = change.step.output
    before = found.store.made_from(output) or found.adopted.get(output)
    shown = before if before is not None and found.store.has(output) else change.made_from
    print_line(f"{output}, fingerprint {shown.fingerprint}")
    print_line("made from:" if shown is before else "to be made from:")
    for key, value in {**shown.sources, **shown.values}.items():
        if key not in ("output", "step"):
            print_text(f"  {key}: {value}")
    for path, identity in shown.inputs.items():
        print_text(f"  {path} ({identity})")
    if change.state == "again":
        print_line("would be made again, because of:")
        for reason in change.why:
            print_text(f"  {reason}")
    else:
        print_text(_WORDS[change.state])


def _values(change: StepChange) -> dict[str, object]:
    return {
        "artifact": change.step.output,
        "state": change.state,
        "why": list(change.why),
        "fingerprint": change.made_from.fingerprint,
        "made_from": converter().unstructure(change.made_from),
    }
