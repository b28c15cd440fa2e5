"""The losses of plugins in training: SimPO, CPO and ORPO as ``trl.experimental`` computes them, and those of others."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen
from stock_training import write_ragged_pairs

from tutelage.context import Context
from tutelage.errors import InputError, PluginError
from tutelage.files.jsonl import read_rows, write_rows
from tutelage.hookspecs import hookimpl
from tutelage.objectives import Dpo, PairBatch, PairLoss
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.pair_losses import bound_pair_losses
from tutelage.plugins.registry import Registry
from tutelage.plugins.stages import train_step
from tutelage.records import Model
from tutelage_transformers.models.loading import read
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.request import TrainingRequest
from tutelage_transformers.training.step import build
from tutelage_transformers.training.worker import pair_losses_of

DPO = Dpo(epochs=1, learning_rate=1e-3, batch_size=4, warmup_ratio=0.0)


@frozen
class Scale:
    scale: float = 1.0


def dpo_again(batch: PairBatch, settings: Scale) -> Any:
    """TRL's loss ``sigmoid``."""
    from torch.nn.functional import logsigmoid

    ratios = (batch.chosen - batch.reference_chosen) - (batch.rejected - batch.reference_rejected)
    return -settings.scale * logsigmoid(batch.beta * ratios)


def soft(batch: PairBatch, settings: None) -> Any:
    return batch.probability * (batch.rejected - batch.chosen)


def a_mean(batch: PairBatch, settings: None) -> Any:
    return batch.chosen.mean()


class Offering:
    """A third party's plugin with losses."""

    @hookimpl
    def describe(self) -> PluginInfo:
        losses = {
            "dpo": PairLoss(dpo_again, "DPO again.", Scale),
            "soft": PairLoss(soft, "Reads soft labels.", soft_labels=True),
            "mean": PairLoss(a_mean, "One number."),
            "seven": PairLoss(lambda batch, settings: 7, "No tensor."),
        }
        return PluginInfo("Offers losses.", pair_losses=losses)


@pytest.fixture
def registry() -> Registry:
    registry = Registry.discover()
    registry.register(Offering(), "mine")
    return registry


def pairs(folder: Path, **labels: list[float]) -> Path:
    rows = [row for _, row in read_rows(write_ragged_pairs(folder / "ragged.jsonl"))][:4]
    for key, values in labels.items():
        rows = [{**row, key: value} for row, value in zip(rows, values, strict=True)]
    write_rows(folder / "pairs.jsonl", rows)
    return folder / "pairs.jsonl"


def trainer_of(
    registry: Registry, start: Path, examples: Path, objective: Dpo, reference: Path | None = None, packed: bool = False
) -> Any:
    import torch

    settings = TransformersSettings(packing=packed, device="cpu")
    model, folder = Model("transformers", str(start)), examples.parent
    request = TrainingRequest(model, None, objective, examples, folder / "trained", folder / "scratch", settings)
    found = [read(Model("transformers", str(one or start)), settings, torch.float32) for one in (start, reference)]
    context = Context(pair_losses=bound_pair_losses(objective, "transformers", registry))
    with quiet():
        return build(request, found[0], found[1] if reference else None, folder / "state", context)


def loss_and_gradient(trainer: Any, compute: Any) -> tuple[float, Any]:
    import torch

    trainer.model.zero_grad()
    trainer.model.train()
    with quiet():
        loss = compute()
    loss.backward()
    return float(loss.detach()), torch.cat([weight.grad.flatten() for weight in trainer.model.parameters()])


def ours(trainer: Any) -> tuple[float, Any]:
    batch = trainer._prepare_inputs(trainer.data_collator(list(trainer.train_dataset)))
    return loss_and_gradient(trainer, partial(trainer.compute_loss, trainer.model, batch))


