"""Loading of recipe files: built-in recipes and files, ``extends``, and the overrides of the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import attrs
import yaml
from cattrs.cols import is_mapping

from tutelage.errors import InputError, nearest
from tutelage.files.jsonl import converter
from tutelage.files.overrides import is_overrides, overridden_class
from tutelage.files.settings import structure
from tutelage.files.strict_converter import init_fields
from tutelage.files.type_words import is_union
from tutelage.files.yaml_text import NotYaml, read_yaml
from tutelage.recipe.problems import recipe_problems
from tutelage.recipe.schema import Recipe

RECIPES = Path(__file__).parent.parent / "recipes"
MEMBERS = {"pipelines": ("judging", "pairs", "dpo"), "controls": ("pairs", "dpo", "sft")}
"""The sections whose keys are names, and the top-level sections that each name may override: those that it uses."""


def load_recipe(
    recipe: str | Path,
    overrides: Mapping[str, Any] | None = None,
    roles: Mapping[str, str] | None = None,
    name_of: Callable[[str], str] = str,
) -> Recipe:
    """Read and check a recipe: a file, or the name of a built-in one.

    ``roles`` maps roles to new bindings of the form ``NAME[:MODEL]``. ``overrides`` maps dotted keys to values and is
    applied last. null as the value removes a pipeline, a control or an optional section. ``name_of`` returns the name
    of a plugin for its name or one of its aliases.

    Raises InputError with the file, the key and, for an unknown key, the nearest valid one.
    """
    path = recipe if isinstance(recipe, Path) and recipe.exists() else find_recipe(str(recipe))
    values = _read(path)
    for role, spec in (roles or {}).items():
        models = values.get("models")
        before = models.get(role) if isinstance(models, Mapping) else None
        _set(values, f"models.{role}", rebind(before if isinstance(before, Mapping) else None, spec, name_of))
    for key, value in (overrides or {}).items():
        _set(values, key, value)
    return from_values(values, f"recipe {path}")


def override(recipe: Recipe, overrides: Mapping[str, Any] | None) -> Recipe:
    """Return a recipe with other values for some dotted keys, as ``load_recipe`` applies them to a file.

    Raises InputError with every problem of the new recipe.
    """
    if not overrides:
        return recipe
    values = to_values(recipe)
    for key, value in overrides.items():
        _set(values, key, value)
    return from_values(values, f"recipe {recipe.name}")


def _read(path: Path, extending: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the plain values of a recipe file, merged into those of the recipe that it extends."""
    if any(path.samefile(one) for one in extending):
        chain = " -> ".join(map(str, [*extending, path]))
        raise InputError(f"{path}: extends: recipes extend each other in a cycle ({chain}); remove one `extends`")
    try:
        values = read_yaml(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: the recipe cannot be read ({error}); `tutelage recipes` lists the built-in ones"
        ) from error
    except NotYaml as error:
        raise InputError(f"{path}, {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: a recipe must be a YAML mapping, not {type(values).__name__}")
    base = values.pop("extends", None)
    if base is None:
        return _without_copies(values)
    if not isinstance(base, str):
        raise InputError(f"{path}: extends: must be the name or the file of one recipe")
    beside = path.parent / base
    is_beside = base not in built_in() and beside.is_file()
    return _merge(_read(beside if is_beside else find_recipe(base), (*extending, path)), values)


def _merge(base: dict[str, Any], changes: Mapping[str, Any], names: bool = False) -> dict[str, Any]:
    """Merge sections key by key; any other value in ``changes`` replaces the value in ``base``.

    If the keys are ``names`` of pipelines or controls, null removes one that ``base`` has.
    """
    merged = dict(base)
    for key, value in changes.items():
        inherited = merged.get(key)
        if isinstance(inherited, dict) and isinstance(value, dict):
            merged[key] = _merge(inherited, value, names=key in MEMBERS)
        elif names and value is None and key in merged:
            del merged[key]
        else:
            merged[key] = value
    return merged


