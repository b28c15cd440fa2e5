"""Prompts written by a model: the request for a list of prompts, the parser of the reply, and the filter of prompts.

This is self-instruct (Wang et al., 2023) as self-rewarding uses it (Yuan et al., 2024, section 2.2): the request shows
a few human-written prompts, and the model continues the list. The parser is strict. Text that is not a complete item of
the list is dropped and counted, because an incomplete prompt, or one followed by a remark, would be trained on.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Mapping, Sequence

from attrs import field, frozen

CUT_OFF = "cut off"
STRAY = "not an item of the list"
SHOWN_CHARACTERS = 500
"""Maximum number of characters of a seed prompt that is shown. Eight such prompts and a reply fit into 2,048 tokens."""


@frozen
class Listing:
    """A text format for lists of prompts, with its writer and its parser."""

    name: str
    introduction: str
    opening: str
    closing: str

    def ask(self, examples: Sequence[str]) -> str:
        """Return the request that shows ``examples`` and asks for more. ``can_show`` must accept each example."""
        shown = "\n".join(f"{self.opening}{example}{self.closing}" for example in examples)
        return f"{self.introduction}\n{shown}\n"

    def can_show(self, prompt: str) -> bool:
        """Return whether a prompt can be an item of the list: it is not empty and contains no marks of the list."""
        marks = [mark for mark in (self.opening, self.closing) if mark] or ["\n"]
        return bool(prompt.strip()) and not any(mark in prompt for mark in marks)

    def read(self, reply: str, cut: bool) -> ParsedListing:
        """Parse the prompts in a reply, in their order. ``cut`` is true if the reply reached its length limit."""
        return self._read_marked(reply) if self.opening else self._read_lines(reply, cut)

    def _read_marked(self, reply: str) -> ParsedListing:
        prompts, dropped = [], {CUT_OFF: 0, STRAY: 0}
        pieces = reply.split(self.opening)[1:]
        for number, piece in enumerate(pieces, 1):
            text, closing, _ = piece.partition(self.closing)
            if closing and text.strip():
                prompts.append(text.strip())
            else:
                dropped[CUT_OFF if not closing and number == len(pieces) else STRAY] += 1
        return ParsedListing(tuple(prompts), _counted(dropped))

    def _read_lines(self, reply: str, cut: bool) -> ParsedListing:
        lines = [line for line in reply.splitlines() if line.strip()]
        dropped = {CUT_OFF: int(cut and bool(lines)), STRAY: 0}
        prompts = []
        for line in lines[:-1] if cut else lines:
            text = _BULLET.sub("", line, count=1).strip()
            if text and text != self.introduction:
                prompts.append(text)
            else:
                dropped[STRAY] += 1
        return ParsedListing(tuple(prompts), _counted(dropped))


@frozen
class ParsedListing:
    """The content of a reply."""

    prompts: tuple[str, ...]
    dropped: Mapping[str, int] = field(factory=dict)
    """Number of dropped items by reason."""


_BULLET = re.compile(r"^\s*(?:[-*\u2022]|\(?\d{1,3}[.)])\s+")

TAGS = Listing(
    name="tags",
    introduction=(
        "Invent new tasks and questions that a person might bring to an assistant. Each stands between <task> and "
        "</task> and can be understood without anything else. Write no answers and nothing between the tasks. "
        "Here are some; continue with different ones."
    ),
    opening="<task>",
    closing="</task>",
)
"""The format of the published code. Prompts may have several lines; truncated items and remarks are detected."""

LINES = Listing(name="lines", introduction="tasks:", opening="", closing="")
"""One prompt per line, for models that are too small to use the tags reliably."""

LISTINGS = {listing.name: listing for listing in (TAGS, LINES)}


@frozen
class PromptLimits:
    """Limits on the length of a prompt, in characters."""

    min_characters: int = 10
    max_characters: int = 2000


_MARKUP = re.compile(
    r"<\|[^|<>\n]{1,40}\|>"  # special tokens of chat templates
    r"|</?(?:task|question|response|s)>"
    r"|\[/?(?:INST|SYS)\]|<</?SYS>>",
    re.IGNORECASE,
)
_ALLOWED_CONTROLS = "\n\t"


def prompt_problem(text: str, limits: PromptLimits) -> str:
    """Return the reason why a text cannot be used as a prompt, or an empty string if it can.

    Control characters, invisible direction marks and special tokens of chat templates are "unsafe to parse": in a chat
    template or between the fences of a judge prompt, they could end the turn that contains them.
    """
    length = len(text.strip())
    if length < limits.min_characters:
        return "too short"
    if length > limits.max_characters:
        return "too long"
    if _MARKUP.search(text) or any(_is_hidden(letter) for letter in text):
        return "unsafe to parse"
    return "" if any(letter.isalpha() for letter in text) else "no words"


def showable(seeds: Sequence[str], listing: Listing) -> list[str]:
    """Return the seeds that a request can show: at most 500 characters long, without marks of the list."""
    return [seed for seed in seeds if len(seed) <= SHOWN_CHARACTERS and listing.can_show(seed)]


def few_shots(seeds: Sequence[str], shots: int, seed: int) -> list[str]:
    """Draw the examples of one request by ``seed``: ``shots`` different seeds, or all if there are fewer."""
    return random.Random(seed).sample(seeds, min(shots, len(seeds)))


def _is_hidden(letter: str) -> bool:
    category = unicodedata.category(letter)
    if category in ("Cc", "Cs"):
        return letter not in _ALLOWED_CONTROLS
    return category == "Cf" and letter not in "\u200c\u200d"  # these joiners are needed by some scripts and emoji


def _counted(dropped: Mapping[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in dropped.items() if count}
