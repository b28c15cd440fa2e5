"""Preference pairs from scored candidates.

A pair rule proposes the pairs of one prompt at a time. Core checks every proposal, drops pairs whose texts are equal or
whose scores are tied, and counts the dropped ones by reason. A rule gets usable answers only, without refused, failed
and empty ones. Answers that were cut at their length limit are also left out, because training would add an end token
to an unfinished text. ``PairOptions.keep_cut`` includes them, as the paper did.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations
from typing import TypeAlias

from attrs import evolve, field, frozen

from tutelage.errors import InputError
from tutelage.examples import Preference, check_probability, check_weight
from tutelage.records import Candidate, Demonstration, Outcome, Prompt


@frozen
class ScoredAnswer:
    """A text that may become one side of a pair."""

    id: str
    """Id of the answer, unique within the group."""
    text: str
    """The text of the answer."""
    score: float | None = None
    """The judge's averaged score; None if the answer has no score."""

    @property
    def words(self) -> int:
        """Length in words, separated by whitespace."""
        return len(self.text.split())


@frozen
class Group:
    """The input of a pair rule: a prompt, its usable answers sorted by id, and its demonstration, if there is one."""

    prompt: Prompt
    """The prompt."""
    answers: tuple[ScoredAnswer, ...]
    """The usable answers of the model, sorted by id."""
    demonstration: ScoredAnswer | None = None
    """The teacher's answer; None if there is none."""

    @property
    def scored(self) -> tuple[ScoredAnswer, ...]:
        """The answers that have a score."""
        return tuple(answer for answer in self.answers if answer.score is not None)


@frozen
class PairOptions:
    """The options of a pair rule."""

    seed: int = 0
    """Seed of all random choices, such as that among several best answers."""
    margin: float = 0.0
    """Minimum difference of the scores of the two sides. A tie never makes a pair, even if the margin is 0."""
    near_best: float = 0.5
    """``length-controlled`` only: an answer counts as good if it scores at most this much less than the best one."""
    length_ratio: float = 1.25
    """``similar-length`` only: maximum ratio of the number of words of the longer side to that of the shorter side."""
    keep_cut: bool = False
    """Whether answers that reached their length limit may be sides of a pair."""


NO_DEMONSTRATION = "no demonstration"
UNSCORED = "answer without a score"
"""Cause of a prompt without a pair: its answers could be sides of a pair, but too few of them have a score."""

INVALID_SIDES = frozenset({"empty text", "same text", "tied", "chosen scored lower than rejected", "margin too small"})
"""The reasons for which two proposed sides are not a valid pair."""


@frozen
class ProposedPair:
    """A pair with a weight or a soft label, which a rule may yield in place of a tuple (chosen, rejected)."""

    chosen: ScoredAnswer
    """The preferred answer."""
    rejected: ScoredAnswer
    """The other answer."""
    weight: float = field(default=1.0, validator=check_weight)
    """As in ``Preference.weight``: factor of the loss of the pair."""
    probability: float = field(default=1.0, validator=check_probability)
    """As in ``Preference.probability``: probability that the chosen answer is the better one."""


Proposal: TypeAlias = tuple[ScoredAnswer, ScoredAnswer] | ProposedPair | str
"""A pair (chosen, rejected), a pair with a weight, or the reason why the prompt has no pair."""

PairRule: TypeAlias = Callable[[Group, PairOptions], Iterable[Proposal]]
"""A function that proposes the pairs of one prompt. Plugins offer rules of their own in ``PluginInfo.pair_rules``."""


@frozen
class Pairing:
    """The pairs of all prompts, and the counts of everything that was dropped."""

    preferences: tuple[Preference, ...]
    """Sorted by prompt id and id."""
    dropped: Mapping[str, int] = field(factory=dict)
    """Counts by reason. The reasons "answer ..." and "demonstration ..." count texts that the rule did not get; all
    other reasons count proposed pairs, or prompts without a pair."""
    causes: Mapping[str, int] = field(factory=dict, eq=False)
    """Number of prompts without a pair by cause; each of them is counted once. A cause is a reason of ``dropped`` or
    ``UNSCORED``. If too few usable texts were left for the rule, the cause is the most frequent reason why texts were
    not usable."""


