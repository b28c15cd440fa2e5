"""Who owns which page of the cache.

A page holds the keys and values of a few consecutive tokens. Whole pages of a prompt are kept under the tokens that
they hold and the page before them, so a prompt that begins as a running one does shares its pages: the n candidates of
one prompt, and every judgement under one rubric.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field, frozen

IDLE_PAGE = 0
"""Never given to a row: rows that have ended write there."""

_Key = tuple[int, tuple[int, ...]]
"""The page before (``IDLE_PAGE`` for none), and the tokens of this one."""


@frozen
class Placement:
    """The pages of one row."""

    pages: tuple[int, ...]
    """In the order of the row's tokens."""
    shared: int
    """Tokens at the row's start that an earlier row has read, or reads in the same pass."""


@define
class PagePool:
    """Pages 1 to ``pages - 1``, each of ``page_size`` tokens, free or shared by so many rows."""

    pages: int
    page_size: int
    _free: list[int] = field(init=False)
    _rows: dict[int, int] = field(init=False, factory=dict)
    """How many rows use a page."""
    _known: dict[_Key, int] = field(init=False, factory=dict)
    _keys: dict[int, _Key] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._free = list(range(self.pages - 1, IDLE_PAGE, -1))

    @property
    def free(self) -> int:
        """Pages that no row uses."""
        return len(self._free)

    def needed(self, tokens: int) -> int:
        """Pages of a row of so many tokens."""
        return -(-tokens // self.page_size)

    def place(self, prompt: Sequence[int], length: int) -> Placement | None:
        """Pages for a row that begins with ``prompt`` and grows to ``length`` tokens; None where too few are free.

        The last token of a prompt is never shared: reading it is what gives the row its first logits.
        """
        keys = [tuple(prompt[end - self.page_size : end]) for end in range(self.page_size, len(prompt), self.page_size)]
        pages: list[int] = []
        for key in keys:
            known = self._known.get((pages[-1] if pages else IDLE_PAGE, key))
            if known is None:
                break
            pages.append(known)
        shared = len(pages)
        if self.needed(length) - shared > self.free:
            return None
        pages += [self._free.pop() for _ in range(self.needed(length) - shared)]
        for page in pages:
            self._rows[page] = self._rows.get(page, 0) + 1
        for place, key in enumerate(keys[shared:], shared):
            self._remember(pages[place], (pages[place - 1] if place else IDLE_PAGE, key))
        return Placement(tuple(pages), shared * self.page_size)

    def release(self, placement: Placement) -> None:
        """Give a row's pages back; those that no other row uses are free, and forgotten."""
        for page in reversed(placement.pages):
            self._rows[page] -= 1
            if not self._rows[page]:
                del self._rows[page]
                if key := self._keys.pop(page, None):
                    del self._known[key]
                self._free.append(page)

    def _remember(self, page: int, key: _Key) -> None:
        self._known[key] = page
        self._keys[page] = key
