"""One chat template for supervised training, generation, judging and DPO.

A base model such as Phi-2 has neither a template nor a pad token. ``ensure_chat`` gives the tokenizer both, once, and
every checkpoint saves them. All text and tokens of conversations are made in this module. So a model is trained on
exactly the tokens that it sees in generation.

A template is not trusted: every rendered text must contain the messages that it was made from. If a template has no
system role, the system message is put before the first user message.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from attrs import field, frozen

from tutelage.errors import InputError
from tutelage.preferences.thinking import opened_block

PAD_TOKEN = "<|pad|>"
SYSTEM_TOKEN = "<|system|>"
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

_NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('the tokenizer has no token <|system|>') }}{% endif %}"
)
"""Begins ``MARKED_TEMPLATE`` for a tokenizer with markers for user and assistant only."""

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
Conversation = Sequence[Message]

_PROBE = "Which words does the template keep?"
_PROBE_SYSTEM = "Keep every word."
_PROBE_ANSWER = "All of them."
_THOUGHTS_END = "</think>"

_log = logging.getLogger(__name__)
_reported: set[str] = set()
"""Templates for which it was logged that system messages are merged; the checkpoints of a run share one."""


def _is_first(record: logging.LogRecord) -> bool:
    """Return whether no earlier warning, of this process or sent by a child, was about the same template."""
    template = getattr(record, "once", None)
    is_first = template not in _reported
    if template is not None:
        _reported.add(template)
    return is_first


_log.addFilter(_is_first)


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
        if marked and SYSTEM_TOKEN not in tokenizer.get_added_vocab():
            begin = _NO_SYSTEM + begin
        tokenizer.chat_template = begin + (MARKED_TEMPLATE if marked else PLAIN_TEMPLATE)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})


def _begins_with_bos(tokenizer: Any) -> bool:
    ids = tokenizer("").input_ids
    return bool(ids) and ids[0] == tokenizer.bos_token_id


def check_template(tokenizer: Any, with_answer: bool = False) -> None:
    """Render a short conversation. Raises ``InputError`` if the template fails or loses a message.

    With ``with_answer``, an answer is rendered, too, as for training.
    """
    prompt = [{"role": "user", "content": _PROBE}]
    begin = prompt_text(tokenizer, prompt)
    if with_answer:
        answer_text(tokenizer, prompt, begin, [{"role": "assistant", "content": _PROBE_ANSWER}])


def user_prompt(tokenizer: Any, text: str) -> str:
    """Return the templated prompt of one user message, up to the opening of the answer."""
    return prompt_text(tokenizer, [{"role": "user", "content": text}])


def prompt_text(tokenizer: Any, messages: Conversation) -> str:
    """Return a templated conversation up to the opening of the answer. Control tokens in messages are escaped.

    Raises ``InputError`` if the template fails, or if the text does not contain every message.
    """
    return _rendered(tokenizer, messages, add_generation_prompt=True)


def answer_text(tokenizer: Any, prompt: Conversation, begin: str, answer: Conversation) -> str:
    """Return the templated text of ``answer``, which continues ``begin``, the ``prompt_text`` of ``prompt``.

    Raises the errors of ``prompt_text``, and ``InputError`` if the tokenizer's own template renders the prompt
    differently once an answer follows.
    """
    whole = _rendered(tokenizer, [*prompt, *answer])
    if not whole.startswith(begin):
        raise InputError(
            f"tokenizer of {tokenizer.name_or_path}: its chat template renders a prompt differently once an answer "
            "follows, so training and sampling would see different texts; use a template that only appends"
        )
    return whole[len(begin) :]


def _rendered(tokenizer: Any, messages: Conversation, add_generation_prompt: bool = False) -> str:
    sent = escape_controls(tokenizer, _without_system(tokenizer, messages))
    try:
        text = str(tokenizer.apply_chat_template(sent, add_generation_prompt=add_generation_prompt, tokenize=False))
    except Exception as error:  # a template is a program: it may raise any error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"tokenizer of {tokenizer.name_or_path}: its chat template refuses a conversation of "
            f"{', '.join(message['role'] for message in sent)}: {reason}; use a template for text messages of user "
            "and assistant (chat_template.jinja, or chat_template in tokenizer_config.json)"
        ) from error
    if (lost := _first_lost(sent, text)) is not None:
        raise InputError(
            f"tokenizer of {tokenizer.name_or_path}: its chat template loses the {lost['role']} message: the rendered "
            f"text does not contain the message {lost['content'][:60]!r}; use a template for messages whose content "
            "is a text (chat_template.jinja, or chat_template in tokenizer_config.json)"
        )
    return text


def _first_lost(messages: Conversation, text: str) -> Message | None:
    """The first message that is not in the rendered text. User and assistant messages must be in their order.

    Templates of reasoning models drop the thoughts of earlier answers; only the text after them must be there.
    """
    position = 0
    for message in messages:
        content = message["content"].strip()
        if message["role"] == "system":
            if content not in text:
                return message
            continue
        if message["role"] == "assistant":
            content = content.rpartition(_THOUGHTS_END)[2].strip()
        found = text.find(content, position)
        if found < 0:
            return message
        position = found + len(content)
    return None


def _without_system(tokenizer: Any, messages: Conversation) -> Conversation:
    """Put the system message before the text of the first user message, if the template has no system role."""
    if not messages or messages[0]["role"] != "system" or _has_system_role(tokenizer, str(tokenizer.chat_template)):
        return messages
    system, *turns = messages
    if not turns or turns[0]["role"] != "user":
        return messages
    _log.warning(
        "tokenizer of %s: its chat template has no system role; system messages are put before the first user "
        "message, in training, sampling and judging",
        tokenizer.name_or_path,
        extra={"once": str(tokenizer.chat_template)},
    )
    return [{**turns[0], "content": f"{system['content'].strip()}\n\n{turns[0]['content']}"}, *turns[1:]]


@lru_cache(maxsize=8)
def _has_system_role(tokenizer: Any, template: str) -> bool:  # the template is part of the cache key
    probe = [{"role": "system", "content": _PROBE_SYSTEM}, {"role": "user", "content": _PROBE}]
    try:
        text = str(tokenizer.apply_chat_template(probe, tokenize=False))
    except Exception:  # templates refuse a role by an error of their own
        return False
    return _PROBE_SYSTEM in text


def escape_controls(tokenizer: Any, messages: Conversation) -> list[Message]:
    """Return the messages with a space inside every control token that occurs in them as text.

    Only the template may open a turn or end an answer. Otherwise a judged answer that contains ``<|assistant|>score:
    5`` would be read as the judge's own.
    """
    controls = _controls(tokenizer)
    return [{**message, "content": controls.escaped(message["content"])} for message in messages]


@frozen
class Controls:
    """The control tokens of a tokenizer, as text. There may be thousands: Gemma has 6,249."""

    texts: frozenset[str]
    """Each has at least two characters."""
    _starts: re.Pattern[str] = field(init=False)
    """Finds every position at which the first two characters of a control are."""
    _lengths: Mapping[str, tuple[int, ...]] = field(init=False)
    """The lengths of the controls by their first two characters."""
    _with_space: frozenset[str] = field(init=False)
    """The controls with a space, which an inserted space may complete."""

    @_starts.default
    def _make_starts(self) -> re.Pattern[str]:
        seconds: dict[str, set[str]] = {}
        for text in self.texts:
            seconds.setdefault(text[0], set()).add(re.escape(text[1]))
        # the second character is not consumed: two controls may overlap
        ways = (f"{re.escape(first)}(?={'|'.join(sorted(second))})" for first, second in sorted(seconds.items()))
        return re.compile("|".join(ways) or r"(?!)")

    @_lengths.default
    def _make_lengths(self) -> Mapping[str, tuple[int, ...]]:
        lengths: dict[str, set[int]] = {}
        for text in self.texts:
            lengths.setdefault(text[:2], set()).add(len(text))
        return {start: tuple(sorted(found)) for start, found in lengths.items()}

    @_with_space.default
    def _make_with_space(self) -> frozenset[str]:
        return frozenset(text for text in self.texts if " " in text)

    def escaped(self, text: str) -> str:
        """Return the text with a space after the first character of every control token in it, longest tokens first."""
        found = set(self._found(text))
        if not found:
            return text
        for control in sorted(found | self._with_space, key=lambda one: (-len(one), one)):
            text = text.replace(control, f"{control[0]} {control[1:]}")
        return text

    def _found(self, text: str) -> Iterator[str]:
        """Yield the controls in a text, also those that overlap."""
        for match in self._starts.finditer(text):
            start = match.start()
            for length in self._lengths[text[start : start + 2]]:
                if text[start : start + length] in self.texts:
                    yield text[start : start + length]


@lru_cache(maxsize=8)
def _controls(tokenizer: Any) -> Controls:
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    controls = added | set(tokenizer.all_special_tokens)
    return Controls(frozenset(control for control in controls if len(control) > 1))


def encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of templated texts; the template has already written every special token."""
    if not texts:
        return []
    return list(tokenizer(list(texts), add_special_tokens=False).input_ids)


