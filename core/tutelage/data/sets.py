"""Loading of prompts, examples and preferences from a set that a plugin offers, or from a JSON-lines file."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from attrs import evolve, frozen

from tutelage.data.conversations import conversation_of, is_conversation, messages_of
from tutelage.data.known_files import check_made
from tutelage.data.preference_rows import check_preference, parse_preference
from tutelage.errors import InputError, PluginError, TutelageError
from tutelage.examples import Example, Preference, RatedExample
from tutelage.files.disk_errors import error_text
from tutelage.files.jsonl import read_rows
from tutelage.plugin_info import NamedSet
from tutelage.plugins.preparation import check_prepared
from tutelage.records import Message, Prompt, Rubric, conversation_text, user_texts

T = TypeVar("T")
ValueT = TypeVar("ValueT")
ResultT = TypeVar("ResultT")


@frozen
class Sets:
    """Functions that find a plugin's set by its qualified name, ``PLUGIN/NAME``.

    Each returns None if the name does not name a plugin, and raises ``InputError`` if the plugin exists and does not
    offer the set. They call ``Registry.find`` with the kind of the set.
    """

    prompts: Callable[[str], NamedSet[str | Prompt] | None]
    examples: Callable[[str], NamedSet[Example] | None]
    rated: Callable[[str], NamedSet[RatedExample] | None]
    preferences: Callable[[str], NamedSet[Preference] | None] = lambda name: None


def load_prompts(sets: Sets, source: str, count: int | None, seed: int) -> list[Prompt]:
    """Load distinct prompts, in an order drawn by ``seed``: the first ``count``, or all if it is None.

    ``source`` is ``PLUGIN/NAME`` or the path of a JSON-lines file. Raises ``InputError`` if the source has fewer than
    ``count`` distinct prompts, or a row without a prompt.
    """
    distinct: dict[str, Prompt] = {}
    for prompt in _load_prompts(sets.prompts(source), source, count, seed):
        distinct.setdefault(prompt.id, prompt)
    return _enough(list(distinct.values()), source, count)


def load_seed_prompts(sets: Sets, source: str, most: int, seed: int) -> list[str]:
    """Load the texts of at most ``most`` distinct prompts, which are shown as examples in self-instruct requests.

    Of a conversation, this is the first user message: later ones cannot be understood alone. Raises ``InputError`` if
    there is no prompt, or a row without a prompt.
    """
    named = sets.prompts(source)
    count = None if named is None else min(most, named.size or most)
    found = list(dict.fromkeys(user_texts(one.turns)[0] for one in _load_prompts(named, source, count, seed)))
    return _enough(found[:most], source, None)


def _load_prompts(named: NamedSet[str | Prompt] | None, source: str, count: int | None, seed: int) -> list[Prompt]:
    found = _load(named, source, count, seed, prompt_of, (str, Prompt))
    return [evolve(one, source=source) if isinstance(one, Prompt) else Prompt(one, source) for one in found]


def load_examples(sets: Sets, source: str, count: int | None, seed: int) -> list[Example]:
    """Load instruction examples (IFT); arguments and errors as in ``load_prompts``."""
    return _enough(_load(sets.examples(source), source, count, seed, example_of, (Example,)), source, count)


def load_rated(
    sets: Sets, source: str, count: int | None, seed: int, rubric: Rubric | None = None
) -> list[RatedExample]:
    """Load judging examples (EFT); arguments and errors as in ``load_prompts``.

    With ``rubric``, a score outside its scale raises ``InputError`` with the place, also in a row that is not drawn.
    """

    def check(example: RatedExample) -> None:
        if rubric is not None:
            _check_scale(rubric, source, example)

    return _enough(_load(sets.rated(source), source, count, seed, rated_of, (RatedExample,), check), source, count)


def load_preferences(sets: Sets, source: str, count: int | None, seed: int) -> list[Preference]:
    """Load distinct preference pairs; arguments and errors as in ``load_prompts``.

    Also raises ``InputError`` for a pair that cannot be trained on; see ``check_preference``.
    """
    named = sets.preferences(source)
    found = _load(named, source, count, seed, parse_preference, (Preference,))
    for number, preference in enumerate(found if named else (), 1):
        try:
            check_preference(preference)
        except ValueError as error:
            raise InputError(f"{source}, pair {number}: {error}") from error
    distinct: dict[tuple[tuple[Message, ...], str, str], Preference] = {}
    for preference in found:
        distinct.setdefault((preference.turns, preference.chosen, preference.rejected), preference)
    return _enough(list(distinct.values()), source, count)


def prompt_of(row: Mapping[str, Any]) -> Prompt:
    """Parse the prompt of a row: a text or a list of messages as ``prompt``, or a conversation as ``messages``.

    An answer at the end of ``messages`` is not part of the prompt. The mapping ``metadata`` of a row is kept. Raises
    ``ValueError`` if there is no prompt, if the messages are not in order, if ``prompt`` is another text than the
    transcript of ``messages``, or if ``metadata`` is not a mapping.
    """
    return evolve(_prompt_and_answer(row)[0], metadata=metadata_of(row))


def metadata_of(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the ``metadata`` of a row, empty if it has none. Raises ``ValueError`` if it is not a mapping."""
    found = row.get("metadata")
    if found is not None and not isinstance(found, Mapping):
        raise ValueError(f"`metadata` must be a mapping, not {type(found).__name__}")
    return found or {}


