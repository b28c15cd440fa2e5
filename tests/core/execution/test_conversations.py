"""Runs on conversations: each step gets every message of a prompt, in all pipelines and controls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import echoing_world
import pytest
from attrs import evolve

from tutelage.execution.runner import run
from tutelage.files.jsonl import read_records, read_rows, write_rows
from tutelage.files.trl_format import read_preferences
from tutelage.hookspecs import hookimpl
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.records import Comparison, Demonstration, JudgeItem, Judgement, Prompt, Verdict, conversation_text

SYSTEM = {"role": "system", "content": "Answer with a number."}


def chat(number: int) -> list[dict[str, str]]:
    """A system message and two turns; the last question is "say NUMBER"."""
    return [
        SYSTEM,
        {"role": "user", "content": f"What comes before {number}?"},
        {"role": "assistant", "content": f"{number - 1}"},
        {"role": "user", "content": f"say {number}"},
    ]


def chat_recipe(make_recipe: Callable[..., Recipe], folder: Path, **changes: Any) -> Recipe:
    """A recipe whose examples, prompts and evaluation prompts are conversations."""
    answers = {number: {"role": "assistant", "content": f"{number}"} for number in range(8)}
    write_rows(folder / "ift.jsonl", [{"messages": [*chat(number), answers[number]]} for number in range(8)])
    rated = [{"messages": chat(number), "answer": "5", "score": 5 if number == 5 else 1} for number in range(8)]
    write_rows(folder / "eft.jsonl", rated)
    write_rows(folder / "prompts.jsonl", [{"messages": chat(number)} for number in range(1000, 1100)])
    write_rows(folder / "held-out.jsonl", [{"prompt": chat(number)} for number in range(5000, 5040)])
    data = {
        "ift": {"source": str(folder / "ift.jsonl"), "count": 8},
        "eft": {"source": str(folder / "eft.jsonl"), "count": 8},
        "prompts": {"source": str(folder / "prompts.jsonl"), "count": 30},
        "decontaminate": {"share": 1},
    }
    evaluation = {
        "prompts": {"source": str(folder / "held-out.jsonl"), "count": 20},
        "sampled": 4,
        "agreement_prompts": 10,
        "rubric": "numbers/numbers",
    }
    return make_recipe(**{"data": data, "evaluation": evaluation, **changes})


class Recording:
    """The echoing world, which records the prompts that it is given."""

    def __init__(self) -> None:
        self.sent: list[Prompt] = []
        self.shown: list[str] = []
        """The prompts of judged items and of comparisons."""

    def __getattr__(self, name: str) -> Any:
        return getattr(echoing_world, name)

    @hookimpl
    def demonstrate(self, prompts: Iterator[Prompt]) -> Iterator[Demonstration]:
        for prompt in prompts:
            self.sent.append(prompt)
            yield from echoing_world.demonstrate([prompt])

    @hookimpl
    def judge(
        self, model: Any, items: Iterator[JudgeItem], rubric: Any, samples: int, sampling: Any
    ) -> Iterator[Judgement]:
        for item in items:
            self.shown.append(item.prompt)
            yield from echoing_world.judge(model, [item], rubric, samples, sampling)

    @hookimpl
    def evaluate(self, comparisons: Iterator[Comparison]) -> Iterator[Verdict]:
        for comparison in comparisons:
            self.shown.append(comparison.prompt)
            yield from echoing_world.evaluate([comparison])


@pytest.fixture
def world() -> Recording:
    """A plugin that records what it is given."""
    return Recording()


@pytest.fixture
def registry(world: Recording) -> Registry:
    """A registry with the recording plugin alone."""
    registry = Registry.empty()
    for name in ("describe", "generate_candidates", "train_step"):
        setattr(world, name, getattr(echoing_world, name))
    registry.register(world, "numbers")
    return registry


def is_whole(messages: list[dict[str, str]]) -> bool:
    return messages == chat(int(messages[-1]["content"].removeprefix("say ")))


def test_all_pipelines_and_controls_keep_every_turn(
    tmp_path: Path, world: Recording, registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    recipe = chat_recipe(make_recipe, tmp_path)
    summary = run(recipe, tmp_path / "run", registry)
    assert summary is not None
    seed = tmp_path / "run/seed-0"
    for file in sorted(seed.glob("**/samples/prompts.jsonl")):
        prompts = list(read_records(file, Prompt))
        assert prompts
        for prompt in prompts:
            assert is_whole([{"role": one.role, "content": one.content} for one in prompt.messages])
            assert prompt.text == conversation_text(prompt.messages)
    pairs = {path.parent.relative_to(seed).as_posix(): path for path in seed.glob("**/preferences.jsonl")}
    assert pairs.keys() >= {f"{pipeline}/{model}" for pipeline in recipe.pipelines for model in ("M2", "M3")} | {
        "random-pairs/M2"
    }
    for path in pairs.values():
        assert all(is_whole(row["prompt"]) for _, row in read_rows(path))
        assert all(pair.prompt == conversation_text(pair.messages) for pair in read_preferences(path))
    [chosen] = seed.glob("sft-on-chosen/M2/examples.jsonl")
    assert all(is_whole(row["prompt"]) for _, row in read_rows(chosen))
    ift = [row for _, row in read_rows(seed / "M1/examples.jsonl") if row["prompt"][0]["role"] == "system"]
    assert len(ift) == 8
    assert all(is_whole(row["prompt"]) for row in ift)
    assert world.sent
    assert all(is_whole([{"role": m.role, "content": m.content} for m in prompt.turns]) for prompt in world.sent)
    assert world.shown
    assert all(text.startswith("System: Answer with a number.\n\nUser: What comes before ") for text in world.shown)


def test_judging_examples_show_the_whole_conversation(
    tmp_path: Path, registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    run(chat_recipe(make_recipe, tmp_path, pipelines={"teacher-reward": None}, controls={}), tmp_path / "run", registry)
    rows = [row for _, row in read_rows(tmp_path / "run/seed-0/M1/examples.jsonl") if len(row["prompt"]) == 1]
    shown = {row["prompt"][0]["content"] for row in rows}
    assert shown == {
        "Rate 5 to System: Answer with a number.\n\n"
        f"User: What comes before {n}?\n\nAssistant: {n - 1}\n\nUser: say {n}"
        for n in range(8)
    }


@pytest.mark.parametrize("turn", [1, 3])
def test_an_evaluation_prompt_in_any_user_turn_is_found(
    turn: int, tmp_path: Path, registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    recipe = chat_recipe(make_recipe, tmp_path, pipelines={"teacher-reward": None}, controls={}, iterations=1)
    held = "Write the numbers from one to ten in words, one on each line, please."
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text(held_out.read_text() + json.dumps({"prompt": held}) + "\n")
    leaking = chat(1)
    leaking[turn] = {"role": "user", "content": f"{held} Thanks!"}
    conversations = [*(chat(number) for number in range(7)), leaking]
    write_rows(
        tmp_path / "ift.jsonl", [{"messages": [*c, {"role": "assistant", "content": "1"}]} for c in conversations]
    )
    run(with_all_held_out(recipe), tmp_path / "run", registry)
    dropped = [row for _, row in read_rows(tmp_path / "run/seed-0/M1/examples-dropped.jsonl")]
    assert [(row["text"], row["like"]) for row in dropped] == [(f"{held} Thanks!", held)]


def with_all_held_out(recipe: Recipe) -> Recipe:
    """The recipe with all 41 rows of its file as evaluation prompts."""
    assert recipe.evaluation is not None
    prompts = evolve(recipe.evaluation.prompts, count=41)
    return evolve(recipe, evaluation=evolve(recipe.evaluation, prompts=prompts))
