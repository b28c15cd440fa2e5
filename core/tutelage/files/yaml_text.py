"""YAML reader that accepts ``5e-5`` as a number, and refuses values that would be lost or fail later.

PyYAML, which follows YAML 1.1, reads ``5e-5`` as text. It keeps only the last value of a key that is given twice, and
accepts half of a surrogate pair, numbers that are not finite, and nesting that exceeds Python's recursion limit.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from tutelage.files.json_text import DEEPEST, HALF_PAIR

_MERGE = "tag:yaml.org,2002:merge"


class NotYaml(yaml.YAMLError):
    """A text is refused; the message begins with the line: ``line 3: the key 'dpo' is given twice``."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, extended by numbers with an exponent and by the checks of this module."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self._depth == DEEPEST:
            raise _problem(f"nested deeper than {DEEPEST} levels", mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(node, yaml.CollectionNode) and node.end_mark is None:  # an alias inside its own anchor
            raise _problem("a list or mapping that contains itself", mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        marks: dict[tuple[str, Any], yaml.Mark] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                first = marks.setdefault((key.tag, key.value), key.start_mark)
                if first is not key.start_mark:
                    raise _problem(
                        f"the key {key.value!r} is given twice, first in line {first.line + 1}", key.start_mark
                    )
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except ValueError as error:  # a date of month 13, or an integer of 5,000 digits
            raise _problem(f"not a value of its type ({error})", node.start_mark) from error
        if isinstance(value, int | float) and not _is_finite(value):
            raise _problem(f"{node.value[:40]} is not a finite number", node.start_mark)
        if isinstance(value, str) and not _is_unicode(value):
            raise _problem(HALF_PAIR, node.start_mark)
        return value


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(text: str) -> Any:
    """Parse a YAML text, with a byte-order mark or without, into plain values.

    Raises ``NotYaml`` with the line if it is not YAML, if a key is given twice in one mapping, or if it holds half of a
    surrogate pair, a number that is not a finite float, or more than ``DEEPEST`` lists and mappings in each other.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = ord(text[error.position])
        raise NotYaml(f"line {line}: not YAML (the character #x{code:04x} is not allowed)") from error
    except _Refused as error:
        raise NotYaml(f"line {_line(error)}: {error.problem}") from error
    except yaml.MarkedYAMLError as error:
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise NotYaml(f"line {_line(error)}: not YAML ({reason})") from error


def _line(error: yaml.MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return 1 if mark is None else mark.line + 1


class _Refused(yaml.MarkedYAMLError):
    """YAML that is refused."""


def _problem(reason: str, mark: yaml.Mark) -> _Refused:
    return _Refused(problem=reason, problem_mark=mark)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
