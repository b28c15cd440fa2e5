"""The metadata of prompts reaches every judge and evaluator of a run, and no prompt without metadata changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import echoing_world
import pytest

from tutelage.data.sets import prompt_of
from tutelage.execution.runner import run
from tutelage.files.jsonl import dump, read_records, read_rows, write_rows
from tutelage.hookspecs import hookimpl
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.records import Comparison, JudgeItem, Judgement, Outcome, Prompt, Verdict

MakeRecipe = Callable[..., Recipe]


class Reference:
    """A judge that knows the right answer from the metadata alone."""

    @hookimpl
    def judge(self, items: Iterable[JudgeItem], samples: int) -> Iterator[Judgement]:
        for item in items:
            for sample in range(samples):
                if "answer" in item.metadata:
                    yield Judgement(item.id, sample, 5.0 if item.answer == item.metadata["answer"] else 0.0)
                else:
                    yield Judgement(item.id, sample, None, Outcome.REFUSED, detail="no reference")

    @hookimpl
    def evaluate(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        for one in comparisons:
            right = one.metadata["answer"]
            yield Verdict(one.id, 0.5 + 0.5 * ((one.first == right) - (one.second == right)))


def recipe_with_references(make_recipe: MakeRecipe, folder: Path, **changes: Any) -> Recipe:
    for name, first in (("prompts", 1000), ("held-out", 5000)):
        rows = [
            {"prompt": f"say {n}", "metadata": {"answer": f"{n}", "of": [n, None]}} for n in range(first, first + 60)
        ]
        write_rows(folder / f"{name}.jsonl", rows)
    data = {
        "ift": {"source": "numbers/ift", "count": 8},
        "prompts": {"source": str(folder / "prompts.jsonl"), "count": 30},
        "decontaminate": None,
    }
    evaluation = {"prompts": {"source": str(folder / "held-out.jsonl")}, "sampled": 0, "agreement_prompts": 0}
    models = {
        "student": {"plugin": "numbers", "model": "numbers/novice"},
        "teacher": {"plugin": "reference"},
        "evaluator": {"plugin": "reference"},
    }
    values = {"models": models, "data": data, "evaluation": evaluation, "controls": {}, "iterations": 1}
    return make_recipe(**{**values, "pipelines": {"teacher-reward": None}, "judging": {}, **changes})


def test_a_judge_scores_by_the_reference_in_the_metadata(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    registry = Registry.empty()
    registry.register(echoing_world, "numbers")
    registry.register(Reference(), "reference")
    summary = run(recipe_with_references(make_recipe, tmp_path), tmp_path / "run", registry=registry)
    assert summary is not None
    files = {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*.jsonl")}
    scored = [name for name in files if name.endswith(("judgements.jsonl", "verdicts.jsonl", "gold.jsonl"))]
    assert scored
    for name in scored:
        outcomes = {row["outcome"] for _, row in read_rows(tmp_path / "run" / name)}
        assert outcomes == {"answered"}, name
    prompts = next(name for name in sorted(files) if name.endswith("/prompts.jsonl"))
    one = next(read_records(tmp_path / "run" / prompts, Prompt))
    assert one.metadata["answer"] == one.text.removeprefix("say ")


def test_metadata_changes_neither_the_id_of_a_prompt_nor_the_row_of_one_without_it() -> None:
    assert Prompt("say 1", metadata={"answer": "1"}).id == Prompt("say 1").id
    assert '"metadata"' not in dump(Prompt("say 1"))
    assert '"metadata"' not in dump(JudgeItem("a", "say 1", "1"))
    assert {Prompt("say 1", metadata={"answer": ["1"]}): 1}  # it can be a key


@pytest.mark.parametrize("value", ["a text", ["a", "list"], 7])
def test_metadata_that_is_no_mapping_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="`metadata` must be a mapping, not"):
        prompt_of({"prompt": "say 1", "metadata": value})
    assert prompt_of({"prompt": "say 1", "metadata": None}).metadata == {}
