"""Batches of a training that several processes share: each step has the rows of a training by one process.

accelerate would divide the rows into batches of one process and distribute these. The last step of an epoch, which has
fewer rows, would then be filled with rows of the first step. Here the rows of each step are dealt out so that all
processes compute about as many tokens, because each step waits for the slowest one. If the number of rows is not a
multiple of the processes, rows of the same step are counted twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from math import ceil
from typing import Any, TypeVar

from attrs import frozen

T = TypeVar("T")


@frozen
class SharedBatches:
    """The batch sampler of one process."""

    order: Any
    """A sampler of row indices with ``set_epoch``, the same in every process."""
    tokens: Sequence[int]
    """Number of tokens of each row."""
    step_rows: int
    """Number of rows of a step, over all processes."""
    device_rows: int
    """Number of rows that one device holds at once."""
    processes: int
    rank: int

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; the trainer calls it before each one."""
        self.order.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        rows = iter(self.order)
        while step := list(islice(rows, self.step_rows)):
            filled = list(islice(cycle(step), self._share(len(step)) * self.processes))
            mine = dealt(filled, self.tokens, self.processes)[self.rank]
            yield from (mine[start : start + self.device_rows] for start in range(0, len(mine), self.device_rows))

    def __len__(self) -> int:
        steps, rest = divmod(len(self.order), self.step_rows)
        return steps * self._batches(self.step_rows) + self._batches(rest)

    def _share(self, rows: int) -> int:
        return ceil(rows / self.processes)

    def _batches(self, rows: int) -> int:
        return ceil(self._share(rows) / self.device_rows)


def dealt(rows: Sequence[int], tokens: Sequence[int], processes: int) -> list[list[int]]:
    """Deal out the rows of a step: all processes get the same number of rows, and about the same number of tokens.

    In each round, the process with the fewest tokens gets the longest of the next rows. The number of rows is a
    multiple of ``processes``. Returns the rows of each process, longest first.
    """
    shares: list[list[int]] = [[] for _ in range(processes)]
    ordered = sorted(rows, key=tokens.__getitem__, reverse=True)
    for start in range(0, len(ordered), processes):
        fewest_first = sorted(shares, key=lambda share: sum(tokens[row] for row in share))
        for row, share in zip(ordered[start : start + processes], fewest_first, strict=True):
            share.append(row)
    return shares


def batches_of_rank(batches: Sequence[T], processes: int, rank: int) -> Iterator[tuple[T, bool]]:
    """Yield the batches of one process, and whether the result counts.

    All processes go through the same number of batches, because they may share layers (FSDP). If the number is not a
    multiple of the processes, those without a batch of their own repeat the last one, and its result does not count.
    """
    for start in range(0, len(batches), processes):
        yield batches[min(start + rank, len(batches) - 1)], start + rank < len(batches)


def shared_loader(trainer: Any, tokens: Sequence[int]) -> Any:
    """Return the data loader of one of several processes, in place of the one that accelerate would prepare.

    ``tokens`` is the number of tokens of each row.
    """
    from torch.utils.data import DataLoader, RandomSampler

    class Loader(DataLoader):  # type: ignore[misc]  # torch is not followed
        def set_epoch(self, epoch: int) -> None:
            self.batch_sampler.set_epoch(epoch)

    arguments = trainer.args
    order = trainer._get_train_sampler(trainer.train_dataset)
    if isinstance(order, RandomSampler):
        order = _seeded(trainer.train_dataset, arguments.seed)
    rows = arguments.per_device_train_batch_size
    step_rows = rows * arguments.gradient_accumulation_steps * arguments.world_size
    return Loader(
        trainer._remove_unused_columns(trainer.train_dataset, description="training"),
        batch_sampler=SharedBatches(order, tokens, step_rows, rows, arguments.world_size, arguments.process_index),
        collate_fn=trainer.data_collator,
        pin_memory=arguments.dataloader_pin_memory,
    )


def _seeded(dataset: Any, seed: int) -> Any:
    """Return the random order that accelerate gives to a training by one process."""
    from accelerate.data_loader import SeedableRandomSampler

    return SeedableRandomSampler(dataset, data_seed=seed)
