import random
from collections.abc import Iterable

import pytest

from tutelage_transformers.training.batching import BucketSampler

LENGTHS = random.Random(0).choices(range(5, 81), k=203)


def batches_of(sampler: BucketSampler) -> list[list[int]]:
    rows = list(sampler)
    return [rows[start : start + sampler.batch_size] for start in range(0, len(rows), sampler.batch_size)]


def padded(batches: Iterable[list[int]]) -> int:
    return sum(max(LENGTHS[row] for row in batch) * len(batch) for batch in batches)


def test_every_row_comes_once_an_epoch_and_epochs_differ() -> None:
    sampler = BucketSampler(LENGTHS, 16, seed=3)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == sorted(second) == list(range(203))
    assert first != second


@pytest.mark.parametrize("seed", range(5))
def test_batches_pad_less_than_random_ones(seed: int) -> None:
    rows = list(range(203))
    random.Random(seed).shuffle(rows)
    at_random = [rows[start : start + 16] for start in range(0, 203, 16)]
    assert padded(batches_of(BucketSampler(LENGTHS, 16, seed))) < 0.8 * padded(at_random)


def test_long_batches_have_no_preferred_position() -> None:
    firsts = [max(LENGTHS[row] for row in batches_of(BucketSampler(LENGTHS, 16, seed))[0]) for seed in range(40)]
    assert min(firsts) < 30 < 60 < max(firsts)


def test_the_same_seed_gives_the_same_order() -> None:
    assert list(BucketSampler(LENGTHS, 16, 5)) == list(BucketSampler(LENGTHS, 16, 5))
    assert list(BucketSampler(LENGTHS, 16, 5)) != list(BucketSampler(LENGTHS, 16, 6))


def test_fewer_rows_than_a_batch_are_one_batch() -> None:
    assert sorted(BucketSampler([3, 1, 2], 16, 0)) == [0, 1, 2]
