"""The steps of a plan that make labelled answers, as plain data."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from tutelage.planning.steps import Step


@frozen(kw_only=True)
class LabelAnswers(Step):
    """Label scored candidates as desirable or undesirable."""

    stage: ClassVar[str] = "label"
    prompts: str
    candidates: str
    judgements: str
    threshold: float
    keep_cut: bool = False
    unit: str = "labelled answers"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The prompts, candidates and judgements."""
        return (self.prompts, self.candidates, self.judgements)


@frozen(kw_only=True)
class UnpairAnswers(Step):
    """Make labelled answers of both sides of preference pairs."""

    stage: ClassVar[str] = "unpair"
    preferences: str
    unit: str = "labelled answers"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The pairs."""
        return (self.preferences,)
