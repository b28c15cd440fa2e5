"""The records that every stage takes and returns.

All of them are frozen attrs classes of plain values, so that each one can be written as a JSON line and read back.
Nothing here imports more than attrs. Records join by id, never by position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from attrs import field, frozen


class Outcome(StrEnum):
    """What became of one question to a model. Anything but ``ANSWERED`` has no usable result, and says so."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """The model or its service declined or blocked the answer."""
    CUT = "cut"
    """The answer hit its length limit; the text up to there is kept."""
    UNPARSED = "unparsed"
    """There is a reply, but no score or verdict could be read from it."""
    FAILED = "failed"
    """No reply, after every retry."""

    @property
    def has_text(self) -> bool:
        """Whether a reply with this outcome has text that can be read: all of it, or the part before a length limit."""
        return self in (Outcome.ANSWERED, Outcome.CUT)


def content_id(*parts: str) -> str:
    """Sixteen hexadecimal digits that name a text: equal texts have equal ids on every machine."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


@frozen
class Sampling:
    """How a model samples text."""

    temperature: float = 0.7
    """0 is greedy."""
    top_p: float = 0.9
    max_new_tokens: int = 256
    seed: int = 0


@frozen
class Model:
    """A model as a stage sees it: the plugin that runs it, and what that plugin should load."""

    plugin: str
    """Name of the plugin that runs it."""
    name: str = ""
    """A weights folder, a hub name or an API model name; empty where the plugin has one model only."""
    settings: Mapping[str, Any] = field(factory=dict)
    """Plain values; the stage structures them to the plugin's settings class before the hook is called."""
    id: str = ""
    """Its name in a run: ``M1``, ``M2/self-reward``; for a role, the role: ``teacher``."""


@frozen
class Prompt:
    """One instruction. Its id follows from its text."""

    text: str
    source: str = ""
    """Where it came from: the name of a prompt set, a file, or the model that wrote it."""
    id: str = field()

    @id.default
    def _id_of_text(self) -> str:
        return content_id(self.text)


@frozen
class Candidate:
    """One answer of a model to a prompt."""

    prompt_id: str
    index: int
    """0 to n - 1: which of the n candidates of this prompt."""
    text: str
    outcome: Outcome = Outcome.ANSWERED
    detail: str = ""
    """Why, where the outcome is not ``ANSWERED``."""
    tokens: int | None = None
    """Length of the answer in the model's own tokens, where the plugin knows it."""
    model: str = ""
    """Id of the model that wrote it, in a file that mixes the answers of several; set by core."""

    @property
    def id(self) -> str:
        """Unique among the candidates of one model."""
        return f"{self.prompt_id}/{self.index}"


@frozen
class Demonstration:
    """A teacher's answer to a prompt."""

    prompt_id: str
    text: str
    outcome: Outcome = Outcome.ANSWERED
    detail: str = ""

    @property
    def id(self) -> str:
        """One teacher demonstrates each prompt once."""
        return self.prompt_id


@frozen
class Rubric:
    """How an answer is scored: the scale, and the words that ask a language model for it."""

    name: str
    template: str = ""
    """The judge prompt, with ``{prompt}`` and ``{answer}``, and ``{fence}`` where the answer is fenced."""
    lowest: float = 0.0
    highest: float = 5.0
    system: str = ""
    """What a chat model is told before the question (its system message); empty for none."""
    tokens: tuple[str, str] | None = None
    """For a comparison that is answered by one token: the one that names the first answer, and the second."""


@frozen
class JudgeItem:
    """One answer to be judged. The id is the caller's, and comes back in the judgement."""

    id: str
    prompt: str
    answer: str


@frozen
class Judgement:
    """One sample of a judge's opinion of one item. Core averages the samples of an item."""

    item_id: str
    sample: int
    """0 to samples - 1."""
    score: float | None
    """Within the rubric's scale, or None: a reply that could not be parsed never becomes a number."""
    outcome: Outcome = Outcome.ANSWERED
    reason: str = ""
    raw: str = ""
    """The judge's whole reply, without the question."""
    detail: str = ""
    """Why there is no score, where there is none."""

    @property
    def id(self) -> str:
        """Unique among the judgements of one judge."""
        return f"{self.item_id}#{self.sample}"


@frozen
class Preference:
    """A pair to learn from. Its two sides differ, neither is empty, and where both have scores they are not tied."""

    prompt_id: str
    prompt: str
    chosen: str
    rejected: str
    chosen_id: str
    rejected_id: str
    score_chosen: float | None = None
    score_rejected: float | None = None

    @property
    def id(self) -> str:
        """One pair of texts for one prompt."""
        return f"{self.chosen_id}>{self.rejected_id}"


@frozen
class Example:
    """A supervised example: an instruction and the answer to learn (IFT)."""

    prompt: str
    answer: str


@frozen
class RatedExample:
    """A judging example (EFT): an answer with the score and the reason that a judge should give it."""

    prompt: str
    answer: str
    score: float
    reason: str = ""


@frozen
class Comparison:
    """Two answers to one prompt, in the order in which an evaluator reads them."""

    id: str
    prompt: str
    first: str
    second: str


@frozen
class Verdict:
    """What an evaluator said of one comparison, in that one order."""

    comparison_id: str
    preference: float | None
    """Probability that the *first* answer is the better one: 1 first, 0 second, 0.5 neither; None where unparsed."""
    outcome: Outcome = Outcome.ANSWERED
    raw: str = ""
    detail: str = ""

    @property
    def id(self) -> str:
        """Unique among the verdicts of one evaluator."""
        return self.comparison_id


@frozen
class Lora:
    """A low-rank adapter (Hu et al., 2021) in place of full fine-tuning."""

    r: int = 16
    """Rank."""
    alpha: int = 32
    """The adapter's output is scaled by alpha / r."""
    dropout: float = 0.05
    """Of the adapter's input."""


@frozen
class Sft:
    """Supervised fine-tuning. The loss is on the answer alone, the prompt is masked."""

    epochs: float = 3.0
    """Passes over the examples."""
    learning_rate: float = 2e-4
    """At the end of the warm-up."""
    batch_size: int = 16
    """Examples a step, whatever the device holds at once."""
    micro_batch_size: int | None = None
    """Examples that the device holds at once; None is the whole batch."""
    warmup_ratio: float = 0.1
    """Share of the steps in which the learning rate rises."""
    max_length: int = 1024
    """Tokens; a longer example is an error of the data, not a silent cut."""
    lora: Lora | None = None
    """None is full fine-tuning."""
    seed: int = 0
    """A run sets it."""


@frozen
class Dpo:
    """Direct preference optimisation (Rafailov et al., 2023)."""

    epochs: float = 1.0
    """Passes over the examples."""
    learning_rate: float = 5e-5
    """At the end of the warm-up."""
    batch_size: int = 16
    """Pairs a step, whatever the device holds at once."""
    micro_batch_size: int | None = None
    """Pairs that the device holds at once; None is the whole batch."""
    warmup_ratio: float = 0.1
    """Share of the steps in which the learning rate rises."""
    max_length: int = 1024
    """Tokens of prompt and answer together; a longer example is an error of the data, not a silent cut."""
    beta: float = 0.1
    """Strength of the pull towards the reference (Rafailov et al., 2023, eq. 7)."""
    loss_type: str | Mapping[str, float] = "sigmoid"
    """Any of TRL's: sigmoid, ipo, hinge, robust, ...; or a weighted sum of several, such as {sigmoid: 1, sft: 0.2}."""
    lora: Lora | None = None
    """None is full fine-tuning."""
    seed: int = 0
    """A run sets it."""


Objective = Sft | Dpo
