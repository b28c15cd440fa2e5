"""The Gemini protocol: request bodies, and the parsing of blocked and invalid replies."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import tutelage_gemini as plugin
from tutelage.context import Context
from tutelage.errors import StageError
from tutelage.preferences.judging import PAIRWISE_RUBRIC
from tutelage.records import Comparison, Message, Model, Outcome, Prompt, Sampling
from tutelage.services.chat import Question
from tutelage.services.gemini import BLOCK_REASONS, FINISH_REASONS, read_reply
from tutelage.services.problems import Transient
from tutelage.services.requests import Limits
from tutelage_gemini.client import problem_of, request_body
from tutelage_gemini.settings import GeminiSettings, endpoint

QUESTION = Question("Why?", Sampling(temperature=0.3, top_p=0.8), sample=7, max_tokens=50)


def response(**fields: Any) -> Any:
    """A response as the service sends it, in the SDK's own JSON."""
    import google.generativeai as genai

    cls = genai.protos.GenerateContentResponse
    return json.loads(
        cls.to_json(cls(fields), use_integers_for_enums=False, always_print_fields_with_no_presence=False)
    )


def candidate(finish: str, *texts: str) -> dict[str, Any]:
    return {"finish_reason": finish, "content": {"role": "model", "parts": [{"text": text} for text in texts]}}


def test_a_request_says_model_question_length_sampling_and_what_to_block() -> None:
    body = request_body(GeminiSettings(block="none"), "gemini-1.0-pro", QUESTION)
    assert body["model"] == "models/gemini-1.0-pro"
    assert body["contents"] == [{"role": "user", "parts": [{"text": "Why?"}]}]
    assert body["generation_config"] == {
        "temperature": 0.3,
        "top_p": 0.8,
        "max_output_tokens": 50,
        "candidate_count": 1,
    }
    assert {rule["threshold"] for rule in body["safety_settings"]} == {"BLOCK_NONE"}


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_top_k_is_sent_if_it_is_set() -> None:
    bodies = [request_body(GeminiSettings(), "m", Question("Why?", Sampling(top_k=top_k))) for top_k in (None, 40)]
    assert [body["generation_config"].get("top_k") for body in bodies] == [None, 40]


def test_every_request_body_is_valid_in_the_protocol() -> None:
    import google.generativeai as genai

    for block in ("none", "only_high", "medium_and_above", "low_and_above"):
        body = request_body(
            GeminiSettings(block=block), "m", Question("Why?", Sampling(top_k=4), log_probabilities=True)
        )
        assert genai.protos.GenerateContentRequest(body).safety_settings[0].threshold.name == f"BLOCK_{block.upper()}"


def test_the_parts_of_an_answer_are_one_text_and_thoughts_are_paid() -> None:
    usage = {"prompt_token_count": 10, "candidates_token_count": 2, "total_token_count": 40}
    reply = read_reply(response(candidates=[candidate("STOP", "Be", "cause.")], usage_metadata=usage))
    assert (reply.text, reply.outcome) == ("Because.", Outcome.ANSWERED)
    assert (reply.input_tokens, reply.output_tokens) == (10, 30)


def test_reasons_as_numbers_have_the_names_of_the_sdk() -> None:
    """The SDK requests enumerations as numbers."""
    import google.generativeai as genai

    finish = genai.protos.Candidate.FinishReason
    block = genai.protos.GenerateContentResponse.PromptFeedback.BlockReason
    assert sorted(finish, key=int) == [finish[name] for name in FINISH_REASONS]
    assert sorted(block, key=int) == [block[name] for name in BLOCK_REASONS]
    for number, name in enumerate(FINISH_REASONS):
        value = {"candidates": [{"finishReason": number, "content": {"parts": [{"text": "Because."}]}}]}
        named = {"candidates": [{"finishReason": name, "content": {"parts": [{"text": "Because."}]}}]}
        assert read_reply(value) == read_reply(named)
    for number, name in enumerate(BLOCK_REASONS):
        reply = read_reply({"promptFeedback": {"blockReason": number}, "candidates": []})
        assert reply == read_reply({"promptFeedback": {"blockReason": name}, "candidates": []})
        assert (reply.outcome is Outcome.REFUSED) is (number > 0)


