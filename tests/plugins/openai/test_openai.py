"""The OpenAI protocol: request bodies, and the classification of errors."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import tutelage_openai as plugin
from tutelage.context import Context
from tutelage.errors import StageError
from tutelage.preferences.judging import PAIRWISE_RUBRIC
from tutelage.records import Comparison, Message, Model, Outcome, Prompt, Sampling
from tutelage.services.chat import Question
from tutelage.services.problems import Transient
from tutelage.services.requests import Limits
from tutelage_openai.client import request_body
from tutelage_openai.replies import read_reply
from tutelage_openai.settings import OpenAiSettings

QUESTION = Question("Why?", Sampling(temperature=0.3, top_p=0.8), sample=7, max_tokens=50)
LOCAL = "http://127.0.0.1:8000/v1"


def demonstrate(server: Any) -> list[Any]:
    settings = OpenAiSettings(base_url=f"{server.url}/v1", limits=Limits(attempts=1))
    model, prompts = Model("openai", "gpt-test"), iter([Prompt("Why?")])
    return list(plugin.demonstrate(model, prompts, Sampling(), Context(settings=settings)))


def test_a_request_says_model_question_length_and_sampling() -> None:
    assert request_body(OpenAiSettings(base_url=LOCAL), "m", QUESTION) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Why?"}],
        "max_tokens": 50,
        "temperature": 0.3,
        "top_p": 0.8,
        "seed": 7,
    }


def test_the_official_service_gets_the_length_limit_under_its_new_name() -> None:
    body = request_body(OpenAiSettings(), "m", QUESTION)
    assert (body["max_completion_tokens"], "max_tokens" in body) == (50, False)


def test_settings_leave_sampling_out_and_change_the_body() -> None:
    settings = OpenAiSettings(base_url=LOCAL, send_sampling=False, extra={"max_tokens": None, "top_k": 5})
    assert request_body(settings, "m", QUESTION) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Why?"}],
        "top_k": 5,
    }


def test_another_server_gets_the_key_of_the_setting_and_no_name_of_the_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The SDK reads further variables of the environment, whatever the address is."""
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, f"other-{name}")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer other-key")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("MY_KEY", "sk-right-key\n")
    sent: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            sent.append(dict(self.headers))
            body = json.dumps(completion()).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = OpenAiSettings(base_url=f"http://127.0.0.1:{server.server_port}/v1", key_variable="MY_KEY")
        model, context = Model("openai", "m"), Context(settings=settings)
        (reply,) = plugin.demonstrate(model, iter([Prompt("Why?")]), Sampling(), context)
        server.shutdown()
    assert reply.text == "Because."
    (headers,) = ({name.lower(): value for name, value in found.items()} for found in sent)
    assert headers["authorization"] == "Bearer sk-right-key"
    assert "other-" not in str(headers)


def test_gpt_4_turbo_is_asked_where_the_recipe_names_no_model() -> None:
    endpoint = plugin.endpoint
    assert endpoint(None, "").model == "gpt-4-turbo"
    assert endpoint(None, "").cost(1_000_000, 0) == 10.0


def completion(**changes: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Because."}, **changes}
    return {"id": "1", "created": 1, "model": "m", "object": "chat.completion", "choices": [choice]}


def test_a_refusal_in_words_is_a_refusal() -> None:
    reply = read_reply(completion(message={"role": "assistant", "content": None, "refusal": "I can't help."}))
    assert (reply.outcome, reply.detail, reply.text) == (Outcome.REFUSED, "I can't help.", "")


def test_without_usage_the_tokens_are_unknown() -> None:
    reply = read_reply(completion())
    assert (reply.text, reply.input_tokens, reply.output_tokens) == ("Because.", None, None)


@pytest.mark.parametrize("strange", [{"foo": 1}, {"object": "chat.completion"}])
def test_what_is_no_completion_is_tried_again(strange: Any) -> None:
    with pytest.raises(Transient, match="no choices"):
        read_reply(strange)


@pytest.mark.parametrize("choices", [None, [], {}, "text", [None], ["text"], [{"index": 0}], [{"message": "text"}]])
def test_a_completion_with_odd_choices_was_paid_and_is_unparsed(choices: Any) -> None:
    reply = read_reply({**completion(), "choices": choices, "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    assert (reply.text, reply.outcome) == ("", Outcome.UNPARSED)
    assert reply.detail == "the reply has no choice with a message"
    assert (reply.input_tokens, reply.output_tokens) == (3, 2)


def test_an_account_without_credit_stops_the_step(start_server: Callable[..., Any]) -> None:
    with pytest.raises(StageError, match="is out of credit"):
        demonstrate(start_server("openai", "--always", "quota"))


def test_a_prompt_that_the_service_filters_is_a_refusal(start_server: Callable[..., Any]) -> None:
    (demonstration,) = demonstrate(start_server("openai", "--always", "filtered"))
    assert (demonstration.outcome, demonstration.text) == (Outcome.REFUSED, "")
    assert "blocked by safety rules" in demonstration.detail


def test_a_parameter_that_the_model_refuses_is_named_with_the_setting(start_server: Callable[..., Any]) -> None:
    server = start_server("openai", "--always", "no-logprobs")
    context = Context(settings=OpenAiSettings(base_url=f"{server.url}/v1"))
    comparison = Comparison("1", "Why?", "One.", "Two.")
    with pytest.raises(StageError, match=r"model 'm' does not accept logprobs: .*set log_probabilities: false"):
        list(plugin.evaluate(Model("openai", "m"), iter([comparison]), PAIRWISE_RUBRIC, Sampling(), context))


def test_every_turn_of_a_conversation_is_sent_with_its_role() -> None:
    messages = (Message("user", "Name a fruit."), Message("assistant", "Apple."), Message("user", "Another one?"))
    question = Question("the transcript", Sampling(), system="Be brief.", messages=messages)
    assert request_body(OpenAiSettings(base_url=LOCAL), "m", question)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Name a fruit."},
        {"role": "assistant", "content": "Apple."},
        {"role": "user", "content": "Another one?"},
    ]
