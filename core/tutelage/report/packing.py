"""The answers of a run as compressed text, which the script of the page unpacks."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from typing import Any

from attrs import frozen

from tutelage.report.answers import JudgedSample, ShownAnswer, ShownAnswers, ShownPrompt

LONGEST = 20_000
"""Number of characters from which a text is cut in the page."""
ROOM = 4_200_000
"""Number of bytes that the packed answers may always use. With the rest of the page they stay below 5 MB."""
REASONS = (2000, 300, 80, 0)
"""Maximum numbers of characters of a reason, tried in this order until the packed answers are small enough."""


@frozen
class Packed:
    """The packed answers."""

    text: str
    """JSON, compressed with gzip and encoded as base64."""
    reasons: int
    """Maximum number of characters of a reason."""
    has_judged: bool
    """Whether the sampled answers that models judged themselves are included."""


def pack(answers: ShownAnswers, room: int = ROOM) -> Packed:
    """Pack the answers of a run.

    The result has at most ``room`` bytes, or twice the size of the gzipped answers if that is more. If it would be
    larger, reasons are cut, and then the sampled answers are left out.
    """
    limit = max(room, 2 * _size_of_answers(answers))
    attempts = [(reasons, True) for reasons in REASONS] + [(0, False)]
    for reasons, has_judged in attempts:
        packed = Packed(_packed(answers, reasons, has_judged), reasons, has_judged)
        if len(packed.text) <= limit:
            break
    return packed


def _size_of_answers(answers: ShownAnswers) -> int:
    texts = (cut(answer.text) for prompt in answers.prompts for answer in prompt.answers if answer)
    return len(_gzipped("\n".join(texts)))


def _packed(answers: ShownAnswers, reasons: int, has_judged: bool) -> str:
    values = {
        "models": answers.models,
        "pairs": [[answers.models.index(id) for id in pair] for pair in answers.pairs],
        "files": answers.files,
        "rows": [_row(prompt, reasons, has_judged) for prompt in answers.prompts],
    }
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(_gzipped(text)).decode("ascii")


def _gzipped(text: str) -> bytes:
    # A lone surrogate has no UTF-8; `backslashreplace` writes it as a JSON escape.
    return gzip.compress(text.encode("utf-8", "backslashreplace"), compresslevel=6, mtime=0)


def _row(prompt: ShownPrompt, reasons: int, has_judged: bool) -> list[Any]:
    """One prompt: id, seed, text, its length if it is cut, answers, preferences in percent, judged samples."""
    verdicts = [_percent(preference) for pair in prompt.verdicts for preference in pair]
    judged = [[_sample(one) for one in samples] for samples in prompt.judged] if has_judged else []
    answers = [answer and list(_answer(answer, reasons)) for answer in prompt.answers]
    return [prompt.id, prompt.seed, cut(prompt.text), _length(prompt.text), answers, verdicts, judged]


def _answer(answer: ShownAnswer, reasons: int) -> Iterator[Any]:
    yield cut(answer.text)
    yield answer.score
    yield answer.outcome
    yield answer.scored
    yield _shortened(answer.reason, reasons)
    yield _shortened(answer.detail, max(reasons, REASONS[1]))
    yield len(answer.text.split())
    yield _length(answer.text)


def _sample(sample: JudgedSample) -> list[Any]:
    return [sample.index, cut(sample.text), sample.score, sample.own, _length(sample.text)]


def cut(text: str) -> str:
    """Return the first ``LONGEST`` characters of a text."""
    return text[:LONGEST]


def _length(text: str) -> int:
    """The length in characters of a text that is cut; 0 for another text."""
    return len(text) if len(text) > LONGEST else 0


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest] + "…" * bool(longest)


def _percent(preference: float | None) -> int | None:
    return None if preference is None else round(100 * preference)
