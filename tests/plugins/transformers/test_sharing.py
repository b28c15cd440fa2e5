"""The rows of a step, dealt out to the processes of a training."""

from __future__ import annotations

import random
from itertools import chain

import pytest

from tutelage_transformers.training.batching import BucketSampler
from tutelage_transformers.training.sharing import SharedBatches, batches_of_rank, dealt


def test_each_step_has_the_rows_of_a_training_by_one_process() -> None:
    from torch.utils.data import SequentialSampler

    def steps(processes: int, device_rows: int) -> list[list[int]]:
        order = SequentialSampler(range(22))
        shares = [SharedBatches(order, [1] * 22, 8, device_rows, processes, rank) for rank in range(processes)]
        batches = [list(share) for share in shares]
        assert all(len(share) == len(list(share)) for share in shares)
        assert len({len(one) for one in batches}) == 1
        assert all(len(row) <= device_rows for one in batches for row in one)
        together = [sorted(row for one in batches for row in one[number]) for number in range(len(batches[0]))]
        each = 8 // processes // device_rows
        return [sorted(chain(*together[start : start + each])) for start in range(0, len(together), each)]

    assert steps(1, 8) == steps(2, 4) == steps(2, 2) == [[*range(8)], [*range(8, 16)], [*range(16, 22)]]
    assert steps(4, 2) == [[*range(8)], [*range(8, 16)], [16, 16, 17, 17, 18, 19, 20, 21]]


def test_the_processes_of_a_step_have_as_many_rows_and_nearly_as_many_tokens() -> None:
    """Rows dealt out one by one made each step wait for the process with the longest rows."""
    draw = random.Random(0)
    for processes in (2, 4, 8):
        tokens = [draw.randint(50, 1000) for _ in range(64)]
        shares = dealt(range(64), tokens, processes)
        assert sorted(chain(*shares)) == [*range(64)]
        assert {len(share) for share in shares} == {64 // processes}
        sums = [sum(tokens[row] for row in share) for share in shares]
        assert max(sums) <= 1.02 * sum(sums) / processes


def test_all_processes_go_through_the_same_number_of_reference_batches() -> None:
    batches = [[0], [1], [2]]
    shares = [list(batches_of_rank(batches, 2, rank)) for rank in range(2)]
    assert shares == [[([0], True), ([2], True)], [([1], True), ([2], False)]]


@pytest.mark.parametrize("rows", [1, 7, 8, 21])
def test_the_number_of_a_processes_batches_is_that_of_the_batches_it_yields(rows: int) -> None:
    for rank in range(2):
        order = BucketSampler([1] * rows, 4, 0)
        batches = SharedBatches(order, [1] * rows, step_rows=8, device_rows=2, processes=2, rank=rank)
        assert len(batches) == len(list(batches))


def test_all_processes_have_the_order_of_the_epoch() -> None:
    def order_of_epoch(epoch: int) -> list[int]:
        shares = [
            SharedBatches(BucketSampler([1] * 16, 4, 0), [1] * 16, 8, 2, processes=2, rank=rank) for rank in range(2)
        ]
        for share in shares:
            share.set_epoch(epoch)
        return [row for together in zip(*shares, strict=True) for batch in zip(*together, strict=True) for row in batch]

    sampler = BucketSampler([1] * 16, 4, 0)
    sampler.set_epoch(3)
    assert order_of_epoch(3) == list(sampler)
    assert order_of_epoch(0) != order_of_epoch(3)
