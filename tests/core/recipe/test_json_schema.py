"""The JSON Schema of the recipe accepts what ``load_recipe`` accepts, and refuses wrong keys and types."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from recipes import numbers_recipe

from tutelage.cli import cli
from tutelage.files.yaml_text import read_yaml
from tutelage.plugins.built_in_pipelines import CONTROLS, PIPELINES
from tutelage.recipe.json_schema import recipe_json_schema
from tutelage.recipe.loading import built_in, load_recipe, to_values

SCHEMA = recipe_json_schema(*({name: one.help for name, one in group.items()} for group in (PIPELINES, CONTROLS)))
PYTHON = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
ANNOTATIONS = {"$schema", "title", "description", "default", "definitions"}


def problems(value: Any, schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the violations of the keywords that the schema uses; raise for a keyword that is not known here."""
    for keyword, wanted in schema.items():
        match keyword:
            case "$ref":
                yield from problems(value, SCHEMA["definitions"][wanted.removeprefix("#/definitions/")], path)
            case "allOf":
                for member in wanted:
                    yield from problems(value, member, path)
            case "anyOf":
                alternatives = [list(problems(value, member, path)) for member in wanted]
                if all(alternatives):
                    yield from max(alternatives, key=lambda found: max(map(len, found)))
            case "type":
                if not any(is_type(value, kind) for kind in ([wanted] if isinstance(wanted, str) else wanted)):
                    yield f"{path}: not {wanted}"
            case "enum":
                if value not in wanted:
                    yield f"{path}: not one of {wanted}"
            case "items":
                for number, item in enumerate(value if isinstance(value, list) else ()):
                    yield from problems(item, wanted, f"{path}[{number}]")
            case "required":
                yield from (f"{path}: {key} is missing" for key in wanted if key not in value)
            case "properties" | "patternProperties" | "additionalProperties":
                pass
            case _:
                assert keyword in ANNOTATIONS, keyword
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        patterns = schema.get("patternProperties", {})
        for key, each in value.items():
            of_pattern = [wanted for pattern, wanted in patterns.items() if re.search(pattern, key)]
            if key in known:
                yield from problems(each, known[key], f"{path}.{key}")
            elif of_pattern:
                yield from problems(each, of_pattern[0], f"{path}.{key}")
            elif others is False:
                yield f"{path}.{key}: unknown"
            elif others is not True:
                yield from problems(each, others, f"{path}.{key}")


def is_type(value: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        return isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool)
    return isinstance(value, PYTHON[kind])


@pytest.mark.parametrize("name", built_in())
def test_every_built_in_recipe_fits_the_schema_as_it_is_written_and_resolved(name: str) -> None:
    assert list(problems(read_yaml(built_in()[name].read_text(encoding="utf-8")), SCHEMA)) == []
    recipe = load_recipe(name)
    for resolved in (False, True):
        assert list(problems(json.loads(json.dumps(to_values(recipe, resolved))), SCHEMA)) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"iterations": "two"}, ".iterations: not integer"),
        ({"generatoin": {}}, ".generatoin: unknown"),
        ({"dpo": {"bta": 0.3}}, ".dpo.bta: unknown"),
        ({"dpo": {"loss_type": ["sigmoid"]}}, ".dpo.loss_type: not string"),
        ({"start": "M2"}, ".start: not one of ['previous', 'M1']"),
        ({"seeds": [0, "1"]}, ".seeds[1]: not integer"),
        ({"pipelines": {"self-rewards": None}}, ".pipelines.self-rewards: unknown"),
        ({"pipelines": {"loops/spin": {"sft": {}}}}, ".pipelines.loops/spin.sft: unknown"),
        ({"pipelines": {"self-reward": {"sft": {}}}}, ".pipelines.self-reward.sft: unknown"),
        ({"pipelines": {"self-reward": {"dpo": {"beta": "x"}}}}, ".pipelines.self-reward.dpo.beta: not number"),
        ({"controls": {"random-pairs": {"mirrors": 3}}}, ".controls.random-pairs.mirrors: not string"),
        ({"models": None}, ".models: not object"),
        ({"budget": "much"}, ".budget: not ['number', 'null']"),
    ],
)
def test_a_recipe_that_is_refused_does_not_fit_the_schema(changes: dict[str, Any], problem: str) -> None:
    assert list(problems(numbers_recipe(), SCHEMA)) == []
    assert problem in list(problems(numbers_recipe(**changes), SCHEMA))


def test_only_a_recipe_that_extends_another_may_leave_out_the_required_keys() -> None:
    assert list(problems({"dpo": {"beta": 0.3}}, SCHEMA))
    assert list(problems({"extends": "embedded", "dpo": {"beta": 0.3}}, SCHEMA)) == []
    removed = {"extends": "small-gpu/all", "controls": None, "evaluation": None, "pipelines": {"self-reward": None}}
    assert list(problems(removed, SCHEMA)) == []
    assert list(problems({"extends": "small-gpu/all", "controls": {"random-pairs": None}}, SCHEMA)) == []


def test_every_key_has_a_help_text_and_its_default() -> None:
    classes = {"Recipe": SCHEMA, **SCHEMA["definitions"]}
    undocumented = [
        f"{name}.{key}"
        for name, cls in classes.items()
        for key, each in cls["properties"].items()
        if not each["description"]
    ]
    assert undocumented == []
    dpo = SCHEMA["definitions"]["Dpo"]["properties"]
    assert (dpo["beta"]["default"], dpo["loss_type"]["default"], dpo["micro_batch_size"]["default"]) == (
        0.1,
        "sigmoid",
        None,
    )
    assert SCHEMA["properties"]["start"]["default"] == "previous"


def test_the_schema_in_the_documentation_is_that_of_the_command() -> None:
    written = Path(__file__).parents[3] / "docs/reference/recipe.schema.json"
    assert json.loads(written.read_text(encoding="utf-8")) == SCHEMA
    assert json.loads(CliRunner().invoke(cli, ["recipes", "schema"]).stdout) == SCHEMA
