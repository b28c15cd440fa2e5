"""Labelled answers: unpaired examples, of scored candidates by a threshold or of the answers of preference pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from attrs import field, frozen

from tutelage.errors import InputError
from tutelage.examples import LabelledAnswer, Preference
from tutelage.preferences.pairing import UNSCORED, PairOptions, ScoredAnswer, usable_answers
from tutelage.records import Candidate, Prompt

REPEATED = "same text as another answer"
"""The reason for which an answer is dropped whose prompt has an answer with the same text already."""


@frozen
class Labelling:
    """The labelled answers of all prompts, and the counts of the dropped answers."""

    answers: tuple[LabelledAnswer, ...]
    """Sorted by prompt id and answer id."""
    dropped: Mapping[str, int] = field(factory=dict)
    """Counts by reason."""

    @property
    def counts(self) -> dict[str, int]:
        """The number of labelled answers, those of each label, and the dropped ones by reason."""
        return {**label_counts(self.answers), **self.dropped}


def label(
    prompts: Mapping[str, Prompt],
    candidates: Iterable[Candidate],
    scores: Mapping[str, float | None],
    threshold: float,
    keep_cut: bool = False,
) -> Labelling:
    """Label every scored answer: desirable if its score is at least ``threshold``, otherwise undesirable.

    Refused, failed and empty answers, cut ones unless ``keep_cut``, answers without a score and repeated ones are
    dropped and counted. ``scores`` (averaged) are by candidate id. Raises ``InputError`` as ``usable_answers`` does.
    """
    unusable: dict[str, Counter[str]] = {prompt_id: Counter() for prompt_id in prompts}
    usable = usable_answers(prompts, candidates, scores, PairOptions(keep_cut=keep_cut), unusable)
    dropped = sum(unusable.values(), Counter())
    found: list[LabelledAnswer] = []
    for prompt_id, prompt in sorted(prompts.items()):
        texts: set[str] = set()
        for answer in usable[prompt_id]:
            if answer.score is None:
                dropped[UNSCORED] += 1
            elif answer.text.strip() in texts:
                dropped[REPEATED] += 1
            else:
                texts.add(answer.text.strip())
                found.append(_labelled(prompt, answer, answer.score >= threshold))
    return Labelling(tuple(found), dict(sorted(dropped.items())))


def unpaired(pairs: Iterable[Preference]) -> list[LabelledAnswer]:
    """Return both answers of each pair, the chosen one as desirable. An answer occurs once per label.

    The ids of answers of the user's pairs may be unique within one prompt only. Raises ``InputError`` for pairs with
    weights or soft labels, which labelled answers do not have.
    """
    pairs = list(pairs)
    for key in ("weight", "probability"):
        if labelled := sum(getattr(pair, key) != 1 for pair in pairs):
            raise InputError(
                f"{labelled:,} of {len(pairs):,} pairs have another {key} than 1, which labelled answers do not have: "
                "leave it out of the pairs, or train with dpo"
            )
    sides = (one for pair in pairs for one in _sides(pair))
    return list({(one.prompt_id, one.answer_id, one.answer, one.desirable): one for one in sides}.values())


def label_counts(answers: Iterable[LabelledAnswer]) -> dict[str, int]:
    """Return the number of answers, and those of each label."""
    labels = Counter("desirable" if one.desirable else "undesirable" for one in answers)
    return {"labelled answers": labels.total(), **{name: labels[name] for name in ("desirable", "undesirable")}}


def _labelled(prompt: Prompt, answer: ScoredAnswer, desirable: bool) -> LabelledAnswer:
    return LabelledAnswer(
        prompt.id, prompt.text, answer.text, desirable, answer.id, answer.score, messages=prompt.messages
    )


def _sides(pair: Preference) -> Iterator[LabelledAnswer]:
    for text, desirable, id, score in (
        (pair.chosen, True, pair.chosen_id, pair.score_chosen),
        (pair.rejected, False, pair.rejected_id, pair.score_rejected),
    ):
        yield LabelledAnswer(pair.prompt_id, pair.prompt, text, desirable, id, score, messages=pair.messages)
