"""Ollama's Modelfile renders conversations as the chat template that the model was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from go_templates import render
from small_models import fast_tokenizer, gpt2_tokenizer, sentencepiece_tokenizer

from tutelage.records import Sampling
from tutelage_transformers.models.chat import MARKED_TEMPLATE, PLAIN_TEMPLATE, ensure_chat, prompt_text
from tutelage_transformers.models.modelfile import form_of, modelfile

CONVERSATIONS: Sequence[Sequence[tuple[str, str]]] = [
    [("user", "Sort b a.")],
    [("user", "Sort b a."), ("assistant", "a b\nas you said"), ("user", 'And "c" {{ .Content }}?')],
    [("system", "Answer briefly."), ("user", "Sort b a.")],
    [("system", "Be brief."), ("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"), ("user", "5")],
]
LOOP = "{% for message in messages %}{{ OPEN + message['content'] | trim + CLOSE }}{% endfor %}"
END = "{% if add_generation_prompt %}{{ 'ANSWER' }}{% endif %}"
CHATML = LOOP.replace("OPEN", "'<|im_start|>' + message['role'] + '\n'").replace(
    "CLOSE", "'<|im_end|>\n'"
) + END.replace("ANSWER", "<|im_start|>assistant\n")
LLAMA3 = (
    "{{ bos_token }}"
    + LOOP.replace("OPEN", "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'").replace(
        "CLOSE", "'<|eot_id|>'"
    )
    + END.replace("ANSWER", "<|start_header_id|>assistant<|end_header_id|>\n\n")
)
PHI3 = LOOP.replace("OPEN", "'<|' + message['role'] + '|>\n'").replace("CLOSE", "'<|end|>\n'") + END.replace(
    "ANSWER", "<|assistant|>\n"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}" + END.replace("ANSWER", "<start_of_turn>model\n")
)
QWEN_WITH_ITS_OWN_SYSTEM_MESSAGE = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    + CHATML
)


def tokenizer_with(template: str | None, begins: bool = False) -> Any:
    tokenizer = fast_tokenizer(sentencepiece_tokenizer() if begins else gpt2_tokenizer())
    tokenizer.chat_template = template
    ensure_chat(tokenizer)
    return tokenizer


def go_template(text: str) -> str:
    return text.partition('TEMPLATE """')[2].partition('"""')[0]


@pytest.mark.parametrize(
    ("template", "begins", "name"),
    [
        (None, False, "tutelage, with markers"),
        (None, True, "tutelage, with markers"),
        (PLAIN_TEMPLATE, False, "tutelage"),
        ("{{ bos_token }}" + PLAIN_TEMPLATE, True, "tutelage"),
        (CHATML, False, "ChatML"),
        (LLAMA3, True, "Llama 3"),
        (PHI3, False, "Phi-3"),
        (GEMMA, True, "Gemma"),
    ],
)
def test_a_known_form_is_written_in_gos_language(template: str | None, begins: bool, name: str) -> None:
    tokenizer = tokenizer_with(template, begins)
    form = form_of(tokenizer)
    assert form is not None and form.name == name
    text = modelfile(tokenizer, [tokenizer.eos_token_id], None, "model.gguf")
    for turns in CONVERSATIONS:
        expected = prompt_text(tokenizer, [{"role": role, "content": content} for role, content in turns])
        expected = expected.removeprefix(tokenizer.bos_token if begins else "")  # llama.cpp adds it
        found = render(go_template(text), [{"Role": role, "Content": content} for role, content in turns])
        assert found == expected


@pytest.mark.parametrize(
    "template",
    [
        QWEN_WITH_ITS_OWN_SYSTEM_MESSAGE,
        MARKED_TEMPLATE.replace("{{ eos_token }}", ""),
        CHATML.replace("'<|im_end|>\n'", "'<|im_end|>'"),
    ],
    ids=["a system message of its own", "answers without an end", "another end"],
)
def test_another_template_is_left_out_and_the_file_states_it(template: str) -> None:
    tokenizer = fast_tokenizer(gpt2_tokenizer())
    ensure_chat(tokenizer)
    tokenizer.chat_template = template
    text = modelfile(tokenizer, [0], None, "model.gguf")
    assert 'TEMPLATE """' not in text
    assert "# TEMPLATE is missing" in text
    assert all(line.startswith(("#", "FROM ./model.gguf", "PARAMETER stop")) for line in text.splitlines())


def test_the_stop_tokens_and_the_sampling_are_those_of_the_training() -> None:
    tokenizer = tokenizer_with(None)
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|user|>")]
    lines = modelfile(tokenizer, ends, Sampling(0.7, 0.95, 256), "model.gguf").splitlines()
    assert lines[0] == "FROM ./model.gguf"
    assert [line for line in lines if "stop" in line] == [
        'PARAMETER stop "<|endoftext|>"',
        'PARAMETER stop "<|user|>"',
    ]
    assert {"PARAMETER temperature 0.7", "PARAMETER top_p 0.95", "PARAMETER top_k 0", "PARAMETER min_p 0"} <= set(lines)
    limited = modelfile(tokenizer, ends, Sampling(0.7, 0.95, 256, top_k=40, min_p=0.05), "model.gguf").splitlines()
    assert {"PARAMETER top_k 40", "PARAMETER min_p 0.05"} <= set(limited)
    assert "PARAMETER repeat_penalty 1" in lines


def test_a_tokenizer_with_markers_for_user_and_assistant_alone_merges_the_system_message() -> None:
    tokenizer = fast_tokenizer(gpt2_tokenizer())
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no token <|system|>') }}{% endif %}"
        + MARKED_TEMPLATE
    )
    ensure_chat(tokenizer)
    form = form_of(tokenizer)
    assert form is not None and form.merges_system
    text = modelfile(tokenizer, [0], None, "model.gguf")
    turns = CONVERSATIONS[3]
    found = render(go_template(text), [{"Role": role, "Content": content} for role, content in turns])
    assert found == prompt_text(tokenizer, [{"role": role, "content": content} for role, content in turns])
    assert found.startswith("<|user|>Be brief.\n\n1<|assistant|>2<|endoftext|>")
