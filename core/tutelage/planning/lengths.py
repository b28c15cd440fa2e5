"""Whether the student is there, and what it will be trained on fits into it: known before a run starts.

Found when a model trains, an example that is too long would have cost all that came before it: for the pairs of M3, and
for the examples of a second seed, hours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from tutelage.errors import InputError, PluginError
from tutelage.files.trl_format import message
from tutelage.planning.roles import bound_model
from tutelage.planning.sources import fresh_prompts, seed_examples
from tutelage.plugin.registry import Registry
from tutelage.plugin_info import TokenCounts
from tutelage.recipe.schema import Recipe

_EXCERPT = 60
"""Characters of a text that is too long, by which it can be found."""


@frozen
class _Limit:
    """What the texts of one source must fit into."""

    source: str
    """``data.ift (my/instructions.jsonl)``."""
    most: int
    """Tokens."""
    key: str
    """The recipe's key that sets the limit."""
    answer: int = 0
    """Tokens that are still to come: an answer that is not written yet."""


def check_lengths(recipe: Recipe, registry: Registry, download: bool = True) -> None:
    """Ask the student's plugin how long the seed examples and the prompts are in its tokens.

    Prompts that a model will write are not known yet. Where not ``download``, nothing is fetched, and a student that is
    not on this machine is not checked. Raises InputError where the student is not there, and naming every source in
    which something does not fit.
    """
    student = bound_model(recipe, "student", registry)
    info = registry.info(student.plugin)
    if info.count_tokens is None:
        return
    settings = registry.settings(student.plugin, student.settings, "models.student.settings")
    texts = [(limit, row) for limit, rows in _sources(recipe, registry).items() for row in rows.values()]
    counts = info.count_tokens(settings, student.name, [row for _, row in texts], download)
    if counts is None:
        return
    if not isinstance(counts, TokenCounts) or len(counts.tokens) != len(texts):
        raise PluginError(f"{registry.label(student.plugin)}: count_tokens must return one number a row")
    too_long: dict[_Limit, list[tuple[int, str]]] = {}
    for (limit, row), tokens in zip(texts, counts.tokens, strict=True):
        if tokens + limit.answer > min(limit.most, counts.context):
            too_long.setdefault(limit, []).append((tokens, row["prompt"][0]["content"]))
    if too_long:
        raise InputError("\n".join(_problem(limit, found, counts.context) for limit, found in too_long.items()))


def _sources(recipe: Recipe, registry: Registry) -> dict[_Limit, dict[str, Mapping[str, Any]]]:
    """The rows of each source, each once, whichever seeds draw it."""
    found: dict[_Limit, dict[str, Mapping[str, Any]]] = {}
    for seed in recipe.seeds:
        for limit, row in (*_examples(recipe, registry, seed), *_prompts(recipe, registry, seed)):
            found.setdefault(limit, {})[repr(row)] = row
    return found


def _examples(recipe: Recipe, registry: Registry, seed: int) -> Iterator[tuple[_Limit, Mapping[str, Any]]]:
    for kind, row, held in seed_examples(recipe, registry, seed):
        source = recipe.data.ift if kind == "ift" else recipe.data.eft
        if held is None and source is not None:
            yield _Limit(f"data.{kind} ({source.source})", recipe.sft.max_length, "sft.max_length"), row


def _prompts(recipe: Recipe, registry: Registry, seed: int) -> Iterator[tuple[_Limit, Mapping[str, Any]]]:
    if recipe.data.prompts.self_instruct is not None:
        return
    name, least = min(recipe.pipelines.items(), key=lambda item: item[1].dpo.max_length)
    key = "dpo.max_length" if least.dpo.max_length == recipe.dpo.max_length else f"pipelines.{name}.dpo.max_length"
    answer = recipe.generation.max_new_tokens
    limit = _Limit(f"data.prompts ({recipe.data.prompts.source})", least.dpo.max_length, key, answer)
    for text in fresh_prompts(recipe, registry, seed):
        yield limit, {"prompt": message("user", text)}


def _problem(limit: _Limit, found: list[tuple[int, str]], context: int) -> str:
    tokens, text = max(found)
    most = f"{limit.key} {limit.most}" if limit.most <= context else f"the model's context {context}"
    answer = f" with an answer of generation.max_new_tokens {limit.answer}" if limit.answer else ""
    raised = f", raise {limit.key}" if limit.most < context else ""
    lowered = ", or lower generation.max_new_tokens" if limit.answer else ""
    return (
        f"{limit.source}: {len(found):,} too long to train on{answer}: the longest has {tokens:,} tokens, and "
        f"{most} is the most; it begins {' '.join(text.split())[:_EXCERPT]!r}. Leave them out{raised}{lowered}"
    )
