"""The sections of ``docs/reference/python.md``: every public class and function, from the code."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import attrs
from markdown_text import markdown, rst_to_markdown

import tutelage
from tutelage import testing
from tutelage.files.field_help import field_help

INTRODUCTION = """
Every name is imported from `tutelage`, as in `from tutelage import Preference`; a heading with a dot names another
module of `tutelage`. A default `...` is made when it is used, or too long to show. In Python,
`help(tutelage.Preference)` shows the same documentation. The functions that a plugin implements are described in
[hooks](hooks.md), and the keys of a recipe in [recipe keys](recipe.md).
"""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Records": ("records", "examples"),
    "Plugins": ("hookspecs", "plugin_info", "context", "plugins"),
    "Pipelines": ("pipeline", "pipeline_steps"),
    "Objectives": ("objectives",),
    "Judging and pairing": ("preferences",),
    "Recipes and plans": ("recipe", "planning"),
    "Runs": ("execution", "runs"),
    "Results": ("results", "evaluation"),
    "Files": ("files",),
    "Services": ("services",),
    "Errors": ("errors",),
}
"""The modules and packages of core by the heading of their names. The names of all others are below ``OTHERS``."""
OTHERS = "Others"
PARTS = {
    "context": ("Tracking",),
    "preferences.pairing": ("Group", "ScoredAnswer"),
    "evaluation.health": ("TrainingHealth",),
    "results.summary": ("Evaluator", "StepResult"),
    "runs.status": ("StepStatus", "CurrentStep"),
}
"""Classes that arguments and fields of the public ones have. They are imported from their modules."""
LONGEST_DEFAULT = 40
WIDTH = 100


def sections() -> Iterator[str]:
    """Yield the introduction, and each group with its names."""
    yield INTRODUCTION.strip()
    for heading, names in groups().items():
        yield f"## {heading}"
        for name, value in names.items():
            yield from described(name, value)
    yield "## Test kit\n\nThe names of `tutelage.testing`."
    for name in testing.__all__:
        yield from described(f"testing.{name}", getattr(testing, name))


def groups() -> dict[str, dict[str, Any]]:
    """Return the public names of each group with their values, the names of a module together."""
    found: dict[str, dict[str, Any]] = {heading: {} for heading in (*GROUPS, OTHERS)}
    order = [part for parts in GROUPS.values() for part in parts]
    room = {module: module.partition(".")[0] for module in tutelage._MODULES}
    for module in sorted(room, key=lambda module: order.index(room[module]) if room[module] in order else len(order)):
        names = tutelage._MODULES[module]
        heading = next((heading for heading, parts in GROUPS.items() if room[module] in parts), OTHERS)
        for name in sorted(names.split()):
            found[heading][name] = getattr(tutelage, name)
        for name in PARTS.get(module, ()):
            found[heading][f"{module}.{name}"] = getattr(import_module(f"tutelage.{module}"), name)
    return {heading: names for heading, names in found.items() if names}


def values() -> dict[str, Any]:
    """Return everything that the page describes, by the text of its heading."""
    kit = {f"testing.{name}": getattr(testing, name) for name in testing.__all__}
    return {name: value for names in (*groups().values(), kit) for name, value in names.items()}


def described(name: str, value: Any) -> Iterator[str]:
    yield f"### {name}"
    if isinstance(value, type):
        yield from of_class(value)
    elif isinstance(value, FunctionType):
        yield signature(f"def {value.__name__}", value)
        yield documentation(value)
    else:
        yield rst_to_markdown(constant_help(name))


def of_class(cls: type) -> Iterator[str]:
    bases = [base for base in cls.__mro__[1:] if base.__module__.startswith("tutelage")]
    inner = [base for base in bases if base.__module__.startswith("tutelage.") and not is_described(base)]
    if named := [base.__name__ for base in cls.__bases__ if base in bases and base not in inner]:
        yield f"Subclass of {', '.join(f'`{base}`' for base in named)}."
    yield rst_to_markdown(own_docstring(cls))
    if attrs.has(cls):
        yield signature(cls.__name__, cls)
    elif (init := vars(cls).get("__init__")) and init.__doc__:
        yield signature(cls.__name__, cls)
        yield documentation(init)
    if issubclass(cls, Enum):
        rows = [(f"`{member.name}`", f"`{member.value}`", field_help(cls)[member.name]) for member in cls]
        yield markdown(("member", "value", "meaning"), rows)
    elif attrs.has(cls):
        yield markdown(("field", "type", "default", "meaning"), field_rows(cls))
    elif "exit_code" in dir(cls):
        yield f"Exit code of the command line: {vars(cls)['exit_code']}."
    names = dict.fromkeys(name for part in (cls, *inner) for name in vars(part) if not name.startswith("_"))
    for name in names:
        yield from of_member(name, inspect.getattr_static(cls, name))


def is_described(cls: type) -> bool:
    """Return whether the page describes a class. The members of other bases are shown with the class itself."""
    return any(value is cls for value in values().values())


def of_member(name: str, member: Any) -> Iterator[str]:
    if isinstance(member, property | cached_property):
        function: Callable[..., Any] | None = member.fget if isinstance(member, property) else member.func
        yield f"**`{name}`** (property)\n\n{documentation(function)}"
    elif isinstance(member, classmethod | staticmethod | FunctionType):
        function = member if isinstance(member, FunctionType) else member.__func__
        kind = "" if isinstance(member, FunctionType) else f"@{type(member).__name__}\n"
        yield f"**`{name}`**\n\n{signature(f'{kind}def {name}', function)}\n\n{documentation(function)}"


def field_rows(cls: type) -> Iterator[tuple[str, str, str, str]]:
    annotations = {name: text for base in reversed(cls.__mro__) for name, text in raw_annotations(base).items()}
    for field in attrs.fields(cls):
        if field.init and not field.name.startswith("_"):
            default = "(required)" if field.default is attrs.NOTHING else f"`{default_text(field.default)}`"
            help = field_help(cls).get(field.name, "").replace("``", "`")
            yield f"`{field.name}`", f"`{annotations[field.name]}`", default, help


def raw_annotations(cls: type) -> dict[str, str]:
    """Return the annotations of a class as they are in its source: a class may have been resolved by attrs."""
    try:
        tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(cls)))
    except (OSError, TypeError):
        return {}
    [definition] = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    annotated = [node for node in definition.body if isinstance(node, ast.AnnAssign)]
    return {node.target.id: ast.unparse(node.annotation) for node in annotated if isinstance(node.target, ast.Name)}


def own_docstring(cls: type) -> str:
    """Return the docstring of a class as it is in its source, without the fields that ``help()`` adds."""
    return (inspect.getdoc(cls) or "").partition("\n\nFields:\n")[0]


@cache
def constants(module: str) -> dict[str, str]:
    """Return the help texts of the assignments at the top of a module: the string literal below each."""
    tree = ast.parse(Path(inspect.getfile(import_module(f"tutelage.{module}"))).read_text(encoding="utf-8"))
    found = {}
    for statement, following in zip(tree.body, tree.body[1:], strict=False):
        match statement, following:
            case (
                ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = inspect.cleandoc(text)
    return found


def constant_help(name: str) -> str:
    """Return the help text of a public constant. Raises ``KeyError`` if it has none."""
    if name.startswith("testing."):
        return constants("testing.subject")[name.removeprefix("testing.")]
    return constants(tutelage._PLACES[name].removeprefix("tutelage."))[name]


class Text(str):
    """A text whose representation is the text itself, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def signature(name: str, function: Callable[..., Any]) -> str:
    """Return a signature as code, on several lines if it is too long for one.

    That of an attrs class has no types, because the table of its fields has them.
    """
    found = inspect.signature(function)
    has_types = not attrs.has(function) if isinstance(function, type) else True
    parameters = [shown(one, has_types) for one in found.parameters.values()]
    result = found.empty if isinstance(function, type) else as_text(found.return_annotation)
    line = str(found.replace(parameters=parameters, return_annotation=result))
    if len(name.rpartition("\n")[2] + line) > WIDTH:
        names = [str(one) for one in parameters]
        kinds = [one.kind for one in parameters]
        if inspect.Parameter.KEYWORD_ONLY in kinds:
            names.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
        lines = names if has_types else textwrap.wrap(", ".join(names), WIDTH - 4)
        indented = "".join(f"    {one.removesuffix(',')},\n" for one in lines)
        line = f"(\n{indented}){'' if result is found.empty else f' -> {result}'}"
    return f"```python\n{name}{line}\n```"


def shown(parameter: inspect.Parameter, has_type: bool) -> inspect.Parameter:
    default = parameter.default
    return parameter.replace(
        annotation=as_text(parameter.annotation) if has_type else parameter.empty,
        default=default if default is parameter.empty else Text(default_text(default)),
    )


def as_text(annotation: Any) -> Any:
    return Text(annotation) if isinstance(annotation, str) else annotation


def documentation(documented: object) -> str:
    return rst_to_markdown(inspect.getdoc(documented) or "")


def default_text(default: Any) -> str:
    """Return a default as source text; ``...`` if it is long, a function, or made when it is used."""
    if default is attrs.NOTHING:
        return "..."
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return {dict: "{}", list: "[]", tuple: "()"}.get(default.factory, "...")
    if isinstance(default, Enum):
        return f"{type(default).__name__}.{default.name}"
    is_plain = default is None or isinstance(default, str | int | float | tuple)
    return repr(default) if is_plain and len(repr(default)) <= LONGEST_DEFAULT else "..."
