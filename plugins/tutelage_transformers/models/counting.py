"""The length of training rows in a model's tokens, by its tokenizer and configuration alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tutelage.errors import PluginError
from tutelage.files.user_cache import cached
from tutelage.plugin_info import TokenCounts
from tutelage.records import Model
from tutelage_transformers.models import finding, loading, trial
from tutelage_transformers.models.chat import answer_text, check_template, encode, encode_answers, prompt_text
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.models.tokenizers import read_tokenizer
from tutelage_transformers.settings import TransformersSettings


def count_tokens(
    settings: TransformersSettings | None, name: str, rows: Sequence[Mapping[str, Any]], download: bool
) -> TokenCounts | None:
    """Return the number of tokens of each row as it would be trained on; for a row without a completion, of its prompt.

    No weights are read. The result is kept in the user's cache, so that equal rows are counted once. Raises
    ``InputError`` for a model that does not exist, whose tokenizer has no end token, or whose chat template fails or
    loses a message. Without ``download``, returns None if the model or a library is not on this machine.
    """
    location = loading.location(Model("transformers", name))
    if not download and not is_readable(location):
        return None
    finding.require("transformers", "tokenizers")
    local_only = finding.is_local(location, bool(settings and settings.local_files_only))
    folder = finding.folder_of(location)

    def count() -> dict[str, Any]:
        return attrs.asdict(_counts(location, local_only, rows))

    if folder is None:
        return _counts(location, local_only, rows)
    counted = cached("token-counts", {**trial.fingerprint(location, folder), "rows": list(rows)}, count)
    return TokenCounts(tuple(counted["tokens"]), counted["context"])


def _counts(location: str, local_only: bool, rows: Sequence[Mapping[str, Any]]) -> TokenCounts:
    with finding.explain_read_errors(location), quiet():
        tokenizer = read_tokenizer(location, local_only)
        check_template(tokenizer, with_answer=True)
        config = loading.read_config(location, local_only)
    return TokenCounts(tuple(_lengths(tokenizer, rows)), loading.context_length(config))


def is_readable(location: str) -> bool:
    """Return whether ``plan`` can read the model; True also for a path that does not exist, which is then an error."""
    try:
        finding.require("transformers", "tokenizers", "huggingface_hub")
    except PluginError:
        return False
    return Path(location).is_dir() or finding.can_only_be_a_path(location) or finding.is_cached(location)


def _lengths(tokenizer: Any, rows: Sequence[Mapping[str, Any]]) -> Iterator[int]:
    begins = [prompt_text(tokenizer, row["prompt"]) for row in rows]
    answers = [
        answer_text(tokenizer, row["prompt"], begin, row["completion"]) if "completion" in row else ""
        for row, begin in zip(rows, begins, strict=True)
    ]
    for row, prompt, answer in zip(rows, encode(tokenizer, begins), encode_answers(tokenizer, answers), strict=True):
        yield len(prompt) + (len(answer) if "completion" in row else 0)
