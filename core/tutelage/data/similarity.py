"""Search for exact and near duplicates among many texts; time and memory grow linearly with their number.

Two texts are near duplicates if the sets of their letter groups (four letters each, after ``normalised``) have a
Jaccard similarity of at least the threshold. MinHash signatures (Broder, 1997; computed by datasketch) are divided into
bands. Texts that share a band are compared exactly, so there are no false positives. At the default threshold of 0.7, a
pair with this similarity is found with probability 0.92, a pair with similarity 0.8 with probability 0.998.

datasketch's own index is not used. It keeps a set of keys for each bucket of each band, which takes 5 GB or more for a
million texts, and many texts of the same form fall into one bucket, in which the number of comparisons grows
quadratically. Here a bucket keeps only its first text, so that there is at most one comparison per band.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice

from attrs import frozen

LETTERS = 4
"""Number of letters of a letter group."""
BANDS, ROWS = 20, 6
"""Number of bands, and of rows per band. A pair with similarity s shares a band with probability
1 - (1 - s ** ROWS) ** BANDS: 0.92 at 0.7, 0.998 at 0.8."""
_BLOCK = 256
"""Number of texts whose signatures are computed at once."""
_GOLDEN = 0x9E3779B97F4A7C15
"""2 ** 64 divided by the golden ratio, odd: the usual multiplier of a multiplicative hash (Knuth, TAOCP, 6.4)."""


@frozen
class Similar:
    """The earlier text that a text repeats."""

    text: str
    similarity: float
    """Jaccard similarity; 1 if the texts differ only in case, spaces and punctuation."""


class SeenTexts:
    """A collection of texts that finds, for a new text, the earlier text that it repeats."""

    def __init__(self, threshold: float = 0.7) -> None:
        """``threshold`` is a Jaccard similarity in (0, 1]; at 1 only exact duplicates are found."""
        self.threshold = threshold
        self._texts: list[str] = []
        self._exact: dict[str, int] = {}
        self._bands: tuple[dict[int, int], ...] = tuple({} for _ in range(BANDS))

    def remember(self, texts: Iterable[str]) -> None:
        """Add texts that new texts must not repeat."""
        for _ in self.admit(texts):
            pass

    def admit(self, texts: Iterable[str]) -> Iterator[tuple[str, Similar | None]]:
        """Yield each text with the earlier text that it repeats, or None. A text that repeats none is added.

        The iterator is lazy; it reads at most 256 texts ahead.
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
    """Return the form of a text that is compared: case-folded letters and digits, single spaces between words."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(letter if letter.isalnum() else " " for letter in folded).split())


def letter_groups(plain: str) -> set[str]:
    """Return the letter groups of a normalised text; a text shorter than one group is itself the only group."""
    return {plain[start : start + LETTERS] for start in range(max(1, len(plain) - LETTERS + 1))}


def jaccard(one: set[str], other: set[str]) -> float:
    """Return the size of the intersection divided by the size of the union (Jaccard, 1901)."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def _band_keys(texts: list[str]) -> list[list[int]]:
    """The bands of each text's MinHash signature, each as one number; the texts are normalised."""
    import numpy
    from datasketch import MinHash

    encoded = ([group.encode() for group in letter_groups(text)] for text in texts)
    sketches = MinHash.generator(encoded, num_perm=BANDS * ROWS, seed=1, scheme="affine32")
    signatures = numpy.array([sketch.hashvalues for sketch in sketches], dtype=numpy.uint64)
    # Equal bands give equal numbers. Different bands collide with probability 2 ** -64, which costs only a comparison.
    weights = numpy.array([pow(_GOLDEN, row, 2**64) for row in range(1, ROWS + 1)], dtype=numpy.uint64)
    keys: list[list[int]] = (signatures.reshape(len(texts), BANDS, ROWS) * weights).sum(axis=2).tolist()
    return keys
