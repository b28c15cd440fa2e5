"""Every public class and function is documented, in the reference and in ``help()``."""

from __future__ import annotations

import ast
import inspect
import pydoc
import re
import sys
import textwrap
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import FunctionType
from typing import Any

import attrs
import pytest

import tutelage
from tutelage import testing
from tutelage.files.field_help import field_help, show_field_help

DOCS = Path(__file__).parents[2] / "docs"
sys.path.append(str(DOCS))  # as for a program in this folder

from python_reference import constant_help, values  # noqa: E402

PAGE = (DOCS / "reference/python.md").read_text(encoding="utf-8")
CLASSES = {name: value for name, value in values().items() if isinstance(value, type)}
WRAPPED = ("fget", "func", "__func__")
"""Where a property, a cached property and a class method have their function."""
CONSTANTS = [name for name, value in values().items() if not isinstance(value, type | FunctionType)]


def functions() -> Iterator[tuple[str, FunctionType, str]]:
    """Yield the public functions and methods, each with the docstring of the class that it belongs to."""
    for name, value in values().items():
        members = vars(value) if isinstance(value, type) else {"": value}
        for member_name, member in members.items():
            function = next((getattr(member, key) for key in WRAPPED if getattr(member, key, None)), member)
            if isinstance(function, FunctionType) and not member_name.startswith("_"):
                yield f"{name}.{member_name}", function, value.__doc__ or ""


def test_the_page_has_every_public_name_once() -> None:
    headings = re.findall("^### (.*)$", PAGE, re.MULTILINE)
    assert len(headings) == len(set(headings))
    assert {*tutelage.__all__, *(f"testing.{name}" for name in testing.__all__)} <= set(headings)


def test_members_of_a_base_that_the_page_does_not_describe_are_those_of_the_class() -> None:
    of_registry = PAGE.partition("### Registry\n")[2].partition("\n### ")[0]
    assert {"register", "find", "get", "offered"} <= set(re.findall(r"^\*\*`(\w+)`\*\*$", of_registry, re.MULTILINE))
    bases = re.findall("^Subclass of (.*)\\.$", PAGE, re.MULTILINE)
    named = {name for line in bases for name in re.findall(r"`(\w+)`", line)}
    assert "Offers" not in named and "_Step" not in named and "Objective" in named


@pytest.mark.parametrize("name", CLASSES)
def test_every_field_of_a_public_class_is_documented(name: str) -> None:
    cls = CLASSES[name]
    fields = [field.name for field in attrs.fields(cls)] if attrs.has(cls) else []
    members = [member.name for member in cls] if issubclass(cls, Enum) else []
    public = [field for field in (*fields, *members) if not field.startswith("_")]
    assert [field for field in public if not field_help(cls).get(field)] == []


def test_a_field_without_documentation_is_found() -> None:
    @attrs.frozen
    class Half:
        documented: int
        """A number."""
        forgotten: int

    assert field_help(Half) == {"documented": "A number."}


@pytest.mark.parametrize("name", CONSTANTS)
def test_every_public_constant_is_documented(name: str) -> None:
    assert len(constant_help(name)) > 20


def test_the_documentation_of_a_function_names_the_errors_that_it_raises() -> None:
    found = list(functions())
    assert len(found) > 100
    for name, function, class_help in found:
        nodes = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function))))
        raised = [node.exc.func for node in nodes if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
        assert function.__doc__, name
        known = function.__doc__ + class_help
        assert [error.id for error in raised if isinstance(error, ast.Name) and error.id not in known] == [], name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (tutelage.Preference, "weight: Factor of the loss of the pair; a finite number of at least 0."),
        (tutelage.Outcome, "CUT: The answer reached its length limit; the text up to the limit is kept."),
        (tutelage.TrainStep, "objective: The objective: ``dpo``, ``sft`` or ``PLUGIN/NAME``."),
        (testing.Report, "plugin: Name and origin of the plugin."),
    ],
)
def test_help_shows_the_documentation_of_fields(value: type, text: str) -> None:
    shown = pydoc.plain(pydoc.render_doc(value))
    assert text in shown
    assert (value.__doc__ or "").splitlines()[0] in shown


def test_the_docstring_of_a_class_without_source_is_unchanged() -> None:
    names: dict[str, Any] = {}
    exec('class Typed:\n    """A class."""\n    field: int = 0\n    """A field."""\n', names)
    show_field_help(names["Typed"])
    assert names["Typed"].__doc__ == "A class."
