"""Filter of the prompts that a model writes (self-instruct), with the reason for each prompt that is dropped."""

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
    """Reads replies and keeps their prompts, until there are ``wanted`` of them. The order of the replies matters."""

    wanted: int
    """Number of prompts to keep."""
    source: str
    """The ``source`` of the kept prompts: the model that wrote them."""
    listing: Listing
    limits: PromptLimits
    seen: SeenTexts
    """Texts that a new prompt must not repeat. Kept prompts are added."""
    known: EvaluationPrompts | None
    """Evaluation prompts that a new prompt must not contain; None to skip this check."""
    kept: list[Prompt] = field(factory=list)
    dropped: list[Dropped] = field(factory=list)
    reasons: Counter[str] = field(factory=Counter)
    """Number of unused prompts, replies and list items by reason. Prompts that contain an evaluation prompt are not
    counted here, but are in ``dropped``."""

    @property
    def is_full(self) -> bool:
        """Whether ``wanted`` prompts have been kept."""
        return len(self.kept) >= self.wanted

    def read(self, candidate: Candidate) -> int:
        """Read the prompts of one reply. Returns the number of prompts that were kept."""
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
                self._keep_or_drop(text)
        return len(self.kept) - before

    def _keep_or_drop(self, text: str) -> None:
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
