"""The declarations of the pipelines and controls that plugins offer, stored in the folder of a run."""

from __future__ import annotations

from tutelage.errors import InputError
from tutelage.files.jsonl import read_json
from tutelage.planning.artifacts import PIPELINES, RECIPE
from tutelage.planning.declared import BUILT_IN, Declared, from_plain, to_plain
from tutelage.recipe.schema import Recipe
from tutelage.runs.store import Store


def store_declarations(store: Store, recipe: Recipe, known: Declared) -> None:
    """Store the declarations of a recipe, before the recipe itself. Nothing is written if all of them are built in.

    Those of the recipe before are kept, so that the folder can be read if the process is killed in between.
    """
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
    return known
