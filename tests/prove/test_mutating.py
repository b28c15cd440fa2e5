"""The mutants of a small module: one change each, none of its texts."""

import ast

from tests.prove.mutating import mutants_of

SOURCE = b'''
LIMIT = 3

def first(rows: list[int], key="k") -> int | None:
    """Return 1."""
    if not rows and key != "x":
        raise ValueError(f"no {1 + 1} rows")
    rows.sort(reverse=True)
    return min(rows[0] - 1, LIMIT)
'''
CHANGES = {
    "3 -> 4 in LIMIT = 3",
    "not rows and key != 'x' -> not rows or key != 'x'",
    'not rows -> rows in if not rows and key != "x":',
    "key != 'x' -> key == 'x'",
    'raise ValueError(f"no {1 + 1} rows") -> removed',
    "rows.sort(reverse=True) -> removed",
    "rows.sort(..., reverse=True) -> rows.sort(...)",
    "True -> False in rows.sort(reverse=True)",
    "return min(rows[0] - 1, LIMIT) -> return None",
    "min(rows[0] - 1, LIMIT) -> min(LIMIT, rows[0] - 1)",
    "rows[0] - 1 -> rows[0] + 1",
    "0 -> 1 in return min(rows[0] - 1, LIMIT)",
    "1 -> 2 in return min(rows[0] - 1, LIMIT)",
}


def test_each_mutant_is_one_change_of_the_code_and_none_of_its_texts() -> None:
    mutants = mutants_of("m.py", SOURCE)
    assert {mutant.change for mutant in mutants} == CHANGES
    assert len({mutant.key for mutant in mutants}) == len(mutants) == len(CHANGES)
    before = ast.dump(ast.parse(SOURCE))
    for mutant in mutants:
        assert ast.dump(ast.parse(mutant.apply(SOURCE))) != before, mutant.key


def test_equal_changes_in_a_function_have_names_of_their_own() -> None:
    source = b"def f():\n    return g(1) + h(1)\n"
    names = [mutant.key for mutant in mutants_of("m.py", source) if mutant.change.startswith("1 ->")]
    assert names == [
        "m.py: f: 1 -> 2 in return g(1) + h(1)",
        "m.py: f: 1 -> 2 in return g(1) + h(1) (2)",
    ]
