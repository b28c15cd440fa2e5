import json
from pathlib import Path
from typing import Any

import pytest

from tutelage.data.sets import Sets, load_examples, load_prompts, load_rated, load_seed_prompts
from tutelage.errors import InputError
from tutelage.plugin_info import NamedSet
from tutelage.preferences.judging import ADDITIVE_RUBRIC
from tutelage.records import RatedExample, Rubric

NOTHING = Sets(lambda name: None, lambda name: None, lambda name: None)


def file_of(tmp_path: Path, rows: list[dict[str, Any]]) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_file_of_prompts_is_drawn_by_seed_and_never_gives_one_twice(tmp_path: Path) -> None:
    path = file_of(tmp_path, [{"prompt": f"task {n}"} for n in range(20)] + [{"prompt": "task 3"}])
    first = load_prompts(NOTHING, path, 20, seed=1)
    assert sorted(first) == sorted(f"task {n}" for n in range(20))
    assert first == load_prompts(NOTHING, path, 20, seed=1) != load_prompts(NOTHING, path, 20, seed=2)


def test_too_few_rows_are_an_error_and_not_a_smaller_run(tmp_path: Path) -> None:
    path = file_of(tmp_path, [{"prompt": "a"}, {"prompt": "b"}])
    with pytest.raises(InputError, match="3 different rows are needed, but there are only 2; lower the count"):
        load_prompts(NOTHING, path, 3, seed=0)


def test_a_row_that_lacks_something_is_named_by_line(tmp_path: Path) -> None:
    path = file_of(tmp_path, [{"prompt": "a", "answer": "b"}, {"prompt": "c"}])
    with pytest.raises(InputError, match="line 2: `answer` must be a text that is not empty"):
        load_examples(NOTHING, path, None, seed=0)


def test_a_score_that_is_no_number_is_named_by_line(tmp_path: Path) -> None:
    path = file_of(tmp_path, [{"prompt": "a", "answer": "b", "score": "4"}])
    with pytest.raises(InputError, match="line 1: `score` must be a number"):
        load_rated(NOTHING, path, None, seed=0)


@pytest.mark.parametrize("score", [-1, 5.5, 9])
def test_a_score_outside_the_scale_of_the_rubric_is_named_by_line(tmp_path: Path, score: float) -> None:
    rows = [{"prompt": "a", "answer": "b", "score": each} for each in (0, 5, score)]
    path = file_of(tmp_path, rows)
    assert len(load_rated(NOTHING, path, 1, seed=0)) == 1
    message = rf"line 3: the score {score:g} is outside the scale 0-5 of the rubric 'additive'; "
    with pytest.raises(InputError, match=message):
        load_rated(NOTHING, path, 1, 0, ADDITIVE_RUBRIC)


def test_a_score_of_a_plugins_set_is_compared_with_the_scale_of_the_rubric() -> None:
    examples = NamedSet(lambda count, seed: [RatedExample("a", "b", float(n)) for n in range(count)])
    sets = Sets(lambda name: None, lambda name: None, lambda name: examples)
    rubric = Rubric("tenths", lowest=1.0, highest=10.0)
    with pytest.raises(InputError, match=r"a/b, example 1: the score 0 is outside the scale 1-10.*--to-scale 1-10"):
        load_rated(sets, "a/b", 3, 0, rubric)


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty"):
        load_prompts(NOTHING, file_of(tmp_path, []), None, seed=0)


def test_a_plugins_set_is_asked_for_the_count_and_the_seed() -> None:
    asked = []

    def load(count: int, seed: int) -> list[str]:
        asked.append((count, seed))
        return [f"task {n}" for n in range(count)]

    sets = Sets(lambda name: NamedSet(load) if name == "a/b" else None, lambda name: None, lambda name: None)
    assert load_prompts(sets, "a/b", 3, seed=7) == ["task 0", "task 1", "task 2"]
    assert asked == [(3, 7)]


def test_a_set_without_an_end_is_never_asked_for_all_of_it() -> None:
    endless = NamedSet(lambda count, seed: [f"task {n}" for n in range(count)])
    sets = Sets(lambda name: endless, lambda name: None, lambda name: None)
    with pytest.raises(InputError, match="the size of this set is not known; set `count`"):
        load_prompts(sets, "a/b", None, seed=0)
    assert load_seed_prompts(sets, "a/b", 3, seed=0) == ["task 0", "task 1", "task 2"]


def test_seed_prompts_are_all_there_are_or_as_many_as_are_wanted(tmp_path: Path) -> None:
    path = file_of(tmp_path, [{"prompt": f"task {n % 5}"} for n in range(20)])
    assert len(load_seed_prompts(NOTHING, path, 100, seed=0)) == 5
    assert len(load_seed_prompts(NOTHING, path, 3, seed=0)) == 3