def pair(
    rule: PairRule,
    prompts: Mapping[str, Prompt],
    candidates: Iterable[Candidate],
    scores: Mapping[str, float | None] | None = None,
    demonstrations: Mapping[str, Demonstration] | None = None,
    options: PairOptions | None = None,
) -> Pairing:
    """Build the preference pairs of every prompt with ``rule``.

    ``prompts`` and ``demonstrations`` are by prompt id, ``scores`` (averaged) by candidate id. The result does not
    depend on the order of the candidates. Raises ``InputError`` if a candidate answers an unknown prompt or occurs
    twice.
    """
    options = options or PairOptions()
    unusable: dict[str, Counter[str]] = {prompt_id: Counter() for prompt_id in prompts}
    reasons: Counter[str] = Counter()
    causes: Counter[str] = Counter()
    preferences: list[Preference] = []
    answers = usable_answers(prompts, candidates, scores or {}, options, unusable)
    for prompt_id, prompt in sorted(prompts.items()):
        lost = unusable[prompt_id]
        demonstration = _usable_demonstration((demonstrations or {}).get(prompt_id), options, lost)
        group = Group(prompt, answers[prompt_id], demonstration)
        dropped: Counter[str] = Counter()
        found = _pairs_of(rule, group, options, dropped)
        preferences += found
        reasons += dropped
        if not found:
            causes[_cause(group, dropped, lost)] += 1
    reasons += sum(unusable.values(), Counter())
    return Pairing(
        tuple(sorted(preferences, key=lambda p: (p.prompt_id, p.id))),
        dict(sorted(reasons.items())),
        dict(sorted(causes.items())),
    )


def best_worst(group: Group, options: PairOptions) -> Iterator[Proposal]:
    """The highest-scoring answer against the lowest-scoring one, one pair per prompt (Yuan et al., 2024, section 2.3).

    Among answers with equal scores, one is drawn by seed.
    """
    scored = group.scored
    if len(scored) < 2:
        yield "fewer than two scored answers"
    else:
        yield _highest(scored, options), _lowest(scored, options)


def random_pairs(group: Group, options: PairOptions) -> Iterator[Proposal]:
    """Two different answers in random order, independent of their scores: the control that shows what judging adds."""
    # Each distinct text counts once: otherwise frequent texts would be drawn more often, and the control has a signal.
    distinct = {answer.text.strip(): answer for answer in reversed(group.answers)}
    if len(distinct) < 2:
        yield "fewer than two different answers"
    else:
        chosen, rejected, *_ = _shuffled(distinct.values(), options)
        yield evolve(chosen, score=None), evolve(rejected, score=None)


def demonstration_vs_own(group: Group, options: PairOptions) -> Iterator[Proposal]:
    """The teacher's answer against one of the student's answers, drawn by seed."""
    if group.demonstration is None:
        yield NO_DEMONSTRATION
    elif not group.answers:
        yield "no usable answer"
    else:
        yield group.demonstration, _shuffled(group.answers, options)[0]


def demonstration_vs_worst(group: Group, options: PairOptions) -> Iterator[Proposal]:
    """The teacher's answer against the student's answer with the lowest score."""
    if group.demonstration is None:
        yield NO_DEMONSTRATION
    elif not group.scored:
        yield "no scored answer"
    else:
        yield group.demonstration, _lowest(group.scored, options)


def all_ordered(group: Group, options: PairOptions) -> Iterator[Proposal]:
    """Every two answers whose scores differ; the one with the higher score is chosen."""
    if len(group.scored) < 2:
        yield "fewer than two scored answers"
    yield from _ordered(group.scored)


