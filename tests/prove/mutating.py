"""Make mutants of a module: copies of its source with one small change each, as a mistake would make it.

Text is not changed: docstrings, messages (f-strings and the arguments of ``raise``), annotations and decorators.
"""

import ast
import copy
from collections.abc import Iterator
from typing import Any

from attrs import evolve, frozen

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
NOT_CHANGED = (ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal)


@frozen
class Mutant:
    file: str
    function: str
    line: int
    change: str
    after: str
    start: int
    end: int
    number: int = 1
    """Which of the equal changes in the same function this is."""

    @property
    def key(self) -> str:
        """The name of the mutant, which does not depend on the code of other functions."""
        number = f" ({self.number})" if self.number > 1 else ""
        return f"{self.file}: {self.function}: {self.change}{number}"

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.after.encode() + source[self.end :]


def mutants_of(file: str, source: bytes) -> list[Mutant]:
    """Return every mutant of a module; their keys are unique."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: dict[str, list[Mutant]] = {}
    for function, node, changed in _changes(ast.parse(source), ()):
        after = "pass" if changed is None else ast.unparse(changed)
        if isinstance(node, ast.BinOp | ast.BoolOp | ast.Compare | ast.UnaryOp | ast.IfExp):
            after = f"({after})"
        start, end = (starts[row - 1] + column for row, column in _span(node))
        change = _described(node, changed, source.splitlines()[node.lineno - 1].decode().strip())
        mutant = Mutant(file, ".".join(function) or "module", node.lineno, change, after, start, end)
        equal = found.setdefault(mutant.key, [])
        equal.append(evolve(mutant, number=len(equal) + 1))
    return [mutant for equal in found.values() for mutant in equal]


def _described(node: Any, changed: Any, line: str) -> str:
    """A change in words: short for calls, and with the line for what says little alone."""
    if isinstance(node, ast.Call) and len(changed.keywords) < len(node.keywords):
        dropped = next(keyword for keyword in node.keywords if keyword not in changed.keywords)
        return f"{ast.unparse(node.func)}(..., {ast.unparse(dropped)}) -> {ast.unparse(node.func)}(...)"
    if changed is None:
        return f"{line} -> removed"
    inside = f" in {line}" if isinstance(node, ast.Constant | ast.UnaryOp | ast.Break | ast.Continue) else ""
    return f"{ast.unparse(node)} -> {ast.unparse(changed)}{inside}"


def _span(node: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _changes(node: ast.AST, function: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, ast.AST | None]]:
    """Yield the function, the node and its replacement (None: removed) of each change in a node and below it."""
    if isinstance(node, NOT_CHANGED) or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
        return
    if isinstance(node, ast.Call) and ast.unparse(node.func) in {"TypeVar", "cast"}:
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        function = (*function, node.name)
    for changed in _replacements(node):
        yield function, node, changed
    hidden = {"annotation", "returns", "decorator_list", "exc", "bases"}
    if isinstance(node, ast.AnnAssign) and "TypeAlias" in ast.unparse(node.annotation):
        hidden.add("value")
    for name, value in ast.iter_fields(node):
        if name not in hidden:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _changes(child, function)


def _replacements(node: Any) -> Iterator[ast.AST | None]:
    match node:
        case ast.Compare(ops=[operator]):
            yield _with(node, ops=[COMPARISONS[type(operator)]()])
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator) if type(operator) in ARITHMETIC:
            yield _with(node, op=ARITHMETIC[type(operator)]())
        case ast.BoolOp(op=operator):
            yield _with(node, op=ast.Or() if isinstance(operator, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=(int() | float()) as number):
            yield ast.Constant(number + 1)
        case ast.Return(value=ast.expr()) if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            yield ast.Return(ast.Constant(None))
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()
        case ast.IfExp(test=ast.Name() | ast.Attribute() | ast.Call()):
            yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
        case ast.Call():
            if len(node.args) > 1 and not any(isinstance(one, ast.Starred) for one in node.args[:2]):
                swapped = _with(node, args=[node.args[1], node.args[0], *node.args[2:]])
                if ast.unparse(swapped) != ast.unparse(node):
                    yield swapped
            for keyword in node.keywords:
                if keyword.arg not in {None, "encoding", "newline"}:  # their effects show on other platforms only
                    yield _with(node, keywords=[other for other in node.keywords if other is not keyword])
    removed = isinstance(node, ast.Raise | ast.Delete | ast.AugAssign) or (
        (isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Assign) and not any(isinstance(one, ast.Name | ast.Tuple) for one in node.targets))
    )
    if removed:
        yield None


def _with(node: Any, **changes: Any) -> Any:
    changed = copy.copy(node)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed
