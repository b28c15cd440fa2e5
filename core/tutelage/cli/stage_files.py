"""The files of ``tutelage stage``: JSON lines in, JSON lines out, whole or not at all."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from tutelage.cli.output import tell
from tutelage.data.sets import prompt_of, text_of
from tutelage.errors import InputError
from tutelage.files.jsonl import read_records, read_rows, write_rows
from tutelage.records import Candidate, Comparison, JudgeItem, Prompt, content_id
from tutelage.runs.durable import Result

T = TypeVar("T")


def read_prompts(path: Path) -> list[Prompt]:
    """Rows with ``prompt``, or prompts as a run keeps them. Raises InputError with file and line."""
    return _read(path, _prompt)


def read_items(path: Path, prompts: Path | None) -> list[JudgeItem]:
    """Rows with ``prompt``, ``answer`` and perhaps ``id``; with ``prompts``, candidates that answer these prompts.

    Candidates without a text (refused, failed) are left out. Raises InputError with file and line.
    """
    if prompts is None:
        return _read(path, _item)
    texts = {prompt.id: prompt.text for prompt in read_prompts(prompts)}
    items = []
    for candidate in read_records(path, Candidate):
        if candidate.prompt_id not in texts:
            raise InputError(f"{path}: {candidate.id} answers the prompt {candidate.prompt_id}, not in {prompts}")
        if candidate.outcome.has_text:
            items.append(JudgeItem(candidate.id, texts[candidate.prompt_id], candidate.text))
    return items


def read_comparisons(path: Path) -> list[Comparison]:
    """Rows with ``prompt``, ``first``, ``second`` and perhaps ``id``. Raises InputError with file and line."""
    return _read(path, _comparison)


def check_is_new(path: Path) -> None:
    """Raise InputError where something is there already: results are never overwritten."""
    if path.exists():
        raise InputError(f"{path}: is there already; name another with --out")


def write_results(path: Path, results: Iterable[Result], expected: int, unit: str) -> None:
    """Draw the results, show how far it is, write them sorted by id, and tell what became of them."""
    counts: Counter[str] = Counter()
    kept: list[Result] = []
    with click.progressbar(length=expected, label=unit, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        for result in results:
            counts[str(result.outcome)] += 1
            kept.append(result)
            bar.update(1)
    write_rows(path, sorted(kept, key=lambda result: result.id))
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items()) or "none"
    tell(f"{unit}: {outcomes} -> {path}")


def _read(path: Path, parse: Callable[[Mapping[str, Any]], T]) -> list[T]:
    found = list(_parsed(path, parse))
    if not found:
        raise InputError(f"{path}: empty; at least one row is needed")
    return found


def _parsed(path: Path, parse: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
    for number, row in read_rows(path):
        try:
            yield parse(row)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}") from error


def _prompt(row: Mapping[str, Any]) -> Prompt:
    if row.keys() >= {"text", "id"}:
        return Prompt(text_of(row, "text"), str(row.get("source", "")), text_of(row, "id"))
    return Prompt(prompt_of(row))


def _item(row: Mapping[str, Any]) -> JudgeItem:
    prompt, answer = text_of(row, "prompt"), text_of(row, "answer")
    return JudgeItem(_id(row, prompt, answer), prompt, answer)


def _comparison(row: Mapping[str, Any]) -> Comparison:
    texts = text_of(row, "prompt"), text_of(row, "first"), text_of(row, "second")
    return Comparison(_id(row, *texts), *texts)


def _id(row: Mapping[str, Any], *texts: str) -> str:
    """The row's own id, or one that follows from its texts."""
    return text_of(row, "id") if "id" in row else content_id(*texts)
