"""Input and output files of ``tutelage stage``: JSON lines. Output files are written only if the stage succeeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tutelage.cli.output import print_status
from tutelage.cli.progress import item_bar
from tutelage.data.conversations import messages_of
from tutelage.data.sets import example_of, metadata_of, prompt_of, text_of
from tutelage.errors import InputError
from tutelage.files.disk_errors import check_writable
from tutelage.files.jsonl import dump, read_records, read_rows, write_rows
from tutelage.files.trl_format import supervised_row
from tutelage.objectives import ExampleKind
from tutelage.records import Candidate, Comparison, JudgeItem, Prompt, content_id
from tutelage.runs.durable import Result

T = TypeVar("T")


def read_prompts(path: Path) -> list[Prompt]:
    """Read prompts from rows with ``prompt`` or ``messages``, or from a ``prompts.jsonl`` of a run.

    Raises ``InputError`` with file and line.
    """
    return _read(path, _prompt)


def read_items(path: Path, prompts: Path | None) -> list[JudgeItem]:
    """Read the answers to judge.

    Without ``prompts``, rows have ``prompt``, ``answer`` and optionally ``id``. Otherwise they are the candidates for
    the prompts of that file; candidates without text (refused, failed) are skipped. Raises ``InputError`` with the
    file, and with the line of an invalid row.
    """
    if prompts is None:
        return _read(path, _item)
    by_id = {prompt.id: prompt for prompt in read_prompts(prompts)}
    items = []
    for candidate in read_records(path, Candidate):
        if candidate.prompt_id not in by_id:
            raise InputError(
                f"{path}: candidate {candidate.id} has prompt_id {candidate.prompt_id}, which is not in {prompts}"
            )
        if candidate.outcome.has_text:
            prompt = by_id[candidate.prompt_id]
            messages, about = prompt.messages, prompt.metadata
            items.append(JudgeItem(candidate.id, prompt.text, candidate.text, messages=messages, metadata=about))
    return items


def read_comparisons(path: Path) -> list[Comparison]:
    """Read rows with ``prompt``, ``first``, ``second`` and optionally ``id``.

    Raises ``InputError`` with file and line.
    """
    return _read(path, _comparison)


@contextmanager
def training_file(path: Path, kind: ExampleKind, out: Path) -> Iterator[Path]:
    """Yield the file to train on: ``path`` itself, or a temporary file if its rows are not in TRL's format.

    The rows of ``tutelage data import ift`` are converted to examples. The temporary file is beside ``out`` and has the
    same line numbers; errors name ``path``. Raises ``InputError`` with file and line for a judging example (EFT), and
    for a pair whose two sides are equal.
    """
    if kind == "preferences":
        for number, row in read_rows(path):
            if "chosen" in row and row["chosen"] == row.get("rejected"):
                raise InputError(f"{path}, line {number}: chosen and rejected are the same; leave the pair out")
    if kind != "examples" or not any(_is_imported(row) for _, row in read_rows(path)):
        yield path
        return
    converted = out.with_name(f".{out.name}.examples.jsonl")
    try:
        _convert(path, converted)
        yield converted
    except InputError as error:
        raise InputError(str(error).replace(str(converted), str(path))) from error
    finally:
        converted.unlink(missing_ok=True)


def check_is_new(path: Path) -> None:
    """Raise ``InputError`` if the path exists, because results are never overwritten, or if it cannot be written."""
    if path.exists():
        raise InputError(f"{path}: already exists; choose another path with --out")
    check_writable(path)


def write_results(path: Path, results: Iterable[Result], expected: int, unit: str) -> None:
    """Collect the results with a progress bar, write them sorted by id, and print the counts by outcome."""
    counts: Counter[str] = Counter()
    kept: list[Result] = []
    with item_bar(unit, expected) as bar:
        for result in results:
            counts[str(result.outcome)] += 1
            kept.append(result)
            bar.update(1)
    write_rows(path, sorted(kept, key=lambda result: result.id))
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items()) or "none"
    print_status(f"{unit}: {outcomes} -> {path}")


def _read(path: Path, parse: Callable[[Mapping[str, Any]], T]) -> list[T]:
    found = list(_parsed(path, parse))
    if not found:
        raise InputError(f"{path}: empty; at least one row is required")
    return found


def _parsed(path: Path, parse: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
    for number, row in read_rows(path):
        try:
            yield parse(row)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}") from error


def _is_imported(row: Mapping[str, Any]) -> bool:
    """Whether a row has the format of ``tutelage data import ift`` or ``eft``."""
    return "completion" not in row and ("answer" in row or "messages" in row)


def _convert(path: Path, converted: Path) -> None:
    """Write the rows of a file in TRL's format, each at its line number."""
    converted.parent.mkdir(parents=True, exist_ok=True)
    with converted.open("w", encoding="utf-8") as file:
        written = 0
        for number, row in read_rows(path):
            file.write("\n" * (number - written - 1) + dump(_supervised(path, number, row)) + "\n")
            written = number


def _supervised(path: Path, number: int, row: Mapping[str, Any]) -> Mapping[str, Any]:
    if not _is_imported(row):
        return row
    if "score" in row:
        raise InputError(
            f"{path}, line {number}: a judging example (it has a score), which is no answer to learn; a recipe trains "
            "on it as data.eft"
        )
    try:
        example = example_of(row)
    except ValueError as error:
        raise InputError(f"{path}, line {number}: {error}") from error
    return supervised_row(example.turns, example.answer)


def _prompt(row: Mapping[str, Any]) -> Prompt:
    if row.keys() >= {"text", "id"}:
        messages = tuple(messages_of(row["messages"])) if row.get("messages") else ()
        about = metadata_of(row)
        source = str(row.get("source", ""))
        return Prompt(text_of(row, "text"), source, text_of(row, "id"), messages=messages, metadata=about)
    return prompt_of(row)


def _item(row: Mapping[str, Any]) -> JudgeItem:
    prompt, answer = prompt_of(row), text_of(row, "answer")
    id, about = _id(row, prompt.text, answer), metadata_of(row)
    return JudgeItem(id, prompt.text, answer, messages=prompt.messages, metadata=about)


def _comparison(row: Mapping[str, Any]) -> Comparison:
    texts = prompt_of(row).text, text_of(row, "first"), text_of(row, "second")
    return Comparison(_id(row, *texts), *texts, metadata=metadata_of(row))


def _id(row: Mapping[str, Any], *texts: str) -> str:
    """The row's ``id``, or one that is computed from its texts."""
    return text_of(row, "id") if "id" in row else content_id(*texts)
