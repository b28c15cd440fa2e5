"""The layout of tables in a limited width: no figure is cut, and no line is broken within a word."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import zip_longest

GAP = "  "
"""Space between two columns."""
_INDENT = "    "
"""Space before a path that is below its row."""


def table_lines(
    rows: Sequence[Sequence[str]], left: Sequence[bool], width: int | None = None, below: int | None = None
) -> Iterator[tuple[str, bool]]:
    """Yield the lines of a table, each with whether it belongs to the heading.

    The first row has the names of the columns. ``left`` has, for each column, whether it is left-aligned. A table
    that is wider than ``width`` columns of the terminal is made narrower in two ways: headings and left-aligned texts
    are broken at spaces; if this does not suffice, the table is divided into blocks below each other, which all have
    the first column. A cell with a word that is wider than the terminal stays whole.

    ``below`` is the index of a column of paths. In a table that is too wide, each path is on a line below its row
    instead; a path that is wider than the terminal is broken after a slash.
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(map(cells, column)) for column in columns]
    if below is not None and width is not None and _total(widths) > width:
        others = [[cell for number, cell in enumerate(row) if number != below] for row in rows]
        sides = [side for number, side in enumerate(left) if number != below]
        yield from _with_paths(others, sides, width, columns[below])
        return
    least = [_least_width(column, is_left) for column, is_left in zip(columns, left, strict=True)]
    for number, block in enumerate(_blocks(widths, least, width)):
        if number:
            yield "", False
        chosen = _narrowed([widths[index] for index in block], [least[index] for index in block], width)
        yield from _block_lines([[row[index] for index in block] for row in rows], [left[i] for i in block], chosen)


def _with_paths(
    rows: Sequence[Sequence[str]], left: Sequence[bool], width: int, paths: Sequence[str]
) -> Iterator[tuple[str, bool]]:
    """The lines of a table in one block, each row followed by its path."""
    columns = list(zip(*rows, strict=True))
    least = [_least_width(column, is_left) for column, is_left in zip(columns, left, strict=True)]
    widths = _narrowed([max(map(cells, column)) for column in columns], least, width)
    for number, (row, path) in enumerate(zip(rows, paths, strict=True)):
        yield from ((line, number == 0) for line in _row_lines(row, left, widths))
        yield from ((_INDENT + line, number == 0) for line in _broken_path(path, width - len(_INDENT)))
        if number == 0:
            yield GAP.join("-" * each for each in widths), True


def _broken_path(path: str, width: int) -> list[str]:
    lines = [""]
    for part in re.findall(r"[^/]*/|[^/]+", path):
        if lines[-1] and cells(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return lines


def cells(text: str) -> int:
    """Return the number of columns of a terminal that a text takes: two for wide letters such as Chinese ones."""
    return len(text) if text.isascii() else _cell_length()(text)


@cache
def _cell_length() -> Callable[[str], int]:
    from rich.cells import cell_len

    return cell_len


def _blocks(widths: Sequence[int], least: Sequence[int], width: int | None) -> list[list[int]]:
    """The indices of the columns of each block."""
    if width is None or _total(widths) <= width or _total(least) <= width:
        return [list(range(len(widths)))]
    blocks: list[list[int]] = [[0]]
    for index in range(1, len(widths)):
        if len(blocks[-1]) > 1 and _total([least[each] for each in [*blocks[-1], index]]) > width:
            blocks.append([0])
        blocks[-1].append(index)
    return blocks


def _narrowed(widths: list[int], least: list[int], width: int | None) -> list[int]:
    """The widths of the columns: as much is taken from the widest columns of text as the table is too wide."""
    found = list(widths)
    while width is not None and (excess := _total(found) - width) > 0:
        spare = [now - lowest for now, lowest in zip(found, least, strict=True)]
        widest = max(range(len(found)), key=lambda index: (spare[index] > 0, found[index]))
        if spare[widest] <= 0:
            break
        others = [found[index] for index in range(len(found)) if index != widest and spare[index] > 0]
        down_to = max([least[widest], *(other for other in others if other < found[widest])])
        found[widest] -= min(excess, max(1, found[widest] - down_to))
    return found


def _block_lines(
    rows: Sequence[Sequence[str]], left: Sequence[bool], widths: Sequence[int]
) -> Iterator[tuple[str, bool]]:
    for number, row in enumerate(rows):
        yield from ((line, number == 0) for line in _row_lines(row, left, widths))
        if number == 0:
            yield GAP.join("-" * width for width in widths), True


def _row_lines(row: Sequence[str], left: Sequence[bool], widths: Sequence[int]) -> Iterator[str]:
    parts = [_broken(cell, width) for cell, width in zip(row, widths, strict=True)]
    for line in zip_longest(*parts, fillvalue=""):
        aligned = [
            cell + " " * (width - cells(cell)) if is_left else " " * (width - cells(cell)) + cell
            for cell, is_left, width in zip(line, left, widths, strict=True)
        ]
        yield GAP.join(aligned).rstrip()


def _broken(cell: str, width: int) -> list[str]:
    """The text in lines of at most ``width`` columns. A text that fits is not changed."""
    if cells(cell) <= width:
        return [cell]
    lines = [""]
    for word in cell.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and cells(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _least_width(column: Sequence[str], is_left: bool) -> int:
    """The least width of a column. Figures, which are right-aligned, are not broken: an interval has a space."""
    heading, *body = column
    return max([_longest_word(heading), *map(_longest_word if is_left else cells, body)])


def _longest_word(text: str) -> int:
    return max(map(cells, text.split()), default=0)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)
