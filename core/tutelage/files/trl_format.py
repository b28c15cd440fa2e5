"""Training examples in TRL's conversational format, to which TRL applies the tokenizer's chat template."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.errors import InputError
from tutelage.files.jsonl import read_rows
from tutelage.records import Preference


def message(role: str, text: str) -> list[dict[str, str]]:
    """Make a conversation of one message."""
    return [{"role": role, "content": text}]


def supervised_row(prompt: str, answer: str) -> dict[str, Any]:
    """Make a row for ``trl.SFTTrainer``, with prompt and completion."""
    return {"prompt": message("user", prompt), "completion": message("assistant", answer)}


def preference_row(preference: Preference) -> dict[str, Any]:
    """Make a row for ``trl.DPOTrainer``. It also has scores and ids, which TRL ignores."""
    return {
        "prompt": message("user", preference.prompt),
        "chosen": message("assistant", preference.chosen),
        "rejected": message("assistant", preference.rejected),
        "score_chosen": preference.score_chosen,
        "score_rejected": preference.score_rejected,
        "prompt_id": preference.prompt_id,
        "chosen_id": preference.chosen_id,
        "rejected_id": preference.rejected_id,
    }


def preference_of(row: Mapping[str, Any]) -> Preference:
    """Parse a row of ``preference_row``. Raises ``KeyError``, ``IndexError`` or ``TypeError`` for another form."""
    return Preference(
        prompt_id=row["prompt_id"],
        prompt=row["prompt"][0]["content"],
        chosen=row["chosen"][0]["content"],
        rejected=row["rejected"][0]["content"],
        chosen_id=row["chosen_id"],
        rejected_id=row["rejected_id"],
        score_chosen=row.get("score_chosen"),
        score_rejected=row.get("score_rejected"),
    )


def read_preferences(path: Path) -> list[Preference]:
    """Read the pairs of a ``preferences.jsonl``. Raises ``InputError`` with file and line if a row is not a pair."""
    found = []
    for number, row in read_rows(path):
        try:
            found.append(preference_of(row))
        except (KeyError, IndexError, TypeError) as error:
            raise InputError(f"{path}, line {number}: not a preference pair ({error!r})") from error
    return found
