"""A tutelage plugin without a model: it answers with words of the prompt, and scores the share of words that are kept.

All results depend only on the texts and the seed, so the expected results of a run can be computed manually.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import product

from attrs import field, frozen, validators

from tutelage import (
    Candidate,
    Comparison,
    Context,
    Demonstration,
    JudgeItem,
    Judgement,
    NamedModel,
    NamedSet,
    Outcome,
    PluginInfo,
    Prompt,
    Rubric,
    Sampling,
    Verdict,
    hookimpl,
)


@frozen
class EchoSettings:
    """The settings of the plugin. Recipes set them under ``models.ROLE.settings``."""

    drop: float = field(default=0.3, validator=[validators.ge(0.0), validators.le(1.0)])
    """Probability that a sampled answer drops a word of the prompt."""
    prefix: str = ""
    """Text before each answer."""


@hookimpl
def describe() -> PluginInfo:
    """Describe the plugin: its settings, its model and its prompt set."""
    return PluginInfo(
        help="Answers with the prompt's own words, without any model: to try recipes in no time.",
        settings=EchoSettings,
        models={"echo": NamedModel("", "The only one there is.")},
        prompt_sets={"colours": NamedSet(colour_prompts, "Requests to mix colours.", len(COLOUR_PROMPTS))},
    )


@hookimpl
def generate_candidates(prompts: Iterable[Prompt], n: int, sampling: Sampling, context: Context) -> Iterator[Candidate]:
    """Answer with the words of the prompt, each dropped with probability ``drop``; at temperature 0, with all words."""
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
    """Answer with all words of the prompt."""
    settings: EchoSettings = context.settings
    for prompt in prompts:
        text, outcome = _answer(settings.prefix, prompt.text.split(), sampling.max_new_tokens)
        yield Demonstration(prompt.id, text, outcome)
        context.advance(1)


@hookimpl
def judge(items: Iterable[JudgeItem], rubric: Rubric, samples: int, context: Context) -> Iterator[Judgement]:
    """Score the share of the prompt's words in the answer, on the rubric's scale. All samples are equal."""
    for item in items:
        share = kept(item.prompt, item.answer)
        score = rubric.lowest + share * (rubric.highest - rubric.lowest)
        for sample in range(samples):
            yield Judgement(item.id, sample, score, reason=f"It keeps {share:.0%} of the words.")
            context.advance(1)


@hookimpl
def evaluate(comparisons: Iterable[Comparison], context: Context) -> Iterator[Verdict]:
    """Prefer the answer that contains more of the prompt's words: 1 is the first, 0 the second, 0.5 a tie."""
    for one in comparisons:
        first, second = kept(one.prompt, one.first), kept(one.prompt, one.second)
        yield Verdict(one.id, 0.5 if first == second else float(first > second))
        context.advance(1)


def kept(prompt: str, answer: str) -> float:
    """Return the share of the prompt's distinct words that the answer contains, 0 to 1."""
    asked = set(prompt.lower().split())
    return len(asked & set(answer.lower().split())) / len(asked) if asked else 1.0


def _answer(prefix: str, words: list[str], limit: int) -> tuple[str, Outcome]:
    """Join the words, at most ``limit``: each word counts as one token. The outcome is CUT if words are left out."""
    spoken = [*prefix.split(), *words]
    return " ".join(spoken[:limit]), Outcome.CUT if len(spoken) > limit else Outcome.ANSWERED


COLOURS = ("red", "orange", "yellow", "green", "blue", "violet", "black", "white")
COLOUR_PROMPTS = tuple(
    f"Mix {first} with {second} and {verb} the result."
    for first, second, verb in product(COLOURS, COLOURS, ("name", "describe"))
    if first != second
)


def colour_prompts(count: int, seed: int) -> list[str]:
    """Return at most ``count`` different prompts. The seed determines the selection."""
    return random.Random(seed).sample(COLOUR_PROMPTS, min(count, len(COLOUR_PROMPTS)))
