"""Detection of evaluation prompts in a text by word n-gram overlap, verbatim or with small edits.

The measure is the share of an evaluation prompt's word n-grams that occur close together in the text. Trigrams and a
share of 0.6 find a prompt of about twelve words in which one or two words were replaced, or that is part of a longer
text. The 13-grams that are used for pretraining corpora (Brown et al., 2020, appendix C) would miss both.

A short prompt consists mostly of common words ("how do I make ..."), so n-gram overlap is not enough. It counts as
contained only if it occurs verbatim in the text, or if the whole text is nearly equal to it. A prompt with fewer words
than an n-gram counts only if the text is equal to it.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from attrs import field, frozen

from tutelage.data.similarity import jaccard, letter_groups, normalised

SHORT = 8
"""A prompt with fewer n-grams is short."""
NEARLY = 0.7
"""Lowest Jaccard similarity of letter groups at which a text is nearly equal to a short prompt."""


@frozen
class Overlap:
    """An evaluation prompt that a text contains."""

    prompt: str
    source: str
    """Name of the prompt's evaluation set."""
    share: float
    """Share of the prompt that the text contains; 1 for a verbatim copy."""


@frozen
class EvaluationPrompts:
    """Evaluation prompts, indexed by n-gram. Made by ``index``."""

    n: int
    """Number of words of an n-gram."""
    share: float
    """Lowest share of a prompt's n-grams that counts as an overlap."""
    prompts: tuple[tuple[str, str], ...]
    """(prompt, source) of each prompt."""
    sizes: tuple[int, ...]
    """Number of distinct n-grams of each prompt."""
    by_gram: Mapping[tuple[str, ...], tuple[int, ...]] = field(factory=dict)
    """Indices of the prompts that have an n-gram."""
    whole: Mapping[tuple[str, ...], int] = field(factory=dict)
    """Indices of the prompts by their words."""
    _letters: dict[int, set[str]] = field(factory=dict, init=False, eq=False, repr=False)
    """Letter groups of the short prompts that a text was compared with."""

    def find(self, text: str) -> Overlap | None:
        """Return the evaluation prompt of which ``text`` contains the largest share; None if it is below ``share``."""
        words = _words(text)
        if (number := self.whole.get(words)) is not None:
            return Overlap(*self.prompts[number], 1.0)
        overlaps = [(held, -number) for number, held in self._held(text, words) if held >= self.share]
        if not overlaps:
            return None
        held, number = max(overlaps)
        return Overlap(*self.prompts[-number], round(held, 4))

    def _held(self, text: str, words: tuple[str, ...]) -> Iterator[tuple[int, float]]:
        """Indices of evaluation prompts, each with its largest share that occurs close together in the text."""
        occurrences: dict[int, list[tuple[int, tuple[str, ...]]]] = defaultdict(list)
        for position, gram in enumerate(_grams(words, self.n)):
            for number in self.by_gram.get(gram, ()):
                occurrences[number].append((position, gram))
        letters: set[str] | None = None
        for number, found in occurrences.items():
            size = self.sizes[number]
            held = _most_within(found, 2 * (size + self.n)) / size
            if held != 1 and size < SHORT:
                letters = letters if letters is not None else _letters_of(text)
                held = self._nearly(letters, number)
            yield number, held

    def _nearly(self, letters: set[str], number: int) -> float:
        """Similarity of the whole text, given by its letter groups, to a short prompt; 0 if it is too low."""
        if number not in self._letters:
            self._letters[number] = _letters_of(self.prompts[number][0])
        similarity = jaccard(letters, self._letters[number])
        return similarity if similarity >= max(NEARLY, self.share) else 0.0


def _letters_of(text: str) -> set[str]:
    return letter_groups(normalised(text))


def index(prompts: Iterable[tuple[str, str]], n: int = 3, share: float = 0.6) -> EvaluationPrompts:
    """Index evaluation prompts, given as (prompt, name of its set).

    ``n`` is the number of words of an n-gram; ``share`` is the lowest share of a prompt's n-grams that counts as an
    overlap.
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
    """The words that are compared. In a script without spaces between words, each letter is a word."""
    spaced = "".join(f" {letter} " if _has_no_spaces(letter) else letter for letter in normalised(text))
    return tuple(spaced.split())


def _has_no_spaces(letter: str) -> bool:
    return letter > "\u0e00" and unicodedata.name(letter, "").startswith(("CJK", "HIRAGANA", "KATAKANA", "THAI"))


def _grams(words: tuple[str, ...], n: int) -> list[tuple[str, ...]]:
    return [words[start : start + n] for start in range(len(words) - n + 1)]


def _most_within(found: list[tuple[int, tuple[str, ...]]], width: int) -> int:
    """Largest number of distinct n-grams within ``width`` consecutive positions; ``found`` is sorted by position."""
    inside: Counter[tuple[str, ...]] = Counter()
    first = most = 0
    for position, gram in found:
        inside[gram] += 1
        while found[first][0] <= position - width:
            leaving = found[first][1]
            inside[leaving] -= 1
            if not inside[leaving]:
                del inside[leaving]
            first += 1
        most = max(most, len(inside))
    return most
