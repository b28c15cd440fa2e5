"""Garbage collection is paused for a block, and afterwards it is as it was."""

from __future__ import annotations

import gc

import pytest

from tutelage_transformers.models.garbage_collection import without_garbage_collection


def test_collection_is_paused_in_the_block_and_restored_after_an_error() -> None:
    assert gc.isenabled()
    with without_garbage_collection():
        assert not gc.isenabled()
        with without_garbage_collection():
            pass
        assert not gc.isenabled(), "an inner block does not end the pause of the outer one"
    assert gc.isenabled()
    with pytest.raises(ImportError), without_garbage_collection():
        raise ImportError
    assert gc.isenabled()
