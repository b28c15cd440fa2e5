"""The study of self-reward in the embedded world: the gain of each variant, and how many of its pairs are right."""

import json
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.prove.command import run

from tutelage.files.jsonl import read_rows
from tutelage_tiny import rubric, world

BASE = "base"
MODEL = "M2/self-reward"
READABLE = 0.5
"""The judge of a variant is readable if at least this share of its judgements is parsed."""


def prove() -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp()) / "run"
    finished = run("run", "embedded-study", "--run", str(folder))
    found = read(folder)
    shutil.rmtree(folder.parent)
    return {"wall_seconds": round(finished.wall_seconds), **found}


def read(folder: Path) -> dict[str, Any]:
    """The figures of a finished run of the study."""
    summary = json.loads((folder / "summary.json").read_text())
    compared = {row["variant"]: row for row in summary["variants"] if row["model"] == MODEL}
    variants = [_variant(name, own, compared[name]) for name, own in _variants(folder)]
    trainings = {one["variant"]: one.pop("trainings") for one in variants}
    readable = [one["variant"] for one in variants if one["judge"]["parsed"]["value"] >= READABLE]
    return {
        "seeds": summary["seeds"],
        "variants": variants,
        "all": _correlation([row for own in trainings.values() for row in own]),
        "readable": _correlation([row for name in readable for row in trainings[name]]),
    }


def _correlation(trainings: Sequence[tuple[float, float]]) -> dict[str, float]:
    """The correlation of the share of right pairs and the gain over M1."""
    right, gains = zip(*trainings, strict=True)
    return {"trainings": len(trainings), "right_and_gain": round(statistics.correlation(right, gains), 2)}


def _variants(folder: Path) -> Iterator[tuple[str, Path]]:
    yield BASE, folder
    yield from ((one.name, one) for one in sorted((folder / "variants").iterdir()))


def _variant(name: str, folder: Path, compared: dict[str, Any]) -> dict[str, Any]:
    summary = json.loads((folder / "summary.json").read_text())
    by_seed = {seed: _differences_of_pairs(folder, seed) for seed in summary["seeds"]}
    every = [difference for seed in by_seed.values() for difference in seed]
    if not every:
        raise ValueError(f"{folder}: no seed of the variant {name} has a pair, so there is no {MODEL}")
    return {
        "variant": name,
        "m1": _gold_score_of_m1(summary),
        "gain": _gain(summary, "M1"),
        "over_random": _gain(summary, "M2/random-pairs"),
        "over_base": compared["difference"],
        "p_adjusted": compared["p_value_adjusted"],
        "judge": _judge(summary),
        "pairs": len(every),
        "right": round(_right(every), 3),
        "equal": round(sum(one == 0 for one in every) / len(every), 3),
        "trainings": [  # a seed without pairs has no training
            (_right(found), _gain(summary, "M1", seed)["value"]) for seed, found in by_seed.items() if found
        ],
    }


def _differences_of_pairs(folder: Path, seed: int) -> list[float]:
    """The gold score of the chosen answer above that of the rejected one, for each pair."""
    rows = (row for _, row in read_rows(folder / f"seed-{seed}/self-reward/M2/preferences.jsonl"))
    return [_gold(row, "chosen") - _gold(row, "rejected") for row in rows]


def _gold(row: Any, side: str) -> float:
    task = world.parse(row["prompt"][0]["content"])
    assert task is not None
    return rubric.score(task, row[side][0]["content"])


def _right(differences: Sequence[float]) -> float:
    """The share of the pairs whose chosen answer is the better one."""
    return sum(one > 0 for one in differences) / len(differences)


def _gain(summary: dict[str, Any], over: str, seed: int | None = None) -> dict[str, float]:
    wanted = {"left": MODEL, "right": over, "seed": seed}
    [found] = [row for row in summary["differences"] if wanted.items() <= row.items()]
    return dict(found["metrics"]["gold_score"])


def _gold_score_of_m1(summary: dict[str, Any]) -> dict[str, float]:
    [found] = [row for row in summary["models"] if row["id"] == "M1" and row["seed"] is None]
    return dict(found["metrics"]["gold_score"])


def _judge(summary: dict[str, Any]) -> dict[str, Any]:
    """How M1 judges its own answers, by the scores that the pairs are made of."""
    rows = [
        row for row in summary["agreement"] if row["model"] == "M1" and row["answers"] == "own" and row["seed"] is None
    ]
    metrics = rows[-1]["metrics"]  # the last rows are those of expected scores, if there are any
    return {name: metrics[name] for name in ("pairwise_accuracy", "spearman", "parsed")}
