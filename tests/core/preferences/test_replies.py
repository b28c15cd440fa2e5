"""One rule from a reply to a judgement or a verdict, whoever gave the reply.

It keeps away an incident: a judgement that was cut before its score was UNPARSED from the local student and CUT from a
service, so two judges of one quality had two coverages.
"""

from __future__ import annotations

import pytest

from tutelage.preferences.judging import ADDITIVE_RUBRIC, PAIRWISE_RUBRIC
from tutelage.preferences.replies import judgement_from_reply, verdict_from_reply
from tutelage.preferences.thinking import CUT_BLOCK, ONLY_BLOCK
from tutelage.records import Outcome, Rubric
from tutelage.services.requests import Reply

CUT = "reached the limit of 5 new tokens"


@pytest.mark.parametrize(
    ("reply", "score", "outcome", "detail"),
    [
        (Reply("score: 4\nGood."), 4.0, Outcome.ANSWERED, ""),
        (Reply("score: 4\nGo", Outcome.CUT, CUT), 4.0, Outcome.ANSWERED, ""),
        (Reply("It is a good", Outcome.CUT, CUT), None, Outcome.UNPARSED, f"the reply states no score; {CUT}"),
        (Reply("It is a good answer."), None, Outcome.UNPARSED, "the reply states no score"),
        (Reply("<think>score: 2?</think>score: 4"), 4.0, Outcome.ANSWERED, ""),
        (Reply("<think>score: 2", Outcome.CUT, CUT), None, Outcome.UNPARSED, f"{CUT_BLOCK}; {CUT}"),
        (Reply("<think>score: 2</think>"), None, Outcome.UNPARSED, ONLY_BLOCK),
        (Reply("", Outcome.REFUSED, "blocked"), None, Outcome.REFUSED, "blocked"),
        (Reply("", Outcome.FAILED, "no connection"), None, Outcome.FAILED, "no connection"),
    ],
)
def test_a_judgement_has_the_score_that_its_reply_states(
    reply: Reply, score: float | None, outcome: Outcome, detail: str
) -> None:
    judgement = judgement_from_reply("item", 1, reply, ADDITIVE_RUBRIC)
    assert (judgement.item_id, judgement.sample, judgement.raw) == ("item", 1, reply.text)
    assert (judgement.score, judgement.outcome, judgement.detail) == (score, outcome, detail)


@pytest.mark.parametrize(
    ("reply", "preference", "outcome"),
    [
        (Reply("better: second"), 0.0, Outcome.ANSWERED),
        (Reply("better: tie\nBo", Outcome.CUT, CUT), 0.5, Outcome.ANSWERED),
        (Reply("I thi", Outcome.CUT, CUT), None, Outcome.UNPARSED),
        (Reply("", Outcome.REFUSED, "blocked"), None, Outcome.REFUSED),
    ],
)
def test_a_verdict_has_the_preference_that_its_reply_states(
    reply: Reply, preference: float | None, outcome: Outcome
) -> None:
    verdict = verdict_from_reply("c", reply, PAIRWISE_RUBRIC)
    assert (verdict.comparison_id, verdict.preference, verdict.outcome) == ("c", preference, outcome)


def test_a_reply_that_ends_within_its_thoughts_has_no_verdict_and_says_why() -> None:
    rubric = Rubric("letters", "{prompt} {first} {second}", 0.0, 1.0, tokens=("m", "M"))
    for needed in (rubric, PAIRWISE_RUBRIC):
        verdict = verdict_from_reply("c", Reply("<think>M", Outcome.CUT, CUT), needed, (), True)
        assert (verdict.preference, verdict.outcome) == (None, Outcome.UNPARSED)
        assert verdict.detail == f"{CUT_BLOCK}; {CUT}"


def test_a_stated_verdict_is_weighted_by_its_alternatives() -> None:
    verdict = verdict_from_reply("c", Reply("better: first"), PAIRWISE_RUBRIC, [["first", -0.1], ["second", -2.3]])
    assert verdict.preference is not None and 0.85 < verdict.preference < 0.95
    assert verdict.raw == "better: first"
