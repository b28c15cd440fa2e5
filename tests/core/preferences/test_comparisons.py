"""Equal answers are a tie, for which no evaluator is called."""

from __future__ import annotations

from tutelage.preferences.comparisons import split_equal
from tutelage.records import Comparison, Outcome, Verdict


def test_equal_answers_are_ties_and_the_others_are_asked() -> None:
    same = Comparison("same", "a prompt", "an answer", " an answer\n")
    other = Comparison("other", "a prompt", "an answer", "an Answer")
    asked, ties = split_equal([same, other])
    assert asked == [other]
    assert ties == [Verdict("same", 0.5, Outcome.ANSWERED, detail="equal answers, not asked")]
