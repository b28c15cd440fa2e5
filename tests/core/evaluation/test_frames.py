import pytest

from tutelage.errors import InputError
from tutelage.evaluation.agreement import Rating, agreement
from tutelage.evaluation.alpaca_eval import Annotation, win_rates
from tutelage.evaluation.contests import Contest
from tutelage.evaluation.frames import frame_of, records_of
from tutelage.evaluation.head_to_head import head_to_head
from tutelage.evaluation.significance import Observation, compare_all
from tutelage.records import Verdict

pandas = pytest.importorskip("pandas", reason="needs pandas")


def test_ratings_come_from_a_frame_and_a_missing_score_is_none() -> None:
    frame = pandas.DataFrame({"id": ["p/0", "p/1"], "prompt_id": ["p", "p"], "score": [4.0, None]})
    assert records_of(frame, Rating) == [Rating("p/0", "p", 4.0), Rating("p/1", "p", None)]
    assert agreement(records_of(frame, Rating), records_of(frame, Rating)).items == 1


def test_records_survive_the_way_through_a_frame() -> None:
    records = [Annotation("x", "a", "b", 1.25), Annotation("y", "a", "b", None)]
    assert records_of(frame_of(records), Annotation) == records
    assert win_rates(records_of(frame_of(records), Annotation)) == win_rates(records)


def test_metrics_become_columns() -> None:
    contests = [Contest("1", "p", "a", "b", 1, 2), Contest("2", "p", "b", "a", 2, 1)]
    made = head_to_head(contests, [Verdict("1", 1.0), Verdict("2", 0.0)])
    frame = frame_of(made.pairs)
    assert frame.loc[0, ["left", "wins", "win_rate", "win_rate_n"]].tolist() == ["a", 1, 1.0, 1]
    models = {"a": [Observation("p", 1.0), Observation("q", 2.0)], "b": [Observation("p", 0.0), Observation("q", 2.0)]}
    frame = frame_of(compare_all(models))
    assert frame.loc[0, "separation_difference"] == 0.5
    assert "separation_difference_low" in frame.columns


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a"], "score": [1.0]}, "wrong or missing: prompt_id"),
        ({"id": ["a"], "prompt_id": ["p"], "score": [1.0], "scor": [1]}, "wrong or missing: scor"),
        ({"id": [None], "prompt_id": ["p"], "score": [1.0]}, "row 0: the value of id is missing; a Rating requires it"),
    ],
)
def test_a_frame_of_another_form_is_an_error(columns: dict[str, list[object]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        records_of(pandas.DataFrame(columns), Rating)


def test_the_error_of_a_frame_names_its_optional_columns() -> None:
    names = (
        "required are id, prompt_id, score; optional are seed, parsed, asked, text, words; wrong or missing: prompt_id"
    )
    with pytest.raises(InputError, match=names):
        records_of(pandas.DataFrame({"id": ["a"], "score": [1.0]}), Rating)
