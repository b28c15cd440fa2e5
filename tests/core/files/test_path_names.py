"""The names that can be a part of the paths in a run."""

from __future__ import annotations

import pytest

from tutelage.files.path_names import is_path_name


@pytest.mark.parametrize("name", ["m", "length-controlled", "2-judges", "a1-b2-c3"])
def test_small_letters_digits_and_single_hyphens_are_a_name(name: str) -> None:
    assert is_path_name(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "a--b", "A", "a_b", "a/b", "..", "a.b", "a b", "\u00e9", "a\n"])
def test_anything_else_is_not_a_name(name: str) -> None:
    assert not is_path_name(name)
