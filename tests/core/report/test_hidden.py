"""Characters that would not be seen are shown as code points."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tutelage.report
from tutelage.report.hidden import HIDDEN, visible


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x7f", "\u202e", "\u2066", "\u200b", "\ufeff", "\ud800", "\r"])
def test_a_hidden_character_becomes_its_code_point(character: str) -> None:
    assert visible(f"a{character}b") == f"a[U+{ord(character):04X}]b"


def test_other_text_is_unchanged() -> None:
    text = "line\n\ttab <b> äöü 漢字 مرحبا \U0001f600"
    assert visible(text) == text


def test_the_script_of_the_page_marks_the_same_characters() -> None:
    script = (Path(tutelage.report.__file__).parent / "reader.js").read_text(encoding="utf-8")
    [characters] = re.findall(r"const HIDDEN =\s+/(\[.+\])/gu;", script)
    assert re.sub(r"\\u([0-9a-f]{4})", lambda code: chr(int(code[1], 16)), characters) == HIDDEN.pattern
