"""System messages and several turns: every chat template shows each of them to the model, or is refused before work."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chat_templates
import pytest
from chat_templates import ANSWER, CASES, CHAT, GEMMA, GEMMA_TOKENS, QWEN, QWEN_TOKENS

from tutelage.context import Context
from tutelage.errors import InputError
from tutelage.files.jsonl import write_rows
from tutelage.objectives import Sft
from tutelage.records import Comparison, JudgeItem, Message, Model, Prompt, Rubric, Sampling
from tutelage_transformers.generation import dispatch, judging
from tutelage_transformers.generation.answering import candidates, demonstrations
from tutelage_transformers.models import chat
from tutelage_transformers.models.chat import answer_text, check_template, ensure_chat, prompt_text, user_prompt
from tutelage_transformers.models.counting import count_tokens
from tutelage_transformers.training.examples import dpo_rows, sft_rows
from tutelage_transformers.training.step import train

MESSAGES = tuple(Message(message["role"], message["content"]) for message in CHAT)
GREEDY = Sampling(temperature=0, max_new_tokens=2)


@pytest.fixture
def tokenizer_with(make_base: Callable[..., Path]) -> Callable[..., Any]:
    """Makes tokenizers: tokenizer_with(template, special)."""

    def make(template: str | None, special: tuple[str, ...] = QWEN_TOKENS) -> Any:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(make_base(special=special, template=template))
        ensure_chat(tokenizer)
        return tokenizer

    return make


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects the texts that are given to the engine, which completes none of them."""
    texts: list[str] = []

    def collect(loaded: Any, prompts: list[str], *_: object) -> Any:
        texts.extend(prompts)
        return iter(())

    monkeypatch.setattr(dispatch, "generate", collect)
    return texts


def test_a_template_with_a_system_role_shows_every_turn(tokenizer_with: Callable[..., Any]) -> None:
    tokenizer = tokenizer_with(QWEN)
    begin = prompt_text(tokenizer, CHAT)
    assert begin == (
        "<|im_start|>system\nplease sort the words<|im_end|>\n<|im_start|>user\ncat dog<|im_end|>\n"
        "<|im_start|>assistant\napple pear<|im_end|>\n<|im_start|>user\ncow red<|im_end|>\n<|im_start|>assistant\n"
    )
    assert answer_text(tokenizer, CHAT, begin, ANSWER) == "blue plum<|im_end|>\n"


def test_a_default_system_message_of_a_template_is_kept_for_prompts_without_one(
    tokenizer_with: Callable[..., Any],
) -> None:
    assert user_prompt(tokenizer_with(QWEN), "cat").startswith("<|im_start|>system\nplease sort<|im_end|>\n")


def test_a_template_that_refuses_system_messages_gets_them_in_the_first_user_turn(
    tokenizer_with: Callable[..., Any],
) -> None:
    tokenizer = tokenizer_with(GEMMA, GEMMA_TOKENS)
    begin = prompt_text(tokenizer, CHAT)
    assert begin == (
        "<start_of_turn>user\nplease sort the words\n\ncat dog<end_of_turn>\n<start_of_turn>model\napple pear"
        "<end_of_turn>\n<start_of_turn>user\ncow red<end_of_turn>\n<start_of_turn>model\n"
    )
    assert answer_text(tokenizer, CHAT, begin, ANSWER) == "blue plum<end_of_turn>\n"


def test_a_template_that_ignores_system_messages_gets_them_in_the_first_user_turn(
    tokenizer_with: Callable[..., Any],
) -> None:
    text = prompt_text(tokenizer_with(chat_templates.DROPS_SYSTEM), CHAT)
    assert text.startswith("[user]please sort the words\n\ncat dog<|im_end|>[assistant]apple pear")


