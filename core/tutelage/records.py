"""The records that stages take and return.

Every record is a frozen attrs class of plain values, so that it can be written as a JSON line and read back. This
module imports only attrs and the standard library. Records are joined by id, never by position.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal

from attrs import field, frozen, validators


class Outcome(StrEnum):
    """The outcome of one request to a model. Only ``ANSWERED`` means that the result is complete and usable."""

    ANSWERED = "answered"
    """The answer is complete and usable."""
    REFUSED = "refused"
    """The model or its service declined or blocked the answer."""
    CUT = "cut"
    """The answer reached its length limit; the text up to the limit is kept."""
    UNPARSED = "unparsed"
    """The model replied, but no score or verdict could be parsed from the reply."""
    FAILED = "failed"
    """There was no reply, after all retries."""

    @property
    def has_text(self) -> bool:
        """Whether a reply with this outcome has text: the whole answer, or the part before a length limit."""
        return self in (Outcome.ANSWERED, Outcome.CUT)


def content_id(*parts: str) -> str:
    """Return an id of a text: the first 16 hexadecimal digits of its SHA-256. Equal texts have equal ids."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def added_key(default: Any) -> Any:
    """Return an attrs field that was added to a class whose values are part of fingerprints.

    At its default it is left out of a fingerprint, so that the artifacts that were made without the key stay valid. The
    default must be the behaviour of the time before the key existed.
    """
    return field(default=default, metadata={ADDED_KEY: True})


ADDED_KEY = "added_key"
"""Mark of such a field in its metadata."""

Scores = Literal["parsed", "expected"]
"""How a judge's score is made: parsed from its reply, or as the expectation over the probabilities of the scores."""

Jury = Literal["mean", "median", "majority", "minimum"]
"""How the scores of several judges become one."""


@frozen
class Sampling:
    """Sampling parameters of a model."""

    temperature: float = 0.7
    """Softmax temperature; 0 is greedy decoding."""
    top_p: float = 0.9
    """Probability mass of nucleus sampling; 1 samples from the whole distribution."""
    max_new_tokens: int = 256
    """Maximum length of a reply, in the model's own tokens."""
    seed: int = 0
    """Seed of the random number generator."""
    keep_thinking: bool = False
    """Whether candidates and demonstrations keep their thinking blocks (``<think>``). Core removes them from the
    results of a stage, so a plugin does not read this."""
    top_k: int | None = added_key(None)
    """Number of most probable tokens to sample from; None for all. It is applied before ``top_p``."""
    min_p: float = added_key(0.0)
    """Minimum probability of a token, as a share of the probability of the most probable token; 0 for none. A plugin
    gets ``top_k`` and ``min_p`` only if it names them in ``PluginInfo.sampling``."""


@frozen
class Model:
    """A model as the stages use it: the plugin that runs it, and the weights or API model to load."""

    plugin: str
    """Name of the plugin that runs the model."""
    name: str = ""
    """A weights folder, a hub name or an API model name; empty if the plugin has only one model."""
    settings: Mapping[str, Any] = field(factory=dict)
    """Settings of the plugin, as plain values. Hooks get them as ``context.settings``, an instance of the plugin's
    settings class."""
    id: str = ""
    """Name of the model in a run (``M1``, ``M2/self-reward``), or its role (``teacher``)."""
    wrappers: Mapping[str, Mapping[str, Any]] | None = field(default=None, eq=False)
    """The plugins that wrap the hooks of the model, by name, each with its settings as plain values. In a run they
    depend on the role of the model. None: every registered wrapper, with its default settings."""


ROLES = ("system", "user", "assistant")
"""The roles of messages."""


@frozen
class Message:
    """One turn of a conversation."""

    role: str = field(validator=validators.in_(ROLES))
    """``system``, ``user`` or ``assistant``."""
    content: str
    """The text of the message."""


def conversation_text(messages: Sequence[Message]) -> str:
    """Return a readable transcript: one block per message, ``System: ...``, ``User: ...`` or ``Assistant: ...``.

    The transcript of a single user message is its text alone.
    """
    if is_one_turn(messages):
        return messages[0].content
    return "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in messages)


def is_one_turn(messages: Sequence[Message]) -> bool:
    """Whether a conversation is a single user message, for which its text is enough."""
    return len(messages) == 1 and messages[0].role == "user"


def user_texts(messages: Sequence[Message]) -> tuple[str, ...]:
    """Return the texts of the user messages."""
    return tuple(message.content for message in messages if message.role == "user")