def experimental(trainer: Any, cls: type[Any], **settings: Any) -> tuple[float, Any]:
    """The loss of a trainer of ``trl.experimental`` on the same batch, with its own forward pass."""
    other = object.__new__(cls)
    other.accelerator, other.is_encoder_decoder = trainer.accelerator, False
    other.pad_token_id = other.padding_value = 0
    other.aux_loss_enabled, other.beta, other.label_smoothing, other.alpha = False, trainer.beta, 0.0, 0.0
    for name, value in settings.items():
        setattr(other, name, value)
    batch = trainer.data_collator(list(trainer.train_dataset))
    halves = {name: batch[name].chunk(2) for name in ("input_ids", "attention_mask", "completion_mask")}
    given: dict[str, Any] = {}
    for index, side in enumerate(("chosen", "rejected")):
        ids, mask, completion = (halves[name][index] for name in ("input_ids", "attention_mask", "completion_mask"))
        given |= {f"{side}_input_ids": ids, f"{side}_attention_mask": mask}
        given[f"{side}_labels"] = ids.masked_fill(completion == 0, -100)
    return loss_and_gradient(trainer, lambda: other.get_batch_loss_metrics(trainer.model, given)[0])


def assert_equal(found: tuple[float, Any], expected: tuple[float, Any]) -> None:
    import torch

    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert float(expected[1].abs().max()) > 1e-3
    assert torch.allclose(found[1], expected[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "settings", "of_trl"),
    [
        ("simpo", {"gamma": 1.5}, {"loss_type": "simpo", "simpo_gamma": 1.5, "cpo_alpha": 0.0}),
        ("cpo", {"alpha": 0.5}, {"loss_type": "sigmoid", "cpo_alpha": 0.5}),
        ("cpo", None, {"loss_type": "sigmoid", "cpo_alpha": 1.0}),
    ],
)
@pytest.mark.filterwarnings("ignore:You are importing from .trl.experimental")
def test_simpo_and_cpo_equal_those_of_trl(
    registry: Registry, base: Path, tmp_path: Path, name: str, settings: Any, of_trl: dict[str, Any]
) -> None:
    from trl.experimental.cpo import CPOTrainer

    objective = evolve(DPO, loss_type=f"transformers/{name}", loss_settings=settings, beta=2.0)
    trainer = trainer_of(registry, base, pairs(tmp_path), objective)
    assert_equal(ours(trainer), experimental(trainer, CPOTrainer, **of_trl))
    metrics = trainer._metrics["train"]
    assert metrics["rewards/chosen"][-1] == pytest.approx(0, abs=1e-4), "the policy is the reference here"
    assert metrics["logps/chosen"][-1] < -1


@pytest.mark.filterwarnings("ignore:You are importing from .trl.experimental")
def test_orpo_equals_that_of_trl_but_for_the_likelihood_of_the_prompt(
    registry: Registry, base: Path, tmp_path: Path
) -> None:
    from trl.experimental.orpo import ORPOTrainer

    small, large = (
        trainer_of(registry, base, pairs(tmp_path), evolve(DPO, loss_type="transformers/orpo", beta=beta))
        for beta in (0.5, 1.5)
    )
    found = [ours(trainer) for trainer in (small, large)]
    expected = [experimental(trainer, ORPOTrainer) for trainer in (small, large)]
    # The likelihood does not depend on beta, so it is not in the difference.
    assert_equal(*((two[0] - one[0], two[1] - one[1]) for one, two in (found, expected)))
    likelihood = trainer_of(registry, base, pairs(tmp_path), evolve(DPO, loss_type="sft"))
    ratio = (found[1][0] - found[0][0]) / (large.beta - small.beta)
    assert found[0][0] - small.beta * ratio == pytest.approx(ours(likelihood)[0], rel=1e-5)


@pytest.mark.parametrize("packed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_loss_of_a_plugin_gets_policy_and_reference(
    registry: Registry, base: Path, other_base: Path, tmp_path: Path, packed: bool
) -> None:
    objectives = (evolve(DPO, loss_type="mine/dpo", loss_settings={"scale": 2}), evolve(DPO, loss_type={"sigmoid": 2}))
    found, expected = (
        ours(trainer_of(registry, base, pairs(tmp_path), objective, other_base, packed)) for objective in objectives
    )
    assert_equal(found, expected)