@pytest.mark.parametrize(
    ("special", "expected"),
    [
        (
            ("<|endoftext|>", "<|unk|>", "<|user|>", "<|assistant|>"),
            "<|user|>please sort the words\n\ncat dog<|assistant|>apple pear<|endoftext|><|user|>cow red<|assistant|>",
        ),
        (
            ("<|endoftext|>", "<|unk|>", "<|system|>", "<|user|>", "<|assistant|>"),
            "<|system|>please sort the words<|user|>cat dog<|assistant|>apple pear<|endoftext|>"
            "<|user|>cow red<|assistant|>",
        ),
        (
            ("<|endoftext|>", "<|unk|>"),
            "please sort the words\nInstruct: cat dog\nOutput:\napple pear<|endoftext|>\nInstruct: cow red\nOutput:\n",
        ),
    ],
)
def test_a_base_model_gets_a_template_that_shows_every_turn_with_tokens_that_it_has(
    special: tuple[str, ...], expected: str, tokenizer_with: Callable[..., Any]
) -> None:
    assert prompt_text(tokenizer_with(None, special), CHAT) == expected


def test_a_merged_system_message_is_reported_once(
    tokenizer_with: Callable[..., Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "_reported", set())
    tokenizer = tokenizer_with(GEMMA, GEMMA_TOKENS)
    with caplog.at_level(logging.WARNING):
        user_prompt(tokenizer, "cat")
        assert caplog.messages == []
        for _ in range(3):
            prompt_text(tokenizer, CHAT)
    [message] = caplog.messages
    assert "has no system role; system messages are put before the first user message" in message


def test_thoughts_of_earlier_answers_may_be_dropped_by_a_template(tokenizer_with: Callable[..., Any]) -> None:
    thought = [CHAT[1], {"role": "assistant", "content": "<think>cow</think>apple"}, CHAT[3]]
    text = prompt_text(tokenizer_with(chat_templates.DROPS_THOUGHTS), thought)
    assert text == "[user]cat dog<|im_end|>[assistant]apple<|im_end|>[user]cow red<|im_end|>[assistant]"


def test_a_template_that_shows_only_the_first_turn_is_refused_for_a_conversation(
    tokenizer_with: Callable[..., Any],
) -> None:
    tokenizer = tokenizer_with(chat_templates.FIRST_ONLY)
    check_template(tokenizer, with_answer=True)
    with pytest.raises(InputError, match=r"loses the assistant message: the rendered text does not contain .*apple"):
        prompt_text(tokenizer, CHAT[1:])


def test_a_turn_that_repeats_an_earlier_one_must_be_shown_again(tokenizer_with: Callable[..., Any]) -> None:
    repeated = [CHAT[1], {"role": "assistant", "content": "cat"}, CHAT[1]]
    with pytest.raises(InputError, match="does not contain the message"):
        prompt_text(tokenizer_with(chat_templates.FIRST_ONLY), repeated)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (chat_templates.WANTS_PARTS, "loses the user message: the rendered text does not contain the message"),
        (chat_templates.WANTS_SYSTEM, "refuses a conversation of user: First message must be system"),
        ("{{ messages[0]['content'] + 1 }}", "refuses a conversation of user: "),
        ("{% for message in messages %}{{ message['role'] }}{% endfor %}", "loses the user message"),
    ],
)
def test_a_template_that_cannot_show_a_message_is_refused_before_work(
    template: str, problem: str, make_base: Callable[..., Path], sft_file: Path, tmp_path: Path
) -> None:
    model = Model("transformers", str(make_base(special=QWEN_TOKENS, template=template)))
    named = f"tokenizer of {model.name}: its chat template {problem}"
    with pytest.raises(InputError) as counted:
        count_tokens(None, model.name, [], download=False)
    with pytest.raises(InputError) as generated:
        list(candidates(model, [Prompt("cat")], 1, GREEDY, Context()))
    with pytest.raises(InputError) as trained:
        train(model, None, Sft(), sft_file, tmp_path / "M1", Context())
    assert all(str(error.value).startswith(named) for error in (counted, generated, trained))


@pytest.mark.skipif(not (CASES / "models").is_dir(), reason="the folder of failed inputs is not on this machine")
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("template_raises", "refuses a conversation of user: First message must be system"),
        ("template_wants_parts", "loses the user message: the rendered text does not contain the message"),
    ],
)
def test_models_whose_template_failed_are_refused_before_work(name: str, problem: str) -> None:
    model = Model("transformers", str(CASES / "models" / name))
    for work in (
        lambda: count_tokens(None, model.name, [], download=False),
        lambda: list(candidates(model, [Prompt("cat")], 1, GREEDY, Context())),
        lambda: list(judging.judgements(model, [], Rubric("r", "{prompt}"), 1, GREEDY, Context())),
    ):
        with pytest.raises(InputError, match=f"tokenizer of {model.name}: its chat template {problem}"):
            work()


