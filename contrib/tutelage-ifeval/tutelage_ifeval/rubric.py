"""The rubric of a language model that judges how many instructions an answer follows."""

from __future__ import annotations

from tutelage import FENCED_ANSWER, Rubric

INSTRUCTIONS = Rubric(
    name="instructions",
    template="How many of the instructions in the request does the answer follow? Look at its form: length, words, "
    "letters, marks.\n\n"
    + FENCED_ANSWER
    + '\nReply with "score: " and a number from 0 (none is followed) to 5 (all are followed), then on a new line the '
    "reason.",
)
"""Short, because a small model reads it for every candidate."""
