"""Whether a text holds a prompt that models are evaluated on: word n-gram overlap, verbatim or lightly edited.

The measure is the share of an evaluation prompt's word n-grams that occur close together in the text. Trigrams and a
share of 0.6 find a prompt of a dozen words after a word or two were exchanged, and one that was put into a longer
text; the 13-grams that are used for pretraining corpora (Brown et al., 2020, appendix C) would miss either. In a short
prompt a few common words are most of it ("how do I make ..."): it is held where it stands in the text word for word, or
where the whole text is nearly that prompt. One of fewer words than an n-gram counts where the text is that prompt.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from attrs import field, frozen

from tutelage.data.similarity import jaccard, letter_groups, normalised

SHORT = 8
"""A prompt of fewer n-grams is short."""
NEARLY = 0.7
"""Jaccard similarity of letter groups from which a text is nearly a short prompt."""


@frozen
class Overlap:
    """An evaluation prompt that a text holds."""

    prompt: str
    source: str
    """The evaluation set that it belongs to."""
    share: float
    """How much of it the text holds; 1 for a verbatim copy."""


@frozen
class EvaluationPrompts:
    """The evaluation prompts, indexed by n-gram. Made by ``index``."""

    n: int
    share: float
    prompts: tuple[tuple[str, str], ...]
    """(prompt, source)"""
    sizes: tuple[int, ...]
    """Number of different n-grams of each."""
    by_gram: Mapping[tuple[str, ...], tuple[int, ...]] = field(factory=dict)
    whole: Mapping[tuple[str, ...], int] = field(factory=dict)
    """All prompts by their words."""

    def find(self, text: str) -> Overlap | None:
        """The evaluation prompt that ``text`` holds most of, where that is at least ``share``; otherwise None."""
        words = _words(text)
        if (number := self.whole.get(words)) is not None:
            return Overlap(*self.prompts[number], 1.0)
        overlaps = [(held, -number) for number, held in self._held(text, words) if held >= self.share]
        if not overlaps:
            return None
        held, number = max(overlaps)
        return Overlap(*self.prompts[-number], round(held, 4))

    def _held(self, text: str, words: tuple[str, ...]) -> Iterator[tuple[int, float]]:
        """Evaluation prompts by number, each with the largest share of it that stands close together in the text."""
        places: dict[int, list[tuple[int, tuple[str, ...]]]] = defaultdict(list)
        for place, gram in enumerate(_grams(words, self.n)):
            for number in self.by_gram.get(gram, ()):
                places[number].append((place, gram))
        for number, found in places.items():
            size = self.sizes[number]
            held = _most_within(found, 2 * (size + self.n)) / size
            yield number, held if held == 1 or size >= SHORT else self._nearly(text, number)

    def _nearly(self, text: str, number: int) -> float:
        """How similar the whole text is to a short prompt; 0 where that is not enough."""
        groups = (letter_groups(normalised(one)) for one in (text, self.prompts[number][0]))
        similarity = jaccard(*groups)
        return similarity if similarity >= max(NEARLY, self.share) else 0.0


def index(prompts: Iterable[tuple[str, str]], n: int = 3, share: float = 0.6) -> EvaluationPrompts:
    """Index evaluation prompts, given as (prompt, name of its set), to look texts up in.

    ``n`` is the words of an n-gram, ``share`` the least share of a prompt's n-grams that is an overlap.
    """
    known = tuple(dict(prompts).items())
    by_gram: dict[tuple[str, ...], list[int]] = defaultdict(list)
    sizes = []
    for number, (prompt, _) in enumerate(known):
        grams = set(_grams(_words(prompt), n))
        sizes.append(len(grams))
        for gram in grams:
            by_gram[gram].append(number)
    whole = {_words(prompt): number for number, (prompt, _) in enumerate(known)}
    return EvaluationPrompts(
        n, share, known, tuple(sizes), {gram: tuple(numbers) for gram, numbers in by_gram.items()}, whole
    )


def _words(text: str) -> tuple[str, ...]:
    """Words as they are compared; where a script puts no spaces between words, each of its letters is one."""
    spaced = "".join(f" {letter} " if _has_no_spaces(letter) else letter for letter in normalised(text))
    return tuple(spaced.split())


def _has_no_spaces(letter: str) -> bool:
    return letter > "\u0e00" and unicodedata.name(letter, "").startswith(("CJK", "HIRAGANA", "KATAKANA", "THAI"))


def _grams(words: tuple[str, ...], n: int) -> list[tuple[str, ...]]:
    return [words[start : start + n] for start in range(len(words) - n + 1)]


def _most_within(found: list[tuple[int, tuple[str, ...]]], width: int) -> int:
    """The most different n-grams within ``width`` neighbouring places; the list is in the order of places."""
    inside: Counter[tuple[str, ...]] = Counter()
    first = most = 0
    for place, gram in found:
        inside[gram] += 1
        while found[first][0] <= place - width:
            leaving = found[first][1]
            inside[leaving] -= 1
            if not inside[leaving]:
                del inside[leaving]
            first += 1
        most = max(most, len(inside))
    return most
