"""Fresh prompts from a model: how it is asked for a list of them, how its reply is read, and which of them are kept.

Self-instruct (Wang et al., 2023) as self-rewarding uses it (Yuan et al., 2024, section 2.2): a few prompts that people
wrote are shown, and the model continues the list. A reply is read strictly. What is not wholly an item of the list is
dropped and counted, because a half prompt, or one with a remark behind it, would become a question to train on.
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
"""Length up to which a seed prompt is shown: eight of them and the reply fit into 2,048 tokens."""


@frozen
class Listing:
    """A way to write a list of prompts down, and to read one."""

    name: str
    introduction: str
    opening: str
    closing: str

    def ask(self, examples: Sequence[str]) -> str:
        """The request that shows ``examples`` and asks for more. An example is one that ``can_show`` accepts."""
        shown = "\n".join(f"{self.opening}{example}{self.closing}" for example in examples)
        return f"{self.introduction}\n{shown}\n"

    def can_show(self, prompt: str) -> bool:
        """Whether a prompt can stand in the list without being mistaken for two, or for the list's own marks."""
        marks = [mark for mark in (self.opening, self.closing) if mark] or ["\n"]
        return bool(prompt.strip()) and not any(mark in prompt for mark in marks)

    def read(self, reply: str, cut: bool) -> ParsedListing:
        """The prompts in a reply, in its order. ``cut`` says that the reply hit its length limit."""
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
    """What a reply held."""

    prompts: tuple[str, ...]
    dropped: Mapping[str, int] = field(factory=dict)
    """Items that were none, by reason."""


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
"""The published code's form: prompts of several lines can stand in it, and a cut or a remark is seen."""

LINES = Listing(name="lines", introduction="tasks:", opening="", closing="")
"""A prompt a line, for models that are too small to keep to marks."""

LISTINGS = {listing.name: listing for listing in (TAGS, LINES)}


@frozen
class PromptLimits:
    """Which prompts are fit to be trained on."""

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
    """Why a text is no prompt to train on, or nothing.

    Unsafe to parse are controls, invisible direction marks and the special tokens of chat templates: in a template or
    between a judge's fences, they would end the turn in which they stand.
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
    """The seeds that a request can show: short ones, so that several fit, which the list's own marks do not break."""
    return [seed for seed in seeds if len(seed) <= SHOWN_CHARACTERS and listing.can_show(seed)]


def few_shots(seeds: Sequence[str], shots: int, seed: int) -> list[str]:
    """``shots`` different examples of one request, drawn by ``seed``; all of them where there are fewer."""
    return random.Random(seed).sample(seeds, min(shots, len(seeds)))


def _is_hidden(letter: str) -> bool:
    category = unicodedata.category(letter)
    if category in ("Cc", "Cs"):
        return letter not in _ALLOWED_CONTROLS
    return category == "Cf" and letter not in "\u200c\u200d"  # joiners, which some scripts and emoji need


def _counted(dropped: Mapping[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in dropped.items() if count}
