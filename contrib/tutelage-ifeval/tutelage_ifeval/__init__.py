"""A tutelage plugin whose judge is a program: IFEval's verifiers check the instructions of a prompt.

The plugin is judge, teacher (as judge) and evaluator. It needs no model, no key and no network. It also offers prompts
with such instructions, and examples from which a student learns to follow and to judge them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from attrs import frozen

from tutelage import (
    Comparison,
    Context,
    JudgeItem,
    Judgement,
    NamedSet,
    Outcome,
    PluginInfo,
    Rubric,
    Verdict,
    hookimpl,
)
from tutelage_ifeval import sets
from tutelage_ifeval.measures import MEASURES, result_of
from tutelage_ifeval.rubric import INSTRUCTIONS
from tutelage_ifeval.verifying import Result, score


@frozen
class IfevalSettings:
    """The settings of the plugin. Recipes set them under ``models.ROLE.settings``."""

    loose: bool = False
    """Also accept an answer that follows an instruction without its first line, its last line or its asterisks
    (IFEval's loose accuracy)."""


@hookimpl
def describe() -> PluginInfo:
    """Describe the plugin: its settings, its sets, its rubric and its measures."""
    return PluginInfo(
        help="IFEval's verifiers: scores answers by the share of the prompt's instructions that they follow.",
        settings=IfevalSettings,
        prompt_sets={
            "train": NamedSet(partial(sets.prompts, "train"), "Generated prompts for training."),
            "held-out": NamedSet(partial(sets.prompts, "held-out"), "Generated prompts for evaluation."),
            "ifeval": NamedSet(sets.ifeval_prompts, "The prompts of IFEval (Apache-2.0).", 541, sets.IFEVAL),
        },
        example_sets={"ift": NamedSet(sets.ift, "Generated prompts with answers that follow every instruction.")},
        rated_sets={"eft": NamedSet(sets.eft, "Generated answers with the verifiers' score and reason.")},
        rubrics={"instructions": INSTRUCTIONS},
        measures=MEASURES,
    )


@hookimpl
def judge(items: Iterable[JudgeItem], rubric: Rubric, samples: int, context: Context) -> Iterator[Judgement]:
    """Score the share of the instructions that an answer follows, on the rubric's scale. All samples are equal.

    An item with an instruction that cannot be checked has no score; its outcome is REFUSED.
    """
    for item in items:
        result = _verify(item, item.answer, context)
        for sample in range(samples):
            if result.share is None:
                yield Judgement(item.id, sample, None, Outcome.REFUSED, detail=result.detail)
            else:
                points = score(rubric, result.share)
                yield Judgement(item.id, sample, points, reason=result.reason, raw=f"score: {points:g}")
            context.advance(1)


@hookimpl
def evaluate(comparisons: Iterable[Comparison], context: Context) -> Iterator[Verdict]:
    """Prefer the answer that follows more instructions: 1 is the first, 0 the second, 0.5 equal shares."""
    for one in comparisons:
        first, second = (_verify(one, answer, context) for answer in (one.first, one.second))
        if first.share is None or second.share is None:
            yield Verdict(one.id, None, Outcome.REFUSED, detail=first.detail or second.detail)
        else:
            preference = 0.5 + 0.5 * ((first.share > second.share) - (first.share < second.share))
            yield Verdict(one.id, preference, raw=f"{first.share:.2f} against {second.share:.2f}")
        context.advance(1)


def _verify(asked: JudgeItem | Comparison, answer: str, context: Context) -> Result:
    settings: IfevalSettings = context.settings
    return result_of(asked.prompt, answer, asked.metadata, settings.loose)
