"""The process that evaluates one checkpoint: ``python worker.py REQUEST``, where REQUEST is JSON.

It writes ``{"values": [[id, value], ...]}``, or ``{"error": text}`` for a mistake of the user, to the file ``output``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def main(request: Mapping[str, Any]) -> None:
    """Evaluate the task of a request and write the values of its documents."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    folder = request["folder"]
    manager = TaskManager(include_path=folder, include_defaults=folder is None)
    if request["task"] not in manager.all_tasks:
        _write(request, {"error": f"lm_eval has no task of this name{'' if folder is None else f' in {folder}'}"})
        return
    found = simple_evaluate(
        model="hf",
        model_args={"pretrained": request["pretrained"], **request["model_args"]},
        tasks=[request["task"]],
        num_fewshot=request["num_fewshot"],
        batch_size=request["batch_size"],
        device=request["device"] or None,
        use_cache=request["cache"],
        limit=request["limit"],
        bootstrap_iters=0,
        apply_chat_template=request["apply_chat_template"],
        task_manager=manager,
    )
    samples = found["samples"] if found is not None else {}
    try:
        _write(request, {"values": list(_values(samples, request["metric"], request["filter"]))})
    except LookupError as error:
        _write(request, {"error": error.args[0]})


def _values(samples: Mapping[str, list[dict[str, Any]]], metric: str, filter: str) -> Iterator[tuple[str, Any]]:
    """Yield the id and the value of each document. Raises LookupError if a task has no such filter or metric."""
    for task, rows in samples.items():
        filters = dict.fromkeys(row["filter"] for row in rows)
        if filter not in filters:
            raise LookupError(f"filter: {task} has no filter {filter!r}; it has {', '.join(filters)}")
        for row in rows:
            if row["filter"] != filter:
                continue
            if metric not in row["metrics"]:
                raise LookupError(f"metric: {task} has no metric {metric!r}; it has {', '.join(row['metrics'])}")
            yield f"{task}/{row['doc_id']}", _plain(row[metric], task, metric)


def _plain(value: Any, task: str, metric: str) -> float | list[float]:
    """The value as a number, or as a log-likelihood with a number of words or bytes."""
    if isinstance(value, tuple | list) and len(value) == 2:
        return [float(one) for one in value]
    try:
        return float(value)
    except (TypeError, ValueError):
        raise LookupError(f"metric: {metric} of {task} has no number for each document ({value!r})") from None


def _write(request: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    path = Path(request["output"])
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(found), encoding="utf-8")
    temporary.replace(path)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
