"""The kinds of instructions of the generated prompts: their wording, their values, and which of them fit together.

Four of IFEval's kinds are left out: two whose verifier needs NLTK's data, the language of the response, which a small
model cannot choose, and the choice between given answers, which fits no other instruction.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from tutelage_ifeval.texts import COMMON_WORDS, ENDINGS, KEYWORDS


@frozen
class Instruction:
    """One instruction of a prompt."""

    id: str
    """IFEval's name of the kind."""
    kwargs: Mapping[str, Any]
    """The values of its verifier."""
    text: str
    """The sentence of the prompt."""


@frozen
class _Kind:
    id: str
    wordings: tuple[str, ...]
    draw: Callable[[random.Random], dict[str, Any]] = lambda generator: {}
    weight: float = 1.0
    """Relative frequency."""
    fits: frozenset[str] | None = None
    """Names of the kinds that it can be combined with; None: every kind that does not exclude it."""
    excludes: frozenset[str] = frozenset()


def _words(generator: random.Random) -> dict[str, Any]:
    if generator.random() < 0.5:
        return {"relation": "at least", "num_words": generator.choice((30, 50, 80, 100, 150, 200))}
    return {"relation": "less than", "num_words": generator.choice((40, 60, 80, 100))}


def _letters(generator: random.Random) -> dict[str, Any]:
    letter, count = generator.choice((("e", 20), ("a", 15), ("t", 15), ("o", 10), ("s", 8), ("m", 4)))
    return {"letter": letter, "let_frequency": count, "let_relation": "at least"}


def _paragraph(generator: random.Random) -> dict[str, Any]:
    total = generator.randint(2, 4)
    words = {"num_paragraphs": total, "nth_paragraph": generator.randint(1, total)}
    return {**words, "first_word": generator.choice(KEYWORDS)}


def _frequency(generator: random.Random) -> dict[str, Any]:
    count = generator.randint(2, 4)
    return {"keyword": generator.choice(KEYWORDS), "frequency": count, "relation": "at least"}


def _sections(generator: random.Random) -> dict[str, Any]:
    return {
        "section_spliter": generator.choice(("Section", "SECTION", "PART")),
        "num_sections": generator.randint(2, 4),
    }


def _some(key: str, words: Sequence[str]) -> Callable[[random.Random], dict[str, Any]]:
    return lambda generator: {key: generator.sample(words, generator.randint(1, 3))}


def _one(key: str, *values: Any) -> Callable[[random.Random], dict[str, Any]]:
    return lambda generator: {key: generator.choice(values)}


_PLAIN = frozenset({"existence", "forbidden_words"})
"""Kinds that fit to every form of an answer."""

