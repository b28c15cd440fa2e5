"""Characters that would not be seen are shown as code points."""

from __future__ import annotations

import pytest

from tutelage.report.hidden import visible


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x7f", "\u202e", "\u2066", "\u200b", "\ufeff", "\ud800", "\r"])
def test_a_hidden_character_becomes_its_code_point(character: str) -> None:
    assert visible(f"a{character}b") == f"a[U+{ord(character):04X}]b"


def test_other_text_is_unchanged() -> None:
    text = "line\n\ttab <b> äöü 漢字 مرحبا \U0001f600"
    assert visible(text) == text
