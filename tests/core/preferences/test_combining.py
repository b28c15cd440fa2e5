"""One score from several: juries with abstentions, disputed answers, win rates."""

from __future__ import annotations

import pytest

from tutelage.pipeline_steps import Combination
from tutelage.preferences.combining import combine, comparisons_of, disputed, win_rates
from tutelage.records import Candidate, Judgement, Outcome, Prompt, Verdict


def judged(*scores: float | None, item: str = "p/0", outcome: Outcome = Outcome.UNPARSED) -> list[Judgement]:
    """The samples of one judge."""
    return [
        Judgement(item, number, score, Outcome.ANSWERED if score is not None else outcome)
        for number, score in enumerate(scores)
    ]


@pytest.mark.parametrize(
    ("how", "score"), [("mean", 2.75), ("median", 2.5), ("minimum", 1.0), ("majority", None), ("first", 5.0)]
)
def test_the_scores_of_a_jury_become_one(how: Combination, score: float | None) -> None:
    parts = {"a": judged(5.0), "b": judged(2.0, 3.0), "c": judged(2.5), "d": judged(1.0)}
    [found] = combine(parts, how).judgements
    assert (found.item_id, found.sample, found.score) == ("p/0", 0, score)
    assert found.reason == "a 5, b 2.5, c 2.5, d 1"
    assert found.outcome is (Outcome.ANSWERED if score is not None else Outcome.UNPARSED)


def test_a_majority_is_more_than_half_of_the_judges_with_a_score() -> None:
    found = combine({"a": judged(4.0), "b": judged(4.0), "c": judged(1.0), "d": judged(None)}, "majority")
    assert found.judgements[0].score == 4.0
    half = combine({"a": judged(4.0), "b": judged(1.0), "c": judged(None)}, "majority")
    assert (half.judgements[0].score, half.judgements[0].detail) == (None, "no majority")
    assert half.abstentions == {"c unparsed": 1, "no majority": 1}


def test_abstentions_are_counted_by_judge_and_outcome_and_the_others_decide() -> None:
    parts = {
        "a": [*judged(4.0), *judged(None, item="p/1", outcome=Outcome.REFUSED), *judged(None, item="p/2")],
        "b": [*judged(None, None), *judged(2.0, item="p/1"), *judged(None, item="p/2", outcome=Outcome.CUT)],
    }
    found = combine(parts, "mean")
    assert found.abstentions == {"a refused": 1, "a unparsed": 1, "b unparsed": 2}
    assert [(one.score, one.outcome) for one in found.judgements] == [
        (4.0, Outcome.ANSWERED),
        (2.0, Outcome.ANSWERED),
        (None, Outcome.UNPARSED),
    ]
    assert found.judgements[0].reason == "a 4, b unparsed"
    assert found.judgements[2].detail == "no judge gave a score: a unparsed, b unparsed"


def test_a_judge_that_was_not_asked_neither_votes_nor_abstains() -> None:
    found = combine({"second": judged(1.0), "own": [*judged(4.0), *judged(3.0, item="p/1")]}, "first")
    assert [one.score for one in found.judgements] == [1.0, 3.0]
    assert found.abstentions == {}


def test_answers_are_disputed_by_their_spread_or_a_missing_score() -> None:
    answers = [Candidate("p", index, f"text {index}") for index in range(5)]
    judgements = [
        *judged(4.0, 4.0),
        *judged(1.0, 5.0, item="p/1"),
        *judged(3.0, 4.0, item="p/2"),
        *judged(4.0, None, item="p/3"),  # p/4 was not judged
    ]
    assert [one.id for one in disputed(answers, judgements, 0.5, 1.0)] == ["p/1", "p/3"]
    assert [one.id for one in disputed(answers, judgements, 0.4, 1.0)] == ["p/1", "p/2", "p/3"]
    assert [one.id for one in disputed(answers, judgements, 0.4, 0.4)] == ["p/1", "p/3"]
    assert [one.id for one in disputed(answers, judgements, 0.4, 0.2)] == ["p/3"]
    assert disputed(answers, judgements, 0.4, 0.1) == []


PROMPT = Prompt("Say a letter.", metadata={"reference": "a"})
ANSWERS = [Candidate(PROMPT.id, index, text) for index, text in enumerate(["a", "b", "a ", "c"])]


def id_of(index: int) -> str:
    return f"{PROMPT.id}/{index}"


def test_every_two_different_texts_are_compared_in_both_orders() -> None:
    others = [Candidate(PROMPT.id, 4, "", Outcome.FAILED), Candidate("unknown", 0, "d")]
    found = list(comparisons_of({PROMPT.id: PROMPT}, [*ANSWERS, *others]))
    assert [(one.first, one.second) for one in found] == [
        ("a", "b"), ("b", "a"), ("a", "c"), ("c", "a"), ("b", "c"), ("c", "b"),
    ]  # fmt: skip
    assert len({one.id for one in found}) == 6
    assert all(one.metadata == {"reference": "a"} for one in found)


def test_the_win_rate_is_the_mean_over_the_other_candidates_with_equal_texts_as_ties() -> None:
    comparisons = list(comparisons_of({PROMPT.id: PROMPT}, ANSWERS))
    better = {("a", "b"): 1.0, ("b", "a"): 0.0, ("a", "c"): 1.0, ("c", "a"): 1.0, ("b", "c"): 0.4, ("c", "b"): 0.8}
    verdicts = [Verdict(one.id, better[one.first, one.second]) for one in comparisons]
    found = {one.item_id: one.score for one in win_rates({PROMPT.id: PROMPT}, ANSWERS, verdicts)}
    a = (0.5 + 1.0 + 0.5) / 3  # the equal text, b, and c, whose two orders disagree
    b = (0.0 + 0.0 + 0.3) / 3
    c = (0.5 + 0.5 + 0.7) / 3
    assert found == pytest.approx({id_of(0): a, id_of(1): b, id_of(2): a, id_of(3): c})


def test_a_comparison_without_a_verdict_in_one_order_does_not_count() -> None:
    comparisons = list(comparisons_of({PROMPT.id: PROMPT}, ANSWERS[:2]))
    verdicts = [Verdict(comparisons[0].id, 1.0), Verdict(comparisons[1].id, None, Outcome.REFUSED)]
    found = win_rates({PROMPT.id: PROMPT}, ANSWERS[:2], verdicts)
    assert [(one.score, one.outcome) for one in found] == [(None, Outcome.UNPARSED)] * 2
    assert "no comparison with a verdict in both orders" in found[0].detail