def example_of(row: Mapping[str, Any]) -> Example:
    """Parse the instruction example in a row: a prompt, and an ``answer`` or the last message of ``messages``.

    Raises ``ValueError`` as ``prompt_of`` does, and if there is no answer or there are two different ones.
    """
    prompt, answer = _prompt_and_answer(row)
    return Example(prompt.text, _one_answer(row, answer), messages=prompt.messages)


def rated_of(row: Mapping[str, Any]) -> RatedExample:
    """Parse the judging example in a row: as ``example_of``, with a score.

    Raises ``ValueError`` as ``example_of`` does, and if the score is not a number.
    """
    score = row.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise ValueError("`score` must be a number")
    prompt, answer = _prompt_and_answer(row)
    reason = str(row.get("reason", ""))
    return RatedExample(prompt.text, _one_answer(row, answer), float(score), reason, prompt.messages)


def _prompt_and_answer(row: Mapping[str, Any]) -> tuple[Prompt, str | None]:
    """The prompt of a row, and the answer that ends its conversation, if it has one."""
    if not row.get("messages") or not is_conversation(row["messages"]):
        if is_conversation(row.get("prompt")):
            return Prompt.of_messages(_conversation(row, "prompt", "user")), None
        return Prompt(text_of(row, "prompt")), None
    messages = _in_order(row)
    answer = messages.pop().content if messages[-1].role == "assistant" else None
    prompt = Prompt.of_messages(messages)
    given = row.get("prompt")
    if is_conversation(given):
        given = conversation_text(_conversation(row, "prompt", "user"))
    if given is not None and given != prompt.text:
        raise ValueError("`prompt` and `messages` are different conversations; remove one of the two keys")
    return prompt, answer


def _one_answer(row: Mapping[str, Any], answer: str | None) -> str:
    """The answer of a row, which may be given twice."""
    if answer is None:
        return text_of(row, "answer")
    if row.get("answer") not in (None, answer):
        raise ValueError("`answer` differs from the last message of `messages`; remove one of the two")
    return answer


def _in_order(row: Mapping[str, Any]) -> list[Message]:
    """The messages of ``messages``, which end with the user or the assistant."""
    cell = row["messages"]
    try:
        ends_with_answer = messages_of(cell)[-1].role == "assistant"
    except ValueError as error:
        raise ValueError(f"`messages`: {error}") from error
    return _conversation(row, "messages", "assistant" if ends_with_answer else "user")


