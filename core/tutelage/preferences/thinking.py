"""Thinking blocks: text that a reasoning model writes before its answer, between marks such as <think> and </think>.

An opening mark starts a block at the start of the reply, of a line or of a sentence, after another block, and before a
line break. After a comma, a colon or directly after a word, it starts a block only if the block is closed. Elsewhere it
is a mention ("the <think> tag"), and so is a mark in code or in quotation marks. A closing mark without an opening one
ends a block that started with the reply, because many chat templates end the prompt with the opening mark.
"""

from __future__ import annotations

import re

from attrs import frozen

from tutelage.records import Outcome

_NAME = r"(?:think|thinking|thoughts?|reasoning|reflection|scratchpad|antthinking|seed:think|inner_monologue)"
_KINDS = {
    "tag": (rf"<{_NAME}(?:[ \t][^<>\n/]{{0,80}})?>", rf"</{_NAME}[ \t]?>"),
    "square": (r"\[(?:think|thinking)\]", r"\[/(?:think|thinking)\]"),
    "triangle": (r"\u25c1think\u25b7", r"\u25c1/think\u25b7"),
    "token": (
        rf"<\|(?:(?:begin|start)_(?:of_)?)?{_NAME}\|>|<\|inner_prefix\|>",
        rf"<\|(?:end_(?:of_)?|/){_NAME}\|>|<\|inner_suffix\|>",
    ),
    "channel": (
        r"<\|channel\|>(?:analysis|commentary)\b[^<\n]{0,80}<\|message\|>",
        r"<\|channel\|>final\b[^<\n]{0,80}<\|message\|>",
    ),
}
"""The opening and the closing mark of each kind of block. In this order: the tags of most models, Magistral, Kimi, the
special tokens of OpenThoughts, Cohere and Apertus, and the channels of gpt-oss."""
_MARK = re.compile(
    "|".join(
        [
            r"(?P<code>```(?s:.)*?```|`[^`\n]++`)",
            *(f"(?P<{kind}>{opening})|(?P<{kind}_end>{closing})" for kind, (opening, closing) in _KINDS.items()),
        ]
    ),
    re.IGNORECASE,
)
_QUOTES = "\"'`\u201c\u2018\u201d\u2019"
_CLOSING = {
    kind: re.compile(rf"(?<![{_QUOTES}])(?:{closing})|(?:{closing})(?![{_QUOTES}])", re.IGNORECASE)
    for kind, (_, closing) in _KINDS.items()
}
"""Closing marks outside of quotation marks."""
_AT_THE_END = re.compile(rf"(?:{'|'.join(opening for opening, _ in _KINDS.values())})\s*+\Z", re.IGNORECASE)
_PARTS_OF_MARKS = ("<|channel|>", "<|message|>")
_LONGEST_MARK = 200
"""Number of characters at the end of a prompt in which an opening mark is looked for."""
_UNFINISHED_MARK = re.compile(
    r"(?:<\|channel\|>[^<\n]{0,90}(?:<[^<>\n]{0,12})?|[<\[\u25c1](?:[a-zA-Z/|][^<>\[\]\n\u25b7]{0,100})?)\Z"
)
"""The end of a text that is the start of a mark if the text continues."""
_ANSWER_MARK = re.compile(
    r"\A<\|(?:begin|start)_(?:of_)?(?:solution|response|answer)\|>\s*+"
    r"|\s*+<\|(?:end_(?:of_)?(?:solution|response|answer)|return|end)\|>\Z",
    re.IGNORECASE,
)
_ENDS_LINE = re.compile(r"[ \t\r]*+(?:\n|\Z)")

_BLANKS = " \t\r\u00a0"
_ENDS_SENTENCE = "\n.!?\u2026\u3002>0123456789"
_CONTINUES_SENTENCE = ",;:*-\u2013\u2014"

CUT_BLOCK = "the reply ends within its thinking block"
ONLY_BLOCK = "the reply has no text after its thinking block"


@frozen
class SplitReply:
    """A reply, divided into its thinking blocks and the other text."""

    visible: str
    """The text outside of all blocks; the unchanged reply if it has no block."""
    answer: str
    """The text after the last block; empty if that block is not closed."""
    answer_start: int
    """Position in the reply at which ``answer`` starts."""
    has_block: bool = False
    cut: bool = False
    """Whether the last block is not closed."""

    @property
    def problem(self) -> str:
        """The reason why there is no answer; empty if there is one, or if the reply has no block."""
        if not self.has_block or self.answer.strip():
            return ""
        return CUT_BLOCK if self.cut else ONLY_BLOCK


