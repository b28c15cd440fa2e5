"""The ledger's keys of requests: an answer that an older version paid for is still found."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest

import tutelage_gemini.client as gemini
import tutelage_openai.client as openai
from tutelage.records import JudgeItem, Message, Prompt, Rubric, Sampling
from tutelage.services.chat import ChatService
from tutelage.services.requests import Endpoint, Request
from tutelage_gemini.settings import GeminiSettings
from tutelage_gemini.settings import endpoint as gemini_endpoint
from tutelage_openai.settings import OpenAiSettings
from tutelage_openai.settings import endpoint as openai_endpoint

OPENAI = partial(openai.request_body, OpenAiSettings(), "gpt-test"), openai_endpoint(OpenAiSettings(), "gpt-test")
GEMINI = partial(gemini.request_body, GeminiSettings(), "gemini-test"), gemini_endpoint(GeminiSettings(), "gemini-test")

STRICT = Rubric("strict", "{prompt} {answer}", system="Be strict.")


class Keys:
    """A caller that sends nothing and collects the keys of the requests."""

    def __init__(self) -> None:
        self.found: list[str | None] = []

    def map(self, requests: Iterable[Request[Any]], ask: Any, endpoint: Endpoint, limits: Any) -> Any:
        self.found += [endpoint.key(request) for request in requests]
        return iter(())


def keys_of(body: Any, endpoint: Endpoint, prompt: Prompt) -> list[str | None]:
    """The keys of a demonstration and of a judgement."""
    caller: Any = Keys()
    service = ChatService(caller, endpoint, body, lambda body, timeout: pytest.fail("a request was sent"))
    list(service.demonstrate([prompt], Sampling(0.7, 0.9, 64, 3)))
    list(service.judge([JudgeItem("i", "Why?", "Because.")], STRICT, 1, Sampling(0.0, 1.0, 64)))
    return list(caller.found)


@pytest.mark.parametrize(
    ("service", "keys"),
    [
        (
            OPENAI,
            [
                "e7ba32d2e06a86d448e60a2e094c6e9577830a557d43d3b719962cecc7dca35f",
                "f49a70fe4d687cdf6932737c766409978850a676eded56c1a9ea40b57d9d1d2e",
            ],
        ),
        (
            GEMINI,
            [
                "10f8e4fa15eb6838eb1a79ffe42834ad87d1584db63a3d9a2a1806c6cfde621e",
                "df7e507208d9274306134ce79aee61712cd8ce3ae9f37c1f36e3d023ca3688f4",
            ],
        ),
    ],
)
def test_the_keys_of_one_turn_find_answers_that_were_stored_before(
    service: tuple[Any, Endpoint], keys: list[str]
) -> None:
    assert keys_of(*service, Prompt("Why?")) == keys
    assert keys_of(*service, Prompt.of_messages([Message("user", "Why?")])) == keys


@pytest.mark.parametrize("service", [OPENAI, GEMINI])
def test_conversations_that_differ_in_one_turn_have_different_keys(service: tuple[Any, Endpoint]) -> None:
    turns = [Message("system", "Be brief."), Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
    others = [[*turns[:n], Message(turn.role, f"{turn.content}!"), *turns[n + 1 :]] for n, turn in enumerate(turns)]
    prompts = [Prompt.of_messages(messages) for messages in (turns, turns[1:], turns[3:], *others)]
    assert len({keys_of(*service, prompt)[0] for prompt in prompts}) == len(prompts)
