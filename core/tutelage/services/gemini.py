"""Gemini's protocol, for the plugins of its SDKs: the parts of requests, and the reading of replies.

The source is the Gemini API reference (GenerateContentRequest, GenerateContentResponse).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from attrs import field, frozen, validators

from tutelage.preferences.token_weights import verdict_alternatives
from tutelage.records import Outcome
from tutelage.services.address import check_address
from tutelage.services.api_key import secret_in
from tutelage.services.chat import VERDICT, Question
from tutelage.services.prices import Price
from tutelage.services.problems import Transient
from tutelage.services.reply_json import list_at, log_probabilities, object_at, text_at
from tutelage.services.requests import Endpoint, Limits, Reply
from tutelage.services.usage import token_count

OFFICIAL_URL = "https://generativelanguage.googleapis.com"
KEY_VARIABLE = "GEMINI_API_KEY"
OTHER_KEY_VARIABLE = "GOOGLE_API_KEY"
"""Google's older name of the variable."""
DEFAULT_MODEL = "gemini-2.5-flash-lite"
"""A current model without thinking tokens. The published method used gemini-1.0-pro."""
_ROLES = {"user": "user", "assistant": "model"}
"""The roles of a conversation in the protocol."""
_HARMS = ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
"""The categories of the safety settings, without the prefix HARM_CATEGORY_."""
_TOP_LOG_PROBABILITIES = 5
"""The maximum of the service (GenerationConfig.logprobs)."""
PARAMETERS = {
    "logprobs": "set log_probabilities: false",
    "responselogprobs": "set log_probabilities: false",
    "response_logprobs": "set log_probabilities: false",
}
"""The setting to change for each parameter that a model may reject."""
Block = Literal["none", "only_high", "medium_and_above", "low_and_above"]
"""Probability of harm from which an answer is blocked."""

FINISH_REASONS = (
    "FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "LANGUAGE", "BLOCKLIST",
    "PROHIBITED_CONTENT", "SPII", "MALFORMED_FUNCTION_CALL", "IMAGE_SAFETY",
)  # fmt: skip
BLOCK_REASONS = ("BLOCK_REASON_UNSPECIFIED", "SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY")
"""Names by number: the SDK requests enumerations as numbers (``enum-encoding=int``), and other servers send names."""
_FINISHED = ("STOP", "FINISH_REASON_UNSPECIFIED", "")
_BLOCKED = (
    "SAFETY", "RECITATION", "LANGUAGE", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
)  # fmt: skip
_LARGEST_COUNT = 10**9
"""Larger token counts are not passed on; ``tutelage.services`` compares the others with the request."""


@frozen
class GeminiProtocolSettings:
    """Settings of a plugin for Gemini. The API key is not a setting; it is read from the environment."""

    model: str = DEFAULT_MODEL
    """Model that is called if the recipe names none."""
    base_url: str = field(default=OFFICIAL_URL, validator=check_address)
    """Address of the service, without a path."""
    key_variable: str = KEY_VARIABLE
    """Environment variable with the API key. If it is not set, GOOGLE_API_KEY is used."""
    revision: str = ""
    """Version of the weights, for a server on this machine. Without it, its answers are not stored in the ledger."""
    price: Price | None = None
    """US dollars per million tokens. Needed for a budget if the price table does not have the model."""
    block: Block = "only_high"
    """Probability of harm from which the service blocks an answer."""
    thinking_tokens: int = field(default=0, validator=validators.ge(0))
    """Tokens for the thoughts of a reasoning model, in addition to the length limit of the answer."""
    log_probabilities: bool = False
    """Request log-probabilities in `evaluate`, to weight preferences by them. Most models reject the request."""
    limits: Limits = field(factory=Limits)
    """Limits on rate, retries and time of the calls."""

    @property
    def key_variables(self) -> tuple[str, ...]:
        """The environment variables that may hold the key, in the order in which they are read."""
        return (self.key_variable, OTHER_KEY_VARIABLE)

    def endpoint(self, provider: str, model: str) -> Endpoint:
        """Return the model and service that the plugin ``provider`` calls, with the key of the environment."""
        return Endpoint(
            provider=provider,
            base_url=self.base_url.rstrip("/"),
            model=(model or self.model).removeprefix("models/"),
            revision=self.revision,
            price=self.price,
            secret=secret_in(self.key_variables),
        )