@pytest.mark.parametrize(("template", "special"), [(QWEN, QWEN_TOKENS), (GEMMA, GEMMA_TOKENS), (None, QWEN_TOKENS)])
def test_training_sampling_and_counting_see_the_same_conversation(
    template: str | None,
    special: tuple[str, ...],
    make_base: Callable[..., Path],
    tmp_path: Path,
    rendered: list[str],
) -> None:
    from transformers import AutoTokenizer

    folder = make_base(special=special, template=template)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ensure_chat(tokenizer)
    model = Model("transformers", str(folder))
    list(candidates(model, [Prompt.of_messages(MESSAGES)], 1, GREEDY, Context()))
    list(demonstrations(model, [Prompt.of_messages(MESSAGES)], GREEDY, Context()))
    sampled, demonstrated = rendered
    assert sampled == demonstrated == prompt_text(tokenizer, CHAT)
    ids = tokenizer(sampled, add_special_tokens=False).input_ids
    other = [{"role": "assistant", "content": "red"}]
    write_rows(tmp_path / "sft.jsonl", [{"prompt": CHAT, "completion": ANSWER}])
    write_rows(tmp_path / "dpo.jsonl", [{"prompt": CHAT, "chosen": ANSWER, "rejected": other}])
    [learned] = sft_rows(tmp_path / "sft.jsonl", tokenizer, 100)
    assert learned["input_ids"][: len(ids)] == ids
    assert tokenizer.decode([label for label in learned["labels"] if label != -100]).strip() in (
        f"blue plum{tokenizer.eos_token}",
        f"blue plum {tokenizer.eos_token}",
    )
    [preferred] = dpo_rows(tmp_path / "dpo.jsonl", tokenizer, 100)
    assert preferred["prompt_ids"] == ids
    counts = count_tokens(None, str(folder), [{"prompt": CHAT, "completion": ANSWER}, {"prompt": CHAT}], False)
    assert counts is not None
    assert counts.tokens == (len(learned["input_ids"]), len(ids))


def test_the_system_message_of_a_rubric_is_shown_to_a_local_judge(
    make_base: Callable[..., Path], rendered: list[str]
) -> None:
    model = Model("transformers", str(make_base(special=QWEN_TOKENS, template=QWEN)))
    rubric = Rubric("strict", "score {prompt} {answer}", system="please score")
    pairwise = Rubric("pairwise", "{prompt} {first} {second}", system="better first")
    list(judging.judgements(model, [JudgeItem("a", "cat", "dog")], rubric, 1, GREEDY, Context()))
    list(judging.verdicts(model, [Comparison("b", "cat", "dog", "cow")], pairwise, GREEDY, Context()))
    assert "<|im_start|>system\nplease score<|im_end|>" in rendered[0]
    assert "<|im_start|>system\nbetter first<|im_end|>" in rendered[1]


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        (CHAT[:3], "ends with the assistant"),
        ([CHAT[2], CHAT[3]], "begins with the assistant"),
        ([CHAT[1], CHAT[3]], "the assistant's is missing"),
        ([CHAT[1], chat_templates.SYSTEM], "only the first message"),
    ],
)
def test_a_training_prompt_out_of_order_is_named_with_file_and_line(
    prompt: list[dict[str, str]], problem: str, loaded: Any, tmp_path: Path
) -> None:
    good = {"prompt": CHAT, "completion": ANSWER}
    write_rows(tmp_path / "sft.jsonl", [good, {**good, "prompt": prompt}])
    with pytest.raises(InputError, match=rf"sft\.jsonl, line 2: 'prompt': .*{problem}"):
        sft_rows(tmp_path / "sft.jsonl", loaded.tokenizer, 100)


def test_a_conversation_that_a_template_loses_is_named_with_file_and_line(
    tokenizer_with: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "sft.jsonl").write_text(json.dumps({"prompt": CHAT[1:], "completion": ANSWER}) + "\n")
    with pytest.raises(InputError, match=r"sft\.jsonl, line 1: tokenizer of .* loses the assistant message"):
        sft_rows(tmp_path / "sft.jsonl", tokenizer_with(chat_templates.FIRST_ONLY), 100)
