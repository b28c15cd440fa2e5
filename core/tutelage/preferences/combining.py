"""One score from several: of a jury, of a cascade, of comparisons of the candidates of a prompt."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from attrs import frozen

from tutelage.pipeline_steps import Combination
from tutelage.preferences.comparisons import TIE
from tutelage.preferences.judging import average
from tutelage.records import Candidate, Comparison, Judgement, Outcome, Prompt, Verdict

NO_MAJORITY = "no majority"


@frozen
class Combined:
    """The combined judgements, and the counts of the judges that gave no score."""

    judgements: tuple[Judgement, ...]
    """One per answer, sorted by id."""
    abstentions: Mapping[str, int]
    """Number of answers by the name of the judge and the outcome of its judgement: ``alice refused``."""


def combine(parts: Mapping[str, Sequence[Judgement]], how: Combination) -> Combined:
    """Combine the judgements of several judges, which are given by name, into one judgement per answer.

    The samples of a judge are averaged first. A judge without a score for an answer abstains, and the others decide. An
    answer without any score has the most frequent outcome of the abstentions.
    """
    averages = {name: average(judgements) for name, judgements in parts.items()}
    outcomes = {name: _outcomes(judgements) for name, judgements in parts.items()}
    counts: Counter[str] = Counter()
    combined = []
    for item_id in sorted({item_id for scores in averages.values() for item_id in scores}):
        scores: dict[str, float] = {}
        missing: dict[str, Outcome] = {}
        for name, of_items in averages.items():
            if item_id not in of_items:
                continue  # the judge was not asked
            if (score := of_items[item_id].score) is None:
                missing[name] = outcomes[name][item_id]
            else:
                scores[name] = score
        counts.update(f"{name} {outcome}" for name, outcome in missing.items())
        combined.append(_combined(item_id, scores, missing, how))
    no_majority = sum(one.detail == NO_MAJORITY for one in combined)
    return Combined(tuple(combined), {**counts, **({NO_MAJORITY: no_majority} if no_majority else {})})


def _combined(item_id: str, scores: dict[str, float], missing: dict[str, Outcome], how: Combination) -> Judgement:
    votes = ", ".join([*(f"{name} {score:g}" for name, score in scores.items()), *map(" ".join, missing.items())])
    if not scores:
        outcome = Counter(missing.values()).most_common(1)[0][0]
        return Judgement(item_id, 0, None, outcome, detail=f"no judge gave a score: {votes}")
    score = _score(list(scores.values()), how)
    if score is None:
        return Judgement(item_id, 0, None, Outcome.UNPARSED, reason=votes, detail=NO_MAJORITY)
    return Judgement(item_id, 0, score, reason=votes)


def _score(scores: Sequence[float], how: Combination) -> float | None:
    match how:
        case "mean":
            return statistics.fmean(scores)
        case "median":
            return statistics.median(scores)
        case "minimum":
            return min(scores)
        case "first":
            return scores[0]
        case "majority":
            score, votes = Counter(scores).most_common(1)[0]
            return score if 2 * votes > len(scores) else None


def _outcomes(judgements: Iterable[Judgement]) -> dict[str, Outcome]:
    """The most frequent outcome of the samples without a score, by item. A cut reply without a score is unparsed."""
    found: dict[str, Counter[Outcome]] = {}
    for one in judgements:
        if one.score is None:
            outcome = Outcome.UNPARSED if one.outcome.has_text else one.outcome
            found.setdefault(one.item_id, Counter())[outcome] += 1
    return {item_id: counts.most_common(1)[0][0] for item_id, counts in found.items()}


def disputed(
    answers: Sequence[Candidate], judgements: Iterable[Judgement], spread: float, share: float
) -> list[Candidate]:
    """Return the answers whose scores have a standard deviation above ``spread``, or a sample without a score.

    At most ``share`` of the answers are returned: those without a score first, then those with the largest spread.
    Answers that were not judged are never disputed.
    """
    averages = average(judgements)
    spreads: dict[str, float] = {}
    for id, one in averages.items():
        spreads[id] = math.inf if one.spread is None or one.parsed < one.asked else one.spread
    found = sorted(
        (one for one in answers if spreads.get(one.id, 0.0) > spread), key=lambda one: (-spreads[one.id], one.id)
    )
    kept = {one.id for one in found[: math.floor(share * len(answers))]}
    return [one for one in answers if one.id in kept]


def comparisons_of(prompts: Mapping[str, Prompt], answers: Iterable[Candidate]) -> Iterator[Comparison]:
    """Yield both orders of every two different texts among the answers to a prompt."""
    for prompt_id, ids in _by_text(prompts, answers).items():
        prompt = prompts[prompt_id]
        for (one, one_ids), (other, other_ids) in combinations(ids.items(), 2):
            first, second, about = one_ids[0], other_ids[0], prompt.metadata
            yield Comparison(_id(first, second), prompt.text, one, other, metadata=about)
            yield Comparison(_id(second, first), prompt.text, other, one, metadata=about)


def win_rates(
    prompts: Mapping[str, Prompt], answers: Iterable[Candidate], verdicts: Iterable[Verdict]
) -> list[Judgement]:
    """Return a judgement of each answer with text: the mean probability that it is better than another candidate.

    The probability of two answers is the mean of the verdicts in both orders, and 0.5 for equal texts. Two answers
    count only if both orders have a verdict. An answer without any counted comparison has no score.
    """
    preferences = {verdict.id: verdict.preference for verdict in verdicts}
    found = []
    for ids in _by_text(prompts, answers).values():
        for text, own in ids.items():
            won = [TIE] * (len(own) - 1)
            for other, others in ids.items():
                if other == text:
                    continue
                forward = preferences.get(_id(own[0], others[0]))
                backward = preferences.get(_id(others[0], own[0]))
                if forward is not None and backward is not None:
                    won += [(forward + 1 - backward) / 2] * len(others)
            for id in own:
                if won:
                    found.append(Judgement(id, 0, statistics.fmean(won), reason=f"against {len(won)} candidates"))
                else:
                    detail = "no other candidate, or no comparison with a verdict in both orders"
                    found.append(Judgement(id, 0, None, Outcome.UNPARSED, detail=detail))
    return sorted(found, key=lambda one: one.id)


def _by_text(prompts: Mapping[str, Prompt], answers: Iterable[Candidate]) -> dict[str, dict[str, list[str]]]:
    """The ids of the answers with text, by prompt id and text."""
    found: dict[str, dict[str, list[str]]] = {}
    for answer in answers:
        if answer.prompt_id in prompts and answer.outcome.has_text:
            found.setdefault(answer.prompt_id, {}).setdefault(answer.text.strip(), []).append(answer.id)
    return found


def _id(first: str, second: str) -> str:
    return f"{first}|{second}"
