"""The reading of replies in OpenAI's protocol, and of servers that differ from it.

The SDK's models accept any value in any field. Therefore the JSON is read here, with a typed outcome for each reply.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tutelage.preferences.token_weights import verdict_alternatives
from tutelage.records import Outcome
from tutelage.services.chat import VERDICT
from tutelage.services.problems import Transient
from tutelage.services.reply_json import list_at, log_probabilities, object_at, text_at
from tutelage.services.requests import Reply
from tutelage.services.usage import token_count

_LARGEST_COUNT = 10**9
"""Larger token counts are not passed on; ``tutelage.services`` compares the others with the request."""


def read_reply(value: Mapping[str, Any]) -> Reply:
    """Return the reply of a chat completion, with its outcome and token counts.

    A complete reply without a usable text is ``Outcome.UNPARSED``, with the reason: it was paid for. Raises
    ``Transient`` if the object is no completion at all.
    """
    if not value.keys() & {"choices", "usage"}:
        raise Transient(f"the reply has no choices: {json.dumps(value)}")
    choices = list_at(value, "choices")
    choice = choices[0] if choices and isinstance(choices[0], Mapping) else {}
    text, refusal, problem = _message(choice)
    finish = text_at(choice, "finish_reason")
    outcome, detail = Outcome.ANSWERED, ""
    if refusal or finish == "content_filter":
        outcome, detail = Outcome.REFUSED, refusal or "blocked by the service's content filter"
    elif finish == "length":
        outcome, detail = Outcome.CUT, "the answer reached its length limit"
    elif finish == "error":
        outcome, detail = Outcome.UNPARSED, "the service ended the answer with an error"
    elif problem:
        outcome, detail = Outcome.UNPARSED, problem
    usage = object_at(value, "usage")
    return Reply(
        text=text,
        outcome=outcome,
        detail=detail,
        input_tokens=token_count(usage.get("prompt_tokens"), 0, _LARGEST_COUNT),
        output_tokens=token_count(usage.get("completion_tokens"), 0, _LARGEST_COUNT),
        extra=_extra(text_at(value, "model"), choice),
    )


def _message(choice: Mapping[str, Any]) -> tuple[str, str, str]:
    """The text and the refusal of a choice, and why there is no text if there is neither."""
    message = choice.get("message")
    if not isinstance(message, Mapping):
        return "", "", "the reply has no choice with a message"
    content, refusal = message.get("content"), text_at(message, "refusal")
    if isinstance(content, str):
        return content, refusal, ""
    if isinstance(content, list):
        text = "".join(map(_part_text, content))
        refusal = refusal or "".join(text_at(part, "refusal") for part in content)
        return text, refusal, "" if text else "the content of the reply has no text part"
    if message.get("tool_calls") or message.get("function_call"):
        return "", refusal, "the reply is a tool call, not a text"
    kind = "null" if content is None else f"of type {type(content).__name__}"
    return "", refusal, f"the content of the reply is {kind}"


def _part_text(part: object) -> str:
    """The text of a content part; "" for other parts, such as the thoughts of a model."""
    if isinstance(part, str):
        return part
    return text_at(part, "text") if text_at(part, "type") in ("text", "output_text", "") else ""


def _extra(model: str, choice: Mapping[str, Any]) -> dict[str, Any]:
    extra: dict[str, Any] = {"model": model} if model else {}
    tokens = list_at(choice.get("logprobs"), "content")
    if tokens:
        alternatives = (
            (text_at(token, "token"), log_probabilities(list_at(token, "top_logprobs"), "token", "logprob"))
            for token in tokens
        )
        extra[VERDICT] = verdict_alternatives(alternatives)
    return extra
