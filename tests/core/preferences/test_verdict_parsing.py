"""The verdict that an evaluator's reply states, or the reason why it states none."""

from __future__ import annotations

import pytest

from tutelage.preferences.verdict_parsing import parse_preference


@pytest.mark.parametrize(
    ("text", "preference"),
    [
        ("better: first", 1.0),
        ("**Better:** second\nIt is shorter.", 0.0),
        ("Better = TIE", 0.5),
        ("better: first better: first", 1.0),
        ("better: first better: second", None),
        ("The first one.", None),
        ("better: firstly", None),
        ("", None),
    ],
)
def test_a_verdict_is_read_or_it_is_none(text: str, preference: float | None) -> None:
    parsed = parse_preference(text)
    assert parsed.preference == preference
    assert (preference is None) == bool(parsed.detail)
