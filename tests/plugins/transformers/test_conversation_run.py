"""A recipe with system messages and two-turn chats, through the three pipelines, on chat templates of two kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_templates import GEMMA, GEMMA_TOKENS, QWEN, QWEN_TOKENS
from click.testing import CliRunner

import tutelage_transformers
from tutelage.cli import cli
from tutelage.execution.runner import run
from tutelage.files.jsonl import read_rows, write_rows
from tutelage.hookspecs import hookimpl
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values
from tutelage.recipe.schema import Recipe
from tutelage.records import Comparison, Demonstration, JudgeItem, Judgement, Prompt, Rubric, Verdict
from tutelage_transformers.models.chat import prompt_text

SYSTEM = {"role": "system", "content": "please sort the words"}
FIRST, SECOND = ("apple", "pear", "plum", "cat"), ("dog", "cow", "red", "blue")


def chat(number: int, system: bool = True) -> list[dict[str, str]]:
    """A system message and two turns; the last message names two words."""
    one, other = FIRST[number % 4], SECOND[number // 4 % 4]
    turns = [
        {"role": "user", "content": f"sort {other} {one}"},
        {"role": "assistant", "content": f"{one} {other}"},
        {"role": "user", "content": f"sort the words {one} {other}" + " please" * (number // 16)},
    ]
    return [SYSTEM, *turns] if system else turns


class Teacher:
    """A teacher that scores by length, and answers with the last word of the prompt."""

    @hookimpl
    def describe(self) -> PluginInfo:
        rubric = Rubric("short", "score {prompt} : {answer}")
        return PluginInfo(help="Scores by length.", rubrics={"short": rubric})

    @hookimpl
    def judge(self, items: Iterable[JudgeItem], samples: int) -> Iterator[Judgement]:
        for item in items:
            for sample in range(samples):
                yield Judgement(item.id, sample, float(len(item.answer) % 6))

    @hookimpl
    def demonstrate(self, prompts: Iterable[Prompt]) -> Iterator[Demonstration]:
        for prompt in prompts:
            yield Demonstration(prompt.id, prompt.turns[-1].content.split()[-1])

    @hookimpl
    def evaluate(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        for comparison in comparisons:
            yield Verdict(comparison.id, 1.0 if len(comparison.first) > len(comparison.second) else 0.0)


@pytest.fixture
def registry() -> Registry:
    registry = Registry.empty()
    registry.register(tutelage_transformers, "transformers")
    registry.register(Teacher(), "teacher")
    return registry


@pytest.fixture
def make_chat_recipe(tmp_path: Path) -> Callable[..., Recipe]:
    """Makes the recipe on a student: make_chat_recipe(folder of the student)."""

    def make(student: Path, **changes: Any) -> Recipe:
        answers = [{"role": "assistant", "content": f"{FIRST[n % 4]}"} for n in range(8)]
        write_rows(tmp_path / "ift.jsonl", [{"messages": [*chat(n), answers[n]]} for n in range(8)])
        rated = [{"messages": chat(n), "answer": FIRST[s % 4], "score": s} for n in range(8) for s in range(6)]
        write_rows(tmp_path / "eft.jsonl", rated)
        write_rows(tmp_path / "prompts.jsonl", [{"messages": chat(n, n % 2 == 0)} for n in range(16, 28)])
        write_rows(tmp_path / "held-out.jsonl", [{"messages": chat(n)} for n in range(32, 36)])
        objective = {"batch_size": 4, "max_length": 120, "warmup_ratio": 0.0}
        values = {
            "name": "chats",
            "iterations": 1,
            "models": {
                "student": {"plugin": "transformers", "model": str(student), "settings": {"device": "cpu"}},
                "teacher": {"plugin": "teacher"},
                "evaluator": {"plugin": "teacher"},
            },
            "data": {
                "ift": {"source": str(tmp_path / "ift.jsonl"), "count": 8},
                "eft": {"source": str(tmp_path / "eft.jsonl"), "count": 48},
                "prompts": {"source": str(tmp_path / "prompts.jsonl"), "count": 12},
                "decontaminate": None,
            },
            "pipelines": {"self-reward": None, "teacher-reward": None, "teacher-demonstration": None},
            "generation": {"n": 4, "top_p": 1.0, "temperature": 1.0, "max_new_tokens": 4},
            "judging": {"rubric": "teacher/short", "samples": 2, "temperature": 1.0, "max_new_tokens": 4},
            "sft": {**objective, "epochs": 4, "learning_rate": 1e-2},
            "dpo": {**objective, "epochs": 1, "learning_rate": 1e-3},
            "evaluation": {
                "prompts": {"source": str(tmp_path / "held-out.jsonl"), "count": 4},
                "sampled": 2,
                "agreement_prompts": 4,
                "rubric": "teacher/short",
            },
        }
        return from_values({**values, **changes})

    return make


@pytest.mark.parametrize(("template", "special"), [(QWEN, QWEN_TOKENS), (GEMMA, GEMMA_TOKENS)])
def test_the_three_pipelines_train_on_every_turn(
    template: str,
    special: tuple[str, ...],
    tmp_path: Path,
    registry: Registry,
    make_base: Callable[..., Path],
    make_chat_recipe: Callable[..., Recipe],
) -> None:
    from transformers import AutoTokenizer

    student = make_base(special=special, template=template)
    summary = run(make_chat_recipe(student), tmp_path / "run", registry)
    assert summary is not None
    seed = tmp_path / "run/seed-0"
    chats = [chat(number, number % 2 == 0) for number in range(16, 28)]
    for pipeline in ("self-reward", "teacher-reward", "teacher-demonstration"):
        folder = seed / pipeline / "M2"
        prompts = [row["prompt"] for _, row in read_rows(folder / "preferences.jsonl")]
        assert prompts
        assert all(prompt in chats for prompt in prompts)
        tokenizer = AutoTokenizer.from_pretrained(folder / "checkpoint")
        assert tokenizer.chat_template == template
        shown = prompt_text(tokenizer, prompts[0])
        assert all(message["content"] in shown for message in prompts[0])
    examples = [row["prompt"] for _, row in read_rows(seed / "M1/examples.jsonl")]
    assert [prompt for prompt in examples if len(prompt) == 4]
    questions = [prompt[0]["content"] for prompt in examples if len(prompt) == 1]
    assert len(questions) == 48
    assert all(text.startswith("score System: please sort the words\n\nUser: sort ") for text in questions)


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Files with imported examples and pairs, whose prompts are conversations."""
    monkeypatch.chdir(tmp_path)
    answers = [{"role": "assistant", "content": FIRST[n % 4]} for n in range(8)]
    others = [{"role": "assistant", "content": SECOND[n % 4]} for n in range(8)]
    write_rows(tmp_path / "chats.jsonl", [{"chat": [*chat(n), answers[n]]} for n in range(8)])
    pairs = [{"prompt": chat(n), "chosen": [answers[n]], "rejected": [others[n]]} for n in range(8)]
    write_rows(tmp_path / "ranked.jsonl", pairs)
    call("data", "import", "ift", "chats.jsonl", "ift.jsonl", "--messages", "chat")
    call("data", "import", "preferences", "ranked.jsonl", "pairs.jsonl")
    return str(tmp_path / "ift.jsonl"), str(tmp_path / "pairs.jsonl")


