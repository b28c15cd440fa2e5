"""Weights and soft labels of pairs, compared with losses and gradients that are computed directly, in float32."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from stock_training import write_ragged_pairs

from tutelage.context import Context
from tutelage.errors import InputError
from tutelage.files.jsonl import read_rows, write_rows
from tutelage.objectives import Dpo
from tutelage.records import Model
from tutelage_transformers.models.loading import read
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.arguments import LOSS_TYPES, SMOOTHED
from tutelage_transformers.training.pair_labels import COLUMNS, collator
from tutelage_transformers.training.request import TrainingRequest
from tutelage_transformers.training.step import build, train_here

DPO = Dpo(epochs=1, learning_rate=1e-3, batch_size=4, warmup_ratio=0.0)
WEIGHTS = [0.0, 0.25, 1.0, 3.0]
PROBABILITIES = [0.5, 0.75, 1.0, 0.9]
NOT_OF_A_PAIR = ("aot", "aot_unpaired", "sft")
"""The losses of which a batch is more than the mean of its pairs."""


def pairs(folder: Path, **labels: list[Any]) -> Path:
    """The first four ragged pairs with labels: a list of values by key, where None is no key."""
    rows = [row for _, row in read_rows(write_ragged_pairs(folder / "ragged.jsonl"))][:4]
    for key, values in labels.items():
        rows = [row if value is None else {**row, key: value} for row, value in zip(rows, values, strict=True)]
    write_rows(folder / "pairs.jsonl", rows)
    return folder / "pairs.jsonl"


def request_of(start: Path, examples: Path, objective: Dpo, packed: bool = False) -> TrainingRequest:
    folder = examples.parent
    settings = TransformersSettings(packing=packed, device="cpu")
    model = Model("transformers", str(start))
    return TrainingRequest(model, None, objective, examples, folder / "trained", folder / "scratch", settings)


def trainer_of(start: Path, reference: Path, examples: Path, objective: Dpo = DPO, packed: bool = False) -> Any:
    import torch

    request = request_of(start, examples, objective, packed)
    models = [read(Model("transformers", str(one)), request.settings, torch.float32) for one in (start, reference)]
    with quiet():
        return build(request, models[0], models[1], examples.parent / "state", Context())


def gradient(trainer: Any, rows: list[int], **changes: Any) -> tuple[float, Any]:
    """The loss of a batch, and its gradient as one vector."""
    import torch

    examples = [{**trainer.train_dataset[row], **changes} for row in rows]
    trainer.model.zero_grad()
    trainer.model.train()
    with quiet():
        loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs(trainer.data_collator(examples)))
    loss.backward()
    return float(loss.detach()), torch.cat([weight.grad.flatten() for weight in trainer.model.parameters()])


@pytest.mark.parametrize("columns", [(), ("ref_chosen_logps", "ref_rejected_logps")])
def test_a_batch_of_pairs_is_that_of_trls_collator(columns: tuple[str, ...]) -> None:
    """It is made in another way. The keys, their order, the types and the values are those of TRL."""
    import torch
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    lengths = [(3, 2, 1), (1, 1, 7), (4, 4, 4), (0, 5, 2)]
    keys = ("prompt_ids", "chosen_ids", "rejected_ids")
    examples: list[dict[str, Any]] = [
        {key: list(range(10 * row + 1, 10 * row + 1 + length)) for key, length in zip(keys, of_row, strict=True)}
        | dict.fromkeys(columns, -0.1 * row - 1 / 3)
        for row, of_row in enumerate(lengths)
    ]
    found = collator()(99)(examples)
    expected = DataCollatorForPreference(pad_token_id=99)(examples)
    assert list(found) == list(expected)
    for key in expected:
        assert found[key].dtype == expected[key].dtype
        assert torch.equal(found[key], expected[key])


def direct(trainer: Any, labels: dict[str, list[float]]) -> tuple[float, Any]:
    """The weighted mean of conservative DPO's losses, by the plain forward pass of each sequence, and its gradient."""
    import torch
    from torch.nn.functional import logsigmoid

    weights, probabilities = (torch.tensor(labels.get(key, [1.0] * 4)) for key in COLUMNS)
    trainer.model.zero_grad()
    differences = []
    for row in trainer.train_dataset:
        sides = {}
        for side in ("chosen", "rejected"):
            ids, prompt = row["prompt_ids"] + row[f"{side}_ids"], len(row["prompt_ids"])
            logps = trainer.model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
            tokens = logps.gather(1, torch.tensor(ids)[1:, None])[prompt - 1 :]
            sides[side] = tokens.sum() - row[f"ref_{side}_logps"]
        differences.append(sides["chosen"] - sides["rejected"])
    x = trainer.beta * torch.stack(differences)
    loss = (weights * (-probabilities * logsigmoid(x) - (1 - probabilities) * logsigmoid(-x))).mean()
    loss.backward()
    return float(loss.detach()), torch.cat([weight.grad.flatten() for weight in trainer.model.parameters()])


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({"weight": WEIGHTS}, marks=pytest.mark.slow),
        {"probability": PROBABILITIES},
        {"weight": WEIGHTS, "probability": PROBABILITIES},
    ],
    ids=lambda labels: "+".join(labels),
)
def test_the_gradient_is_that_of_the_weighted_soft_loss(
    base: Path, other_base: Path, tmp_path: Path, packed: bool, labels: dict[str, list[float]]
) -> None:
    import torch

    trainer = trainer_of(base, other_base, pairs(tmp_path, **labels), packed=packed)
    _, found = gradient(trainer, [0, 1, 2, 3])
    if packed:  # the packed model runs packed batches only
        trainer = trainer_of(base, other_base, pairs(tmp_path, **labels))
    loss, expected = direct(trainer, labels)
    assert float(expected.abs().max()) > 1e-3
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-4)
    if "weight" not in labels:
        assert gradient(trainer, [0, 1, 2, 3])[0] == pytest.approx(loss, rel=1e-5)