@pytest.mark.parametrize("reason", [99, -1, True, "SOME_NEW_REASON", 10**30, ["STOP"]])
def test_a_reason_that_is_not_known_is_no_answer(reason: Any) -> None:
    reply = read_reply({"candidates": [{"finishReason": reason, "content": {"parts": [{"text": "Because."}]}}]})
    assert (reply.outcome, reply.text) == (Outcome.UNPARSED, "Because.")
    assert str(reason) in reply.detail


@pytest.mark.parametrize("finish", ["SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "OTHER"])
def test_an_answer_that_was_stopped_is_a_refusal_with_its_reason(finish: str) -> None:
    reply = read_reply(response(candidates=[candidate(finish)]))
    assert (reply.outcome, reply.detail) == (Outcome.REFUSED, f"the answer was blocked: {finish}")


def test_a_blocked_question_is_a_refusal_with_its_reason() -> None:
    reply = read_reply(response(prompt_feedback={"block_reason": "PROHIBITED_CONTENT"}))
    assert (reply.outcome, reply.detail) == (Outcome.REFUSED, "the question was blocked: PROHIBITED_CONTENT")


def test_an_answer_of_thinking_tokens_only_was_cut() -> None:
    reply = read_reply(response(candidates=[candidate("MAX_TOKENS")]))
    assert (reply.outcome, reply.text) == (Outcome.CUT, "")


def test_a_reply_without_candidates_is_tried_again() -> None:
    with pytest.raises(Transient, match="no candidates"):
        read_reply(response())


def test_the_wait_that_gemini_asks_for_in_its_error_is_honoured() -> None:
    import requests
    from google.api_core.exceptions import from_http_response

    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.5s"}
    refused = requests.Response()
    refused.status_code = 429
    refused._content = json.dumps({"error": {"code": 429, "message": "quota", "details": [info]}}).encode()
    refused.request = requests.Request("POST", "https://x.example").prepare()
    problem = problem_of(from_http_response(refused), GeminiSettings(), "m")
    assert isinstance(problem, Transient)
    assert (problem.retry_after, problem.too_fast) == (17.5, True)


def test_googles_older_variable_holds_the_key_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    monkeypatch.setenv("GOOGLE_API_KEY", "older")
    assert endpoint(None, "").secret == "older"
    monkeypatch.setenv("GEMINI_API_KEY", "newer")
    assert endpoint(None, "").secret == "newer"


def test_two_services_in_one_process_keep_apart(start_server: Callable[..., Any]) -> None:
    servers = [start_server("gemini"), start_server("gemini")]
    prompts = [Prompt(f"Question {number}?") for number in range(8)]
    limits = Limits(in_flight=1)
    streams = [
        plugin.demonstrate(
            Model("gemini", "gemini-test"),
            iter(prompts),
            Sampling(),
            Context(settings=GeminiSettings(base_url=server.url, limits=limits)),
        )
        for server in servers
    ]
    for _ in prompts:
        for stream in streams:
            assert next(stream).outcome is Outcome.ANSWERED
    assert [len(server.asked()) for server in servers] == [8, 8]


def test_log_probabilities_that_the_model_refuses_are_named_with_the_setting(start_server: Callable[..., Any]) -> None:
    server = start_server("gemini", "--always", "no-logprobs")
    context = Context(settings=GeminiSettings(base_url=server.url, log_probabilities=True))
    comparison = Comparison("1", "Why?", "One.", "Two.")
    with pytest.raises(StageError, match="set log_probabilities: false"):
        list(plugin.evaluate(Model("gemini", "m"), iter([comparison]), PAIRWISE_RUBRIC, Sampling(), context))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_every_turn_of_a_conversation_is_sent_with_its_role() -> None:
    import google.generativeai as genai

    messages = (Message("user", "Name a fruit."), Message("assistant", "Apple."), Message("user", "Another one?"))
    question = Question("the transcript", Sampling(), system="Be brief.", messages=messages)
    body = request_body(GeminiSettings(), "m", question)
    assert [content.role for content in genai.protos.GenerateContentRequest(body).contents] == ["user", "model", "user"]
    assert body["system_instruction"] == {"parts": [{"text": "Be brief."}]}
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "Name a fruit."}]},
        {"role": "model", "parts": [{"text": "Apple."}]},
        {"role": "user", "parts": [{"text": "Another one?"}]},
    ]