def length_controlled(group: Group, options: PairOptions) -> Iterator[Proposal]:
    """The shortest of the answers that are nearly as good as the best, against the one with the lowest score.

    The rule counters the length bias of a judge. ``PairOptions.near_best`` sets which answers are nearly as good.
    """
    scored = group.scored
    if len(scored) < 2:
        yield "fewer than two scored answers"
    else:
        threshold = _score(_highest(scored, options)) - options.near_best
        good = [answer for answer in scored if _score(answer) >= threshold]
        shortest = min(good, key=lambda answer: (answer.words, -_score(answer), _draw(options, answer)))
        yield shortest, _lowest(scored, options)


def similar_length(group: Group, options: PairOptions) -> Iterator[Proposal]:
    """The pair with the largest score margin among pairs of similar length, so that a pair does not reward length."""
    similar = [sides for sides in _ordered(group.scored) if _similar_length(*sides, options.length_ratio)]
    if not similar:
        yield "no two scored answers of similar length"
    else:
        yield max(similar, key=lambda sides: (_score(sides[0]) - _score(sides[1]), _draw(options, *sides)))


RULES: Mapping[str, PairRule] = {
    "best-worst": best_worst,
    "random-pairs": random_pairs,
    "demonstration-vs-own": demonstration_vs_own,
    "demonstration-vs-worst": demonstration_vs_worst,
    "all-ordered": all_ordered,
    "length-controlled": length_controlled,
    "similar-length": similar_length,
}
"""The built-in rules, by the names that a recipe uses."""
_OWN_OPTIONS = {"near_best": "length-controlled", "length_ratio": "similar-length"}
"""Options that only one built-in rule uses."""


def unused_options(rule: str) -> set[str]:
    """Return the names of the options that a built-in rule does not use. The rule of a plugin may use all of them."""
    return {option for option, user in _OWN_OPTIONS.items() if rule in RULES and rule != user}


def usable_answers(
    prompts: Mapping[str, Prompt],
    candidates: Iterable[Candidate],
    scores: Mapping[str, float | None],
    options: PairOptions,
    unusable: Mapping[str, Counter[str]],
) -> dict[str, tuple[ScoredAnswer, ...]]:
    """Return the usable answers by prompt id, sorted by id; count the others in ``unusable``, by prompt id and reason.

    Raises ``InputError`` if a candidate answers an unknown prompt or occurs twice.
    """
    usable: dict[str, list[ScoredAnswer]] = {prompt_id: [] for prompt_id in prompts}
    seen: set[str] = set()
    for candidate in candidates:
        if candidate.prompt_id not in usable:
            raise InputError(
                f"candidate {candidate.id} answers prompt {candidate.prompt_id}, which is not among the prompts"
            )
        if candidate.id in seen:
            raise InputError(f"candidate {candidate.id} occurs twice; give each candidate once")
        seen.add(candidate.id)
        if reason := _unusable(candidate.outcome, candidate.text, options):
            unusable[candidate.prompt_id][f"answer {reason}"] += 1
        else:
            usable[candidate.prompt_id].append(ScoredAnswer(candidate.id, candidate.text, scores.get(candidate.id)))
    return {prompt_id: tuple(sorted(found, key=lambda a: a.id)) for prompt_id, found in usable.items()}


def _usable_demonstration(
    demonstration: Demonstration | None, options: PairOptions, dropped: Counter[str]
) -> ScoredAnswer | None:
    if demonstration is None:
        return None
    if reason := _unusable(demonstration.outcome, demonstration.text, options):
        dropped[f"demonstration {reason}"] += 1
        return None
    return ScoredAnswer(f"{demonstration.prompt_id}/demonstration", demonstration.text)


def _unusable(outcome: Outcome, text: str, options: PairOptions) -> str:
    """The reason why a text cannot be a side of a pair; empty if it can."""
    kept = outcome is Outcome.ANSWERED or (outcome is Outcome.CUT and options.keep_cut)
    if not kept:
        return outcome.value
    return "" if text.strip() else "empty"