def turns_of(text: str, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the messages of a prompt: those of its conversation, or one user message with its text."""
    return messages or (Message("user", text),)


@frozen
class Prompt:
    """An instruction, or a conversation that ends with one."""

    text: str
    """The instruction; the transcript of a conversation."""
    source: str = ""
    """Origin of the prompt: the name of a prompt set, a file, or the model that wrote it."""
    messages: tuple[Message, ...] = field(default=(), kw_only=True)
    """All messages of a conversation, with the system message; empty for a single user message."""
    metadata: Mapping[str, Any] = field(factory=dict, kw_only=True, hash=False)
    """What a judge needs to know of the prompt besides its text, as plain JSON values: a reference answer, or the
    instructions that a verifier checks. Judge items and comparisons carry it; no model reads it."""
    id: str = field()
    """By default the ``content_id`` of the text, or of all messages of a conversation."""

    @id.default
    def _id_of_content(self) -> str:
        if not self.messages:
            return content_id(self.text)
        return content_id(*(part for message in self.messages for part in (message.role, message.content)))

    @classmethod
    def of_messages(cls, messages: Sequence[Message], source: str = "") -> Prompt:
        """Make the prompt of a conversation. A single user message gives the same prompt as its text."""
        kept = () if is_one_turn(messages) else tuple(messages)
        return cls(conversation_text(messages), source, messages=kept)

    @property
    def turns(self) -> tuple[Message, ...]:
        """The messages to send to a model: those of the conversation, or one user message."""
        return turns_of(self.text, self.messages)


@frozen
class Candidate:
    """One answer of a model to a prompt."""

    prompt_id: str
    """Id of the answered prompt."""
    index: int
    """Number of the candidate among the n candidates of its prompt, 0 to n - 1."""
    text: str
    """The completion only, without the prompt and without end or pad tokens."""
    outcome: Outcome = Outcome.ANSWERED
    """Whether the answer is complete and usable."""
    detail: str = ""
    """The reason, if the outcome is not ``ANSWERED``."""
    tokens: int | None = None
    """Length of the answer in the model's own tokens; None if it is unknown or a thinking block was removed."""
    model: str = ""
    """Id of the model that wrote the answer, in a file with answers of several models; set by core."""

    @property
    def id(self) -> str:
        """Unique among the candidates of one model."""
        return f"{self.prompt_id}/{self.index}"


@frozen
class Demonstration:
    """A teacher's answer to a prompt."""

    prompt_id: str
    """Id of the answered prompt."""
    text: str
    """The completion only."""
    outcome: Outcome = Outcome.ANSWERED
    """Whether the answer is complete and usable."""
    detail: str = ""
    """The reason, if the outcome is not ``ANSWERED``."""

    @property
    def id(self) -> str:
        """The prompt's id: a teacher answers each prompt once."""
        return self.prompt_id


@frozen
class Rubric:
    """How answers are scored: the scale, and the prompt for a judge that is a language model."""

    name: str
    """Name of the rubric, for messages."""
    template: str = ""
    """The judge prompt, with placeholders ``{prompt}`` and ``{answer}``, and ``{fence}`` if the answer is fenced.
    ``{metadata[KEY]}`` shows a key of the prompt's metadata, such as a reference answer."""
    lowest: float = 0.0
    """Lowest score."""
    highest: float = 5.0
    """Highest score."""
    system: str = ""
    """System message for a chat model; empty for none."""
    tokens: tuple[str, str] | None = None
    """For a comparison that is answered by one token: the token for the first answer, and the token for the second."""
    score_prefix: str = ""
    """The text before the score in a reply that begins with the score, for example ``score: ``. Only with it, a judge
    can give an expected score. Empty if the reply begins with something else."""

    @property
    def is_bounded(self) -> bool:
        """Whether the scale has limits. Without them, any finite score is valid, as that of a reward model."""
        return math.isfinite(self.lowest) and math.isfinite(self.highest)


@frozen
class JudgeItem:
    """One answer to judge."""

    id: str
    """Chosen by the caller; the judgement has it as ``item_id``."""
    prompt: str
    """The text of the prompt, as in ``Prompt.text``."""
    answer: str
    """The answer to judge."""
    messages: tuple[Message, ...] = field(default=(), kw_only=True)
    """The messages of the prompt, as in ``Prompt.messages``."""
    metadata: Mapping[str, Any] = field(factory=dict, kw_only=True, hash=False)
    """The metadata of the prompt, as in ``Prompt.metadata``."""

    @property
    def turns(self) -> tuple[Message, ...]:
        """The messages of the prompt: those of the conversation, or one user message."""
        return turns_of(self.prompt, self.messages)


@frozen
class Judgement:
    """One judgement of one item. Core averages the judgements (samples) of an item."""

    item_id: str
    """Id of the judged item."""
    sample: int
    """Number of the judgement among those of its item, 0 to samples - 1."""
    score: float | None
    """A number within the rubric's scale; None if no score could be parsed from the reply."""
    outcome: Outcome = Outcome.ANSWERED
    """Whether the reply is complete and has a score."""
    reason: str = ""
    """The reason that the judge gave for the score."""
    raw: str = ""
    """The judge's whole reply, without the judge prompt."""
    detail: str = ""
    """The reason why there is no score, if there is none."""
    probabilities: tuple[float, ...] = ()
    """For an expected score: the probability of each whole-number score of the rubric, the lowest score first. Their
    sum is below 1 if other replies are possible. Empty for a score that was parsed from a reply."""

    @property
    def id(self) -> str:
        """Unique among the judgements of one judge."""
        return f"{self.item_id}#{self.sample}"


@frozen
class Comparison:
    """Two answers to one prompt, in the order in which the evaluator reads them."""

    id: str
    """Chosen by the caller; the verdict has it as ``comparison_id``."""
    prompt: str
    """The text of the prompt, as in ``Prompt.text``."""
    first: str
    """The answer that the evaluator reads first."""
    second: str
    """The other answer."""
    metadata: Mapping[str, Any] = field(factory=dict, kw_only=True, hash=False)
    """The metadata of the prompt, as in ``Prompt.metadata``."""


@frozen
class Verdict:
    """An evaluator's verdict on one comparison, for that order of the answers."""

    comparison_id: str
    """Id of the comparison."""
    preference: float | None
    """Probability that the *first* answer is better: 1 first, 0 second, 0.5 neither; None if there is no verdict."""
    outcome: Outcome = Outcome.ANSWERED
    """Whether the reply is complete and has a verdict."""
    raw: str = ""
    """The evaluator's whole reply, without the question."""
    detail: str = ""
    """The reason why there is no verdict, if there is none."""

    @property
    def id(self) -> str:
        """Unique among the verdicts of one evaluator."""
        return self.comparison_id
