"""Which trainings are captured in CUDA graphs. ``test_captured_training_gpu.py`` does such trainings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from stock_training import Pair, write_ragged_examples

from tutelage.objectives import Lora, Sft
from tutelage_transformers.devices import selection
from tutelage_transformers.training import capturing

torch = pytest.importorskip("torch")

SFT = Sft(epochs=8, batch_size=4)
"""Of 12 examples: 24 batches."""


@pytest.fixture
def trainer_of(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Returns a packed trainer. Its device counts as an NVIDIA GPU."""
    monkeypatch.setattr(capturing, "is_nvidia", lambda device: True)

    def build(objective: Sft, **settings: Any) -> Any:
        return Pair(base, None, objective, write_ragged_examples(tmp_path / "rows.jsonl"), tmp_path, **settings).ours

    return build


def is_captured(trainer: Any, tokens: int = 50) -> bool:
    """Whether the steps are captured if each row has this number of tokens."""
    return capturing.is_worth_it(trainer, [tokens] * len(trainer.train_dataset))


def test_a_training_of_enough_batches_is_captured(trainer_of: Callable[..., Any]) -> None:
    assert is_captured(trainer_of(SFT))
    assert not is_captured(trainer_of(evolve(SFT, epochs=7)))
    assert is_captured(trainer_of(evolve(SFT, epochs=4, micro_batch_size=2))), "it has as many batches"


def test_batches_that_keep_the_gpu_busy_are_not_captured(trainer_of: Callable[..., Any]) -> None:
    """Full fine-tuning also computes the gradients of the weights: 6 operations per weight and token, not 4."""
    whole, adapter = trainer_of(SFT), trainer_of(evolve(SFT, lora=Lora(r=4, alpha=8)))
    for trainer in (whole, adapter):
        trainer.number_of_weights = 10**9
    assert is_captured(whole, 2400) and not is_captured(whole, 2600)
    assert is_captured(adapter, 3700) and not is_captured(adapter, 3800)


def test_a_long_training_has_more_sizes_of_batches(trainer_of: Callable[..., Any]) -> None:
    trainer = trainer_of(SFT)
    rows = [500] * len(trainer.train_dataset)
    trainer.number_of_weights = 10**8
    assert capturing.token_sizes(trainer, rows) == 4, "24 batches"
    trainer.args.num_train_epochs = 2100
    assert capturing.token_sizes(trainer, rows) == 8, "6,300 batches"


@pytest.mark.parametrize("reason", ["FSDP", "DeepSpeed", "quantised weights", "experts", "another device"])
def test_what_a_graph_cannot_do_is_not_captured(
    trainer_of: Callable[..., Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(SFT)
    assert is_captured(trainer)
    match reason:
        case "FSDP":
            trainer.is_fsdp_enabled = True
        case "DeepSpeed":
            trainer.is_deepspeed_enabled = True
        case "quantised weights":
            trainer.model.is_quantized = True
        case "experts":
            trainer.model.base_model.layers[0].mlp = type("SomeExperts", (torch.nn.Identity,), {})()
        case "another device":
            monkeypatch.setattr(capturing, "is_nvidia", selection.is_nvidia)
    assert not is_captured(trainer)


def test_activations_that_are_computed_again_are_not_captured(trainer_of: Callable[..., Any]) -> None:
    assert not is_captured(trainer_of(SFT, gradient_checkpointing=True))
