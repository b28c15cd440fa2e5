"""Model output cannot control the terminal, and tables are aligned."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.cli.output import Table, plain, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\nof two lines", "plain\ttext\nof two lines"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[Hcleared", "cleared"),
        ("\x9b31mred by one byte", "red by one byte"),
        ("\x1b]0;a new title\x07text", "text"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;clipboard without an end", ""),
        ("\x1bPdevice control\x1b\\after", "after"),
        ("over\rwritten\b\b\b and a bell\a", "overwritten and a bell"),
        ("\x1bc reset", " reset"),
        ("ends with escape \x1b", "ends with escape "),
        ("\u202eesrever\u202c \u2066isolated\u2069", "esrever isolated"),
        ("half a pair \ud83d", "half a pair "),
        ("[bold]no markup[/bold]", "[bold]no markup[/bold]"),
        ("日本語 \U0001f469\u200d\U0001f52c é", "日本語 \U0001f469\u200d\U0001f52c é"),
    ],
)
def test_printable_removes_escape_sequences_and_control_characters(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\x1b\x9b\x9d[];?m\x07\\c0"))))
def test_no_control_is_left_whatever_the_text_was(text: str) -> None:
    shown = printable(text)
    assert not [letter for letter in shown if unicodedata.category(letter) == "Cc" and letter not in "\n\t"]
    assert printable(shown) == shown


def test_a_plain_table_aligns_figures_to_the_right() -> None:
    table = Table(("model", "score"), [("M1", "3.35"), ("M2/self-reward", "13.77")], "Scores")
    assert plain(table).splitlines() == [
        "Scores",
        "model           score",
        "--------------  -----",
        "M1               3.35",
        "M2/self-reward  13.77",
    ]


def test_a_cell_cannot_break_a_plain_table() -> None:
    table = Table(("id", "text"), [("1", "two\nlines\x1b[2J")], left=frozenset({"text"}))
    assert plain(table).splitlines()[-1] == "1   two lines"


def test_nothing_in_a_table_on_a_terminal_is_markup(capfd: pytest.CaptureFixture[str]) -> None:
    from tutelage.cli.output import _print_rich

    _print_rich(Table(("[red]id[/red]",), [("[link=http://evil]x[/link]\x1b[2J",)], "[b]title[/b]"))
    shown = capfd.readouterr().out
    assert "[red]id[/red]" in shown
    assert "[link=http://evil]x[/link]" in shown
    assert "[b]title[/b]" in shown
    assert "\x1b[2J" not in shown