def _without_copies(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a run's recipe.yaml of tutelage 0.1 without the copies of its top-level sections.

    It has copies of them in each pipeline and control, with the overrides applied. A change of a top-level section
    would have no effect there. Any other recipe is returned as it is.
    """
    groups = {group: values.get(group) for group in MEMBERS}
    for group, keys in MEMBERS.items():
        for member in _mapping(groups[group]).values():
            for key in keys:
                if not _mapping(member).get(key) or set(_mapping(member[key])) != set(_mapping(values.get(key))):
                    return values
    return {
        **values,
        **{
            group: {name: _without_equal(member, values, MEMBERS[group]) for name, member in members.items()}
            for group, members in groups.items()
            if isinstance(members, dict)
        },
    }


def _without_equal(member: Mapping[str, Any], values: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return a pipeline or control without the values that equal those of the top-level sections."""
    own = {key: {k: v for k, v in member[key].items() if v != values[key][k]} for key in keys}
    return {**member, **own}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


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
    if path.is_dir():
        raise InputError(f"no recipe {name!r}: it is a folder; name a file or a built-in recipe")
    raise InputError(f"no recipe {name!r}: neither a file nor a built-in recipe{nearest(name, recipes)}")


def summary_line(path: Path) -> str:
    """Return the purpose of a recipe: the comment in its first line, or an empty text if there is none."""
    first = path.read_text(encoding="utf-8-sig").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``a.b=value`` of ``--set``; the value is parsed as YAML. Raises InputError if the form is wrong."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {text}: expected KEY=VALUE, such as dpo.learning_rate=1e-4")
    try:
        return key.strip(), read_yaml(value)
    except NotYaml as error:
        raise InputError(f"--set {text}: the value is not YAML ({error})") from error


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
    if value is None and len(parents) == 1 and parents[0] in MEMBERS and last in section:
        del section[last]
    else:
        section[last] = value


def from_values(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Check plain values and build the recipe from them.

    ``where`` begins each line of an error. Raises InputError with every problem found.
    """
    recipe = structure(Recipe, _without_nulls(values, Recipe), where)
    problems = list(recipe_problems(recipe))
    if problems:
        raise InputError("\n".join(f"{where}: {problem}" for problem in problems))
    return recipe


def _without_nulls(value: Any, kind: Any) -> Any:
    """Return the value of a field without null as "left out": for a section with a default, or a pipeline by name.

    A null that the type accepts is kept.
    """
    if not isinstance(value, Mapping):
        return value
    if is_union(kind):
        sections = [member for member in get_args(kind) if attrs.has(member)]
        return _without_nulls(value, sections[0]) if len(sections) == 1 else value
    cls = overridden_class(kind) if is_overrides(kind) else kind
    if attrs.has(cls):
        fields = init_fields(cls)
        return {
            key: _without_nulls(each, fields[key].type) if key in fields else each
            for key, each in value.items()
            if each is not None or key not in fields or not _is_optional_section(fields[key])
        }
    if is_mapping(kind) and get_args(kind) and attrs.has(get_args(kind)[1]):
        return {name: _without_nulls({} if each is None else each, get_args(kind)[1]) for name, each in value.items()}
    return value


def _is_optional_section(field: attrs.Attribute[Any]) -> bool:
    kind: Any = field.type
    return field.default is not attrs.NOTHING and (is_mapping(kind) or attrs.has(kind))


def to_values(recipe: Recipe, resolved: bool = False) -> dict[str, Any]:
    """Return the recipe as plain values, with the default of every key that is left out.

    A pipeline or control has only its overrides. If ``resolved``, it has its complete settings.
    """
    values = dict(converter().unstructure(recipe))
    values["seeds"] = list(recipe.seeds)
    for group, settings_of in (("pipelines", recipe.for_pipeline), ("controls", recipe.for_control)):
        for name, member in values[group].items():
            for key in MEMBERS[group]:
                if resolved:
                    member[key] = converter().unstructure(getattr(settings_of(name), key))
                elif not member[key]:
                    del member[key]
            for key in ("objective", "objectives"):
                if not member.get(key):
                    member.pop(key, None)
    return values


def to_yaml(recipe: Recipe, resolved: bool = False) -> str:
    """Return the values of ``to_values`` as YAML. A run stores them as ``recipe.yaml``."""
    return yaml.safe_dump(to_values(recipe, resolved), sort_keys=False, allow_unicode=True)
