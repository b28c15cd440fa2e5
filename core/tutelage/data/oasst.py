"""Seed data from OpenAssistant's message trees (Köpf et al., 2023): IFT and EFT as the paper makes them.

IFT are first-turn prompts with the answer that people ranked first (rank 0). EFT are the ranked answers to first-turn
prompts with several of them, each with a score that follows from its rank. People ranked, and did not score; ``scores``
says what that is worth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from tutelage.data.funnel import FilterCount, Funnel
from tutelage.records import JudgeItem, Judgement

HIGHEST, LOWEST = 5.0, 1.0
"""Scores of the first and of the last place; 0 is for what misses the question, which a rank does not say."""

LONGEST = 6000
"""Characters of prompt and answer: 1,500 tokens of English, so that Phi-2's 2,048 hold them and the rubric around."""


@frozen
class Message:
    """As much of oasst1's schema as is looked at."""

    message_id: str
    parent_id: str | None
    text: str
    role: str
    """``prompter`` or ``assistant``."""
    lang: str
    rank: int | None = None
    """Place among its siblings as people ranked them, 0 the best; None where they did not."""
    deleted: bool = False
    review_result: bool = True
    """False where reviewers rejected it."""
    ready: bool = True
    """Whether its tree was finished (``ready_for_export``)."""

    @property
    def is_sound(self) -> bool:
        """Neither deleted nor rejected nor empty, and of a finished tree."""
        return self.ready and not self.deleted and self.review_result and bool(self.text.strip())


@frozen
class RankedPrompt:
    """A first-turn prompt and its ranked answers, the best first."""

    prompt: Message
    answers: tuple[Message, ...]

    @property
    def ranks(self) -> tuple[int, ...]:
        """The answers' ranks."""
        return tuple(answer.rank for answer in self.answers if answer.rank is not None)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Characters of the prompt and each answer together."""
        return tuple(len(self.prompt.text) + len(answer.text) for answer in self.answers)


@frozen
class SeedData:
    """What oasst1 gives."""

    ift: tuple[RankedPrompt, ...]
    """The first answer is the one to learn."""
    eft: tuple[RankedPrompt, ...]
    counts: tuple[FilterCount, ...] = field(factory=tuple)


def message_of(row: Mapping[str, Any]) -> Message:
    """The message in a row of oasst1. Raises ValueError naming what is missing or wrong."""
    texts = {name: row.get(name) for name in ("message_id", "text", "role", "lang")}
    wrong = [name for name, value in texts.items() if not isinstance(value, str)]
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: missing or no text; this is not a row of oasst1")
    rank, parent = row.get("rank"), row.get("parent_id")
    if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int | float) or rank != int(rank)):
        raise ValueError(f"rank: {rank!r} is not a whole number")
    if parent is not None and not isinstance(parent, str):
        raise ValueError(f"parent_id: {parent!r} is neither a text nor null")
    return Message(
        **{name: str(value) for name, value in texts.items()},
        parent_id=parent,
        rank=None if rank is None else int(rank),
        deleted=bool(row.get("deleted")),
        review_result=row.get("review_result") is not False,
        ready=row.get("tree_state", "ready_for_export") == "ready_for_export",
    )


def messages_in(row: Mapping[str, Any]) -> list[Message]:
    """The messages of one row: itself, or all of a tree of the nested export. Raises ValueError as ``message_of``."""
    if not isinstance(row.get("prompt"), Mapping):
        return [message_of(row)]
    found: list[Message] = []
    state = {"tree_state": row.get("tree_state", "ready_for_export")}
    waiting: list[tuple[Any, str | None]] = [(row["prompt"], None)]
    while waiting:
        node, parent = waiting.pop()
        if not isinstance(node, Mapping):
            raise ValueError("a tree with a reply that is no message; this is not a row of oasst1")
        message = message_of({**node, "parent_id": parent, **state})
        found.append(message)
        waiting += [(reply, message.message_id) for reply in node.get("replies") or ()]
    return found


def seed_data(messages: Sequence[Message], lang: str = "en", longest: int = LONGEST) -> SeedData:
    """IFT and EFT of all messages, in the order of the prompts; every filter counts what it takes and gives.

    ``longest`` is of prompt and answer together, in characters: training refuses what does not fit into the model's
    context, and cutting an answer would teach not to end it.
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
    """The score of each rank of one prompt: an even spread from 5, the first place, to 1, the last, in whole points.

    Two places are 5 and 1, three are 5, 3, 1, four 5, 4, 2, 1. Equal ranks have equal scores. A rank is relative, and
    so is this score: the worst of five good answers gets 1 as well.
    """
    places = {rank: place for place, rank in enumerate(sorted(set(ranks)))}
    last = max(len(places) - 1, 1)
    step = (HIGHEST - LOWEST) / last
    return tuple(float(int(HIGHEST - places[rank] * step + 0.5)) for rank in ranks)


def agrees(ranks: Sequence[int], judged: Sequence[float | None]) -> bool:
    """Whether a judge's scores have the order of the ranks: of two different ranks, the better one scored higher.

    The rule by which Yuan et al. (2024, section 3.1.1) keep a judgement as an example to learn from.
    """
    both = list(zip(ranks, judged, strict=True))
    return all(
        one is not None and other is not None and one > other
        for rank, one in both
        for worse, other in both
        if rank < worse
    )


def ift_rows(ift: Iterable[RankedPrompt]) -> list[dict[str, Any]]:
    """Rows of the IFT file: each prompt with its best answer."""
    return [
        {"prompt": one.prompt.text, "answer": one.answers[0].text, "message_id": one.answers[0].message_id}
        for one in ift
    ]


def eft_rows(eft: Iterable[RankedPrompt]) -> list[dict[str, Any]]:
    """Rows of the EFT file: every ranked answer with the score of its rank. People gave no reasons: there is none."""
    return [
        _eft_row(one.prompt, answer, score, "")
        for one in eft
        for answer, score in zip(one.answers, scores(one.ranks), strict=True)
    ]


def judge_items(eft: Iterable[RankedPrompt]) -> list[JudgeItem]:
    """What a teacher is asked, so that the EFT examples get reasons."""
    return [JudgeItem(answer.message_id, one.prompt.text, answer.text) for one in eft for answer in one.answers]


def judged_rows(eft: Iterable[RankedPrompt], judgements: Iterable[Judgement]) -> tuple[list[dict[str, Any]], Funnel]:
    """Rows with a teacher's scores and reasons, of the prompts where its order agrees with the humans'."""
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


def _eft_row(prompt: Message, answer: Message, score: float, reason: str) -> dict[str, Any]:
    row = {"prompt": prompt.text, "answer": answer.text, "score": score, "reason": reason}
    return {**row, "rank": answer.rank, "message_id": answer.message_id}


def _with_answers(prompts: Iterable[Message], messages: Iterable[Message], lang: str) -> list[RankedPrompt]:
    answers: dict[str, list[Message]] = defaultdict(list)
    for message in messages:
        usable = message.role == "assistant" and message.rank is not None and message.is_sound
        if usable and message.parent_id is not None and message.lang == lang:
            answers[message.parent_id].append(message)
    return [RankedPrompt(prompt, tuple(sorted(answers[prompt.message_id], key=_place))) for prompt in prompts]


def _place(message: Message) -> tuple[int, str]:
    return message.rank or 0, message.message_id