def call(*arguments: str) -> None:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output


def test_imported_conversations_train_in_a_stage(
    tmp_path: Path, imported: tuple[str, str], make_base: Callable[..., Path]
) -> None:
    ift, pairs = imported
    student = make_base(special=GEMMA_TOKENS, template=GEMMA)
    sft = ("--objective", "sft", "--set", "sft.epochs=1", "--set", "sft.lora=null", "--out", "m1")
    call("stage", "train", ift, "--model", f"transformers:{student}", *sft)
    dpo = ("--objective", "dpo", "--set", "dpo.lora=null", "--out", "m2")
    call("stage", "train", pairs, "--model", "transformers:m1", *dpo)
    assert (tmp_path / "m2/model.safetensors").is_file()


def test_preferences_over_several_turns_train_in_a_recipe(
    tmp_path: Path,
    imported: tuple[str, str],
    registry: Registry,
    make_base: Callable[..., Path],
    make_chat_recipe: Callable[..., Recipe],
) -> None:
    ift, pairs = imported
    data = {"ift": {"source": ift, "count": 8}, "preferences": {"source": pairs, "count": 8}, "decontaminate": None}
    student = make_base(special=QWEN_TOKENS, template=QWEN)
    recipe = make_chat_recipe(student, data=data, pipelines={"own-preferences": None}, evaluation=None)
    run(recipe, tmp_path / "run", registry)
    folder = tmp_path / "run/seed-0/own-preferences/M2"
    prompts = [row["prompt"] for _, row in read_rows(folder / "preferences.jsonl")]
    assert len(prompts) == 8
    assert all(prompt in [chat(number) for number in range(8)] for prompt in prompts)
    assert (folder / "checkpoint/model.safetensors").is_file()