def test_a_sum_adds_the_loss_of_a_plugin_to_those_of_trl(
    registry: Registry, base: Path, other_base: Path, tmp_path: Path
) -> None:
    weights = [0.0, 0.5, 1.0, 2.0]
    sums = ({"mine/dpo": 0.5, "ipo": 1, "sft": 0.2}, {"sigmoid": 0.5, "ipo": 1, "sft": 0.2})
    found, expected = (
        ours(trainer_of(registry, base, pairs(tmp_path, weight=weights), evolve(DPO, loss_type=one), other_base))
        for one in sums
    )
    assert_equal(found, expected)


def test_soft_labels_reach_the_losses_that_read_them_and_no_others(
    registry: Registry, base: Path, tmp_path: Path
) -> None:
    examples = pairs(tmp_path, probability=[0.5, 1.0, 0.75, 0.75])
    loss, _ = ours(trainer_of(registry, base, examples, evolve(DPO, loss_type="mine/soft")))
    hard, _ = ours(trainer_of(registry, base, pairs(tmp_path), evolve(DPO, loss_type="mine/soft")))
    assert loss != pytest.approx(hard)
    with pytest.raises(InputError, match="3 of 4 pairs have another probability than 1: soft labels need the loss"):
        trainer_of(
            registry, base, pairs(tmp_path, probability=[0.5, 1.0, 0.75, 0.75]), evolve(DPO, loss_type="mine/dpo")
        )


@pytest.mark.parametrize(("name", "given"), [("mean", r"a tensor of the shape \(\)"), ("seven", "7")])
def test_a_loss_that_is_not_one_number_per_pair_is_an_error_of_the_plugin(
    registry: Registry, base: Path, tmp_path: Path, name: str, given: str
) -> None:
    trainer = trainer_of(registry, base, pairs(tmp_path), evolve(DPO, loss_type=f"mine/{name}"))
    with pytest.raises(PluginError, match=f"the pair loss mine/{name} returned {given}; it must return the loss of"):
        ours(trainer)


def test_a_training_by_the_hook_learns_with_the_loss_of_a_plugin(
    registry: Registry, base: Path, tmp_path: Path
) -> None:
    metrics: list[Any] = []
    objective = evolve(DPO, epochs=3, loss_type="transformers/simpo", beta=2.0, label_smoothing=0.0)
    model = Model("transformers", str(base), {"device": "cpu"})
    context = Context(log=metrics.append, scratch=tmp_path)
    train_step(registry, model, model, objective, pairs(tmp_path), tmp_path / "trained", context)
    assert (tmp_path / "trained/model.safetensors").exists()
    assert metrics[-1]["loss"] < metrics[0]["loss"]


def test_settings_that_only_trls_losses_know_are_refused(registry: Registry, base: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"ld_alpha": 0.0, "use_weighting": True, "f_divergence_type": "forward_kl"}
    objective = evolve(DPO, loss_type="transformers/simpo", **settings)
    with pytest.raises(InputError) as error:
        train_step(registry, Model("transformers", str(base)), None, objective, pairs(tmp_path), tmp_path / "trained")
    assert [line.partition(":")[0] for line in str(error.value).splitlines()] == [
        "f_divergence_type",
        "ld_alpha",
        "use_weighting",
    ]


def request_of(objective: Dpo, folder: Path) -> TrainingRequest:
    model = Model("transformers", "start")
    return TrainingRequest(model, None, objective, folder, folder, folder, TransformersSettings())


def test_another_process_finds_the_losses_of_installed_plugins(tmp_path: Path) -> None:
    objective = evolve(DPO, loss_type={"transformers/simpo": 1, "sft": 0.1}, loss_settings={"gamma": 2.0})
    request = TrainingRequest.from_json(json.loads(json.dumps(request_of(objective, tmp_path).as_json())))
    assert request.objective == objective
    assert pair_losses_of(request).keys() == {"transformers/simpo"}
    assert pair_losses_of(request_of(DPO, tmp_path)) == {}
    with pytest.raises(InputError, match=r"no pair loss 'mine/dpo'.*; a training by several processes knows"):
        pair_losses_of(request_of(evolve(DPO, loss_type="mine/dpo"), tmp_path))
