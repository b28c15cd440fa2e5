"""YAML that loses a key or holds a value that fails later is refused, with its line."""

from typing import Any

import pytest

from tutelage.files.yaml_text import NotYaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 5e-5", {"a": 5e-5}),
        ("\ufeffa: 1", {"a": 1}),
        ("base: &b {x: 1, y: 2}\nmine: {<<: *b, x: 3}", {"base": {"x": 1, "y": 2}, "mine": {"x": 3, "y": 2}}),
        ("a: {b: 1}\nc: {b: 1}", {"a": {"b": 1}, "c": {"b": 1}}),
        ('a: "\U0001f600"', {"a": "\U0001f600"}),
        ("1: a\n'1': b", {1: "a", "1": "b"}),
        ("", None),
    ],
)
def test_yaml_is_read(text: str, value: Any) -> None:
    assert read_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is given twice, first in line 1"),
        ("a:\n  b: {c: 1, c: 2}\n", "line 2: the key 'c' is given twice, first in line 2"),
        ("a: 1\n'a': 2\n", "line 2: the key 'a' is given twice, first in line 1"),
        ("- {1: a, 1: b}\n", "line 1: the key '1' is given twice"),
        ("base: &b {x: 1}\nmine: {<<: *b, x: 3, x: 4}\n", "line 2: the key 'x' is given twice"),
        ("a: 1\nb: .nan\n", "line 2: .nan is not a finite number"),
        ("a: [-.inf]\n", "line 1: -.inf is not a finite number"),
        ("a: 1e999\n", "line 1: 1e999 is not a finite number"),
        ("a: 1" + "0" * 400 + "\n", r"line 1: 10+ is not a finite number"),
        ("\na: " + "9" * 5000 + "\n", "line 2: not a value of its type"),
        ("a: 2024-13-01\n", "line 1: not a value of its type"),
        ('a: "\\ud83d"\n', "line 1: half of a surrogate pair, which is not a character"),
        ('b: 1\n"\\ude00": 1\n', "line 2: half of a surrogate pair"),
        ("a:\n " + "[" * 500, "line 2: nested deeper than 100 levels"),
        ("a:\n" + "- " * 5000 + "1", "line 2: nested deeper than 100 levels"),
        ("a: &a [1, *a]\n", "line 1: a list or mapping that contains itself"),
        ("a: [\n", r"line 2: not YAML \(while parsing a flow node, "),
        ("a: 1\nb: \x00\n", r"line 2: not YAML \(the character #x0000 is not allowed\)"),
        ("a: !!python/object:os.system 1\n", r"line 1: not YAML \(could not determine a constructor"),
    ],
)
def test_a_value_that_is_lost_or_fails_later_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(NotYaml, match=message):
        read_yaml(text)
