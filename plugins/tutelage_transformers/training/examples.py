"""Training files, read, checked and tokenised as a whole before training starts.

The files are JSON lines in TRL's conversational format. They are tokenised here and not by TRL for two reasons: the
same functions make the prompts of generation, and an example that is too long must be an error that names its line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from tutelage.data.conversations import conversation_of
from tutelage.errors import InputError
from tutelage.examples import check_probability, check_weight
from tutelage.files.jsonl import read_rows
from tutelage.files.trl_format import labels_of, message_rows
from tutelage_transformers.models.chat import answer_text, encode, encode_answers, prompt_text

_IGNORED = -100
"""Label of a token that does not count in the loss (``ignore_index`` of torch's cross entropy)."""


@frozen
class _Example:
    """A prompt and one or two answers to it, as token ids, and its line of the file."""

    line: int
    prompt: list[int]
    answers: dict[str, list[int]]
    labels: dict[str, float]
    """Weight and soft label of a pair, without those at their default, 1."""


def sft_rows(path: Path, tokenizer: Any, max_length: int) -> list[dict[str, list[int]]]:
    """Return rows for ``trl.SFTTrainer``: ``input_ids``, and ``labels`` that mask the prompt but not the end token.

    Raises ``InputError`` with file and line for an empty file, a line that is not an example, and an example of more
    than ``max_length`` tokens.
    """
    return [
        {
            "input_ids": example.prompt + example.answers["completion"],
            "labels": [_IGNORED] * len(example.prompt) + example.answers["completion"],
        }
        for example in _examples(path, tokenizer, ("completion",), max_length)
    ]


def dpo_rows(path: Path, tokenizer: Any, max_length: int) -> list[dict[str, Any]]:
    """Return rows for ``trl.DPOTrainer``: ``prompt_ids``, ``chosen_ids``, ``rejected_ids``. Raises as ``sft_rows``.

    They also have ``weight`` or ``probability`` if these are not 1 for all pairs.
    """
    examples = _examples(path, tokenizer, ("chosen", "rejected"), max_length)
    columns = {column for example in examples for column in example.labels}
    return [
        {
            "prompt_ids": example.prompt,
            "chosen_ids": example.answers["chosen"],
            "rejected_ids": example.answers["rejected"],
            **{column: example.labels.get(column, 1.0) for column in columns},
        }
        for example in examples
    ]


def labelled_rows(path: Path, tokenizer: Any, max_length: int, has_labels: bool = True) -> list[dict[str, Any]]:
    """Return rows for ``trl.KTOTrainer``: ``prompt_ids``, ``completion_ids`` with the end token, and ``label``.

    Without ``has_labels``, the rows of the file are instruction examples, whose label is true. Raises ``InputError`` as
    ``sft_rows`` does, and for a label that is neither true nor false.
    """
    labels = [_label(row, f"{path}, line {line}") if has_labels else True for line, row in read_rows(path)]
    examples = _examples(path, tokenizer, ("completion",), max_length)
    return [
        {"prompt_ids": example.prompt, "completion_ids": example.answers["completion"], "label": label}
        for example, label in zip(examples, labels, strict=True)
    ]


def _label(row: dict[str, Any], where: str) -> bool:
    label = row.get("label")
    if not isinstance(label, bool):
        raise InputError(f"{where}: 'label' is {label!r}; a labelled answer needs true (desirable) or false")
    return label


def _examples(path: Path, tokenizer: Any, sides: tuple[str, ...], max_length: int) -> list[_Example]:
    lines: list[int] = []
    labels: list[dict[str, float]] = []
    prompts: list[str] = []
    answers: dict[str, list[str]] = {side: [] for side in sides}
    for line, row in read_rows(path):
        where = f"{path}, line {line}"
        prompt = _prompt(row, where)
        ends = {side: _messages(row, side, where) for side in sides}
        lines.append(line)
        labels.append(_labels(row, where) if "chosen" in sides else {})
        try:
            begin = prompt_text(tokenizer, prompt)
            prompts.append(begin)
            for side in sides:
                answers[side].append(answer_text(tokenizer, prompt, begin, ends[side]))
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    if not lines:
        raise InputError(f"{path}: no examples in it; training needs at least one")
    prompt_ids = encode(tokenizer, prompts)
    ids = {side: encode_answers(tokenizer, answers[side]) for side in sides}
    examples = [
        _Example(line, prompt_ids[index], {side: ids[side][index] for side in sides}, labels[index])
        for index, line in enumerate(lines)
    ]
    for example in examples:
        _check_length(example, path, max_length)
    return examples


def _labels(row: dict[str, Any], where: str) -> dict[str, float]:
    labels = labels_of(row)
    try:
        for key, check in (("weight", check_weight), ("probability", check_probability)):
            check(None, None, labels.get(key, 1.0))
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    return {key: value for key, value in labels.items() if value != 1}


def _check_length(example: _Example, path: Path, max_length: int) -> None:
    for side, answer in example.answers.items():
        if (length := len(example.prompt) + len(answer)) > max_length:
            raise InputError(
                f"{path}, line {example.line}: prompt and {side} are {length} tokens, but only {max_length} fit; "
                "leave the example out, or raise max_length as far as the model's context allows"
            )


def _prompt(row: dict[str, Any], where: str) -> Sequence[dict[str, str]]:
    """The messages of the prompt: [system,] user, assistant, ..., user. The loss is on the answer that follows."""
    try:
        return message_rows(conversation_of(_messages(row, "prompt", where), "user"))
    except ValueError as error:
        raise InputError(f"{where}: 'prompt': {error}") from error


def _messages(row: dict[str, Any], key: str, where: str) -> Sequence[dict[str, str]]:
    if key not in row:
        raise InputError(
            f"{where}: no {key!r}; SFT needs prompt and completion, DPO prompt, chosen and rejected, KTO "
            "prompt, completion and label"
        )
    messages = row[key]
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise InputError(f'{where}: {key!r} is not a list of messages like {{"role": "user", "content": "..."}}')
    return messages


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)
