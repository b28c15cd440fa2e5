"""The declarations of the pipelines, controls and measures that plugins offer, stored in the folder of a run."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve

from tutelage.errors import InputError
from tutelage.files.jsonl import converter, read_json
from tutelage.measure import MeasureInfo
from tutelage.planning.artifacts import MEASURES, PIPELINES, RECIPE
from tutelage.planning.declared import BUILT_IN, Declared, from_plain, to_plain
from tutelage.recipe.schema import Recipe
from tutelage.runs.store import Store


def store_declarations(store: Store, recipe: Recipe, known: Declared) -> None:
    """Store the declarations of a recipe, before the recipe itself. Nothing is written if all of them are built in.

    Those of the recipe before are kept, so that the folder can be read if the process is killed in between.
    """
    if known.measures:
        before = read_json(store.path(MEASURES))["measures"] if store.has(MEASURES) else {}
        store.write_json(MEASURES, {"schema": 1, "measures": {**before, **known.measures}})
    values = to_plain(recipe, known)
    if not any(values.values()):
        return
    before = read_json(store.path(PIPELINES)) if store.has(PIPELINES) else {}
    after = {group: {**before.get(group, {}), **own} for group, own in values.items()}
    store.write_json(PIPELINES, {"schema": 1, **after})


def stored_declarations(store: Store, recipe: Recipe) -> Declared:
    """Return the declarations of the recipe of a run. The functions are their qualified names.

    Raises InputError if a declaration is missing or damaged.
    """
    path = store.path(PIPELINES)
    try:
        known = (from_plain(read_json(path)) if path.exists() else BUILT_IN).adapted_to(recipe)
    except InputError as error:
        raise InputError(f"{path}: {error}; restore the file, or start another run") from error
    for group, names, found in (
        ("pipelines", recipe.pipelines, known.pipelines),
        ("controls", recipe.controls, known.controls),
    ):
        if unknown := [name for name in names if name not in found]:
            raise InputError(
                f"{path}: has no declaration of {', '.join(unknown)}, which {store.path(RECIPE)} names under {group}; "
                "restore the file, or start another run"
            )
    return evolve(known, measures=_stored_measures(store, recipe))


def _stored_measures(store: Store, recipe: Recipe) -> Mapping[str, MeasureInfo]:
    used = {use.measure for use in recipe.evaluation.measures.values()} if recipe.evaluation else set()
    if not used:
        return {}
    path = store.path(MEASURES)
    try:
        values = read_json(path)["measures"] if path.exists() else {}
        found = converter().structure(values, dict[str, MeasureInfo])
    except Exception as error:
        remedy = "restore the file, or start another run"
        raise InputError(f"{path}: not the descriptions of measures ({error!r}); {remedy}") from error
    if unknown := sorted(used - found.keys()):
        raise InputError(
            f"{path}: has no description of {', '.join(unknown)}, which {store.path(RECIPE)} names under "
            "evaluation.measures; restore the file, or start another run"
        )
    return {name: found[name] for name in sorted(used)}