def read_reply(value: Mapping[str, Any]) -> Reply:
    """Return the reply of a response, with its outcome and token counts.

    A complete reply without a usable text is ``Outcome.UNPARSED``, with the reason: it was paid for. Raises
    ``Transient`` if the object is no response of this protocol at all.
    """
    blocked = _name(object_at(value, "promptFeedback").get("blockReason"), BLOCK_REASONS)
    if blocked not in ("", BLOCK_REASONS[0]):
        return _reply(value, "", Outcome.REFUSED, f"the question was blocked: {blocked}")
    if not value.keys() & {"candidates", "usageMetadata"}:
        raise Transient(f"the reply has no candidates: {json.dumps(value)}")
    candidates = list_at(value, "candidates")
    candidate = candidates[0] if candidates and isinstance(candidates[0], Mapping) else None
    if candidate is None:
        return _reply(value, "", Outcome.UNPARSED, "the reply has no candidate")
    text = "".join(map(_part_text, list_at(candidate.get("content"), "parts")))
    finish = _name(candidate.get("finishReason"), FINISH_REASONS)
    if finish == "MAX_TOKENS":
        return _reply(value, text, Outcome.CUT, "the answer reached its length limit", _verdict(candidate))
    if finish in _BLOCKED:
        return _reply(value, text, Outcome.REFUSED, f"the answer was blocked: {finish}")
    if finish not in _FINISHED:
        return _reply(value, text, Outcome.UNPARSED, f"the answer ended for a reason that is not known: {finish}")
    if not text:
        return _reply(value, "", Outcome.UNPARSED, "the reply has no text")
    return _reply(value, text, Outcome.ANSWERED, "", _verdict(candidate))


def _name(value: object, names: Sequence[str]) -> str:
    """The name of a value of an enumeration; "" if there is none, the value as text if its name is not known."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return names[value]
    return str(value)[:100]


def _part_text(part: object) -> str:
    """The text of a part of the answer; "" for a thought and for parts of other kinds."""
    return "" if isinstance(part, Mapping) and part.get("thought") else text_at(part, "text")


def _reply(
    value: Mapping[str, Any], text: str, outcome: Outcome, detail: str, verdict: list[list[Any]] | None = None
) -> Reply:
    version = text_at(value, "modelVersion")
    extra: dict[str, Any] = {"model": version} if version else {}
    input_tokens, output_tokens = _counts(object_at(value, "usageMetadata"))
    return Reply(
        text=text,
        outcome=outcome,
        detail=detail,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        extra=extra | ({VERDICT: verdict} if verdict else {}),
    )


def _counts(usage: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Input and output tokens; both are unknown if one of the counts is no count.

    The total includes the tokens of thoughts, which are billed like the answer. A count that is absent is 0.
    """
    names = ("promptTokenCount", "candidatesTokenCount", "totalTokenCount")
    counts = [token_count(usage.get(name, 0), 0, _LARGEST_COUNT) for name in names]
    asked, answered, total = counts
    if not asked or answered is None or total is None:
        return None, None
    return asked, max(total - asked, answered)


def _verdict(candidate: Mapping[str, Any]) -> list[list[Any]]:
    steps = list_at(candidate.get("logprobsResult"), "topCandidates")
    tops = [log_probabilities(list_at(step, "candidates"), "token", "logProbability") for step in steps]
    return verdict_alternatives((top[0][0], top) for top in tops if top)


def contents(question: Question) -> list[dict[str, Any]]:
    """Return the turns of a question as ``Content`` objects."""
    return [{"role": _ROLES[turn.role], "parts": [{"text": turn.content}]} for turn in question.turns]


def system_instruction(question: Question) -> dict[str, Any]:
    """Return the key ``system_instruction`` of a request; empty if the question has no system message."""
    return {"system_instruction": {"parts": [{"text": question.system}]}} if question.system else {}


def generation_config(question: Question) -> dict[str, Any]:
    """Return the values of a ``GenerationConfig``."""
    config: dict[str, Any] = {
        "temperature": question.sampling.temperature,
        "top_p": question.sampling.top_p,
        "max_output_tokens": question.max_tokens,
        "candidate_count": 1,
    }
    if question.sampling.top_k is not None:
        config["top_k"] = question.sampling.top_k
    if question.log_probabilities:
        config |= {"response_logprobs": True, "logprobs": _TOP_LOG_PROBABILITIES}
    return config


def safety_settings(block: Block) -> list[dict[str, str]]:
    """Return the ``SafetySetting`` of each category of harm."""
    threshold = f"BLOCK_{block.upper()}"
    return [{"category": f"HARM_CATEGORY_{harm}", "threshold": threshold} for harm in _HARMS]
