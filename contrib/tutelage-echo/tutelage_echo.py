"""A tutelage plugin without a model: it answers with the prompt's own words and judges by how many of them are kept.

Everything follows from the texts and the seed, so a whole run can be worked out by hand.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import product

from attrs import field, frozen, validators

from tutelage.context import Context
from tutelage.hookspecs import hookimpl
from tutelage.plugin_info import NamedModel, NamedSet, PluginInfo
from tutelage.records import (
    Candidate,
    Comparison,
    Demonstration,
    JudgeItem,
    Judgement,
    Outcome,
    Prompt,
    Rubric,
    Sampling,
    Verdict,
)


@frozen
class EchoSettings:
    """How it answers."""

    drop: float = field(
        default=0.3,
        validator=[validators.ge(0.0), validators.le(1.0)],
        metadata={"help": "Probability that a sampled answer leaves a word of the prompt out."},
    )
    prefix: str = field(default="", metadata={"help": "Text before every answer."})


@hookimpl
def describe() -> PluginInfo:
    """No key, no network, no weights."""
    return PluginInfo(
        help="Answers with the prompt's own words, without any model: to try recipes in no time.",
        settings=EchoSettings,
        models={"echo": NamedModel("", "The only one there is.")},
        prompt_sets={"colours": NamedSet(colour_prompts, "Requests to mix colours.", len(COLOUR_PROMPTS))},
    )


@hookimpl
def generate_candidates(prompts: Iterable[Prompt], n: int, sampling: Sampling, context: Context) -> Iterator[Candidate]:
    """The prompt's words, some of them dropped; at temperature 0 all of them."""
    settings: EchoSettings = context.settings
    drop = settings.drop if sampling.temperature > 0 else 0.0
    for prompt in prompts:
        for index in range(n):
            chance = random.Random(f"{sampling.seed}/{prompt.id}/{index}")
            words = [word for word in prompt.text.split() if chance.random() >= drop]
            text, outcome = _answer(settings.prefix, words, sampling.max_new_tokens)
            yield Candidate(prompt.id, index, text, outcome, tokens=len(text.split()))
            context.advance(1)


@hookimpl
def demonstrate(prompts: Iterable[Prompt], sampling: Sampling, context: Context) -> Iterator[Demonstration]:
    """All of the prompt's words."""
    settings: EchoSettings = context.settings
    for prompt in prompts:
        text, outcome = _answer(settings.prefix, prompt.text.split(), sampling.max_new_tokens)
        yield Demonstration(prompt.id, text, outcome)
        context.advance(1)


@hookimpl
def judge(items: Iterable[JudgeItem], rubric: Rubric, samples: int, context: Context) -> Iterator[Judgement]:
    """The share of the prompt's words that the answer keeps, on the rubric's scale; every sample is the same."""
    for item in items:
        share = kept(item.prompt, item.answer)
        score = rubric.lowest + share * (rubric.highest - rubric.lowest)
        for sample in range(samples):
            yield Judgement(item.id, sample, score, reason=f"It keeps {share:.0%} of the words.")
            context.advance(1)


@hookimpl
def evaluate(comparisons: Iterable[Comparison], context: Context) -> Iterator[Verdict]:
    """The answer that keeps more of the prompt's words is the better one."""
    for one in comparisons:
        first, second = kept(one.prompt, one.first), kept(one.prompt, one.second)
        yield Verdict(one.id, 0.5 if first == second else float(first > second))
        context.advance(1)


def kept(prompt: str, answer: str) -> float:
    """The share of the prompt's different words that an answer has, 0 to 1."""
    asked = set(prompt.lower().split())
    return len(asked & set(answer.lower().split())) / len(asked) if asked else 1.0


def _answer(prefix: str, words: list[str], limit: int) -> tuple[str, Outcome]:
    """A word is a token here. Text over the limit is cut, and says so."""
    spoken = [*prefix.split(), *words]
    return " ".join(spoken[:limit]), Outcome.CUT if len(spoken) > limit else Outcome.ANSWERED


COLOURS = ("red", "orange", "yellow", "green", "blue", "violet", "black", "white")
COLOUR_PROMPTS = tuple(
    f"Mix {first} with {second} and {verb} the result."
    for first, second, verb in product(COLOURS, COLOURS, ("name", "describe"))
    if first != second
)


def colour_prompts(count: int, seed: int) -> list[str]:
    """At most ``count`` different prompts, drawn by the seed."""
    return random.Random(seed).sample(COLOUR_PROMPTS, min(count, len(COLOUR_PROMPTS)))