def test_each_loss_of_pairs_is_weighted_pair_by_pair(base: Path, other_base: Path, tmp_path: Path) -> None:
    import torch

    trainer = trainer_of(base, other_base, pairs(tmp_path, weight=WEIGHTS))
    for loss_type in sorted(set(LOSS_TYPES) - set(NOT_OF_A_PAIR)):
        trainer.loss_types = [loss_type]
        trainer.label_smoothing = SMOOTHED.get(loss_type, 0.0)
        _, found = gradient(trainer, [0, 1, 2, 3])
        single = [gradient(trainer, [row], weight=1.0)[1] for row in range(4)]
        expected = sum(weight * one for weight, one in zip(WEIGHTS, single, strict=True)) / 4
        assert torch.allclose(found, expected, atol=1e-5 * max(1, float(expected.abs().max())), rtol=1e-4), loss_type


def test_pairs_of_weight_0_change_nothing(base: Path, other_base: Path, tmp_path: Path) -> None:
    trainer = trainer_of(base, other_base, pairs(tmp_path, weight=WEIGHTS))
    assert not gradient(trainer, [0], weight=0.0)[1].any()
    with_it, without = (gradient(trainer, rows, weight=1.0)[1] for rows in ([0, 1], [1]))
    assert not with_it.equal(without)


def trained(start: Path, examples: Path, objective: Dpo) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
    """The weights after a training, and the metrics of its steps."""
    from safetensors.torch import load_file

    request = request_of(start, examples, objective)
    metrics: list[Mapping[str, Any]] = []
    train_here(request, Context(log=metrics.append))
    return dict(load_file(request.output / "model.safetensors")), metrics


def test_weights_of_1_train_bit_for_bit_as_no_weights(base: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "none", tmp_path / "ones"]
    for folder in folders:
        folder.mkdir()
    ones = {key: [1.0, 1, None, 1.0] for key in COLUMNS}
    without, with_ones = (
        trained(base, pairs(folder, **labels), DPO) for folder, labels in zip(folders, ({}, ones), strict=True)
    )
    assert all(without[0][name].equal(with_ones[0][name]) for name in without[0])
    assert [row["loss"] for row in without[1]] == [row["loss"] for row in with_ones[1]]


def test_micro_batches_learn_the_same_from_weights_and_soft_labels(base: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "whole", tmp_path / "parts"]
    for folder in folders:
        folder.mkdir()
    labels = {"weight": WEIGHTS, "probability": PROBABILITIES}
    whole, parts = (
        trained(base, pairs(folder, **labels), evolve(DPO, epochs=3, micro_batch_size=size))[1]
        for folder, size in zip(folders, (4, 2), strict=True)
    )
    assert [row["loss"] for row in whole] != [whole[0]["loss"]] * 3
    for key in ("loss", "grad_norm"):
        assert [row[key] for row in parts] == pytest.approx([row[key] for row in whole], rel=1e-4)


def test_a_column_is_added_only_if_a_pair_needs_it(base: Path, other_base: Path, tmp_path: Path) -> None:
    trainer = trainer_of(base, other_base, pairs(tmp_path, weight=[1.0, None, 0.5, 1.0], probability=[None, 1.0] * 2))
    assert trainer.train_dataset["weight"][:] == [1.0, 1.0, 0.5, 1.0]
    assert "probability" not in trainer.train_dataset.column_names


@pytest.mark.parametrize(
    ("labels", "objective", "message"),
    [
        ({"weight": WEIGHTS}, Dpo(loss_type="aot"), "3 of 4 pairs have another weight than 1: the loss aot sorts"),
        (
            {"probability": PROBABILITIES},
            Dpo(loss_type="ipo"),
            "3 of 4 pairs have .*: soft labels need the loss sigmoid",
        ),
        (
            {"probability": PROBABILITIES},
            Dpo(loss_type={"sigmoid": 1, "hinge": 1}),
            "soft labels need the loss sigmoid, alone or in a sum with sft",
        ),
        ({"probability": PROBABILITIES}, Dpo(f_divergence_type="forward_kl"), "need f_divergence_type: reverse_kl"),
        ({"probability": PROBABILITIES}, Dpo(ld_alpha=0.5), "cannot be combined with ld_alpha"),
        ({"probability": PROBABILITIES}, Dpo(use_weighting=True), "cannot be combined with use_weighting"),
        ({"weight": [1, -1, 1, 1]}, Dpo(), "line 2: `weight` must be a finite number of at least 0, not -1"),
        ({"probability": [1, 1, 0.4, 1]}, Dpo(), "line 3: `probability` must be a number from 0.5 to 1, not 0.4"),
        ({"weight": [1, 1, 1, "2"]}, Dpo(), "line 4: `weight` must be a finite number of at least 0, not '2'"),
    ],
)
def test_labels_that_cannot_be_trained_on_are_refused(
    base: Path, tmp_path: Path, labels: dict[str, list[Any]], objective: Dpo, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        trainer_of(base, base, pairs(tmp_path, **labels), objective)
