from typing import Any

import pytest

from tutelage.errors import InputError
from tutelage.evaluation.agreement import Rating
from tutelage.evaluation.published import published_ratings


def test_each_answer_is_a_rating_and_minus_one_is_no_score() -> None:
    row = {"prompt_id": "p", "prompt": "...", "completion": {"1": {"score": -1}, "0": {"score": 4, "content": "x"}}}
    assert published_ratings([(1, row)], "scores.jsonl") == [Rating("p/0", "p", 4.0), Rating("p/1", "p", None)]


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"prompt_id": 3, "completion": {}},
        {"prompt_id": "p", "completion": ["x"]},
        {"prompt_id": "p", "completion": {"0": "x"}},
        {"prompt_id": "p", "completion": {"0": {}}},
        {"prompt_id": "p", "completion": {"0": {"score": "4"}}},
        {"prompt_id": "p", "completion": {"0": {"score": True}}},
    ],
)
def test_a_row_of_another_form_is_an_error_with_its_line(row: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"scores\.jsonl, line 7"):
        published_ratings([(7, row)], "scores.jsonl")
