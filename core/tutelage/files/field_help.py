"""Help texts of the fields of a class: the string literal below a field, as editors and Sphinx show it."""

from __future__ import annotations

import ast
import inspect
import textwrap
from enum import EnumType
from functools import cache


@cache
def field_help(cls: type) -> dict[str, str]:
    """The help text of each documented field of a class, base classes included, with single spaces between words.

    A field, or a member of an enum, is documented by a string literal directly below it. A class whose source is not
    available (defined in an interactive session, or in a frozen application) has no help texts.
    """
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        found |= _own_field_help(base)
    return found


def _own_field_help(cls: type) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError, SyntaxError):
        return {}
    if not isinstance(tree, ast.ClassDef):
        return {}
    found: dict[str, str] = {}
    for statement, following in zip(tree.body, tree.body[1:], strict=False):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
    return found


def show_field_help(cls: type) -> None:
    """Add the help texts of the fields of a class to its docstring, so that ``help()`` shows them.

    The source is read when the docstring is used. Without the source, the docstring is unchanged.
    """
    own = vars(cls).get("__doc__")
    if isinstance(own, str):
        lazy = _DocstringWithFields(own)
        is_enum = isinstance(cls, EnumType)  # pydoc reads the docstring of an enum without calling a descriptor
        cls.__doc__ = lazy.__get__(None, cls) if is_enum else lazy  # type: ignore[assignment]


class _DocstringWithFields:
    def __init__(self, own: str) -> None:
        self._own = inspect.cleandoc(own)

    def __get__(self, instance: object, owner: type) -> str:
        lines = [_entry(name, text) for name, text in field_help(owner).items()]
        return "\n\n".join([self._own, *(["\n".join(["Fields:", *lines])] if lines else [])])


def _entry(name: str, text: str) -> str:
    return textwrap.fill(f"{name}: {text}", 100, initial_indent="    ", subsequent_indent=" " * 8)
