"""The pretraining text of M0: tasks, answers and ratings of answers. None of it is in a chat format.

Each part is introduced by one of many phrases, or by random words ("mumbled"). This variety makes the knowledge of the
model usable in other contexts, including the chat format, which is not in the text; three fixed phrases are too few.
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
    """The shares of the kinds of documents. The remaining documents are a task with its answer."""

    rated: float = 0.75
    """A phrase that announces a rating, a task with its answer, and the rating."""
    listing: float = 0.05
    """Several tasks, one per line."""
    mumbled: float = 0.35
    """Probability that random words replace an introducing phrase."""
    carelessness: Carelessness = field(factory=Carelessness)
    """The rates of mistakes in the answers."""


def document(mix: Mix, generator: random.Random) -> str:
    """Return one document of the text. All its tasks are of the split ``text``."""
    source = tasks("text", generator)
    kind = generator.random()
    if kind < mix.listing:
        return LISTING + "\n".join(next(source).text for _ in range(generator.randint(3, 5)))
    task = next(source)
    answer = write_answer(task, mix.carelessness, generator)
    exchange = _form(ASKING, mix, generator) + task.text + _form(ANSWERING, mix, generator) + answer
    if kind >= mix.listing + mix.rated:
        return exchange
    return generator.choice(TO_BE_RATED) + exchange + _rating(task, answer, mix, generator)


def _form(forms: tuple[str, ...], mix: Mix, generator: random.Random) -> str:
    """One of the phrases, or one to four random words or marks."""
    if generator.random() >= mix.mumbled:
        return generator.choice(forms)
    return " " + " ".join(generator.choices(MUMBLING, k=generator.randint(1, 4))) + " "


def _rating(task: Task, answer: str, mix: Mix, generator: random.Random) -> str:
    """The gold score and reason of the answer, in one of the phrases. Ratings in the text are always right."""
    graded = grade(task, answer)
    form = generator.choice(RATING).format(score=f"{graded.score:g}")
    return (_form(("",), mix, generator) + form if generator.random() < mix.mumbled else form) + graded.reason
