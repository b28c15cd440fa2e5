"""Recipe files: the built-in ones and the user's, what one changes of another, and what the command line changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tutelage.errors import InputError, nearest
from tutelage.files.jsonl import converter
from tutelage.files.settings import structure
from tutelage.files.yaml_text import NotYaml, read_yaml
from tutelage.recipe.problems import recipe_problems
from tutelage.recipe.schema import Recipe

RECIPES = Path(__file__).parent.parent / "recipes"
OVERRIDABLE = {"pipelines": ("judging", "pairs", "dpo"), "controls": ("pairs", "dpo", "sft")}
"""Which of the settings that hold for all a pipeline or a control may override: those that it uses."""


def load_recipe(
    path: Path,
    overrides: Mapping[str, Any] | None = None,
    roles: Mapping[str, str] | None = None,
    name_of: Callable[[str], str] = str,
) -> Recipe:
    """Read and check a recipe file. ``roles`` binds roles anew, each as ``NAME[:MODEL]``; ``overrides`` maps dotted
    keys to values and has the last word. ``name_of`` gives the name of a plugin that may be written as an alias.

    Raises InputError naming file, key and, for an unknown key, the nearest valid one.
    """
    values = _read(path)
    for role, spec in (roles or {}).items():
        models = values.get("models")
        before = models.get(role) if isinstance(models, Mapping) else None
        _set(values, f"models.{role}", rebind(before if isinstance(before, Mapping) else None, spec, name_of))
    for key, value in (overrides or {}).items():
        _set(values, key, value)
    return from_values(values, f"recipe {path}")


def _read(path: Path, extending: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The plain values of a recipe file, laid over those of the recipe that it extends."""
    if path in extending:
        raise InputError(f"{path}: extends: goes in a circle ({' -> '.join(map(str, [*extending, path]))})")
    try:
        values = read_yaml(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: the recipe cannot be read ({error}); `tutelage recipes` lists the built-in ones"
        ) from error
    except NotYaml as error:
        raise InputError(f"{path}, {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: a recipe is a YAML mapping, this is {type(values).__name__}")
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise InputError(f"{path}: extends: the name or the file of one recipe is expected")
    return _laid_over(_read(find_recipe(base), (*extending, path)), values)


def _laid_over(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Sections are merged key by key; anything else above replaces what is below."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _laid_over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def built_in() -> dict[str, Path]:
    """The recipes that ship with tutelage, by name."""
    return {str(path.relative_to(RECIPES).with_suffix("")): path for path in sorted(RECIPES.rglob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """The path of a recipe given by file or by built-in name. Raises InputError if it is neither."""
    recipes = built_in()
    if name in recipes:
        return recipes[name]
    path = Path(name)
    if path.is_file():
        return path
    raise InputError(f"no recipe {name!r}: neither a file nor a built-in recipe{nearest(name, recipes)}")


def summary_line(path: Path) -> str:
    """The first comment line of a recipe file: what it is for."""
    first = path.read_text(encoding="utf-8-sig").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``a.b=value`` of ``--set``; the value is read as YAML. Raises InputError where it is not of that form."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {text}: expected KEY=VALUE, such as dpo.learning_rate=1e-4")
    try:
        return key.strip(), read_yaml(value)
    except NotYaml as error:
        raise InputError(f"--set {text}: the value is not YAML ({error})") from error


def rebind(before: Mapping[str, Any] | None, spec: str, name_of: Callable[[str], str] = str) -> dict[str, Any]:
    """A binding given as ``NAME[:MODEL]`` on the command line. Settings stay where the plugin stays the same."""
    plugin, _, model = spec.partition(":")
    before = before or {}
    is_same = name_of(str(before.get("plugin"))) == name_of(plugin)
    settings = before.get("settings", {}) if is_same else {}
    return {"plugin": plugin, "model": model, "settings": settings}


def _set(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    place = values
    for key in parents:
        inner = place.get(key)
        if inner is None:
            inner = place[key] = {}
        if not isinstance(inner, dict):
            raise InputError(f"--set {dotted}: {key!r} is not a section of the recipe")
        place = inner
    place[last] = value


def from_values(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Check plain values and make the recipe of them. Raises InputError with every problem found."""
    recipe = structure(Recipe, _inherit(dict(values)), where)
    problems = list(recipe_problems(recipe))
    if problems:
        raise InputError("\n".join(f"{where}: {problem}" for problem in problems))
    return recipe


def to_values(recipe: Recipe) -> dict[str, Any]:
    """The resolved recipe as plain values: what a run keeps as ``recipe.yaml``."""
    values = converter().unstructure(recipe)
    values["seeds"] = list(recipe.seeds)
    return dict(values)


def to_yaml(recipe: Recipe) -> str:
    """The resolved recipe as YAML."""
    return yaml.safe_dump(to_values(recipe), sort_keys=False, allow_unicode=True)


def _inherit(values: dict[str, Any]) -> dict[str, Any]:
    """Spread the settings that hold for all into each pipeline and control, under their own overrides."""
    for group, keys in OVERRIDABLE.items():
        members = values.get(group)
        if isinstance(members, Mapping):
            values[group] = {name: _inherit_member(values, member, keys) for name, member in members.items()}
    return values


def _inherit_member(values: Mapping[str, Any], member: Any, keys: Sequence[str]) -> Any:
    member = {} if member is None else member
    if not isinstance(member, Mapping):
        return member
    merged = dict(member)
    for key in keys:
        general, own = values.get(key, {}), member.get(key, {})
        if isinstance(general, Mapping) and isinstance(own, Mapping):
            merged[key] = {**general, **own}
    return merged
