"""Formats of preference pairs for other software, and the files that they are written to.

``trl`` is the format of a run's own files: conversational rows for ``trl.DPOTrainer``. ``ultrafeedback`` has the
columns of HuggingFaceH4/ultrafeedback_binarized: the prompt as text, and both sides as whole conversations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.data.tables import load_library
from tutelage.errors import InputError
from tutelage.examples import Preference
from tutelage.files.disk_errors import check_writable, writing
from tutelage.files.jsonl import write_rows
from tutelage.files.trl_format import label_columns, message, message_rows, preference_row
from tutelage.files.whole import whole_folder, write_whole
from tutelage.records import user_texts


def ultrafeedback_row(preference: Preference) -> dict[str, Any]:
    """Make a row of UltraFeedback-binarized; ``messages`` is the chosen conversation, as in its SFT splits.

    ``prompt`` is the last user message. The sides contain the whole conversation.
    """
    prompt = message_rows(preference.turns)
    chosen = prompt + message("assistant", preference.chosen)
    return {
        "prompt": user_texts(preference.turns)[-1],
        "prompt_id": preference.prompt_id,
        "chosen": chosen,
        "rejected": prompt + message("assistant", preference.rejected),
        "messages": chosen,
        "score_chosen": preference.score_chosen,
        "score_rejected": preference.score_rejected,
        **label_columns(preference),
    }


FORMATS: Mapping[str, Callable[[Preference], dict[str, Any]]] = {
    "trl": preference_row,
    "ultrafeedback": ultrafeedback_row,
}
"""Functions that make a row from a pair, by the name of the format."""


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows to a ``.jsonl`` or ``.parquet`` file, or to a ``datasets`` folder if the path has no extension.

    The path is complete or does not exist: rows are written to a temporary path, which is renamed. Raises
    ``InputError`` if the path exists, if its extension is not supported, or if a library is missing.
    """
    if path.exists():
        raise InputError(f"{path}: already exists; choose another path")
    check_writable(path)
    if path.suffix == ".jsonl":
        write_rows(path, rows)
    elif path.suffix == ".parquet":
        write_whole(path, lambda temporary: _dataset(rows).to_parquet(str(temporary)))
    elif not path.suffix:
        _write_folder(path, rows)
    else:
        raise InputError(f"{path}: expected the extension .jsonl or .parquet, or none for a `datasets` folder")


def _write_folder(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with whole_folder(path) as folder, writing(path):
        _dataset(rows).save_to_disk(str(folder))


def _dataset(rows: Iterable[Mapping[str, Any]]) -> Any:
    datasets = load_library("datasets")
    datasets.disable_progress_bars()
    found = list(rows)
    columns = dict.fromkeys(key for row in found for key in row)  # a row leaves out a weight of 1
    return datasets.Dataset.from_list([{key: row.get(key) for key in columns} for row in found])