_KINDS = {
    "no_comma": _Kind(
        "punctuation:no_comma",
        ("Do not use any commas in your response.", "Avoid commas altogether.", "Your answer must have no commas."),
        weight=1.5,
    ),
    "number_words": _Kind(
        "length_constraints:number_words",
        (
            "Answer with {relation} {num_words} words.",
            "Your response should contain {relation} {num_words} words.",
            "Use {relation} {num_words} words.",
        ),
        _words,
        weight=1.5,
    ),
    "highlights": _Kind(
        "detectable_format:number_highlighted_sections",
        (
            "Highlight at least {num_highlights} parts of your answer with markdown, like *highlighted part*.",
            "Put at least {num_highlights} phrases between asterisks, i.e. *phrase*.",
        ),
        _one("num_highlights", 1, 2, 3),
        excludes=frozenset({"bullets", "paragraphs", "two_responses"}),
    ),
    "frequency": _Kind(
        "keywords:frequency",
        (
            "Use the word {keyword} at least {frequency} times.",
            "The word {keyword} should appear at least {frequency} times in your response.",
        ),
        _frequency,
    ),
    "existence": _Kind(
        "keywords:existence",
        ("Include the keywords {keywords} in your response.", "Use the words {keywords}."),
        _some("keywords", KEYWORDS),
    ),
    "forbidden_words": _Kind(
        "keywords:forbidden_words",
        ("Do not use the words {forbidden_words}.", "The words {forbidden_words} must not occur in your response."),
        _some("forbidden_words", COMMON_WORDS),
    ),
    "letters": _Kind(
        "keywords:letter_frequency",
        (
            'The letter "{letter}" should appear at least {let_frequency} times.',
            'Use "{letter}" at least {let_frequency} times in your answer.',
        ),
        _letters,
        weight=0.7,
    ),
    "quotation": _Kind(
        "startend:quotation",
        (
            "Wrap your entire response in double quotation marks.",
            "Put your whole answer between double quotation marks.",
        ),
    ),
    "lowercase": _Kind(
        "change_case:english_lowercase",
        (
            "Your entire response should be in English and in lowercase letters only.",
            "Write in English and use no capital letters at all.",
        ),
        excludes=frozenset({"capital"}),
    ),
    "capital": _Kind(
        "change_case:english_capital",
        (
            "Your entire response should be in English and in capital letters only.",
            "Write everything in English and in capital letters.",
        ),
        weight=0.7,
    ),
    "title": _Kind(
        "detectable_format:title",
        (
            "Begin with a title in double angular brackets, such as <<my title>>.",
            "Your answer must contain a title, wrapped in double angular brackets, i.e. <<title>>.",
        ),
    ),
    "bullets": _Kind(
        "detectable_format:number_bullet_lists",
        (
            "Your answer must contain exactly {num_bullets} bullet points in markdown, such as: * This is a point.",
            "Give exactly {num_bullets} bullet points, each beginning with an asterisk.",
        ),
        _one("num_bullets", 2, 3, 4, 5),
        excludes=frozenset({"paragraphs", "sections"}),
    ),
    "placeholders": _Kind(
        "detectable_content:number_placeholders",
        (
            "Include at least {num_placeholders} placeholders in square brackets, such as [address].",
            "Your answer must have at least {num_placeholders} placeholders like [name] in square brackets.",
        ),
        _one("num_placeholders", 1, 2, 3, 4),
    ),
    "paragraphs": _Kind(
        "length_constraints:number_paragraphs",
        (
            "Write exactly {num_paragraphs} paragraphs, separated by the markdown divider: ***",
            "There should be {num_paragraphs} paragraphs. Separate them with ***",
        ),
        _one("num_paragraphs", 2, 3, 4),
        excludes=frozenset({"sections"}),
    ),
    "postscript": _Kind(
        "detectable_content:postscript",
        (
            "At the end of your response add a postscript starting with {postscript_marker}",
            "Finish with a postscript that starts with {postscript_marker}",
        ),
        _one("postscript_marker", "P.S.", "P.P.S"),
    ),
    "ending": _Kind(
        "startend:end_checker",
        (
            "Finish your response with this exact phrase: {end_phrase} No other words should follow it.",
            "The very last words of your answer must be: {end_phrase}",
        ),
        _one("end_phrase", *ENDINGS),
    ),
    "sections": _Kind(
        "detectable_format:multiple_sections",
        (
            "Your response must have {num_sections} sections. Mark the beginning of each with "
            "{section_spliter} X, such as {section_spliter} 1.",
            "Divide your answer into {num_sections} sections, marked {section_spliter} 1, {section_spliter} 2 etc.",
        ),
        _sections,
        weight=0.7,
        excludes=frozenset({"lowercase", "capital"}),  # the verifier looks for the marker as it is written
    ),
    "json": _Kind(
        "detectable_format:json_format",
        (
            "Wrap the entire output in JSON format. You can use markdown ticks such as ```.",
            "Your whole answer must be valid JSON.",
        ),
        weight=0.7,
        fits=_PLAIN,
    ),
    "two_responses": _Kind(
        "combination:two_responses",
        (
            "Give two different responses, separated by six asterisks: ******",
            "Write two different answers. Separate them with ****** and nothing else.",
        ),
        weight=0.8,
        fits=_PLAIN | {"no_comma", "title"},
    ),
    "repeat": _Kind(
        "combination:repeat_prompt",
        (
            "First repeat the request above word for word, then give your answer.",
            "Before you answer, repeat the request above without any change.",
        ),
        fits=frozenset({"title", "existence", "postscript", "ending"}),
    ),
    "first_word": _Kind(
        "length_constraints:nth_paragraph_first_word",
        (
            "Write {num_paragraphs} paragraphs, separated by two line breaks. Paragraph {nth_paragraph} must start "
            "with the word {first_word}.",
        ),
        _paragraph,
        weight=0.5,
        fits=_PLAIN | {"no_comma"},
    ),
}
MOST = 3
"""Maximum number of instructions of a prompt, as in IFEval."""


def draw_instructions(generator: random.Random, task: str) -> list[Instruction]:
    """Return one to three instructions that fit together, in the order in which the prompt states them.

    ``task`` is the sentence that they follow: an instruction to repeat the request has the sentences before it.
    """
    wanted = generator.choices(range(1, MOST + 1), (0.35, 0.4, 0.25))[0]
    chosen: list[str] = []
    while len(chosen) < wanted:
        possible = [name for name in _KINDS if name not in chosen and all(_fit(name, other) for other in chosen)]
        if not possible:
            break
        chosen += generator.choices(possible, [_KINDS[name].weight for name in possible])
    chosen.sort(key="repeat".__eq__)  # it comes last, because it refers to the text above
    found: list[Instruction] = []
    for name in chosen:
        kind = _KINDS[name]
        kwargs = kind.draw(generator)
        if name == "repeat":
            kwargs = {"prompt_to_repeat": " ".join([task, *(one.text for one in found)])}
        shown = {key: ", ".join(value) if isinstance(value, list) else value for key, value in kwargs.items()}
        found.append(Instruction(kind.id, kwargs, generator.choice(kind.wordings).format(**shown)))
    return found


def _fit(one: str, other: str) -> bool:
    """Whether two kinds can be followed by the same answer."""
    return all(
        second not in _KINDS[first].excludes and ((fits := _KINDS[first].fits) is None or second in fits)
        for first, second in ((one, other), (other, one))
    )
