"""Recipe files: the built-in ones and the user's, what one changes of another, and what the command line changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tutelage.errors import InputError, nearest
from tutelage.recipe import Recipe, from_values
from tutelage.yaml_text import read_yaml

RECIPES = Path(__file__).parent / "recipes"


def load(
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
        values = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: the recipe cannot be read ({error}); `tutelage recipes` lists the built-in ones"
        ) from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: a recipe is a YAML mapping, this is {type(values).__name__}")
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise InputError(f"{path}: extends: the name or the file of one recipe is expected")
    return _laid_over(_read(find(base), (*extending, path)), values)


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


def find(name: str) -> Path:
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
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``a.b=value`` of ``--set``; the value is read as YAML. Raises InputError where it is not of that form."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {text}: expected KEY=VALUE, such as dpo.learning_rate=1e-4")
    try:
        return key.strip(), read_yaml(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {text}: the value is not YAML") from error


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
