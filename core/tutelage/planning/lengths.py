"""The check, before a run starts, that the student exists and that its training data fits its maximum lengths.

Without it, an example that is too long would stop the run only when a model trains, after hours of work for the pairs
of M3 or for the examples of a second seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import frozen

from tutelage.errors import InputError, TutelageError
from tutelage.files.trl_format import message_rows, supervised_row
from tutelage.planning.declared import Declared
from tutelage.planning.roles import bound_model
from tutelage.planning.sources import Sources
from tutelage.plugins.helpers import count_tokens, implements
from tutelage.recipe.schema import Recipe

_EXCERPT = 60
"""Number of characters of a text that an error quotes, so that the user can find the text."""


@frozen
class _Limit:
    """The maximum length of the texts of one source."""

    source: str
    """Key and name of the source: ``data.ift (my/instructions.jsonl)``."""
    max_tokens: int
    key: str
    """The recipe's key that sets the limit."""
    answer: int = 0
    """Number of tokens to reserve for an answer that is not written yet."""


def check_lengths(sources: Sources, download: bool = True) -> bool | None:
    """Check the lengths of seed examples, preference pairs and prompts, counted in tokens by the student's plugin.

    Prompts that a model will write are not checked, because they do not exist yet. If ``download`` is false, nothing is
    downloaded, and a student that is not on this machine is not checked.

    Returns True if the lengths were checked, False if they could not be, and None if the plugin counts no tokens.
    Raises InputError if the student does not exist, or with every source that has a text that is too long. Raises
    PluginError if the plugin miscounts.
    """
    registry = sources.registry
    student = bound_model(sources.recipe, "student", registry)
    if not implements(registry, student.plugin, "count_tokens"):
        return None
    texts = [(limit, row) for limit, rows in _sources(sources).items() for row in rows.values()]
    try:
        counts = count_tokens(registry, student, [row for _, row in texts], download, "models.student.settings")
    except TutelageError as error:
        raise type(error)("\n".join(f"models.student: {line}" for line in str(error).splitlines())) from error
    if counts is None:
        return False
    too_long: dict[_Limit, list[tuple[int, str]]] = {}
    for (limit, row), tokens in zip(texts, counts.tokens, strict=True):
        if tokens + limit.answer > min(limit.max_tokens, counts.context):
            too_long.setdefault(limit, []).append((tokens, _first_user_text(row)))
    if too_long:
        raise InputError("\n".join(_problem(limit, found, counts.context) for limit, found in too_long.items()))
    return True


def _sources(sources: Sources) -> dict[_Limit, dict[str, Mapping[str, Any]]]:
    """Return the rows of each source over all seeds, without repetitions."""
    found: dict[_Limit, dict[str, Mapping[str, Any]]] = {}
    for seed in sources.recipe.seeds:
        for limit, row in (*_examples(sources, seed), *_preferences(sources, seed), *_prompts(sources, seed)):
            found.setdefault(limit, {})[repr(row)] = row
    return found


def _examples(sources: Sources, seed: int) -> Iterator[tuple[_Limit, Mapping[str, Any]]]:
    recipe = sources.recipe
    for kind, row, held in (*sources.ift(seed), *sources.eft(seed)):
        source = recipe.data.ift if kind == "ift" else recipe.data.eft
        if held is None and source is not None:
            yield _Limit(f"data.{kind} ({source.source})", recipe.sft.max_length, "sft.max_length"), row


def _prompts(sources: Sources, seed: int) -> Iterator[tuple[_Limit, Mapping[str, Any]]]:
    recipe = sources.recipe
    known = sources.declared
    sampling = [name for name in recipe.pipelines if known.pipelines[name].uses_prompts]
    if recipe.data.self_instruct is not None or not sampling:
        return
    max_length, key = _shortest(recipe, sampling, known)
    answer = recipe.generation.max_new_tokens
    limit = _Limit(f"data.prompts ({recipe.data.fresh_prompts.source})", max_length, key, answer)
    for prompt in sources.fresh(seed):
        yield limit, {"prompt": message_rows(prompt.turns)}


def _first_user_text(row: Mapping[str, Any]) -> str:
    return next(str(message["content"]) for message in row["prompt"] if message["role"] == "user")


def _preferences(sources: Sources, seed: int) -> Iterator[tuple[_Limit, Mapping[str, Any]]]:
    """Both sides of the user's pairs as DPO trains on them, and the chosen sides as an objective on examples does."""
    recipe = sources.recipe
    if (source := recipe.data.preferences) is None:
        return
    known, label = sources.declared, f"data.preferences ({source.source})"
    users = {*source.join, *(name for name in recipe.pipelines if "preferences" in known.pipelines[name].given)}
    users |= {name for name, control in recipe.controls.items() if control.mirrors in users}
    sides: dict[bool, list[str]] = {True: [], False: []}  # whether only the chosen sides are trained on
    for name in (*recipe.pipelines, *recipe.controls):  # in this order: of equal lengths, the message names the first
        if name in users:
            sides[known.objective(recipe, name).examples == "examples"].append(name)
    limits = {only: _Limit(label, *_shortest(recipe, names, known)) for only, names in sides.items() if names}
    for pair, held in sources.preferences(seed) if limits else ():
        if held is not None:
            continue
        for only_chosen, limit in limits.items():
            yield limit, supervised_row(pair.turns, pair.chosen)
            if not only_chosen:
                yield limit, supervised_row(pair.turns, pair.rejected)


def _shortest(recipe: Recipe, names: Iterable[str], known: Declared) -> tuple[int, str]:
    """The smallest maximum length of the trainings of these pipelines and controls, and its key."""
    lengths = {name: known.objective(recipe, name).max_length for name in names}
    name = min(lengths, key=lengths.__getitem__)
    return lengths[name], known.objective_key(recipe, name, "max_length")


def _problem(limit: _Limit, found: list[tuple[int, str]], context: int) -> str:
    tokens, text = max(found)
    maximum = f"{limit.key} {limit.max_tokens}" if limit.max_tokens <= context else f"the model's context {context}"
    answer = f" with an answer of generation.max_new_tokens {limit.answer}" if limit.answer else ""
    raised = f", raise {limit.key}" if limit.max_tokens < context else ""
    lowered = ", or lower generation.max_new_tokens" if limit.answer else ""
    return (
        f"{limit.source}: {len(found):,} too long to train on{answer}: the longest has {tokens:,} tokens, and "
        f"the maximum is {maximum}; it begins {' '.join(text.split())[:_EXCERPT]!r}. Leave them out{raised}{lowered}"
    )
