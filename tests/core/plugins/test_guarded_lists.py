"""Functions of plugins that give several results: what they give is checked, and an error names them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tutelage.errors import InputError, PluginError
from tutelage.plugins.guarded_lists import guarded_list


def yielding() -> Iterator[str]:
    yield "one"
    yield "two"


def failing() -> Iterator[str]:
    yield "one"
    raise KeyError("two")


def leaving() -> list[str]:
    raise SystemExit(1)


def refusing() -> list[str]:
    raise InputError("not this file")


def test_lists_and_iterators_are_lists_and_none_is_empty() -> None:
    assert guarded_list("check", yielding, kind=str) == ["one", "two"]
    assert guarded_list("check", lambda *parts: parts, "a", "b", kind=str) == ["a", "b"]
    assert guarded_list("check", lambda: None, kind=str) == []


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (failing, "check failed: KeyError: 'two'"),
        (leaving, "check failed: SystemExit: 1"),
        (lambda: "text", "check returned 'text'; it must return or yield objects of the class str"),
        (lambda: 7, "check returned 7; it must return or yield objects of the class str"),
        (lambda: ["a", None], "check gave None, which is not of the class str"),
    ],
)
def test_anything_else_is_an_error_of_the_plugin(function: Any, problem: str) -> None:
    with pytest.raises(PluginError) as error:
        guarded_list("check", function, kind=str)
    assert str(error.value).startswith(problem)


def test_an_error_of_tutelage_is_raised_unchanged_and_true_is_no_number() -> None:
    with pytest.raises(InputError, match=r"^not this file$"):
        guarded_list("check", refusing, kind=str)
    with pytest.raises(PluginError, match="gave True, which is not of the class int"):
        guarded_list("check", lambda: [True], kind=int)
