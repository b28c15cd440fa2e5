"""Training files, read and checked whole before any training starts, and turned into tokens.

The files are JSON lines in TRL's conversational format. They are tokenised here rather than by TRL because the same
functions make the prompts of generation, and because an example that does not fit must be an error that names its line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from tutelage.errors import InputError
from tutelage.jsonl import read_rows
from tutelage_phi2.chat import answer_text, encode, encode_answers, prompt_text

_IGNORED = -100
"""The label of a token that is outside the loss (``ignore_index`` of torch's cross entropy)."""


@frozen
class _Turn:
    """A prompt and one answer to it, as token ids, and the line of the file that they stand in."""

    line: int
    prompt: list[int]
    answer: list[int]


def sft_rows(path: Path, tokenizer: Any, max_length: int) -> list[dict[str, list[int]]]:
    """Rows for ``trl.SFTTrainer``: ``input_ids``, and ``labels`` that are masked on the prompt, not on the end token.

    Raises ``InputError`` with file and line for an empty file, a line that is no example, and an example of more than
    ``max_length`` tokens.
    """
    turns = _turns(path, tokenizer, "completion", max_length)
    return [
        {"input_ids": turn.prompt + turn.answer, "labels": [_IGNORED] * len(turn.prompt) + turn.answer}
        for turn in turns
    ]


def dpo_rows(path: Path, tokenizer: Any, max_length: int) -> list[dict[str, list[int]]]:
    """Rows for ``trl.DPOTrainer``: ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``. Raises as ``sft_rows`` does."""
    chosen = _turns(path, tokenizer, "chosen", max_length)
    rejected = _turns(path, tokenizer, "rejected", max_length)
    return [
        {"prompt_ids": good.prompt, "chosen_ids": good.answer, "rejected_ids": bad.answer}
        for good, bad in zip(chosen, rejected, strict=True)
    ]


def _turns(path: Path, tokenizer: Any, side: str, max_length: int) -> list[_Turn]:
    lines, prompts, answers = [], [], []
    for line, row in read_rows(path):
        prompt, answer = (_messages(row, key, f"{path}, line {line}") for key in ("prompt", side))
        lines.append(line)
        prompts.append(prompt_text(tokenizer, prompt))
        answers.append(answer_text(tokenizer, prompt, answer))
    if not lines:
        raise InputError(f"{path}: no examples in it; training needs at least one")
    ids = zip(lines, encode(tokenizer, prompts), encode_answers(tokenizer, answers), strict=True)
    turns = [_Turn(line, prompt, answer) for line, prompt, answer in ids]
    for turn in turns:
        if (length := len(turn.prompt) + len(turn.answer)) > max_length:
            raise InputError(
                f"{path}, line {turn.line}: prompt and {side} are {length} tokens, but only {max_length} fit; "
                "leave the example out, or raise max_length as far as the model's context allows"
            )
    return turns


def _messages(row: dict[str, Any], key: str, place: str) -> Sequence[dict[str, str]]:
    if key not in row:
        raise InputError(f"{place}: no {key!r}; SFT needs prompt and completion, DPO prompt, chosen and rejected")
    messages = row[key]
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise InputError(f'{place}: {key!r} is no list of messages like {{"role": "user", "content": "..."}}')
    return messages


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)
