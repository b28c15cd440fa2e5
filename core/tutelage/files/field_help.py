"""Help texts of the fields of an attrs class: the string literal below a field, as editors and Sphinx show it."""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache


@cache
def field_help(cls: type) -> dict[str, str]:
    """The help text of each documented field of a class, base classes included, with single spaces between words.

    A field is documented by a string literal directly below it. A class whose source is not available (defined in an
    interactive session, or in a frozen application) has no help texts.
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
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found
