"""From the reply of a language model to a judgement or a verdict: one rule for services and local models.

A reply from which a score or a verdict can be read is ``ANSWERED``, even if it was cut after it. A reply that has text
but no readable score or verdict is ``UNPARSED``, also if it was cut before it. A reply without text keeps its outcome.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from tutelage.preferences.score_parsing import parse_score
from tutelage.preferences.thinking import split_thinking
from tutelage.preferences.token_weights import token_preference, weighted_preference
from tutelage.preferences.verdict_parsing import parse_preference
from tutelage.records import Judgement, Outcome, Rubric, Verdict


class ModelReply(Protocol):
    """A reply as a model or a service gave it; ``tutelage.Reply`` is one."""

    @property
    def text(self) -> str:
        """The reply without the question."""

    @property
    def outcome(self) -> Outcome:
        """``ANSWERED``, or why the reply is incomplete or missing."""

    @property
    def detail(self) -> str:
        """The reason, if the outcome is not ``ANSWERED``."""


def judgement_from_reply(item_id: str, sample: int, reply: ModelReply, rubric: Rubric) -> Judgement:
    """The judgement that a reply states about one item; see ``parse_score`` for what is read."""
    if not reply.outcome.has_text:
        return Judgement(item_id, sample, None, reply.outcome, raw=reply.text, detail=reply.detail)
    parsed = parse_score(reply.text, rubric)
    outcome, detail = _read(reply, parsed.score, parsed.detail)
    return Judgement(item_id, sample, parsed.score, outcome, parsed.reason, reply.text, detail)


def verdict_from_reply(
    comparison_id: str,
    reply: ModelReply,
    rubric: Rubric,
    alternatives: Sequence[Sequence[Any]] = (),
    needs_log_probabilities: bool = False,
) -> Verdict:
    """The verdict that a reply states about one comparison; see ``parse_preference`` for what is read.

    ``alternatives`` are (token, log-probability) at the token that states the verdict; the preference is weighted by
    them if there are any. With ``needs_log_probabilities`` a rubric that is answered by one token has no verdict
    without them: the token alone would be another measure. The ``raw`` of a verdict that was weighted by the
    alternatives of one token is JSON with ``text`` and ``alternatives``.
    """
    if not reply.outcome.has_text:
        return Verdict(comparison_id, None, reply.outcome, reply.text, reply.detail)
    raw = reply.text
    if rubric.tokens and (alternatives or needs_log_probabilities):
        preference, reason = _weighted_by_token(alternatives, rubric.tokens)
        reason = split_thinking(reply.text).problem or reason
        raw = json.dumps({"text": reply.text, "alternatives": alternatives}, ensure_ascii=False)
    else:
        parsed = parse_preference(reply.text, rubric)
        preference, reason = parsed.preference, parsed.detail
        if preference is not None and (weighted := weighted_preference(alternatives)) is not None:
            preference = weighted
    outcome, detail = _read(reply, preference, reason)
    return Verdict(comparison_id, preference, outcome, raw, detail)


def _weighted_by_token(alternatives: Sequence[Sequence[Any]], tokens: tuple[str, str]) -> tuple[float | None, str]:
    """The preference by the alternatives of one token, or why there is none."""
    if not alternatives:
        return None, "the reply came without log-probabilities, by which this rubric is weighted"
    preference = token_preference(alternatives, tokens)
    reason = f"neither {tokens[0]!r} nor {tokens[1]!r} is among the likely tokens" if preference is None else ""
    return preference, reason


def _read(reply: ModelReply, number: float | None, why_none: str) -> tuple[Outcome, str]:
    """The outcome and the detail of a reply with text, given the number that was read from it."""
    if number is not None:
        return Outcome.ANSWERED, ""
    return Outcome.UNPARSED, "; ".join(filter(None, (why_none, reply.detail)))
