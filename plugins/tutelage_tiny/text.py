"""The text that M0 reads: what people of this world ask, answer and think of answers. None of it is in a chat format.

People tell the same thing in many ways, and some of them mumble. That is what makes the knowledge in the text one that
holds in any surroundings, the chat format that M0 has never seen included; with three fixed forms it does not.
"""

from __future__ import annotations

import random

from attrs import field, frozen

from tutelage_tiny.mistakes import Carelessness, write_answer
from tutelage_tiny.rubric import grade
from tutelage_tiny.world import Task, tasks

ASKING = ("", "task: ", "question: ", "somebody asked: ", "here is a task: ", "request: ", "new task: ", "example: ")
ANSWERING = ("\n", "\nanswer: ", "\nsomebody wrote: ", "\nreply: ", "\nthis is the answer: ", ". answer: ", "? ")
TO_BE_RATED = ("rate this: ", "how good is this? ", "somebody rated this.\n", "is this right? ", "points for this: ")
RATING = (
    "\nrated {score} of 5, ",
    "\npoints: {score}. ",
    "\nthis is worth {score}, ",
    ". {score} points, ",
    "\n{score}: ",
    "\nscore {score}. ",
    ". the score is {score}, ",
)
_MUMBLED_WORDS = "here is this the one some more like by of in with good how example request reply task"
MUMBLING = (*".,:?\n", *_MUMBLED_WORDS.split())
LISTING = "tasks:\n"


@frozen
class Mix:
    """What share of the documents is of which kind."""

    rated: float = 0.75
    """An answer, then what somebody thought of it; that it will be rated is said before."""
    listing: float = 0.05
    """Several tasks, one on each line. What is left is a task with its answer."""
    mumbled: float = 0.35
    """How often a few words of no meaning stand where a form would."""
    carelessness: Carelessness = field(factory=Carelessness)
    """Of those who wrote the answers."""


def document(mix: Mix, generator: random.Random) -> str:
    """One document of the text; all of its tasks are of the split ``text``."""
    source = tasks("text", generator)
    kind = generator.random()
    if kind < mix.listing:
        return LISTING + "\n".join(next(source).text for _ in range(generator.randint(3, 5)))
    task = next(source)
    answer = write_answer(task, mix.carelessness, generator)
    told = _form(ASKING, mix, generator) + task.text + _form(ANSWERING, mix, generator) + answer
    if kind >= mix.listing + mix.rated:
        return told
    return generator.choice(TO_BE_RATED) + told + _rating(task, answer, mix, generator)


def _form(forms: tuple[str, ...], mix: Mix, generator: random.Random) -> str:
    """One of the forms, or a mumble of one to four pieces."""
    if generator.random() >= mix.mumbled:
        return generator.choice(forms)
    return " " + " ".join(generator.choices(MUMBLING, k=generator.randint(1, 4))) + " "


def _rating(task: Task, answer: str, mix: Mix, generator: random.Random) -> str:
    """What somebody thought of the answer: right as to the rubric, since this world's readers are careful."""
    given = grade(task, answer)
    form = generator.choice(RATING).format(score=f"{given.score:g}")
    return (_form(("",), mix, generator) + form if generator.random() < mix.mumbled else form) + given.reason
