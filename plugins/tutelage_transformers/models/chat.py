"""One chat template for supervised training, generation, judging and DPO.

A base model such as Phi-2 has neither a template nor a pad token. ``ensure_chat`` gives the tokenizer both, once, and
every checkpoint saves them. All text and tokens of conversations are made in this module. So a model is trained on
exactly the tokens that it sees in generation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from tutelage.errors import InputError

PAD_TOKEN = "<|pad|>"
USER_TOKEN = "<|user|>"
ASSISTANT_TOKEN = "<|assistant|>"

MARKED_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""For a tokenizer that has role markers among its special tokens."""

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if not loop.first %}{{ '\n' }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ 'Instruct: ' }}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ 'Output:\n' }}{% endif %}"
    "{{ message['content'] | trim }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\nOutput:\n' }}{% endif %}"
)
"""For any other tokenizer: the format of Phi-2's model card. The line end after ``Output:`` separates the tokens of
prompt and answer."""

Message = Mapping[str, str]


def ensure_chat(tokenizer: Any) -> None:
    """Give ``tokenizer`` a chat template, and a pad token that is not its end token, if it lacks them.

    A template of its own is kept. The end of an answer is the tokenizer's end token, which has to be learned: if it
    were the pad token too, training would mask it. Raises ``InputError`` for a tokenizer without an end token.
    """
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"tokenizer of {tokenizer.name_or_path}: it has no end token (eos_token), so no answer could ever end; "
            "set one in its tokenizer_config.json"
        )
    if not tokenizer.chat_template:
        marked = {USER_TOKEN, ASSISTANT_TOKEN} <= tokenizer.get_added_vocab().keys()
        begin = "{{ bos_token }}" if _begins_with_bos(tokenizer) else ""
        tokenizer.chat_template = begin + (MARKED_TEMPLATE if marked else PLAIN_TEMPLATE)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})


def _begins_with_bos(tokenizer: Any) -> bool:
    ids = tokenizer("").input_ids
    return bool(ids) and ids[0] == tokenizer.bos_token_id


def user_prompt(tokenizer: Any, text: str) -> str:
    """Return the templated prompt of one user message, up to the opening of the answer."""
    return prompt_text(tokenizer, [{"role": "user", "content": text}])


def prompt_text(tokenizer: Any, messages: Sequence[Message]) -> str:
    """Return a templated conversation up to the opening of the answer. Control tokens in messages are escaped."""
    plain = escape_controls(tokenizer, messages)
    return str(tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=False))


def answer_text(tokenizer: Any, prompt: Sequence[Message], begin: str, answer: Sequence[Message]) -> str:
    """Return the templated text of ``answer``, which continues ``begin``, the ``prompt_text`` of ``prompt``.

    Raises ``InputError`` if the tokenizer's own template renders the prompt differently once an answer follows.
    """
    whole = str(tokenizer.apply_chat_template(escape_controls(tokenizer, [*prompt, *answer]), tokenize=False))
    if not whole.startswith(begin):
        raise InputError(
            f"tokenizer of {tokenizer.name_or_path}: its chat template renders a prompt differently once an answer "
            "follows, so training and sampling would see different texts; use a template that only appends"
        )
    return whole[len(begin) :]


def escape_controls(tokenizer: Any, messages: Sequence[Message]) -> list[Message]:
    """Return the messages with a space inside every control token that occurs in them as text.

    Only the template may open a turn or end an answer. Otherwise a judged answer that contains ``<|assistant|>score:
    5`` would be read as the judge's own.
    """
    return [{**message, "content": _escaped(message["content"], _controls(tokenizer))} for message in messages]


def _escaped(text: str, controls: Sequence[str]) -> str:
    for control in controls:
        text = text.replace(control, f"{control[0]} {control[1:]}")
    return text


@lru_cache(maxsize=8)
def _controls(tokenizer: Any) -> tuple[str, ...]:
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    controls = added | set(tokenizer.all_special_tokens)
    return tuple(sorted((control for control in controls if len(control) > 1), key=lambda text: (-len(text), text)))


def encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of templated texts; the template has already written every special token."""
    if not texts:
        return []
    return list(tokenizer(list(texts), add_special_tokens=False).input_ids)


def encode_answers(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of answers. Each ends with the end token, and nothing follows it."""
    return [_ended(ids, tokenizer.eos_token_id) for ids in encode(tokenizer, texts)]


def _ended(ids: list[int], end: int) -> list[int]:
    if end not in ids:
        return [*ids, end]
    return ids[: len(ids) - ids[::-1].index(end)]
