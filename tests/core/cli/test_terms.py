"""The text of a licence is shown without the markup of its page, and is accepted on a terminal or by an option."""

from __future__ import annotations

from pathlib import Path

import pytest
from prepared_world import TERMS

from tutelage.cli.terms import ask_to_accept, terms_text
from tutelage.errors import InputError


def test_of_a_page_the_text_of_the_article_is_shown(tmp_path: Path) -> None:
    (tmp_path / "TERMS.html").write_text(TERMS)
    assert terms_text(tmp_path / "TERMS.html") == "Terms\nCount & share, but kindly."


def test_a_plain_text_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("\nMay be used <as is>.\n\n  - by all\n")
    assert terms_text(tmp_path / "LICENSE") == "May be used <as is>.\n\n  - by all"


def test_without_a_terminal_nobody_is_taken_to_accept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "LICENSE").write_text("text")
    monkeypatch.setattr("sys.stdin", (tmp_path / "LICENSE").open())
    with pytest.raises(InputError, match=r"Some Licence .*--accept-license"):
        ask_to_accept("Some Licence", tmp_path / "LICENSE")
