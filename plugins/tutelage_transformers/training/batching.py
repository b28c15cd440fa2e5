"""The order of DPO's pairs: random, but with pairs of similar length in each batch.

A batch is padded to its longest row. Batches drawn at random are half padding. So the rows are shuffled, sorted by
length within windows of a few batches and divided into batches, and the batches are shuffled. Every row occurs once per
epoch, and no batch has a preferred position. SFT keeps its random order: sorting by length would separate instructions
from judgements, and batches of one kind train M1 measurably worse.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_ANSWERS = ("chosen_ids", "rejected_ids", "completion_ids", "KL_completion_ids")
"""Columns with an answer to the prompt: of pairs, and of labelled answers."""
WINDOW = 8
"""Batches that are sorted together. A larger window needs less padding, and makes batches more uniform."""


def row_length(row: Mapping[str, Any]) -> int:
    """Return the number of tokens of the longer sequence of a pair, or of a labelled answer, prompt included."""
    return len(row["prompt_ids"]) + max(len(row[side]) for side in _ANSWERS if side in row)


def sequence_length(row: Mapping[str, Any]) -> int:
    """Return the number of tokens of the longest sequence of a row."""
    return len(row["input_ids"]) if "input_ids" in row else row_length(row)


def tokens_held(row: Mapping[str, Any], packed: bool) -> int:
    """Return the number of tokens that a device computes for a row.

    For a pair these are both sequences: padded to one length or, if packed, with the prompt counted once.
    """
    if "input_ids" in row:
        return len(row["input_ids"])
    if "completion_ids" in row:
        return row_length(row)
    if packed:
        return len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])
    return 2 * row_length(row)


def by_rows(lengths: Sequence[int], rows: int) -> list[list[int]]:
    """Return row indices, shortest first, in batches of ``rows`` rows."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [order[start : start + rows] for start in range(0, len(order), rows)]


def by_tokens(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Return row indices, shortest first, in batches of at most ``tokens`` tokens, or of one row."""
    batches: list[list[int]] = [[]]
    taken = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches[-1] and taken + lengths[row] > tokens:
            batches.append([])
            taken = 0
        batches[-1].append(row)
        taken += lengths[row]
    return batches


class BucketSampler:
    """Row indices for a data loader with batches of ``batch_size``; each epoch has another order."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; the trainer calls it before each one."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        draw = random.Random(f"{self.seed}/{self.epoch}")
        rows = list(range(len(self.lengths)))
        draw.shuffle(rows)
        window = self.batch_size * WINDOW
        for start in range(0, len(rows), window):
            rows[start : start + window] = sorted(rows[start : start + window], key=self.lengths.__getitem__)
        batches = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        short = batches.pop() if len(batches[-1]) < self.batch_size else []
        draw.shuffle(batches)
        for batch in batches:
            yield from batch
        yield from short  # last, because the loader divides the indices into batches of equal size