def _pairs_of(rule: PairRule, group: Group, options: PairOptions, dropped: Counter[str]) -> list[Preference]:
    """The checked pairs of one prompt, without duplicates."""
    pairs: dict[str, Preference] = {}
    proposals = list(rule(group, options))
    for proposal in proposals:
        proposed = proposal if isinstance(proposal, str | ProposedPair) else ProposedPair(*proposal)
        reason = proposed if isinstance(proposed, str) else sides_problem(proposed.chosen, proposed.rejected, options)
        if reason or isinstance(proposed, str):
            dropped[reason] += 1
            continue
        preference = _preference(group.prompt, proposed)
        pairs[preference.id] = preference
    if not proposals:
        dropped["the rule proposed nothing"] += 1
    return list(pairs.values())


def _cause(group: Group, dropped: Counter[str], unusable: Counter[str]) -> str:
    """The cause why a prompt has no pair, of the reasons of its proposals and those of its unusable texts."""
    reason = max(sorted(dropped), key=dropped.__getitem__)
    lost = [one for one in sorted(unusable) if one.startswith("demonstration ") == (reason == NO_DEMONSTRATION)]
    if reason in INVALID_SIDES:
        return reason
    if lost and (reason == NO_DEMONSTRATION or len(group.answers) < 2):
        return max(lost, key=unusable.__getitem__)
    lacks_scores = "scored" in reason and len(group.scored) < min(2, len(group.answers))
    return UNSCORED if lacks_scores else reason


def sides_problem(chosen: ScoredAnswer, rejected: ScoredAnswer, options: PairOptions) -> str:
    """Return the reason why two answers are not a valid pair, one of ``INVALID_SIDES``; empty if they are."""
    if not chosen.text.strip() or not rejected.text.strip():
        return "empty text"
    if chosen.text.strip() == rejected.text.strip():
        return "same text"
    if chosen.score is None or rejected.score is None:
        return ""
    if chosen.score == rejected.score:
        return "tied"
    if chosen.score < rejected.score:
        return "chosen scored lower than rejected"
    return "margin too small" if chosen.score - rejected.score < options.margin else ""


def _preference(prompt: Prompt, pair: ProposedPair) -> Preference:
    chosen, rejected = pair.chosen, pair.rejected
    return Preference(
        prompt_id=prompt.id,
        prompt=prompt.text,
        chosen=chosen.text,
        rejected=rejected.text,
        chosen_id=chosen.id,
        rejected_id=rejected.id,
        score_chosen=chosen.score,
        score_rejected=rejected.score,
        messages=prompt.messages,
        weight=pair.weight,
        probability=pair.probability,
    )


def _draw(options: PairOptions, *answers: ScoredAnswer) -> bytes:
    """A pseudo-random value of these answers that depends on their ids and the seed, not on their positions."""
    return hashlib.sha256("\x1f".join([str(options.seed), *(answer.id for answer in answers)]).encode()).digest()


def _ordered(answers: tuple[ScoredAnswer, ...]) -> list[tuple[ScoredAnswer, ScoredAnswer]]:
    """Every two answers, the one with the higher score first."""
    pairs = combinations(answers, 2)
    return [(one, other) if _score(one) >= _score(other) else (other, one) for one, other in pairs]


def _shuffled(answers: Iterable[ScoredAnswer], options: PairOptions) -> list[ScoredAnswer]:
    return sorted(answers, key=lambda answer: _draw(options, answer))


def _score(answer: ScoredAnswer) -> float:
    if answer.score is None:
        raise InputError(f"answer {answer.id} has no score; a rule that compares scores must use ``Group.scored``")
    return answer.score


def _highest(answers: tuple[ScoredAnswer, ...], options: PairOptions) -> ScoredAnswer:
    return max(answers, key=lambda answer: (_score(answer), _draw(options, answer)))


def _lowest(answers: tuple[ScoredAnswer, ...], options: PairOptions) -> ScoredAnswer:
    return min(answers, key=lambda answer: (_score(answer), _draw(options, answer)))


def _similar_length(one: ScoredAnswer, other: ScoredAnswer, ratio: float) -> bool:
    shorter, longer = sorted((one.words, other.words))
    return longer <= ratio * shorter
