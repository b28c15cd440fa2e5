"""The plugin ``tiny``: a tiny language model that is included in tutelage, and a synthetic world with known answers.

The plugin is teacher, judge and evaluator; all three are programs. The model is run by the plugin ``transformers``,
like Phi-2. This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

from tutelage.context import Context
from tutelage.hookspecs import hookimpl
from tutelage.plugin_info import NamedModel, NamedSet, PluginInfo
from tutelage.records import Comparison, Demonstration, JudgeItem, Judgement, Outcome, Prompt, Verdict
from tutelage_tiny import sets, world
from tutelage_tiny.rubric import ADDITIVE, Grade, grade

WEIGHTS = Path(__file__).parent / "weights"
_NO_TASK = "not an instruction of the tiny world"


@hookimpl
def describe() -> PluginInfo:
    """Describe the plugin: the student's weights, the prompt sets, the seed examples and the rubric."""
    return PluginInfo(
        help="A tiny language model and a small world with a programmatic teacher: no key, no network, no GPU.",
        models={"student": NamedModel(str(WEIGHTS), "A Phi of 0.85M parameters, pretrained on the world's text: M0.")},
        prompt_sets={
            "seed": NamedSet(partial(world.prompts, "seed"), "Instructions for examples and for self-instruct."),
            "train": NamedSet(partial(world.prompts, "train"), "Instructions for training."),
            "held-out": NamedSet(partial(world.prompts, "held-out"), "Instructions for evaluation."),
        },
        example_sets={"ift": NamedSet(sets.ift, "Instructions with their right answers.")},
        rated_sets={"eft": NamedSet(sets.eft, "Answers with mistakes, and their gold scores.")},
        preference_sets={
            "preferences": NamedSet(sets.preferences, "Right answers, preferred to answers with mistakes.")
        },
        rubrics={"additive": ADDITIVE},
    )


@hookimpl
def check_prompts(prompts: Sequence[str]) -> str:
    """Return the problem if none of the prompts is an instruction of this world: all answers would be refused."""
    if any(world.parse(prompt) is not None for prompt in prompts):
        return ""
    return (
        f"the programs of the tiny world know its own instructions only, and none of {len(prompts)} prompts is one, "
        f"such as {prompts[0][:60]!r}; choose another model for them, for example one behind an API"
    )


@hookimpl
def judge(items: Iterable[JudgeItem], samples: int, context: Context) -> Iterator[Judgement]:
    """Score answers with the gold score, the same in every sample. Refuse instructions that are not of this world."""
    for item in items:
        graded = _grade(item.prompt, item.answer)
        for sample in range(samples):
            if graded is None:
                yield Judgement(item.id, sample, None, Outcome.REFUSED, detail=_NO_TASK)
            else:
                yield Judgement(item.id, sample, graded.score, reason=graded.reason, raw=str(graded))
        context.advance(samples)


@hookimpl
def demonstrate(prompts: Iterable[Prompt], context: Context) -> Iterator[Demonstration]:
    """Give the right answer. Refuse instructions that are not of this world."""
    for prompt in prompts:
        task = world.parse(prompt.text)
        if task is None:
            yield Demonstration(prompt.id, "", Outcome.REFUSED, _NO_TASK)
        else:
            yield Demonstration(prompt.id, task.answer)
        context.advance(1)


@hookimpl
def evaluate(comparisons: Iterable[Comparison], context: Context) -> Iterator[Verdict]:
    """Prefer the answer with the higher gold score: 1 is the first, 0 the second, 0.5 equal scores."""
    for comparison in comparisons:
        first, second = (_grade(comparison.prompt, answer) for answer in (comparison.first, comparison.second))
        if first is None or second is None:
            yield Verdict(comparison.id, None, Outcome.REFUSED, detail=_NO_TASK)
        else:
            preference = 0.5 + 0.5 * ((first.score > second.score) - (first.score < second.score))
            yield Verdict(comparison.id, preference, raw=f"{first.score:g} against {second.score:g}")
        context.advance(1)


@lru_cache(maxsize=2**15)  # an evaluation grades each answer in every comparison, in both orders
def _grade(prompt: str, answer: str) -> Grade | None:
    """The grade of an answer; None if the prompt is not an instruction of this world."""
    task = world.parse(prompt)
    return None if task is None else grade(task, answer)