def _conversation(row: Mapping[str, Any], key: str, last: Literal["user", "assistant"]) -> list[Message]:
    try:
        return conversation_of(row[key], last)
    except ValueError as error:
        raise ValueError(f"`{key}`: {error}") from error


def text_of(row: Mapping[str, Any], key: str) -> str:
    """Return the text of a row's key. Raises ``ValueError`` if it is missing, empty or not a text."""
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"`{key}` must be a text that is not empty; the row has {', '.join(sorted(row)) or 'no keys'}")
    return value


def _check_scale(rubric: Rubric, source: str, example: RatedExample) -> None:
    """Raise ``ValueError`` if the score of an example is outside the scale of the rubric."""
    if not rubric.lowest <= example.score <= rubric.highest:
        scale = f"{rubric.lowest:g}-{rubric.highest:g}"
        to_scale = "" if scale == "0-5" else f" --to-scale {scale}"
        raise ValueError(
            f"the score {example.score:g} is outside the scale {scale} of the rubric {rubric.name!r}; "
            f"`tutelage data import eft {source} OUT --scale LOW-HIGH{to_scale}` maps scores"
        )


def _load(
    named: NamedSet[T] | None,
    source: str,
    count: int | None,
    seed: int,
    read: Callable[[Mapping[str, Any]], T],
    kinds: tuple[type, ...],
    check: Callable[[T], None] = lambda row: None,
) -> list[T]:
    """Load rows; ``read`` and ``check`` raise ``ValueError`` for a row that cannot be used, which gets its location."""
    if named is not None:
        check_prepared(source, named.preparation)
        if count is None and named.size is None:
            raise InputError(f"{source}: the size of this set is not known; set `count`")
        try:
            loaded = named.load(named.size or 0 if count is None else count, seed)
            if isinstance(loaded, str) or not isinstance(loaded, Iterable):
                raise PluginError(f"{source}: its plugin returned {loaded!r} for the set, which has no rows")
            found = list(loaded)
        except TutelageError:
            raise
        except Exception as error:
            called = "its plugin failed to load it, called with (count, seed)"
            raise PluginError(f"{source}: {called}: {error_text(error)}") from error
        for number, row in enumerate(found, 1):
            if not isinstance(row, kinds):
                names = " or ".join(kind.__name__ for kind in kinds)
                raise PluginError(f"{source}, example {number}: its plugin gave {row!r}, which is no {names}")
            _checked(f"{source}, example {number}", check, row)
        return found
    check_made(source)
    if _may_name_a_set(source):
        raise InputError(
            f"{source}: not found; no file has this path, and no plugin {source.partition('/')[0]!r} is installed; "
            "`tutelage plugins` lists the installed ones"
        )
    rows = []
    for number, values in read_rows(Path(source)):
        place = f"{source}, line {number}"
        row = _checked(place, read, values)
        _checked(place, check, row)
        rows.append(row)
    random.Random(seed).shuffle(rows)
    return rows


def _may_name_a_set(source: str) -> bool:
    """Return whether a source looks like ``PLUGIN/NAME``, and no file has this path."""
    looks_like_name = source.count("/") == 1 and not source.startswith((".", "/")) and not Path(source).suffix
    return looks_like_name and not Path(source).exists()


def _checked(place: str, function: Callable[[ValueT], ResultT], value: ValueT) -> ResultT:
    """Call a function; its ``ValueError`` becomes an ``InputError`` with the location."""
    try:
        return function(value)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from error


def _enough(found: list[T], source: str, count: int | None) -> list[T]:
    if not found:
        raise InputError(f"{source}: empty; at least one row is needed")
    if count is None:
        return found
    if len(found) < count:
        raise InputError(
            f"{source}: {count} different rows are needed, but there are only {len(found)}; lower the count"
        )
    return found[:count]
