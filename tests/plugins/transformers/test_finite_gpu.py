"""Numbers that are not finite on a GPU: loss scaling in float16, and NaN in a captured step. Skipped without a GPU.

On a GPU machine: ``python -m pytest tests/plugins/transformers/test_finite_gpu.py``.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

from tutelage.context import Context  # noqa: E402
from tutelage.errors import StageError  # noqa: E402
from tutelage.objectives import Lora, Sft  # noqa: E402
from tutelage.records import Model, Prompt, Sampling  # noqa: E402
from tutelage_transformers.generation.answering import candidates  # noqa: E402
from tutelage_transformers.models.loading import read, release_all  # noqa: E402
from tutelage_transformers.settings import TransformersSettings  # noqa: E402
from tutelage_transformers.training.step import _without_cudnn_attention, train  # noqa: E402


def changed(base: Path, folder: Path, change: Any) -> Model:
    """Write the base model with changed weights; returns the model of the folder."""
    loaded = read(Model("transformers", str(base)), TransformersSettings(device="cpu"))
    change(loaded)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return Model("transformers", str(folder))


@pytest.mark.parametrize("lora", [None, Lora(r=4, alpha=8, dropout=0.0)], ids=["full", "lora"])
def test_steps_that_the_loss_scaling_of_float16_skips_are_marked_and_have_no_gradient_norm(
    base: Path, sft_file: Path, tmp_path: Path, lora: Lora | None
) -> None:
    """The head is 30 times larger than usual, so that gradients overflow until the scale was halved a few times."""
    start = changed(base, tmp_path / "start", lambda one: one.model.get_output_embeddings().weight.data.mul_(30))
    (tmp_path / "output").mkdir()
    rows: list[Any] = []
    settings = TransformersSettings(dtype="float16", checkpoint_minutes=0)
    objective = Sft(epochs=4, learning_rate=1e-2, batch_size=4, lora=lora)
    context = Context(settings=settings, scratch=tmp_path, log=rows.append)
    train(start, None, objective, sft_file, tmp_path / "output", context)
    json.dumps(rows, allow_nan=False)
    skipped = [row["step"] for row in rows if "skipped_steps" in row]
    assert skipped == list(range(1, len(skipped) + 1)) and 2 <= len(skipped) <= 8
    assert all("grad_norm" not in row for row in rows[: len(skipped)])
    assert all(math.isfinite(row["grad_norm"]) for row in rows[len(skipped) :])
    assert rows[-1]["loss"] < rows[0]["loss"]


@pytest.mark.parametrize("temperature", [0.0, 0.7], ids=["greedy", "sampled"])
def test_logits_that_become_nan_in_a_captured_step_are_an_error(base: Path, tmp_path: Path, temperature: float) -> None:
    """The prompt is sound; the first new token overflows, so that NaN appears in a captured step."""

    def overflow_after_the_prompt(one: Any) -> None:
        one.model.get_output_embeddings().bias.data[9] = 1e6
        one.model.get_input_embeddings().weight.data[9] = 1e38

    model = changed(base, tmp_path / "start", overflow_after_the_prompt)
    context = Context(settings=TransformersSettings(engine="paged"))
    try:
        with pytest.raises(StageError, match="its logits are NaN or infinite after 1 new tokens"):
            list(candidates(model, [Prompt("sort the words apple dog")], 2, Sampling(temperature, 1.0, 6), context))
    finally:
        release_all()


def test_queries_that_see_no_key_have_finite_gradients_in_a_training() -> None:
    """The padding of short rows beyond a window of 512, as in the SFT of Gemma 3 270M: cuDNN's gradient was NaN."""
    lengths = [138, 576, 122, 563, 292, 134, 523, 92, 253, 569, 50, 153, 557, 516, 557, 540]
    width = max(lengths)
    position = torch.arange(width, device="cuda")
    distance = position[:, None] - position
    real = position < torch.tensor(lengths, device="cuda")[:, None]
    mask = ((distance >= 0) & (distance < 512) & real[:, None])[:, None]
    assert not mask.any(-1).all(), "some queries see no key"
    states = [
        torch.randn(len(lengths), 4, width, 256, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for _ in range(3)
    ]
    with _without_cudnn_attention():
        result = torch.nn.functional.scaled_dot_product_attention(states[0], states[1], states[2], attn_mask=mask)
        loss = (result * torch.randn_like(result) * real[:, None, :, None]).sum()
        gradients = torch.autograd.grad(loss, states)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
