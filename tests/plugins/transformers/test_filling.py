"""Packed batches that are filled up to one of few sizes: the same results and gradients."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from stock_training import Pair, write_ragged_pairs

from tutelage.objectives import Dpo
from tutelage_transformers.training import packing
from tutelage_transformers.training.filling import Size, fill, size_of

torch = pytest.importorskip("torch")

LENGTHS, WIDTH = [9, 5, 1, 7, 8, 3], 9
SHARED = [0, 0, 0, 6, 1, 0]


def states(model: Any, ids: Any, plan: dict[str, Any]) -> Any:
    """The hidden states of a packed batch; the forward pass of the model's class is the one below ``pack``."""
    backbone = model.base_model
    return (
        type(backbone)
        .forward(backbone, input_ids=ids[None], position_ids=plan["positions"][None], packing=plan, use_cache=False)
        .last_hidden_state[0]
    )


@pytest.mark.parametrize("token_sizes", [4, 8])
@pytest.mark.parametrize("shared", [None, SHARED])
def test_a_filled_batch_has_the_states_and_gradients_of_the_batch(
    base: Path, tmp_path: Path, shared: list[int] | None, token_sizes: int
) -> None:
    model = Pair(base, None, Dpo(batch_size=4), write_ragged_pairs(tmp_path / "pairs.jsonl"), tmp_path).ours.model
    model.eval()
    plan = packing.plan(LENGTHS, WIDTH, shared)
    torch.manual_seed(0)
    ids = torch.randint(0, 50, (len(plan["tokens"]),))
    upstream = torch.randn(len(ids), model.config.hidden_size)
    found = []
    size = size_of(plan, max(LENGTHS), token_sizes)
    assert size.tokens > len(ids)
    for batch in ((ids, plan), fill(ids, plan, size)):
        result = states(model, *batch)[: len(ids)]
        weights = [weight for weight in model.base_model.parameters() if weight.requires_grad]
        found.append((result.detach(), torch.autograd.grad((result * upstream).sum(), weights)))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)
    for plain, filled in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(plain, filled, atol=1e-5)


@pytest.mark.parametrize("token_sizes", [4, 8])
def test_a_filled_batch_has_the_shapes_and_numbers_of_its_size(token_sizes: int) -> None:
    shapes: dict[Size, Any] = {}
    draw = random.Random(0)
    for _ in range(200):
        lengths = [draw.randint(20, 200) for _ in range(8)]
        shared = [0] * 4 + [draw.randint(0, min(lengths[row], lengths[row + 4]) - 1) for row in range(4)]
        plan = packing.plan(lengths, max(lengths), shared)
        size = size_of(plan, 200, token_sizes)
        ids, filled = fill(torch.arange(len(plan["tokens"])), plan, size)
        shape = {name: value.shape if hasattr(value, "shape") else value for name, value in filled.items()}
        assert shapes.setdefault(size, (ids.shape, shape)) == (ids.shape, shape)
        assert int(filled["starts"].diff().max()) <= size.longest
        assert int(filled["key_starts"].diff().max()) <= size.longest
        assert len(ids) <= 1.25 * len(plan["tokens"])
    assert len(shapes) <= 24


def test_half_as_many_sizes_have_half_as_many_captures() -> None:
    """Of the pairs of a training that are sorted by length: their prompts are about as long, their answers are not."""
    draw = random.Random(0)
    batches = []
    for number in range(100):
        prompts = [draw.randint(25, 60) for _ in range(16)]
        lengths = [prompt + 20 + 2 * number + draw.randint(0, 20) for prompt in prompts * 2]
        batches.append(packing.plan(lengths, max(lengths), [0] * 16 + [prompt - 1 for prompt in prompts]))
    fine, coarse = ({size_of(batch, 300, sizes) for batch in batches} for sizes in (8, 4))
    assert len(coarse) <= 0.6 * len(fine)
    assert len(coarse) == len({size.tokens for size in coarse}), "the copies of a batch need no capture of their own"


def test_sizes_of_a_batch_without_shared_tokens_have_no_copies() -> None:
    size = size_of(packing.plan([100, 300], 300), 300)
    assert size == Size(tokens=448, copies=0, sequences=2 + 8, longest=300)
