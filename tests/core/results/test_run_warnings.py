"""Runs in the echoing world that go wrong in one way each: the warning appears with its step, and in the summary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import echoing_world
import pytest
from attrs import define, evolve, field
from known import known
from recipes import numbers_recipe

from tutelage.context import Context
from tutelage.errors import StageError
from tutelage.execution.reporter import Silent
from tutelage.execution.runner import run
from tutelage.hookspecs import hookimpl
from tutelage.objectives import Objective
from tutelage.planning.steps import Step
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.records import Candidate, JudgeItem, Judgement, Model, Outcome, Prompt, Rubric, Sampling


class Notes(Silent):
    """Keeps the outputs of the finished steps and the notes, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def finished(self, step: Step, seconds: float, counts: Mapping[str, int]) -> None:
        self.lines.append(step.output)

    def note(self, text: str) -> None:
        self.lines.append(text)

    def after(self, output: str) -> list[str]:
        """Return the notes between the end of a step and the end of the next."""
        start = self.lines.index(output) + 1
        notes = []
        for line in self.lines[start:]:
            if not line.startswith("warning: "):
                break
            notes.append(line.removeprefix("warning: "))
        return notes


@define(slots=False, eq=False)
class Student:
    """The student of the echoing world with other answers or other metrics."""

    answer: Callable[[Model, Prompt, int, Candidate], Candidate] = lambda model, prompt, index, usual: usual
    metrics: Callable[[int], dict[str, float]] | None = None
    score: Callable[[Judgement], Judgement] = lambda usual: usual
    info: PluginInfo = field(factory=echoing_world.describe)

    @hookimpl
    def describe(self) -> PluginInfo:
        return self.info

    @hookimpl
    def generate_candidates(
        self, model: Model, prompts: Iterable[Prompt], n: int, sampling: Sampling
    ) -> Iterator[Candidate]:
        for prompt in prompts:
            for usual in echoing_world.generate_candidates(model, [prompt], n, sampling, Context()):
                yield self.answer(model, prompt, usual.index, usual)

    @hookimpl
    def judge(
        self, model: Model, items: Iterable[JudgeItem], rubric: Rubric, samples: int, sampling: Sampling
    ) -> Iterator[Judgement]:
        yield from map(self.score, echoing_world.judge(model, items, rubric, samples, sampling))

    @hookimpl
    def train_step(
        self,
        model: Model,
        reference: Model | None,
        objective: Objective,
        examples: Path,
        output: Path,
        context: Context,
    ) -> Model:
        if self.metrics is None or reference is None:
            return echoing_world.train_step(model, reference, objective, examples, output, context)
        for step in range(20):
            context.log({"step": step + 1, **self.metrics(step)})
        return echoing_world.train_step(
            model, reference, objective, examples, output, evolve(context, log=lambda row: None)
        )


