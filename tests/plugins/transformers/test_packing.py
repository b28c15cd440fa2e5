"""Packed training compared with stock TRL: the same losses, metrics, gradients and weights, in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from stock_training import Pair, write_ragged_examples, write_ragged_pairs

from tutelage.errors import InputError
from tutelage.objectives import Dpo, Lora, Objective, Sft
from tutelage.records import Model
from tutelage_transformers.attention.activations import fuse_activations
from tutelage_transformers.models.loading import LoadedModel, read
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training import packing
from tutelage_transformers.training.arguments import LOSS_TYPES, SMOOTHED

SFT = Sft(epochs=1, learning_rate=1e-2, batch_size=4, warmup_ratio=0.0)
DPO = Dpo(epochs=1, learning_rate=1e-3, batch_size=4, warmup_ratio=0.0)
LORA = Lora(r=4, alpha=8, dropout=0.0)
PACKED = TransformersSettings(packing=True)
COMBINATIONS = pytest.mark.parametrize(
    ("lora", "checkpointing"),
    [
        (None, False),
        (LORA, True),
        pytest.param(None, True, marks=pytest.mark.slow),
        pytest.param(LORA, False, marks=pytest.mark.slow),
    ],
)
"""Of adapter and gradient checkpointing; the two that are slow tests combine what the other two have."""


@pytest.fixture(scope="module")
def ragged_dpo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ragged_pairs(tmp_path_factory.mktemp("data") / "dpo.jsonl")


@pytest.fixture(scope="module")
def ragged_sft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ragged_examples(tmp_path_factory.mktemp("data") / "sft.jsonl")


def assert_same_gradients(pair: Pair) -> None:
    import torch

    gradients = [
        {name: parameter.grad for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
        for trainer in pair.both()
    ]
    assert gradients[0].keys() == gradients[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in gradients[1].values())
    assert largest > 1e-4
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-5 * max(1, largest), rtol=0), name


def assert_same_metrics(pair: Pair) -> None:
    ours, stock = (trainer._metrics["train"] for trainer in pair.both())
    assert ours.keys() == stock.keys()
    for key in ours:
        assert ours[key] == pytest.approx(stock[key], abs=1e-5, rel=1e-5), key


def assert_same(pair: Pair, rows: slice = slice(0, 6)) -> None:
    ours, stock = pair.losses(rows)
    assert float(ours) == pytest.approx(float(stock), abs=1e-5, rel=1e-5)
    assert_same_metrics(pair)
    assert_same_gradients(pair)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_every_dpo_loss_equals_trls(
    base: Path, other_base: Path, ragged_dpo: Path, tmp_path: Path, loss_type: str
) -> None:
    objective = evolve(DPO, loss_type=loss_type, label_smoothing=SMOOTHED.get(loss_type, 0.0))
    assert_same(Pair(base, other_base, objective, ragged_dpo, tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"f_divergence_type": "forward_kl"},
        {"f_divergence_type": "js_divergence"},
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3},
        {"ld_alpha": 0.2},
        {"use_weighting": True, "loss_type": {"sigmoid": 1.0, "apo_zero": 0.5}},
    ],
    ids=str,
)
def test_every_setting_of_the_loss_equals_trls(
    base: Path, other_base: Path, ragged_dpo: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert_same(Pair(base, other_base, evolve(DPO, **changes), ragged_dpo, tmp_path))


@COMBINATIONS
@pytest.mark.parametrize("reference", [None, "other_base"])
def test_dpo_equals_trls_for_every_reference(
    base: Path,
    ragged_dpo: Path,
    tmp_path: Path,
    lora: Lora | None,
    reference: str | None,
    checkpointing: bool,
    request: pytest.FixtureRequest,
) -> None:
    named = request.getfixturevalue(reference) if reference else None
    assert_same(Pair(base, named, evolve(DPO, lora=lora), ragged_dpo, tmp_path, gradient_checkpointing=checkpointing))


@COMBINATIONS
def test_sft_equals_trls(base: Path, ragged_sft: Path, tmp_path: Path, lora: Lora | None, checkpointing: bool) -> None:
    assert_same(Pair(base, None, evolve(SFT, lora=lora), ragged_sft, tmp_path, gradient_checkpointing=checkpointing))


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_answers_to_conversations_equal_trls(
    system_base: Path, sft_chats: Path, dpo_chats: Path, tmp_path: Path, kind: str
) -> None:
    objective, file = (SFT, sft_chats) if kind == "sft" else (DPO, dpo_chats)
    assert_same(Pair(system_base, None, objective, file, tmp_path))


def test_a_batch_of_one_row_equals_trls(base: Path, ragged_dpo: Path, tmp_path: Path) -> None:
    assert_same(Pair(base, None, DPO, ragged_dpo, tmp_path), slice(3, 4))


@COMBINATIONS
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_a_whole_training_ends_with_the_weights_of_trl(
    base: Path, ragged_sft: Path, ragged_dpo: Path, tmp_path: Path, kind: str, lora: Lora | None, checkpointing: bool
) -> None:
    import torch

    objective: Objective = evolve(
        SFT if kind == "sft" else DPO, lora=lora, epochs=2, micro_batch_size=2, learning_rate=1e-2
    )
    file = ragged_sft if kind == "sft" else ragged_dpo
    pair = Pair(base, None, objective, file, tmp_path, gradient_checkpointing=checkpointing)
    before = {name: weight.clone() for name, weight in pair.ours.model.named_parameters()}
    with quiet():
        for trainer in pair.both():
            if lora is None:
                trainer.args.optim = "sgd"  # Adam makes a whole step of a gradient that is rounding alone (key biases)
            trainer.train()
    ours, stock = (dict(trainer.model.named_parameters()) for trainer in pair.both())
    assert ours.keys() == stock.keys()
    assert all(torch.allclose(ours[name], stock[name], atol=1e-5, rtol=0) for name in ours)
    assert any((before[name] - ours[name]).abs().max() > 1e-3 for name in ours)
    keys = ("loss", "grad_norm", "entropy", "num_tokens", "mean_token_accuracy")
    logs = ([row for row in trainer.state.log_history if "loss" in row] for trainer in pair.both())
    for row, other in zip(*logs, strict=True):
        assert [row[key] for key in keys] == pytest.approx([other[key] for key in keys], abs=1e-4, rel=1e-4)


def test_a_shared_prompt_is_computed_once() -> None:
    made = packing.plan([5, 3, 7, 4], 8, [0, 0, 2, 2])
    assert made["tokens"].tolist() == [0, 1, 2, 3, 4, 8, 9, 10, 18, 19, 20, 21, 22, 26, 27]
    assert made["positions"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 2, 3, 4, 5, 6, 2, 3]
    assert made["starts"].tolist() == [0, 5, 8, 13, 15] and made["longest"] == 5
    assert made["key_starts"].tolist() == [0, 5, 8, 15, 19] and made["longest_keys"] == 7
    keys = made["keys"].tolist()
    assert keys == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 8, 9, 10, 11, 12, 5, 6, 13, 14]
    assert [keys[place] for place in made["own"]] == list(range(15))
    assert [keys[place] for place in made["copied"]] == [0, 1, 5, 6]


def test_keys_are_not_repeated_if_no_tokens_are_shared() -> None:
    made = packing.plan([2, 3], 3)
    assert "keys" not in made
    assert made["starts"].tolist() == made["key_starts"].tolist() == [0, 2, 5]


def test_grouped_heads_are_packed_too(make_grouped: Callable[[], Any]) -> None:
    import torch

    model = make_grouped()
    ids = torch.randint(64, (2, 9))
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
    with torch.no_grad():
        expected = model.model(ids, mask).last_hidden_state
        packing.pack(model)
        packed = model.model(ids, mask, packing=packing.plan([9, 5], 9)).last_hidden_state
    assert torch.allclose(packed[mask.bool()], expected[mask.bool()], atol=1e-5)
    assert not packed[~mask.bool()].any()


def test_the_fused_activation_is_the_same_function() -> None:
    import torch
    from transformers.activations import NewGELUActivation

    values = torch.linspace(-12, 12, 10_001)
    model = torch.nn.Sequential(NewGELUActivation(), torch.nn.Identity())
    expected = model(values)
    assert fuse_activations(model) == 1
    assert fuse_activations(model) == 0
    assert torch.allclose(model(values), expected, atol=1e-6, rtol=0)


def test_packing_is_off_on_a_cpu_unless_requested(loaded: LoadedModel) -> None:
    assert not packing.is_wanted(loaded.model, TransformersSettings())
    assert packing.is_wanted(loaded.model, PACKED)


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("attention_dropout", 0.1, "it drops attention weights"),
        ("use_bidirectional_attention", True, "its tokens attend to later ones"),
        ("layer_types", ["full_attention", "linear_attention"], "it has layers of the type linear_attention"),
    ],
)
def test_a_model_that_cannot_be_packed_is_refused_if_packing_is_requested(
    base: Path, setting: str, value: Any, reason: str
) -> None:
    model = read(Model("transformers", str(base)), TransformersSettings()).model
    setattr(model.config, setting, value)
    with pytest.raises(InputError, match=rf"settings.packing: this model cannot be packed: {reason}"):
        packing.is_wanted(model, PACKED)
    assert not packing.is_wanted(model, TransformersSettings())
