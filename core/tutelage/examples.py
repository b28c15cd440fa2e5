"""The records that a training learns from: preference pairs, and examples with an answer, a label or a score.

As those of ``records``, they are frozen attrs classes of plain values, one per JSON line. This module imports only
attrs, the standard library and ``records``.
"""

from __future__ import annotations

import math
from typing import Any, TypeGuard

from attrs import field, frozen

from tutelage.records import Message, turns_of


def check_weight(_: Any, __: Any, value: object) -> None:
    """Raise ``ValueError`` if the weight of a pair is not a finite number of at least 0: a validator of attrs."""
    if not (_is_number(value) and 0 <= value < math.inf):
        raise ValueError(f"`weight` must be a finite number of at least 0, not {value!r}")


def check_probability(_: Any, __: Any, value: object) -> None:
    """Raise ``ValueError`` if the soft label of a pair is not a number from 0.5 to 1: a validator of attrs."""
    if not (_is_number(value) and 0.5 <= value <= 1):
        raise ValueError(
            f"`probability` must be a number from 0.5 to 1, not {value!r}; below 0.5 the rejected answer would be the "
            "better one: exchange the two"
        )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


@frozen
class Preference:
    """A preference pair to train on. The two texts differ, neither is empty, and two scores are never equal."""

    prompt_id: str
    """Id of the prompt."""
    prompt: str
    """The text of the prompt, as in ``Prompt.text``."""
    chosen: str
    """The preferred answer."""
    rejected: str
    """The other answer."""
    chosen_id: str
    """Id of the preferred answer: that of a candidate, or of a demonstration."""
    rejected_id: str
    """Id of the other answer."""
    score_chosen: float | None = None
    """Averaged score of the preferred answer; None if it has none."""
    score_rejected: float | None = None
    """Averaged score of the other answer; None if it has none."""
    messages: tuple[Message, ...] = ()
    """The messages of the prompt, as in ``Prompt.messages``."""
    weight: float = field(default=1.0, validator=check_weight, kw_only=True)
    """Factor of the loss of the pair; a finite number of at least 0."""
    probability: float = field(default=1.0, validator=check_probability, kw_only=True)
    """Probability that the chosen answer is the better one (a soft label), from 0.5 to 1."""

    @property
    def turns(self) -> tuple[Message, ...]:
        """The messages of the prompt: those of the conversation, or one user message."""
        return turns_of(self.prompt, self.messages)

    @property
    def id(self) -> str:
        """Unique among the pairs of one file: ``chosen_id>rejected_id``."""
        return f"{self.chosen_id}>{self.rejected_id}"


@frozen
class Example:
    """A supervised example: an instruction and the answer to learn (instruction fine-tuning, IFT)."""

    prompt: str
    """The instruction, as in ``Prompt.text``."""
    answer: str
    """The answer to learn."""
    messages: tuple[Message, ...] = ()
    """The messages of the prompt, as in ``Prompt.messages``."""

    @property
    def turns(self) -> tuple[Message, ...]:
        """The messages of the prompt: those of the conversation, or one user message."""
        return turns_of(self.prompt, self.messages)


@frozen
class LabelledAnswer:
    """An answer with the label desirable or undesirable: an unpaired example (KTO)."""

    prompt_id: str
    """Id of the prompt."""
    prompt: str
    """The instruction, as in ``Prompt.text``."""
    answer: str
    """The answer to learn from."""
    desirable: bool
    """Whether the model should give such answers, or avoid them."""
    answer_id: str
    """Id of the answer."""
    score: float | None = None
    """Score of the answer from which the label follows, if there is one."""
    messages: tuple[Message, ...] = ()
    """The messages of the prompt, as in ``Prompt.messages``."""

    @property
    def turns(self) -> tuple[Message, ...]:
        """The messages of the prompt: those of the conversation, or one user message."""
        return turns_of(self.prompt, self.messages)

    @property
    def id(self) -> str:
        """Id of the answer, unique among the answers of one file."""
        return self.answer_id


@frozen
class RatedExample:
    """A judging example (evaluation fine-tuning, EFT): an answer with the score and the reason to learn."""

    prompt: str
    """The instruction, as in ``Prompt.text``."""
    answer: str
    """The answer that is judged."""
    score: float
    """The score to learn, on the scale of the rubric."""
    reason: str = ""
    """The reason to learn; empty for none."""
    messages: tuple[Message, ...] = ()
    """The messages of the prompt, as in ``Prompt.messages``."""

    @property
    def turns(self) -> tuple[Message, ...]:
        """The messages of the prompt: those of the conversation, or one user message."""
        return turns_of(self.prompt, self.messages)
