"""How answers go wrong in this world: the habits and the slips of those who wrote the text that M0 reads.

A *habit* is the mistake that a kind of task invites, the same one by most writers (to leave words in their order
instead of sorting them); a *slip* is an accident. Because the text is full of both, a model that has only read it
answers worse than it could tell: that is what alignment has to work on.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from attrs import frozen

from tutelage_tiny.world import CATEGORY_OF, LARGEST_NUMBER, STYLES, WORDS, Task


@frozen
class Carelessness:
    """How often a writer goes wrong, and how."""

    wrong: float = 0.6
    """Share of the answers with a habit or slips in their items."""
    tempted: float = 0.8
    """The same where the family is one of the ``TEMPTING``."""
    habit: float = 0.6
    """Share of those that follow the habit of the family; the others have one or two slips."""
    wrong_style: float = 0.35
    """Share of all lists that are written in another style than the one asked for."""


def write_answer(task: Task, carelessness: Carelessness, generator: random.Random) -> str:
    """Answer as a writer of this carelessness might."""
    items = list(task.right_items)
    if generator.random() < (carelessness.tempted if task.family in TEMPTING else carelessness.wrong):
        if generator.random() < carelessness.habit:
            items = HABITS[task.family](task)
        else:
            for _ in range(generator.choice((1, 1, 2))):
                items = _slip(task, items, generator)
    separator = task.separator
    if task.style and generator.random() < carelessness.wrong_style:
        separator = STYLES["commas"] if task.style != "commas" else " "
    return separator.join(items)


def _one_more(task: Task, number: int) -> list[str]:
    return [str(min(number + 1, LARGEST_NUMBER))]


HABITS: dict[str, Callable[[Task], list[str]]] = {
    "sort": lambda task: [*task.items],
    "reverse": lambda task: [task.items[-1], *task.items[1:-1], task.items[0]],
    "swap": lambda task: list(reversed(task.items)),
    "double": lambda task: [*task.items, *task.items],
    "repeat": lambda task: [*task.items],
    "capitals": lambda task: [task.items[0].upper(), *task.items[1:]],
    "first": lambda task: [*task.items[: int(task.argument) + 1]],
    "last": lambda task: [*task.items[: int(task.argument)]],
    "keep": lambda task: [item for item in task.items if CATEGORY_OF[item] != task.argument],
    "remove": lambda task: [*task.items],
    "replace": lambda task: [*task.items],
    "numbers": lambda task: [*task.items],
    "count": lambda task: [str(len(task.items))],
    "add": lambda task: _one_more(task, sum(map(int, task.items))),
    "odd": lambda task: [task.items[0]],
}
"""The mistake that each family invites. It may chance to be right: a list that was sorted already."""

TEMPTING = {"sort", "reverse", "double", "first", "keep", "replace", "odd"}
"""Families whose habit most writers have."""


def _slip(task: Task, items: list[str], generator: random.Random) -> list[str]:
    """One accident: a number or word mistaken, or an item lost, doubled, put in or out of place."""
    if len(items) == 1:
        return [_other(items[0], generator)]
    items = list(items)
    place = generator.randrange(len(items))
    kind = generator.choice(("lose", "double", "mistake", "exchange", "exchange"))
    if kind == "lose":
        del items[place]
    elif kind == "double":
        items.insert(place, items[place])
    elif kind == "mistake":
        items[place] = generator.choice(task.items) if generator.random() < 0.7 else _other(items[place], generator)
    else:
        other = generator.randrange(len(items))
        items[place], items[other] = items[other], items[place]
    return items


def _other(item: str, generator: random.Random) -> str:
    """Another item of the same kind."""
    if item.isdigit():
        return str(max(0, min(LARGEST_NUMBER, int(item) + generator.choice((-2, -1, 1, 2)))))
    word = generator.choice(WORDS)
    return word.upper() if item.isupper() else word