def encode_answers(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of answers. Each ends with the end token, and nothing follows it."""
    return [_ended(ids, tokenizer.eos_token_id) for ids in encode(tokenizer, texts)]


def reply_tokens(tokenizer: Any, replies: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the tokens that replies have in common, and the last token of each, by which they differ.

    Replies are encoded as in training, without the prompt. Raises ``InputError`` if they do not differ in one last
    token.
    """
    rows = encode(tokenizer, replies)
    begin, tokens = rows[0][:-1], [row[-1] for row in rows]
    for reply, row in zip(replies, rows, strict=True):
        if row[:-1] != begin or len(set(tokens)) < len(tokens):
            raise InputError(
                f"tokenizer of {tokenizer.name_or_path}: the reply {reply!r} does not end with one token of its own "
                f"after the tokens of {replies[0]!r}, so one forward pass does not give its probability; use a "
                "rubric with other scores, or set judging.score to parsed"
            )
    return begin, tokens


def check_opens_no_block(tokenizer: Any, prompt: str) -> None:
    """Raise ``InputError`` if a templated prompt ends with the opening mark of a thinking block."""
    if mark := opened_block(prompt):
        raise InputError(
            f"tokenizer of {tokenizer.name_or_path}: its chat template opens a thinking block ({mark}), so a reply "
            "cannot begin with a score; use a template without it, or set judging.score to parsed"
        )


def _ended(ids: list[int], end: int) -> list[int]:
    if end not in ids:
        return [*ids, end]
    return ids[: len(ids) - ids[::-1].index(end)]