@pytest.fixture
def warned(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> Callable[..., tuple[Notes, list[str]]]:
    """Run a recipe with a student; returns the notes and the warnings of the summary."""

    def run_with(
        student: Student, role: str = "student", notes: Notes | None = None, **changes: Any
    ) -> tuple[Notes, list[str]]:
        numbers_registry.register(student, "mine")
        models = numbers_recipe()["models"]
        models[role] = {"plugin": "mine"} | ({"model": "numbers/novice"} if role == "student" else {})
        short = {"pipelines": {"self-reward": None}, "controls": {}, "iterations": 1, "dpo": {"batch_size": 2}}
        recipe = make_recipe(models=models, **{**short, **changes})
        notes = notes or Notes()
        summary = known(run(recipe, tmp_path / "run", numbers_registry, reporter=notes))
        return notes, list(summary.warnings)

    return run_with


M2 = "seed-0/self-reward/M2"


def test_a_sound_run_has_no_warnings(warned: Callable[..., tuple[Notes, list[str]]]) -> None:
    notes, warnings = warned(Student())
    assert warnings == []
    assert not [line for line in notes.lines if line.startswith("warning")]


def test_answers_that_are_often_cut_are_a_warning(warned: Callable[..., tuple[Notes, list[str]]]) -> None:
    def cut(model: Model, prompt: Prompt, index: int, usual: Candidate) -> Candidate:
        return evolve(usual, outcome=Outcome.CUT) if index == 1 and model.id == "M1" else usual

    notes, warnings = warned(Student(answer=cut))
    text = (
        "M1, seed 0: 25% of the 160 answers of seed-0/M1/samples/candidates.jsonl are cut: raise "
        "generation.max_new_tokens (now 256)"
    )
    assert notes.after("seed-0/M1/samples/candidates.jsonl") == [text]
    sampled = (
        "M1, seed 0: 25% of the 120 answers of seed-0/M1/samples/held-out-sampled.jsonl are cut: raise "
        "evaluation.max_new_tokens (now 256)"
    )
    assert warnings == [text, sampled]


def test_judgements_that_are_often_unparsed_are_a_warning_if_pairs_are_made_of_them(
    warned: Callable[..., tuple[Notes, list[str]]],
) -> None:
    """How well a model judges is also measured; there the share is the metric ``parsed`` and no warning."""

    def unparsed(usual: Judgement) -> Judgement:
        return usual if usual.sample else evolve(usual, score=None, outcome=Outcome.UNPARSED, raw="what?")

    notes, warnings = warned(Student(score=unparsed))
    (warning,) = notes.after(f"{M2}/judgements.jsonl")
    assert warning.startswith("M2/self-reward, seed 0: 5")
    assert f"% of the 320 judgements of {M2}/judgements.jsonl are unparsed: set another judging.rubric" in warning
    assert "raise judging.max_new_tokens (now 256), or bind another student (models)" in warning
    assert warnings == [warning]


def test_a_judge_with_one_score_is_a_warning_before_the_run_ends_without_pairs(
    warned: Callable[..., tuple[Notes, list[str]]],
) -> None:
    notes = Notes()
    with pytest.raises(StageError, match="no pair was left"):
        warned(Student(score=lambda usual: evolve(usual, score=3.0, outcome=Outcome.ANSWERED)), notes=notes)
    (warning,) = notes.after(f"{M2}/judgements.jsonl")
    assert warning.startswith("M2/self-reward, seed 0: the judge gave the score 3 to all ")
    assert "set another judging.rubric (now numbers/numbers)" in warning


def test_an_evaluator_with_one_score_is_a_warning(warned: Callable[..., tuple[Notes, list[str]]]) -> None:
    class Evaluator(Student):
        @hookimpl
        def evaluate(self, comparisons: Iterable[Any]) -> Iterator[Any]:
            yield from echoing_world.evaluate(comparisons)

    _, warnings = warned(Evaluator(score=lambda usual: evolve(usual, score=4.0)), role="evaluator")
    assert warnings == [
        "evaluation, seed 0: the evaluator gave the score 4 to all 450 answers, so the models cannot be compared; "
        "set another evaluation.rubric or bind another evaluator (models)"
    ]


def test_a_first_model_that_is_worse_than_the_base_is_a_warning(
    warned: Callable[..., tuple[Notes, list[str]]],
) -> None:
    def worse(model: Model, prompt: Prompt, index: int, usual: Candidate) -> Candidate:
        return evolve(usual, text=echoing_world.right_answer(prompt.text)) if model.id == "M0" else usual

    _, warnings = warned(Student(answer=worse))
    (warning,) = warnings
    assert warning.startswith("M1, seed 0: its answers score ")
    assert "below those of M0" in warning and "lower sft.learning_rate or sft.epochs" in warning


def test_answers_that_grow_slowly_over_the_series_are_a_warning(
    warned: Callable[..., tuple[Notes, list[str]]],
) -> None:
    def longer(model: Model, prompt: Prompt, index: int, usual: Candidate) -> Candidate:
        words = {"M0": 5, "M1": 5, "M2/self-reward": 7, "M3/self-reward": 9}[model.id]
        return evolve(usual, text=f"{usual.text} {' '.join(['so'] * (words - len(usual.text.split())))}")

    _, warnings = warned(Student(answer=longer), iterations=2)
    warning, one_score = warnings
    assert one_score.startswith("evaluation, seed 0: the evaluator gave the score 1 to all"), "no answer is right"
    assert warning.startswith(
        "M3/self-reward, seed 0: answers have 9.0 words on average, 1.8 times as many as those of M1: "
    )
    assert "pairs.rule to length-controlled or similar-length" in warning


def test_few_pairs_are_a_warning_with_the_reason_that_dropped_most(
    warned: Callable[..., tuple[Notes, list[str]]],
) -> None:
    notes, warnings = warned(Student(), dpo={"batch_size": 16})
    (warning,) = notes.after(f"{M2}/preferences.jsonl")
    assert warning.startswith("M2/self-reward, seed 0: it is trained on ")
    assert "32 pairs only, in 2 optimizer steps: raise data.prompts.count or dpo.epochs, or lower dpo" in warning
    assert "most were dropped as 'same text': raise generation.temperature (now 0.7)" in warning
    assert warnings == [warning]


def rewards(loss: float, accuracy: float, chosen: float) -> dict[str, float]:
    return {"loss": loss, "rewards/accuracies": accuracy, "rewards/chosen": chosen, "rewards/rejected": chosen - 0.1}


@pytest.mark.parametrize(
    ("metrics", "start"),
    [
        (lambda step: rewards(0.6928, 0.5, 0.0), "the loss stayed at 0.693; 0.693 is that of a model that equals"),
        (
            lambda step: rewards(0.5 - step / 50, float(step > 1), 0.1),
            "accuracy is about 1 after two updates",
        ),
        (lambda step: rewards(0.5, 0.8, -0.2 * step), "chosen answers lost "),
    ],
    ids=["stuck", "too easy", "collapsed"],
)
def test_a_training_that_goes_wrong_is_a_warning_when_it_ends(
    warned: Callable[..., tuple[Notes, list[str]]], metrics: Callable[[int], dict[str, float]], start: str
) -> None:
    notes, warnings = warned(Student(metrics=metrics))
    first = notes.after(f"{M2}/checkpoint")[0]
    assert first.startswith(f"M2/self-reward, seed 0: {start}")
    assert first in warnings
    assert "dpo" in first or "lower the learning rate" in first
