"""Decides, prompt by prompt, which of those that a model wrote are kept, and remembers why the others are not."""

from __future__ import annotations

from collections import Counter

from attrs import define, field

from tutelage.data.contamination import EvaluationPrompts
from tutelage.data.decontamination import HOLDS, Dropped, held_in
from tutelage.data.similarity import SeenTexts
from tutelage.preferences.prompt_listing import Listing, PromptLimits, prompt_problem
from tutelage.records import Candidate, Outcome, Prompt

REPEATS = "repeats an earlier prompt"


@define
class Intake:
    """Takes replies in, in the order in which they count."""

    wanted: int
    source: str
    """Who wrote them: the source of the prompts that are kept."""
    listing: Listing
    limits: PromptLimits
    seen: SeenTexts
    """What a new prompt must not repeat; those that are kept are added."""
    known: EvaluationPrompts | None
    kept: list[Prompt] = field(factory=list)
    dropped: list[Dropped] = field(factory=list)
    reasons: Counter[str] = field(factory=Counter)
    """How many prompts, replies and items of a list were not used, by reason; what holds an evaluation prompt is
    counted with ``dropped``."""

    @property
    def is_full(self) -> bool:
        """Whether there are enough."""
        return len(self.kept) >= self.wanted

    def read(self, candidate: Candidate) -> int:
        """Take the prompts of one reply in; returns how many of them were kept."""
        before = len(self.kept)
        if not candidate.outcome.has_text:
            self.reasons[f"reply {candidate.outcome}"] += 1
            return 0
        parsed = self.listing.read(candidate.text, candidate.outcome is Outcome.CUT)
        self.reasons.update(parsed.dropped)
        if not parsed.prompts:
            self.reasons["reply without a prompt"] += 1
        for text in parsed.prompts:
            if not self.is_full:
                self._take(text)
        return len(self.kept) - before

    def _take(self, text: str) -> None:
        dropped = self._problem(text)
        if dropped is None:
            self.kept.append(Prompt(text, self.source))
            return
        self.dropped.append(dropped)
        if dropped.reason != HOLDS:
            self.reasons[dropped.reason] += 1

    def _problem(self, text: str) -> Dropped | None:
        if reason := prompt_problem(text, self.limits):
            return Dropped(text, reason)
        if held := held_in((text,), self.known):
            return held
        _, similar = next(iter(self.seen.admit([text])))
        return Dropped(text, REPEATS, similar.text, share=round(similar.similarity, 4)) if similar else None
