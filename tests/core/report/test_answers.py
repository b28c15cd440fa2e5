"""The answers, scores and verdicts of the page are those of the artifacts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tutelage.execution.runner import run
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.report.answers import read_answers
from tutelage.runs.run import Run


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_held_out_prompt_has_the_answers_of_all_models_with_their_scores(finished: Path) -> None:
    shown = read_answers(Run.open(finished))
    assert shown is not None
    assert shown.models == ("M0", "M1", "M2/self-reward", "M2/random-pairs")
    prompts = rows(finished / "evaluation/seed-0/prompts.jsonl")
    assert [(one.id, one.text) for one in shown.prompts] == [(row["id"], row["text"]) for row in prompts]
    texts = {row["prompt_id"]: row["text"] for row in rows(finished / shown.files[0][2])}
    gold = {
        row["item_id"]: row["score"] for row in rows(finished / "evaluation/seed-0/M2/self-reward/gold-greedy.jsonl")
    }
    for prompt in shown.prompts:
        answer = prompt.answers[2]
        assert answer is not None
        assert (answer.text, answer.score) == (texts[prompt.id], gold[f"{prompt.id}/0"])


def test_both_orders_of_a_verdict_are_preferences_for_the_same_model(finished: Path) -> None:
    shown = read_answers(Run.open(finished))
    assert shown is not None
    verdicts = {row["comparison_id"]: row["preference"] for row in rows(finished / "evaluation/seed-0/verdicts.jsonl")}
    checked = 0
    for prompt in shown.prompts:
        for (left, right), (first, second) in zip(shown.pairs, prompt.verdicts, strict=True):
            assert first == verdicts[f"{left}|{right}|{prompt.id}"]
            other = verdicts[f"{right}|{left}|{prompt.id}"]
            assert second == (None if other is None else 1 - other)
            checked += 1
    assert checked == len(shown.prompts) * len(shown.pairs) > 0


def test_the_sampled_answers_that_a_model_judged_have_both_scores(finished: Path) -> None:
    shown = read_answers(Run.open(finished))
    assert shown is not None
    own = rows(finished / "seed-0/self-reward/M2/samples/judgements-own.jsonl")
    found = {f"{prompt.id}/{one.index}": one for prompt in shown.prompts for one in prompt.judged[2]}
    assert found.keys() == {row["item_id"] for row in own}
    for id, sample in found.items():
        scores = [row["score"] for row in own if row["item_id"] == id and row["score"] is not None]
        assert sample.own == (sum(scores) / len(scores) if scores else None)


def test_with_several_seeds_a_prompt_has_the_answers_of_each_seed(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe(seeds=[3, 4], pipelines={"teacher-reward": None}, controls={}, iterations=1)
    run(recipe, tmp_path / "run", numbers_registry)
    shown = read_answers(Run.open(tmp_path / "run"))
    assert shown is not None
    assert shown.files.keys() == {3, 4} and shown.files[4][0] == "seed-4/M0/samples/held-out-greedy.jsonl"
    for seed in (3, 4):
        texts = {row["prompt_id"]: row["text"] for row in rows(tmp_path / "run" / shown.files[seed][-1])}
        found = {one.id: one.answers[-1] for one in shown.prompts if one.seed == seed}
        assert {id: answer.text for id, answer in found.items() if answer} == texts
