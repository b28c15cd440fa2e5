"""Loading of recipe files: built-in recipes and files, ``extends``, and the overrides of the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tutelage.errors import InputError, nearest
from tutelage.files.jsonl import converter
from tutelage.files.settings import structure
from tutelage.files.yaml_text import read_yaml
from tutelage.recipe.problems import recipe_problems
from tutelage.recipe.schema import Recipe

RECIPES = Path(__file__).parent.parent / "recipes"
OVERRIDABLE = {"pipelines": ("judging", "pairs", "dpo"), "controls": ("pairs", "dpo", "sft")}
"""The top-level sections that a pipeline or a control may override: those that it uses."""


def load_recipe(
    path: Path,
    overrides: Mapping[str, Any] | None = None,
    roles: Mapping[str, str] | None = None,
    name_of: Callable[[str], str] = str,
) -> Recipe:
    """Read and check a recipe file.

    ``roles`` maps roles to new bindings of the form ``NAME[:MODEL]``. ``overrides`` maps dotted keys to values and is
    applied last. ``name_of`` returns the name of a plugin for its name or one of its aliases.

    Raises InputError with the file, the key and, for an unknown key, the nearest valid one.
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
    """Return the plain values of a recipe file, merged into those of the recipe that it extends."""
    if path in extending:
        chain = " -> ".join(map(str, [*extending, path]))
        raise InputError(f"{path}: extends: recipes extend each other in a cycle ({chain}); remove one `extends`")
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: the recipe cannot be read ({error}); `tutelage recipes` lists the built-in ones"
        ) from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: a recipe must be a YAML mapping, not {type(values).__name__}")
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise InputError(f"{path}: extends: must be the name or the file of one recipe")
    return _merge(_read(find_recipe(base), (*extending, path)), values)


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge sections key by key; any other value in ``changes`` replaces the value in ``base``."""
    merged = dict(base)
    for key, value in changes.items():
        inherited = merged.get(key)
        merged[key] = _merge(inherited, value) if isinstance(inherited, dict) and isinstance(value, dict) else value
    return merged


def built_in() -> dict[str, Path]:
    """Return the paths of the recipes that ship with tutelage, by name."""
    return {str(path.relative_to(RECIPES).with_suffix("")): path for path in sorted(RECIPES.rglob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """Return the path of a recipe that is given by file or by built-in name. Raises InputError if it is neither."""
    recipes = built_in()
    if name in recipes:
        return recipes[name]
    path = Path(name)
    if path.is_file():
        return path
    raise InputError(f"no recipe {name!r}: neither a file nor a built-in recipe{nearest(name, recipes)}")


def summary_line(path: Path) -> str:
    """Return the purpose of a recipe: the comment in its first line, or an empty text if there is none."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``a.b=value`` of ``--set``; the value is parsed as YAML. Raises InputError if the form is wrong."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {text}: expected KEY=VALUE, such as dpo.learning_rate=1e-4")
    try:
        return key.strip(), read_yaml(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {text}: the value is not YAML") from error


def rebind(before: Mapping[str, Any] | None, spec: str, name_of: Callable[[str], str] = str) -> dict[str, Any]:
    """Return the binding for ``NAME[:MODEL]`` on the command line.

    The settings of ``before`` are kept if the plugin is the same, and dropped otherwise.
    """
    plugin, _, model = spec.partition(":")
    before = before or {}
    is_same = name_of(str(before.get("plugin"))) == name_of(plugin)
    settings = before.get("settings", {}) if is_same else {}
    return {"plugin": plugin, "model": model, "settings": settings}


def _set(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    section = values
    for key in parents:
        inner = section.get(key)
        if inner is None:
            inner = section[key] = {}
        if not isinstance(inner, dict):
            raise InputError(f"--set {dotted}: {key!r} is not a section of the recipe")
        section = inner
    section[last] = value


def from_values(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Check plain values and build the recipe from them.

    ``where`` begins each line of an error. Raises InputError with every problem found.
    """
    recipe = structure(Recipe, _inherit(dict(values)), where)
    problems = list(recipe_problems(recipe))
    if problems:
        raise InputError("\n".join(f"{where}: {problem}" for problem in problems))
    return recipe


def to_values(recipe: Recipe) -> dict[str, Any]:
    """Return the resolved recipe as plain values. A run stores them as ``recipe.yaml``."""
    values = converter().unstructure(recipe)
    values["seeds"] = list(recipe.seeds)
    return dict(values)


def to_yaml(recipe: Recipe) -> str:
    """Return the resolved recipe as YAML."""
    return yaml.safe_dump(to_values(recipe), sort_keys=False, allow_unicode=True)


def _inherit(values: dict[str, Any]) -> dict[str, Any]:
    """Copy the top-level sections into each pipeline and control. Its own overrides take precedence."""
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
