"""The mistakes in the answers of the pretraining text of M0: habits and slips.

A *habit* is the systematic mistake of a family of tasks (for example, to keep the order of the words instead of sorting
them); a *slip* is a random mistake. The text contains many of both, so a model that is only pretrained answers worse
than it could judge. Alignment can close this gap.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from attrs import frozen

from tutelage_tiny.world import CATEGORY_OF, LARGEST_NUMBER, STYLES, WORDS, Task


@frozen
class Carelessness:
    """The rates of mistakes of a simulated writer."""

    wrong: float = 0.6
    """Share of the answers with a habit or slips in their items."""
    tempted: float = 0.8
    """The same share for the families in ``TEMPTING``."""
    habit: float = 0.6
    """Share of the wrong answers that follow the habit of the family; the others have one or two slips."""
    wrong_style: float = 0.35
    """Share of all lists that are written in a style other than the requested one."""


def write_answer(task: Task, carelessness: Carelessness, generator: random.Random) -> str:
    """Return an answer with random mistakes at these rates."""
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
"""The habit of each family. Its answer can be right by chance, for example for a list that is already sorted."""

TEMPTING = {"sort", "reverse", "double", "first", "keep", "replace", "odd"}
"""Families whose answers are wrong with the higher rate ``Carelessness.tempted``."""


def _slip(task: Task, items: list[str], generator: random.Random) -> list[str]:
    """Return the items with one random mistake: an item lost, doubled, replaced, or exchanged with another."""
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
