"""The plugin ``tiny-critic``: what the loops need in the embedded world beside the plugin ``tiny``.

It is a teacher that also criticises and revises answers, and a set of judging examples in which a quarter rate
judgements. Without them the tiny student cannot judge its judgements: none of its replies states a score.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator

from tutelage import (
    Context,
    Demonstration,
    JudgeItem,
    NamedSet,
    Outcome,
    PluginInfo,
    Prompt,
    RatedExample,
    hookimpl,
    render,
    reply,
)
from tutelage_loops.critique import CRITIQUE, REVISION
from tutelage_tiny import sets, world
from tutelage_tiny.rubric import ADDITIVE, grade


@hookimpl
def describe() -> PluginInfo:
    """Describe the plugin."""
    return PluginInfo(
        help="A program that answers the requests of the embedded world, and criticises and revises.",
        rated_sets={"eft": NamedSet(rated, "Answers with mistakes (three quarters) and judgements, with gold scores.")},
    )


def rated(count: int, seed: int) -> list[RatedExample]:
    """Return rated answers and rated judgements. A judgement loses one point per point that it is off."""
    answers = sets.eft(count - count // 4, seed)
    generator = random.Random(f"judgements/{seed}")
    found = {}
    for one in sets.eft(count // 4, seed + 1_000_000):
        stated = generator.randint(int(ADDITIVE.lowest), int(ADDITIVE.highest))
        question = render(ADDITIVE, JudgeItem("", one.prompt, one.answer))
        found[question] = RatedExample(question, reply(stated, ""), ADDITIVE.highest - abs(stated - one.score))
    return [*answers, *found.values()]


@hookimpl
def demonstrate(prompts: Iterable[Prompt], context: Context) -> Iterator[Demonstration]:
    """Give the right answer, the faults of an answer, or the revised answer. Refuse every other text."""
    for prompt in prompts:
        text = _reply(prompt.text)
        outcome = Outcome.REFUSED if text is None else Outcome.ANSWERED
        yield Demonstration(prompt.id, text or "", outcome, "" if text else "not a request of the embedded world")
        context.advance(1)


def _reply(request: str) -> str | None:
    if parts := _parts(CRITIQUE, request):
        task = world.parse(parts["prompt"])
        return None if task is None else grade(task, parts["answer"]).reason
    if parts := _parts(REVISION, request):
        task = world.parse(parts["prompt"])
        return None if task is None else (parts["answer"] if parts["critique"] == "right." else task.answer)
    task = world.parse(request)
    return None if task is None else task.answer


def _parts(template: str, text: str) -> dict[str, str] | None:
    """The texts that a template was filled with; None if it is not the template of the text."""
    pattern = re.sub(r"\\{([a-z]+)\\}", r"(?P<\1>.*)", re.escape(template))
    found = re.fullmatch(pattern, text, re.DOTALL)
    return found and found.groupdict()
