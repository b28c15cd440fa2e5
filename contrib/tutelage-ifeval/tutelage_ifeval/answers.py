"""Answers that follow given instructions, composed of the sentences in ``texts``."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from tutelage_ifeval.instructions import Instruction
from tutelage_ifeval.texts import FRAMES, PLACEHOLDERS, TOPICS

_SENTENCES = 4, 10
"""Least and largest number of sentences, if nothing is said about the length. After SFT on shorter answers, a model
writes a single sentence, which can follow few instructions."""


def compose(generator: random.Random, topic: str, instructions: Sequence[Instruction]) -> str:
    """Return an answer about a topic that is meant to follow the instructions. The verifiers have the last word."""
    values = {one.id.partition(":")[2]: one.kwargs for one in instructions}
    sentences = _sentences(generator, topic, values)
    if "number_highlighted_sections" in values:
        sentences = _highlighted(sentences, values["number_highlighted_sections"]["num_highlights"])
    if "number_placeholders" in values:
        names = generator.sample(PLACEHOLDERS, values["number_placeholders"]["num_placeholders"])
        sentences = [*sentences, f"Contact: {' '.join(f'[{name}]' for name in names)}."]
    text = _in_form(generator, topic, sentences, values)
    if "title" in values:
        text = f"<<{topic[0].upper()}{topic[1:]}>>\n\n{text}"
    if "repeat_prompt" in values:
        text = f"{values['repeat_prompt']['prompt_to_repeat']}\n\n{text}"
    if "postscript" in values:
        text += f"\n\n{values['postscript']['postscript_marker']} {generator.choice(FRAMES).format(topic=topic)}"
    if "end_checker" in values:
        text += f"\n\n{values['end_checker']['end_phrase']}"
    if "no_comma" in values:
        text = text.replace(",", "")
    if "english_lowercase" in values:
        text = text.lower()
    if "english_capital" in values:
        text = text.upper()
    return f'"{text}"' if "quotation" in values else text


def _sentences(generator: random.Random, topic: str, values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Sentences about the topic: as many as the length and the form ask for, with the keywords."""
    forbidden = {word.lower() for word in values.get("forbidden_words", {}).get("forbidden_words", ())}
    pool = [*TOPICS[topic]]
    generator.shuffle(pool)
    frames = [frame.format(topic=topic) for frame in FRAMES]
    generator.shuffle(frames)
    pool = [sentence for sentence in (*pool, *frames) if not forbidden & _words(sentence)]
    extra = [f"Think of the word {word} here." for word in values.get("existence", {}).get("keywords", ())]
    if (repeated := values.get("frequency")) is not None:
        count = int(repeated["frequency"])
        extra.append(f"Remember this: {' and '.join([repeated['keyword']] * count)}.")
    length = values.get("number_words", {})
    least = max(generator.randint(*_SENTENCES), _parts(values))
    if length.get("relation") == "less than":
        limit = int(length["num_words"]) - 15  # for titles, placeholders and endings
        while least > max(1, _parts(values)) and _count(extra) + _count(pool[:least]) > limit:
            least -= 1
    elif length:
        while _count(extra) + _count(pool[:least]) < int(length["num_words"]) + 5 and least < len(pool):
            least += 1
    chosen = pool[:least]
    for sentence in extra:
        chosen.insert(generator.randint(1, len(chosen)), sentence)
    return chosen


def _parts(values: Mapping[str, Mapping[str, Any]]) -> int:
    """The number of sentences that the form of the answer needs at least."""
    counts = [
        values.get("number_bullet_lists", {}).get("num_bullets", 1),
        values.get("number_paragraphs", {}).get("num_paragraphs", 1),
        values.get("multiple_sections", {}).get("num_sections", 1),
        values.get("nth_paragraph_first_word", {}).get("num_paragraphs", 1),
        values.get("number_highlighted_sections", {}).get("num_highlights", 1),
        2 if "two_responses" in values else 1,
    ]
    return max(map(int, counts))


def _in_form(
    generator: random.Random, topic: str, sentences: Sequence[str], values: Mapping[str, Mapping[str, Any]]
) -> str:
    """The sentences as one text, a list, paragraphs, sections, two responses or JSON."""
    if "json_format" in values:
        content = json.dumps({"topic": topic, "text": list(sentences)}, indent=2)
        return f"```json\n{content}\n```" if generator.random() < 0.5 else content
    if "two_responses" in values:
        return "\n\n******\n\n".join(_joined(sentences, 2))
    if "number_bullet_lists" in values:
        count = int(values["number_bullet_lists"]["num_bullets"])
        first, others = sentences[: len(sentences) - count], sentences[len(sentences) - count :]
        return "\n".join([*([" ".join(first)] if first else []), *(f"* {sentence}" for sentence in others)])
    if "number_paragraphs" in values:
        return "\n\n***\n\n".join(_joined(sentences, int(values["number_paragraphs"]["num_paragraphs"])))
    if (sections := values.get("multiple_sections")) is not None:
        texts = _joined(sentences, int(sections["num_sections"]))
        return "\n\n".join(f"{sections['section_spliter']} {n}\n{text}" for n, text in enumerate(texts, 1))
    if (nth := values.get("nth_paragraph_first_word")) is not None:
        texts = _joined(sentences, int(nth["num_paragraphs"]))
        position = int(nth["nth_paragraph"]) - 1
        texts[position] = f"{nth['first_word'].capitalize()} is the word to start with. {texts[position]}"
        return "\n\n".join(texts)
    return "\n\n".join(_joined(sentences, generator.choice((1, 1, 2)))) if len(sentences) > 1 else sentences[0]


def _joined(sentences: Sequence[str], parts: int) -> list[str]:
    """The sentences as ``parts`` texts of about equal length."""
    bounds = [len(sentences) * part // parts for part in range(parts + 1)]
    return [" ".join(sentences[start:end]) for start, end in pairwise(bounds)]


def _highlighted(sentences: Sequence[str], count: int) -> list[str]:
    """The sentences, the first words of some of them between asterisks."""
    found = list(sentences)
    for number in range(min(count, len(found))):
        first, second, *others = found[number].split(" ")
        found[number] = " ".join([f"*{first} {second}*", *others])
    return found


def _words(sentence: str) -> set[str]:
    return {word.strip(".,!?:'\"").lower() for word in sentence.split()}


def _count(sentences: Sequence[str]) -> int:
    return sum(len(sentence.split()) for sentence in sentences)
