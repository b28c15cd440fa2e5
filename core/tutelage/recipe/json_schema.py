"""The JSON Schema of the recipe, with which an editor completes and checks the keys of a recipe file.

It is made from the classes of the recipe: names, types, defaults, choices, and help texts from the literals below the
fields. The format is draft 7, which the YAML language servers of editors read. Required keys are required at the top
level only, because a recipe that extends another one may leave out any key. ``tutelage plan`` checks the whole recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import attrs
from cattrs.cols import is_mapping

from tutelage.files.field_help import field_help
from tutelage.files.jsonl import converter
from tutelage.files.overrides import is_overrides, overridden_class
from tutelage.files.strict_converter import init_fields
from tutelage.files.type_words import choices, is_choice, is_sequence, is_union
from tutelage.recipe.schema import Recipe

DRAFT = "http://json-schema.org/draft-07/schema#"
_OF_A_PLUGIN = "^[^/]+/[^/]+$"
"""The name of a pipeline or control that a plugin offers."""
_TYPES: dict[Any, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    Path: "string",
    NoneType: "null",
}


def recipe_json_schema(pipelines: Mapping[str, str], controls: Mapping[str, str]) -> dict[str, Any]:
    """Return the JSON Schema of a recipe file.

    ``pipelines`` and ``controls`` map the names that a recipe may use to their help texts.
    """
    definitions: dict[str, Any] = {}
    schema = _class_schema(Recipe, definitions)
    properties = schema["properties"]
    for key, names in (("pipelines", pipelines), ("controls", controls)):
        member = properties[key].pop("additionalProperties")
        properties[key]["properties"] = {name: {"description": help, **member} for name, help in names.items()}
        properties[key]["patternProperties"] = {_OF_A_PLUGIN: {"description": f"One of {key} of a plugin", **member}}
        properties[key]["additionalProperties"] = False
    extends = {
        "type": "string",
        "description": "Name or file of another recipe. This recipe has its values, except for the keys that are given "
        "here. null as the value removes a pipeline, a control or an optional section of the other recipe.",
    }
    required = [name for name, field in init_fields(Recipe).items() if field.default is attrs.NOTHING]
    return {
        "$schema": DRAFT,
        "title": "tutelage recipe",
        **schema,
        "properties": {"extends": extends, **properties},
        "anyOf": [{"required": ["extends"]}, {"required": required}],
        "definitions": dict(sorted(definitions.items())),
    }


def _class_schema(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    help = field_help(cls)
    properties = {}
    for name, field in init_fields(cls).items():
        kind: Any = field.type
        schema = _schema(kind, definitions)
        if field.default is not attrs.NOTHING and (is_mapping(kind) or attrs.has(kind)):
            schema = _or_null(schema)  # null: left out
        properties[name] = {"description": help.get(name, ""), **schema, **_default(field)}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _default(field: attrs.Attribute[Any]) -> dict[str, Any]:
    """Return the default of a field that has a plain one. A section has none: its keys have defaults of their own."""
    default: Any = field.default
    if default is attrs.NOTHING or hasattr(default, "factory") or any(map(attrs.has, get_args(field.type))):
        return {}
    return {"default": converter().unstructure(default)}


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type. That of a class is added to ``definitions`` and referred to by its name."""
    if kind in _TYPES:
        return {"type": _TYPES[kind]}
    if is_union(kind):
        members = [_schema(member, definitions) for member in get_args(kind) if member is not NoneType]
        union = members[0] if len(members) == 1 else {"anyOf": members}
        return _or_null(union) if NoneType in get_args(kind) else union
    if is_choice(kind):
        return {"enum": choices(kind)}
    cls = overridden_class(kind) if is_overrides(kind) else kind
    if attrs.has(cls):
        if cls.__name__ not in definitions:
            definitions[cls.__name__] = _class_schema(cls, definitions)
        return {"allOf": [{"$ref": f"#/definitions/{cls.__name__}"}]}  # draft 7 ignores keys beside $ref, not allOf
    if is_sequence(kind):
        return {"type": "array", "items": _schema(get_args(kind)[0], definitions)}
    if is_mapping(kind):
        values = get_args(kind)[1]
        schema = _schema(values, definitions)
        # null is a section without keys: ``self-reward:``.
        return {"type": "object", "additionalProperties": _or_null(schema) if attrs.has(values) else schema}
    return {}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a value that may be null instead."""
    match schema:
        case {"type": str(kind)}:
            return {**schema, "type": [kind, "null"]}
        case {"allOf": members}:
            return {"anyOf": [*members, {"type": "null"}]}
        case _:
            return {"anyOf": [schema, {"type": "null"}]}