def split_thinking(reply: str) -> SplitReply:
    """Divide a reply into its thinking blocks and the other text, in linear time."""
    outside: list[str] = []
    never_closed: set[str] = set()
    answer_start = position = 0
    has_block = mentioned = False
    while mark := _MARK.search(reply, position):
        position = mark.end()
        kind = str(mark.lastgroup)
        if kind == "code":
            continue
        before = _last_character(reply, answer_start, mark.start())
        if kind in _CLOSING:
            closing = None if kind in never_closed else _CLOSING[kind].search(reply, mark.end())
            if closing is None:
                never_closed.add(kind)
            if not _starts_block(reply, mark, before, closed=closing is not None):
                mentioned = True
                continue
            outside.append(reply[answer_start : mark.start()])
            if closing is None:
                return SplitReply(_joined(outside), "", len(reply), has_block=True, cut=True)
            position = closing.end()
        elif mentioned or _is_mention(reply, mark, before):
            mentioned = False
            continue
        answer_start, has_block = position, True
    if not has_block:
        return SplitReply(reply, reply, 0)
    answer = reply[answer_start:]
    return SplitReply(_joined([*outside, answer]), answer, answer_start, has_block=True)


def is_mark(token: str) -> bool:
    """Whether a token is the mark of a thinking block or a part of one.

    Some tokenizers have the marks as special tokens. A plugin that decodes tokens keeps these in the text.
    """
    mark = _MARK.fullmatch(token)
    return token in _PARTS_OF_MARKS or (mark is not None and mark["code"] is None)


def opened_block(prompt: str) -> str:
    """The opening mark with which a chat template ends its prompt; empty if it ends without one.

    A reply to this prompt starts within a block. A plugin that renders the prompt adds the mark to the reply, because a
    reply that is cut before the closing mark would look like an answer.
    """
    mark = _AT_THE_END.search(prompt[-_LONGEST_MARK:])
    return mark[0].rstrip() if mark else ""


def without_thinking(text: str, outcome: Outcome, detail: str) -> tuple[str, Outcome, str]:
    """Text, outcome and detail of an answer whose thinking blocks are removed.

    An answer that ends within a block, or has no text outside of its blocks, is ``CUT``, and the detail has the reason.
    A text without a block is returned unchanged.
    """
    split = split_thinking(text)
    if outcome.has_text and (split.cut or (split.has_block and not split.visible)):
        return split.visible, Outcome.CUT, "; ".join(filter(None, (split.problem, detail)))
    return split.visible, outcome, detail


def settled(reply: str) -> str:
    """Return the visible text of a reply that is not complete yet, without the end that may still change.

    The visible text of the complete reply starts with it, with one exception: a closing mark without an opening one
    turns all text before it into a block. A mark that is a mention so far, and the text after it, are held back.
    """
    split = split_thinking(reply)
    if split.cut:
        return split.visible
    marks = (mark for mark in _MARK.finditer(reply, split.answer_start) if mark.lastgroup != "code")
    open_mark = next(marks, None) or _UNFINISHED_MARK.search(reply, split.answer_start)
    return split_thinking(reply[: open_mark.start()]).visible if open_mark else split.visible


def _joined(parts: list[str]) -> str:
    return _ANSWER_MARK.sub("", "".join(parts).strip())


def _starts_block(reply: str, mark: re.Match[str], before: str, closed: bool) -> bool:
    """Whether an opening mark starts a block; ``before`` is the last character before it that is not a blank."""
    if not before or before in _QUOTES:
        return not before
    if before in _ENDS_SENTENCE or reply.startswith("\n", mark.end()):
        return True
    adjacent = before.isalpha() and reply[mark.start() - 1] not in _BLANKS
    return closed and (adjacent or before in _CONTINUES_SENTENCE)


def _is_mention(reply: str, mark: re.Match[str], before: str) -> bool:
    """Whether a closing mark without an opening one is part of a sentence: "the </think> tag"."""
    if not before:
        return False
    if before in _QUOTES:
        return reply[mark.end() : mark.end() + 1] in tuple(_QUOTES)
    return before.isalnum() and reply[mark.start() - 1] in _BLANKS and not _ENDS_LINE.match(reply, mark.end())


def _last_character(reply: str, start: int, end: int) -> str:
    """The last character of ``reply[start:end]`` that is not a blank within a line; empty if there is none."""
    while end > start and reply[end - 1] in _BLANKS:
        end -= 1
    return reply[end - 1 : end] if end > start else ""
