"""Exact and near duplicates among very many texts, in time and memory that grow linearly.

Two texts are near duplicates where the sets of their letter groups (of four, after ``normalised``) have a Jaccard
similarity of at least the threshold. MinHash signatures (Broder, 1997; computed by datasketch) are cut into bands, and
texts that share a band are compared exactly, so what is called a duplicate is one; a pair at the threshold itself is
found nine times in ten, one at 0.8 practically always.

datasketch's own index keeps a set of keys for each bucket of each band: 5 GB and more for a million texts, and on texts
that share a form, buckets whose comparison grows with the square of their number. Here each bucket remembers the first
text that fell into it: at most one comparison a band.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice

from attrs import frozen

LETTERS = 4
"""Length of a letter group."""
BANDS, ROWS = 20, 6
"""A pair of similarity s shares a band with probability 1 - (1 - s ** ROWS) ** BANDS: 0.92 at 0.7, 0.998 at 0.8."""
_BLOCK = 256
_GOLDEN = 0x9E3779B97F4A7C15
"""2 ** 64 over the golden ratio, odd: the usual multiplier of a multiplicative hash (Knuth, TAOCP 6.4)."""


@frozen
class Similar:
    """The earlier text that a text repeats."""

    text: str
    similarity: float
    """1 where they are equal but for case, spaces and punctuation."""


class SeenTexts:
    """Remembers texts, and says of a new one which earlier one it repeats."""

    def __init__(self, threshold: float = 0.7) -> None:
        """``threshold`` is a Jaccard similarity in (0, 1]; at 1 only exact duplicates are found."""
        self.threshold = threshold
        self._texts: list[str] = []
        self._exact: dict[str, int] = {}
        self._bands: tuple[dict[int, int], ...] = tuple({} for _ in range(BANDS))

    def remember(self, texts: Iterable[str]) -> None:
        """Take in texts that new ones must not repeat."""
        for _ in self.admit(texts):
            pass

    def admit(self, texts: Iterable[str]) -> Iterator[tuple[str, Similar | None]]:
        """Yield each text with the earlier one that it repeats, or None; a text that repeats none is remembered.

        Lazy: texts are drawn as results are, a few hundred ahead.
        """
        remaining = iter(texts)
        while block := list(islice(remaining, _BLOCK)):
            plain = [normalised(text) for text in block]
            for text, one, keys in zip(block, plain, _band_keys(plain), strict=True):
                similar = self._find(one, keys)
                if similar is None:
                    self._add(text, one, keys)
                yield text, similar

    def _find(self, plain: str, keys: list[int]) -> Similar | None:
        if (equal := self._exact.get(plain)) is not None:
            return Similar(self._texts[equal], 1.0)
        if self.threshold >= 1:
            return None
        groups = letter_groups(plain)
        for number in sorted({band[key] for band, key in zip(self._bands, keys, strict=True) if key in band}):
            similarity = jaccard(groups, letter_groups(normalised(self._texts[number])))
            if similarity >= self.threshold:
                return Similar(self._texts[number], similarity)
        return None

    def _add(self, text: str, plain: str, keys: list[int]) -> None:
        number = self._exact[plain] = len(self._texts)
        self._texts.append(text)
        for band, key in zip(self._bands, keys, strict=True):
            band.setdefault(key, number)


def normalised(text: str) -> str:
    """The text as it counts when two are compared: letters and digits in one case, single spaces between words."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(letter if letter.isalnum() else " " for letter in folded).split())


def letter_groups(plain: str) -> set[str]:
    """The groups of letters in a normalised text; a text shorter than one group is its own."""
    return {plain[start : start + LETTERS] for start in range(max(1, len(plain) - LETTERS + 1))}


def jaccard(one: set[str], other: set[str]) -> float:
    """Size of the intersection over size of the union (Jaccard, 1901)."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def _band_keys(texts: list[str]) -> list[list[int]]:
    """The bands of each normalised text's signature, each band as one number."""
    import numpy
    from datasketch import MinHash

    encoded = ([group.encode() for group in letter_groups(text)] for text in texts)
    sketches = MinHash.generator(encoded, num_perm=BANDS * ROWS, seed=1, scheme="affine32")
    signatures = numpy.array([sketch.hashvalues for sketch in sketches], dtype=numpy.uint64)
    # Equal bands give equal numbers; others do not, but for one chance in 2 ** 64, and texts are compared after all.
    weights = numpy.array([pow(_GOLDEN, row, 2**64) for row in range(1, ROWS + 1)], dtype=numpy.uint64)
    keys: list[list[int]] = (signatures.reshape(len(texts), BANDS, ROWS) * weights).sum(axis=2).tolist()
    return keys
