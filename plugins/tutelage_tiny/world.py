"""A synthetic world: its words, its tasks, and the one right answer to each task.

An instruction is plain text, such as ``reverse these words with dashes: pear cat blue``; so is its right answer,
``blue - cat - pear``. Tasks are generated from a seed and parsed from their text, so that teacher, judge and tests work
on strings alone.

The hash of its text assigns each instruction to one split. The pretraining text, the seed examples, the training
prompts and the held-out prompts therefore have no instruction in common.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator

from attrs import frozen

from tutelage.errors import InputError

CATEGORIES = {
    category: tuple(words.split())
    for category, words in {
        "animals": "bear cat cow deer dog fox frog goat hen horse lion mouse owl sheep wolf",
        "colours": "black blue bronze brown gold green grey orange pink purple red silver violet white yellow",
        "fruits": "apple banana cherry date fig grape kiwi lemon lime mango melon olive peach pear plum",
        "tools": "axe brush chisel drill file hammer knife ladder nail pliers rake ruler saw shovel wrench",
    }.items()
}
WORDS = tuple(sorted(word for words in CATEGORIES.values() for word in words))
CATEGORY_OF = {word: category for category, words in CATEGORIES.items() for word in words}
LARGEST_NUMBER = 30
_NUMBERS = frozenset(map(str, range(LARGEST_NUMBER + 1)))
_ANSWER_ITEMS = frozenset({*WORDS, *(word.upper() for word in WORDS), *_NUMBERS})
"""Every item that an answer can contain."""
STYLES = {"commas": ", ", "dashes": " - ", "bars": " | ", "slashes": " / "}
"""The separators between the items of an answer."""
SPLITS = {"text": range(0, 50), "seed": range(50, 60), "train": range(60, 90), "held-out": range(90, 100)}
"""The hundredths of the hash space of each split; ``text`` is for the pretraining text."""


@frozen
class Task:
    """One parsed instruction."""

    family: str
    items: tuple[str, ...]
    style: str = ""
    """A key of ``STYLES``; empty if the answer is a single item."""
    argument: str = ""
    """The argument of the family: a category, a number of words, or a replacement; empty if it has none."""

    @property
    def text(self) -> str:
        """Return the instruction as text."""
        phrase = FAMILIES[self.family].phrase.format(argument=self.argument)
        return f"{phrase}{f' with {self.style}' if self.style else ''}: {' '.join(self.items)}"

    @property
    def right_items(self) -> tuple[str, ...]:
        """Return the items of the right answer, in order."""
        return tuple(FAMILIES[self.family].solve(self))

    @property
    def separator(self) -> str:
        """Return the text between two items of an answer."""
        return STYLES[self.style] if self.style else " "

    @property
    def answer(self) -> str:
        """Return the right answer."""
        return self.separator.join(self.right_items)


@frozen
class Family:
    """A kind of instruction: its phrase, generator and solution."""

    phrase: str
    draw: Callable[[random.Random], tuple[str, tuple[str, ...]]]
    """Returns a random argument and the items."""
    solve: Callable[[Task], list[str]]
    """Returns the items of the right answer."""
    is_list: bool = True
    """Whether the answer is a list in one of the styles."""


def _words(generator: random.Random, fewest: int = 3, most: int = 5) -> tuple[str, ...]:
    return tuple(generator.sample(WORDS, generator.randint(fewest, most)))


def _plain(fewest: int = 3, most: int = 5) -> Callable[[random.Random], tuple[str, tuple[str, ...]]]:
    return lambda generator: ("", _words(generator, fewest, most))


def _with_part(generator: random.Random) -> tuple[str, tuple[str, ...]]:
    """A number of words to take, and more words than that."""
    words = _words(generator, 4, 6)
    return str(generator.randint(2, len(words) - 1)), words


def _with_category(generator: random.Random) -> tuple[str, tuple[str, ...]]:
    """A category, and words of which two or three belong to it."""
    category = generator.choice(sorted(CATEGORIES))
    inside = generator.sample(CATEGORIES[category], generator.randint(2, 3))
    others = [word for word in WORDS if CATEGORY_OF[word] != category]
    words = inside + generator.sample(others, generator.randint(2, 3))
    return category, tuple(generator.sample(words, len(words)))


def _with_count(generator: random.Random) -> tuple[str, tuple[str, ...]]:
    """A category, and five words of which none to four belong to it."""
    category = generator.choice(sorted(CATEGORIES))
    inside = generator.randint(0, 4)
    others = [word for word in WORDS if CATEGORY_OF[word] != category]
    words = generator.sample(CATEGORIES[category], inside) + generator.sample(others, 5 - inside)
    return category, tuple(generator.sample(words, len(words)))


def _with_exchange(generator: random.Random) -> tuple[str, tuple[str, ...]]:
    """A replacement of a word in the list by a word that is not in it, and the list."""
    *words, new = generator.sample(WORDS, generator.randint(4, 6))
    return f"{generator.choice(words)} by {new}", tuple(words)


def _with_odd_one(generator: random.Random) -> tuple[str, tuple[str, ...]]:
    """Words of one category, and one word of another."""
    common, odd = generator.sample(sorted(CATEGORIES), 2)
    words = [*generator.sample(CATEGORIES[common], generator.randint(3, 4)), generator.choice(CATEGORIES[odd])]
    return "", tuple(generator.sample(words, len(words)))


def _numbers(generator: random.Random) -> tuple[str, tuple[str, ...]]:
    return "", tuple(str(n) for n in generator.sample(range(LARGEST_NUMBER + 1), generator.randint(3, 5)))


def _addends(generator: random.Random) -> tuple[str, tuple[str, ...]]:
    return "", tuple(str(generator.randint(0, 10)) for _ in range(generator.randint(2, 3)))


def _exchanged(task: Task) -> list[str]:
    old, new = task.argument.split(" by ")
    return [new if item == old else item for item in task.items]


def _odd_one(task: Task) -> list[str]:
    categories = [CATEGORY_OF[item] for item in task.items]
    return [item for item in task.items if categories.count(CATEGORY_OF[item]) == 1]


def _of_category(task: Task) -> list[str]:
    return [item for item in task.items if CATEGORY_OF[item] == task.argument]


def _not_of_category(task: Task) -> list[str]:
    return [item for item in task.items if CATEGORY_OF[item] != task.argument]


FAMILIES: dict[str, Family] = {
    "sort": Family("sort these words", _plain(), lambda task: sorted(task.items)),
    "reverse": Family("reverse these words", _plain(4, 6), lambda task: list(reversed(task.items))),
    "swap": Family(
        "swap the ends of these words",
        _plain(4, 6),
        lambda task: [task.items[-1], *task.items[1:-1], task.items[0]],
    ),
    "double": Family("write each word twice", _plain(2, 4), lambda task: [item for item in task.items for _ in "12"]),
    "repeat": Family("write these words twice", _plain(2, 4), lambda task: [*task.items, *task.items]),
    "capitals": Family("write these words in capitals", _plain(3, 6), lambda task: [w.upper() for w in task.items]),
    "first": Family("take the first {argument} words", _with_part, lambda task: [*task.items[: int(task.argument)]]),
    "last": Family("take the last {argument} words", _with_part, lambda task: [*task.items[-int(task.argument) :]]),
    "keep": Family("keep only the {argument}", _with_category, _of_category),
    "remove": Family("remove the {argument}", _with_category, _not_of_category),
    "replace": Family("replace {argument}", _with_exchange, _exchanged),
    "numbers": Family("sort these numbers", _numbers, lambda task: sorted(task.items, key=int)),
    "count": Family("count the {argument}", _with_count, lambda task: [str(len(_of_category(task)))], is_list=False),
    "add": Family("add these numbers", _addends, lambda task: [str(sum(map(int, task.items)))], is_list=False),
    "odd": Family("find the odd one", _with_odd_one, _odd_one, is_list=False),
}

_ARGUMENT = r"(?P<argument>[a-z0-9 ]+?)"
_PATTERNS = {
    name: re.compile(
        re.escape(family.phrase).replace(r"\{argument\}", _ARGUMENT).replace(r"\ ", " ")
        + (r" with (?P<style>[a-z]+)" if family.is_list else "")
        + r": (?P<items>[a-z0-9 ]+)"
    )
    for name, family in FAMILIES.items()
}


def draw_task(generator: random.Random) -> Task:
    """Return a random task of any family and split."""
    name = generator.choice(sorted(FAMILIES))
    family = FAMILIES[name]
    argument, items = family.draw(generator)
    return Task(name, items, generator.choice(sorted(STYLES)) if family.is_list else "", argument)


def tasks(split: str, generator: random.Random) -> Iterator[Task]:
    """Yield random tasks of one split, a key of ``SPLITS``, without end. A task may occur again."""
    while True:
        task = draw_task(generator)
        if split_of(task.text) == split:
            yield task


def prompts(split: str, count: int, seed: int) -> list[str]:
    """Return the first ``count`` different instructions of a split for this seed."""
    found: dict[str, None] = {}
    for task in tasks(split, random.Random(f"{split}/{seed}")):
        if len(found) == count:
            break
        found[task.text] = None
    return list(found)


def split_of(prompt: str) -> str:
    """Return the split of an instruction. It depends only on the text."""
    hundredth = int(hashlib.sha256(prompt.encode()).hexdigest()[:8], 16) % 100
    return next(name for name, owned in SPLITS.items() if hundredth in owned)


def parse(prompt: str) -> Task | None:
    """Parse an instruction; None if the text is not an instruction of this world."""
    for name, pattern in _PATTERNS.items():
        if match := pattern.fullmatch(prompt):
            parts = match.groupdict()
            task = Task(name, tuple(parts["items"].split()), parts.get("style") or "", parts.get("argument") or "")
            return task if task.text == prompt and _is_sound(task) else None
    return None


def solve(prompt: str) -> str:
    """Return the right answer to an instruction. Raises ``InputError`` if it is not an instruction of this world."""
    task = parse(prompt)
    if task is None:
        raise InputError(
            f"not an instruction of the tiny world: {prompt!r}; for examples, see the prompt set tiny/train"
        )
    return task.answer


def _is_sound(task: Task) -> bool:
    """Whether the items, the style and the argument are known, and the answer can be written."""
    items_are_numbers = task.family in ("numbers", "add")
    known = _NUMBERS if items_are_numbers else CATEGORY_OF.keys()
    if not known >= set(task.items) or (task.style and task.style not in STYLES):
        return False
    return _argument_is_sound(task) and bool(task.right_items) and task.right_items[0] in _ANSWER_ITEMS


def _argument_is_sound(task: Task) -> bool:
    if task.family in ("keep", "remove", "count"):
        return task.argument in CATEGORIES
    if task.family in ("first", "last"):
        return task.argument.isdigit() and 1 <= int(task.argument) <= len(task.items)
    if task.family == "replace":
        old, _, new = task.argument.partition(" by ")
        return old in task.items and new in WORDS
    if task.family == "odd":
        return len(_odd_one(task)) == 1
    return True
