"""Tables in a limited width: no figure is cut, and no line is broken within a word."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.cli.table_layout import cells, table_lines

WORDS = ["M2/self-reward", "against", "M1", "[+0.10,", "seed-0/M1/samples/candidates.jsonl", "a", "日本語"]
FIGURES = ["3.40 [3.21, 3.58]", "12,345", "-", "<0.001", "100.0 [99.9, 100.0]"]


def lines(rows: list[list[str]], left: list[bool], width: int | None) -> list[str]:
    return [line for line, _ in table_lines(rows, left, width)]


def test_a_table_that_fits_is_not_changed() -> None:
    rows = [["model", "score"], ["M2/self-reward", "3.40 [3.21, 3.58]"]]
    assert lines(rows, [True, False], 80) == lines(rows, [True, False], None) == [
        "model                       score",
        "--------------  -----------------",
        "M2/self-reward  3.40 [3.21, 3.58]",
    ]  # fmt: skip


def test_texts_and_headings_are_broken_at_spaces_and_figures_are_not() -> None:
    rows = [["models", "win rate % [95%]"], ["M2/random-pairs against M1", "50.0 [16.7, 83.3]"]]
    assert lines(rows, [True, False], 34) == [
        "models            win rate % [95%]",
        "---------------  -----------------",
        "M2/random-pairs  50.0 [16.7, 83.3]",
        "against M1",
    ]


def test_a_table_that_is_too_wide_is_divided_and_each_block_has_the_first_column() -> None:
    rows = [["model", "gold", "words", "n"], ["M2/self-reward", "3.40 [3.21, 3.58]", "12.1 [11.9, 12.3]", "200"]]
    assert lines(rows, [True, False, False, False], 40) == [
        "model                        gold",
        "--------------  -----------------",
        "M2/self-reward  3.40 [3.21, 3.58]",
        "",
        "model                       words    n",
        "--------------  -----------------  ---",
        "M2/self-reward  12.1 [11.9, 12.3]  200",
    ]


@pytest.mark.parametrize("width", [40, 80, 100, 160])
@given(st.data())
def test_every_figure_and_every_word_is_whole_at_every_width(width: int, data: st.DataObject) -> None:
    left = [True, *data.draw(st.lists(st.booleans(), min_size=1, max_size=7))]
    texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
    heading = [data.draw(texts) for _ in left]
    row = [data.draw(texts if is_left else st.sampled_from(FIGURES)) for is_left in left]
    shown = lines([heading, row], left, width)
    text = "\n".join(shown)
    for cell, is_left in zip(row, left, strict=True):
        for part in cell.split() if is_left else [cell]:
            assert re.search(rf"(^|\s){re.escape(part)}($|\s)", text, re.MULTILINE), part
    longest = max(cells(word) for word in WORDS) + 2 + max(map(len, [*WORDS, *FIGURES]))
    assert max(map(cells, shown)) <= max(width, longest)


def test_paths_are_below_their_rows_if_the_table_is_too_wide() -> None:
    rows = [
        ["step", "items", "output"],
        ["generate M1", "2,048 answers", "seed-0/M1/samples/candidates.jsonl"],
        ["pair", "308 pairs (204 same text)", "seed-0/teacher-reward/M2/preferences.jsonl"],
    ]
    found = [line for line, _ in table_lines(rows, [True, True, True], 40, below=2)]
    assert found == [
        "step         items",
        "    output",
        "-----------  -------------------------",
        "generate M1  2,048 answers",
        "    seed-0/M1/samples/candidates.jsonl",
        "pair         308 pairs (204 same text)",
        "    seed-0/teacher-reward/M2/",
        "    preferences.jsonl",
    ]
    assert [line for line, _ in table_lines(rows, [True, True, True], 90, below=2)] == lines(rows, [True] * 3, None)
