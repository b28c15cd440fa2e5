"""Seed data from OpenAssistant's message trees (Köpf et al., 2023): IFT and EFT as the paper makes them.

IFT (instruction fine-tuning) has first-turn prompts with the answer that annotators ranked first (rank 0). EFT
(evaluation fine-tuning) has all ranked answers to first-turn prompts with answers at several ranks, each with a score
derived from its rank. The annotators gave ranks only, no scores; see ``scores`` for the limits of derived scores.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from tutelage.data.funnel import FilterCount, Funnel
from tutelage.records import JudgeItem, Judgement

HIGHEST, LOWEST = 5.0, 1.0
"""Scores of the first and of the last rank. A rank does not say whether an answer misses the question, which would be
the score 0."""

LONGEST = 6000
"""Maximum number of characters of prompt and answer together. 6,000 characters are about 1,500 tokens of English, which
fit with the rubric into Phi-2's context of 2,048 tokens."""


@frozen
class TreeMessage:
    """A message of oasst1, with the fields of its schema that are used here."""

    message_id: str
    parent_id: str | None
    """None for the message that begins a tree."""
    text: str
    role: str
    """``prompter`` or ``assistant``."""
    lang: str
    """Language code, such as ``en``."""
    rank: int | None = None
    """Rank among its siblings, given by annotators; 0 is the best. None if the message was not ranked."""
    deleted: bool = False
    review_result: bool = True
    """False if reviewers rejected the message."""
    ready: bool = True
    """Whether the tree was finished (``ready_for_export``)."""

    @property
    def is_sound(self) -> bool:
        """Whether the message is not deleted, rejected or empty, and its tree is finished."""
        return self.ready and not self.deleted and self.review_result and bool(self.text.strip())


