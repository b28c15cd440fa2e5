"""Packed training on a GPU: the varlen kernel and half precision. Skipped without a GPU.

On a GPU machine: ``python -m pytest tests/plugins/transformers/test_packing_gpu.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

from stock_training import Pair, write_ragged_examples, write_ragged_pairs  # noqa: E402

from tutelage.objectives import Dpo, Lora, Objective, Sft  # noqa: E402
from tutelage_transformers.attention import packed  # noqa: E402
from tutelage_transformers.training import packing  # noqa: E402

LOSS_TOLERANCE = 2e-2
"""Relative tolerance of a loss in bfloat16: both sides round, but at different places."""
GRADIENT_TOLERANCE = 5e-2
"""Tolerance of all gradients together in bfloat16: the distance of the two vectors relative to their length."""
LORA = Lora(r=8, alpha=16, dropout=0.0)


@pytest.mark.parametrize("size", [16, 64, 80, 128])
@pytest.mark.parametrize("shared", [None, [0, 0, 0, 63, 1, 0]])
def test_the_varlen_kernel_computes_attention_sequence_by_sequence(size: int, shared: list[int] | None) -> None:
    torch.manual_seed(0)
    plan = packing.plan([100, 70, 1, 64, 80, 1], 100, shared)
    plan = {name: value.cuda() if hasattr(value, "cuda") else value for name, value in plan.items()}
    tokens = len(plan["tokens"])
    exact = [torch.randn(1, heads, tokens, size, device="cuda", requires_grad=True) for heads in (4, 2, 2)]
    rounded = [states.detach().bfloat16().requires_grad_() for states in exact]
    results = [packed.attend(None, q, k, v, None, packing=plan)[0] for q, k, v in (exact, rounded)]
    assert results[1].dtype == torch.bfloat16
    direction = torch.randn_like(results[0])
    for result in results:
        (result * direction.to(result.dtype)).sum().backward()
    assert_near(results[1], results[0])
    for precise, half in zip(exact, rounded, strict=True):
        assert_near(half.grad, precise.grad)


def assert_near(rounded: Any, exact: Any) -> None:
    assert (rounded.float() - exact).norm() < 1e-2 * exact.norm()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "objective", [Dpo(batch_size=4, lora=LORA), Dpo(batch_size=4), Sft(batch_size=4, lora=LORA), Sft(batch_size=4)]
)
def test_in_bfloat16_packed_training_equals_trls_within_rounding(
    base: Path, tmp_path: Path, objective: Objective, checkpointing: bool
) -> None:
    write = write_ragged_examples if isinstance(objective, Sft) else write_ragged_pairs
    file = write(tmp_path / "examples.jsonl")
    pair = Pair(base, None, objective, file, tmp_path, device="cuda", gradient_checkpointing=checkpointing)
    ours, stock = pair.losses(slice(0, 6))
    assert float(ours) == pytest.approx(float(stock), rel=LOSS_TOLERANCE)
    gradients = [flat_gradient(trainer.model) for trainer in pair.both()]
    assert (gradients[0] - gradients[1]).norm() < GRADIENT_TOLERANCE * gradients[1].norm()


def flat_gradient(model: Any) -> Any:
    return torch.cat([weight.grad.float().flatten() for weight in model.parameters() if weight.grad is not None])


def test_a_small_model_is_trained_a_whole_batch_at_once_without_checkpointing(base: Path, tmp_path: Path) -> None:
    from tutelage_transformers.training import fitting

    file = write_ragged_pairs(tmp_path / "examples.jsonl")
    pair = Pair(base, None, Dpo(batch_size=4, lora=LORA), file, tmp_path, device="cuda")
    assert pair.ours.args.per_device_train_batch_size == 4
    assert not pair.ours.args.gradient_checkpointing
    assert 0 < fitting.device_memory(torch.device("cuda:0")) <= torch.cuda.get_device_properties(0).total_memory
