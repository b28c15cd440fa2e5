"""The figures of a finished run of the study, from its files."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.prove.study import read

from tutelage.files.jsonl import write_rows
from tutelage.files.trl_format import message
from tutelage_tiny import world

[PROMPT] = world.prompts("train", 1, 0)
RIGHT, WRONG = world.solve(PROMPT), "nothing of that"
BETTER, WORSE, EQUAL = (RIGHT, WRONG), (WRONG, RIGHT), (RIGHT, RIGHT)
"""(chosen, rejected) answers."""


def difference(left: str, right: str, seed: int | None, value: float) -> dict[str, Any]:
    return {"left": left, "right": right, "seed": seed, "metrics": {"gold_score": {"value": value}}}


def judge(parsed: float) -> dict[str, Any]:
    metrics = {name: {"value": parsed} for name in ("pairwise_accuracy", "spearman", "parsed", "another")}
    return {"model": "M1", "answers": "own", "seed": None, "metrics": metrics}


def write_run(folder: Path, pairs: dict[int, list[tuple[str, str]]], gains: dict[int, float], parsed: float) -> Path:
    """Write a run with the pairs of each seed, and the gains of the seeds that have an M2."""
    for seed, answers in pairs.items():
        file = folder / f"seed-{seed}/self-reward/M2/preferences.jsonl"
        file.parent.mkdir(parents=True)
        rows = [
            {
                "prompt": message("user", PROMPT),
                "chosen": message("assistant", chosen),
                "rejected": message("assistant", rejected),
            }
            for chosen, rejected in answers
        ]
        write_rows(file, rows)
    values = {
        "seeds": list(pairs),
        "models": [{"id": "M1", "seed": None, "metrics": {"gold_score": {"value": 2.5}}}],
        "agreement": [judge(0.1), judge(parsed)],
        "differences": [
            difference("M2/self-reward", "M1", None, 0.5),
            difference("M2/self-reward", "M2/random-pairs", None, 0.4),
            *(difference("M2/self-reward", "M1", seed, gain) for seed, gain in gains.items()),
        ],
    }
    values["variants"] = [
        {"variant": name, "model": model, "difference": own, "p_value_adjusted": own}
        for name, own in (("base", None), ("other", 0.25))
        for model in ("M1", "M2/self-reward")
    ]
    (folder / "summary.json").write_text(json.dumps(values))
    return folder


def test_the_study_reads_its_variants_and_leaves_out_seeds_without_pairs(tmp_path: Path) -> None:
    write_run(tmp_path, {1: [BETTER, WORSE], 2: [BETTER, BETTER, BETTER, EQUAL], 3: []}, {1: 0.2, 2: 0.7}, parsed=0.9)
    write_run(tmp_path / "variants/other", {1: [WORSE], 2: [], 3: []}, {1: 1.0}, parsed=0.4)
    found = read(tmp_path)
    base, other = found["variants"]
    assert (base["variant"], base["pairs"], base["right"], base["equal"]) == ("base", 6, 0.667, 0.167)
    assert (other["variant"], other["pairs"], other["right"], other["equal"]) == ("other", 1, 0.0, 0.0)
    assert (base["m1"], base["gain"], base["over_random"]) == ({"value": 2.5}, {"value": 0.5}, {"value": 0.4})
    assert (base["over_base"], other["over_base"], other["p_adjusted"]) == (None, 0.25, 0.25)
    assert base["judge"] == {name: {"value": 0.9} for name in ("pairwise_accuracy", "spearman", "parsed")}
    assert found["seeds"] == [1, 2, 3]
    assert found["all"] == {"trainings": 3, "right_and_gain": -0.54}
    assert found["readable"] == {"trainings": 2, "right_and_gain": 1.0}, "other parses too few judgements"


def test_a_variant_without_any_pair_is_an_error_that_names_it(tmp_path: Path) -> None:
    write_run(tmp_path, {1: [], 2: []}, {}, parsed=0.9)
    with pytest.raises(ValueError, match="no seed of the variant base has a pair, so there is no M2/self-reward"):
        read(tmp_path)