@frozen
class RankedPrompt:
    """A first-turn prompt and its ranked answers, best first."""

    prompt: TreeMessage
    answers: tuple[TreeMessage, ...]

    @property
    def ranks(self) -> tuple[int, ...]:
        """Ranks of the answers."""
        return tuple(answer.rank for answer in self.answers if answer.rank is not None)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of characters of prompt and answer together, for each answer."""
        return tuple(len(self.prompt.text) + len(answer.text) for answer in self.answers)


@frozen
class SeedData:
    """The seed data from oasst1."""

    ift: tuple[RankedPrompt, ...]
    """Prompts for IFT; the first answer is the one to learn."""
    eft: tuple[RankedPrompt, ...]
    """Prompts for EFT, with all their ranked answers."""
    counts: tuple[FilterCount, ...] = field(factory=tuple)
    """Number of items before and after each filter, in the order of the filters."""


def message_of(row: Mapping[str, Any]) -> TreeMessage:
    """Parse the message in a row of oasst1. Raises ``ValueError`` that names the missing or wrong fields."""
    texts = {name: row.get(name) for name in ("message_id", "text", "role", "lang")}
    wrong = [name for name, value in texts.items() if not isinstance(value, str)]
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: missing or not a text; this is not a row of oasst1")
    rank, parent = row.get("rank"), row.get("parent_id")
    if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int | float) or rank != int(rank)):
        raise ValueError(f"rank: {rank!r} is not a whole number")
    if parent is not None and not isinstance(parent, str):
        raise ValueError(f"parent_id: {parent!r} is neither a text nor null")
    return TreeMessage(
        **{name: str(value) for name, value in texts.items()},
        parent_id=parent,
        rank=None if rank is None else int(rank),
        deleted=bool(row.get("deleted")),
        review_result=row.get("review_result") is not False,
        ready=row.get("tree_state", "ready_for_export") == "ready_for_export",
    )


def messages_in(row: Mapping[str, Any]) -> list[TreeMessage]:
    """Parse the messages of one row: one message, or all messages of a tree in the nested export.

    Raises ``ValueError`` as ``message_of`` does.
    """
    if not isinstance(row.get("prompt"), Mapping):
        return [message_of(row)]
    found: list[TreeMessage] = []
    state = {"tree_state": row.get("tree_state", "ready_for_export")}
    waiting: list[tuple[Any, str | None]] = [(row["prompt"], None)]
    while waiting:
        node, parent = waiting.pop()
        if not isinstance(node, Mapping):
            raise ValueError("the tree has a reply that is not a message; this is not a row of oasst1")
        message = message_of({**node, "parent_id": parent, **state})
        found.append(message)
        waiting += [(reply, message.message_id) for reply in node.get("replies") or ()]
    return found


def seed_data(messages: Sequence[TreeMessage], lang: str = "en", longest: int = LONGEST) -> SeedData:
    """Select IFT and EFT from messages, in the order of the prompts.

    ``lang`` is the language code of prompts and answers. ``longest`` is the maximum number of characters of prompt and
    answer together: an example that does not fit into the model's context is an error in training, and a truncated
    answer would teach the model not to end its answers. Every filter is counted.
    """
    funnel = Funnel()
    prompts = funnel.keep(
        "messages that begin a tree", messages, lambda m: m.parent_id is None and m.role == "prompter"
    )
    prompts = funnel.keep("prompts neither deleted, rejected nor empty", prompts, lambda m: m.is_sound)
    prompts = funnel.keep(f"prompts in {lang}", prompts, lambda m: m.lang == lang)
    ranked = funnel.keep(
        "prompts with a ranked answer", _with_answers(prompts, messages, lang), lambda ranked: ranked.answers
    )
    ift = funnel.keep("IFT: prompts with one answer at rank 0", ranked, lambda ranked: ranked.ranks.count(0) == 1)
    ift = funnel.keep(f"IFT: at most {longest:,} characters", ift, lambda ranked: ranked.lengths[0] <= longest)
    eft = funnel.keep(
        "EFT: prompts with answers at two ranks or more", ranked, lambda ranked: len(set(ranked.ranks)) > 1
    )
    eft = funnel.keep(f"EFT: at most {longest:,} characters", eft, lambda ranked: max(ranked.lengths) <= longest)
    return SeedData(tuple(ift), tuple(eft), tuple(funnel.counts))


def scores(ranks: Sequence[int]) -> tuple[float, ...]:
    """Derive scores from the ranks of the answers to one prompt, in the order of the ranks given.

    The scores are spread evenly from 5 (first) to 1 (last) and rounded to whole points: 5, 1 for two distinct ranks;
    5, 3, 1 for three; 5, 4, 2, 1 for four. Equal ranks have equal scores. Like a rank, the score is relative: the worst
    of five good answers also gets 1.
    """
    position = {rank: number for number, rank in enumerate(sorted(set(ranks)))}
    last = max(len(position) - 1, 1)
    step = (HIGHEST - LOWEST) / last
    return tuple(float(int(HIGHEST - position[rank] * step + 0.5)) for rank in ranks)


def agrees(ranks: Sequence[int], judged: Sequence[float | None]) -> bool:
    """Return whether a judge's scores have the order of the ranks: of two different ranks, the better scores higher.

    ``ranks`` and ``judged`` are of the same answers, in the same order; a missing score (None) disagrees. Yuan et al.
    (2024, section 3.1.1) use this rule to select the judgements to train on.
    """
    both = list(zip(ranks, judged, strict=True))
    return all(
        one is not None and other is not None and one > other
        for rank, one in both
        for worse, other in both
        if rank < worse
    )


def ift_rows(ift: Iterable[RankedPrompt]) -> list[dict[str, Any]]:
    """Make the rows of the IFT file: each prompt with its best answer."""
    return [
        {"prompt": one.prompt.text, "answer": one.answers[0].text, "message_id": one.answers[0].message_id}
        for one in ift
    ]


def eft_rows(eft: Iterable[RankedPrompt]) -> list[dict[str, Any]]:
    """Make the rows of the EFT file: every ranked answer with the score of its rank. The reasons are empty."""
    return [
        _eft_row(one.prompt, answer, score, "")
        for one in eft
        for answer, score in zip(one.answers, scores(one.ranks), strict=True)
    ]


def judge_items(eft: Iterable[RankedPrompt]) -> list[JudgeItem]:
    """Make the items for a teacher to judge, whose reasons are then added to the EFT examples."""
    return [JudgeItem(answer.message_id, one.prompt.text, answer.text) for one in eft for answer in one.answers]


def judged_rows(eft: Iterable[RankedPrompt], judgements: Iterable[Judgement]) -> tuple[list[dict[str, Any]], Funnel]:
    """Make EFT rows with a teacher's scores and reasons, for the prompts whose answers it orders as the annotators did.

    ``judgements`` must have one judgement per item of ``judge_items``. Also returns the count of the filter.
    """
    judged = {judgement.item_id: judgement for judgement in judgements}
    funnel = Funnel()
    agreeing = funnel.keep(
        "EFT: prompts whose answers the teacher ordered as people did",
        eft,
        lambda one: agrees(one.ranks, [judged[answer.message_id].score for answer in one.answers]),
    )
    rows = [
        _eft_row(one.prompt, answer, given, judged[answer.message_id].reason)
        for one in agreeing
        for answer in one.answers
        if (given := judged[answer.message_id].score) is not None
    ]
    return rows, funnel


def _eft_row(prompt: TreeMessage, answer: TreeMessage, score: float, reason: str) -> dict[str, Any]:
    row = {"prompt": prompt.text, "answer": answer.text, "score": score, "reason": reason}
    return {**row, "rank": answer.rank, "message_id": answer.message_id}


def _with_answers(prompts: Iterable[TreeMessage], messages: Iterable[TreeMessage], lang: str) -> list[RankedPrompt]:
    answers: dict[str, list[TreeMessage]] = defaultdict(list)
    for message in messages:
        usable = message.role == "assistant" and message.rank is not None and message.is_sound
        if usable and message.parent_id is not None and message.lang == lang:
            answers[message.parent_id].append(message)
    return [RankedPrompt(prompt, tuple(sorted(answers[prompt.message_id], key=_rank_and_id))) for prompt in prompts]


def _rank_and_id(message: TreeMessage) -> tuple[int, str]:
    return message.rank or 0, message.message_id
