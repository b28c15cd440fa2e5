"""The embedded run: its time and memory, and the results of each pipeline on five seeds not used for tuning."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.prove.command import measure, run

from tutelage.report.contents import Contents, read_contents

METRICS = ("gold_score", "gold_exact")


def prove_one_seed() -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp()) / "run"
    finished = measure("run", "embedded", "--run", str(folder))
    summary = json.loads((folder / "summary.json").read_text())
    contents = read_contents(folder)
    table = run("run", "embedded", "--run", str(folder)).output
    shutil.rmtree(folder.parent)
    return {
        "output": table.replace(str(folder), "runs/demo"),
        "wall_seconds": round(finished.wall_seconds, 1),
        "cpu_seconds": round(finished.cpu_seconds, 1),
        "peak_mib": round(finished.peak_mib),
        "models": {model["id"]: model["metrics"]["gold_score"]["value"] for model in summary["models"]},
        "gains_over_m1": gains_over_m1(contents),
        "sentences": list(contents.sentences),
        "example": _example(contents, ("M0", "M1", "M3/self-reward")),
    }


def gains_over_m1(contents: Contents) -> dict[str, dict[str, float | int | None]]:
    """The differences of gold scores to M1 that the report draws."""
    [gains] = [one for one in contents.gains if one.over == "M1"]
    found = {model: gains.score(model) for model in gains.metrics}
    return {
        model: {"value": metric.value, "low": metric.low, "high": metric.high, "n": metric.n}
        for model, metric in found.items()
        if metric is not None
    }


def _example(contents: Contents, models: tuple[str, ...]) -> dict[str, Any]:
    """The first held-out prompt whose score is higher from each of the models to the next, and the number of these."""
    assert contents.answers is not None
    places = [contents.answers.models.index(model) for model in models]
    rising, falling = [], 0
    for prompt in contents.answers.prompts:
        answers = [prompt.answers[place] for place in places]
        scores = [answer.score for answer in answers if answer is not None and answer.score is not None]
        falling += len(scores) == len(models) and scores[-1] < scores[-2]
        if len(scores) == len(models) and scores == sorted(set(scores)):
            texts = [answer.text for answer in answers if answer is not None]
            rising.append((prompt.text, list(zip(models, texts, scores, strict=True))))
    text, rows = rising[0]
    return {
        "prompt": text,
        "answers": [{"model": model, "text": answer, "score": score} for model, answer, score in rows],
        "prompts_that_rise": len(rising),
        "prompts_that_fall_at_last": falling,
        "prompts": len(contents.answers.prompts),
    }


def prove_seeds() -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp()) / "run"
    finished = run("run", "embedded-seeds", "--run", str(folder))
    summary = json.loads((folder / "summary.json").read_text())
    shutil.rmtree(folder.parent)
    models = [model for model in summary["models"] if model["seed"] is None]
    differences = [row for row in summary["differences"] if row["seed"] is None]
    return {
        "wall_seconds": round(finished.wall_seconds, 1),
        "seeds": summary["seeds"],
        "models": {model["id"]: {name: model["metrics"][name] for name in METRICS} for model in models},
        "differences": [
            {"left": row["left"], "right": row["right"], **{name: row["metrics"][name] for name in METRICS}}
            for row in differences
        ],
    }
