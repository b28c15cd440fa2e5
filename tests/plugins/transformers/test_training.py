"""Real TRL trainings of a few steps."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve

from tutelage.context import Context
from tutelage.errors import InputError, StageError
from tutelage.evaluation.health import training_health
from tutelage.objectives import Dpo, Lora, Objective, Sft
from tutelage.records import Model
from tutelage_transformers.models.loading import read
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.arguments import LOSS_TYPES, SMOOTHED, objective_problems
from tutelage_transformers.training.request import TrainingRequest
from tutelage_transformers.training.step import build, train
from tutelage_transformers.training.trainers import add_reference_logps, bucket_sampler

SFT = Sft(epochs=2, learning_rate=1e-2, batch_size=4, warmup_ratio=0.0)
DPO = Dpo(epochs=2, learning_rate=1e-3, batch_size=4, warmup_ratio=0.0)
LORA = Lora(r=4, alpha=8, dropout=0.0)


def model_of(folder: Path) -> Model:
    return Model("transformers", str(folder))


def run(
    start: Path, reference: Path | None, objective: Objective, examples: Path, output: Path, **context: Any
) -> list[dict[str, Any]]:
    """Do one training; returns its metrics."""
    output.mkdir()
    rows: list[Any] = []
    trained = train(
        model_of(start),
        model_of(reference) if reference else None,
        objective,
        examples,
        output,
        Context(log=rows.append, **context),
    )
    assert trained == model_of(output)
    return rows


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


def assert_close(rows: list[dict[str, Any]], expected: list[dict[str, Any]], keys: tuple[str, ...]) -> None:
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        for key in keys:
            assert math.isclose(row[key], other[key], rel_tol=1e-4, abs_tol=1e-5), (row["step"], key)


def stock_dpo(start: Path, reference: Path, file: Path, output: Path, **options: Any) -> list[dict[str, Any]]:
    """Train by TRL as in its documentation: the reference is a model of its own that runs at every step.

    Only the order of the rows is ours. Everything else is TRL's, starting from the text of the file.
    """
    from datasets import load_dataset
    from trl import DPOConfig, DPOTrainer

    class InOurOrder(DPOTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return bucket_sampler(self)

    policy, other = (read(model_of(folder), TransformersSettings()) for folder in (start, reference))
    with quiet():
        arguments = DPOConfig(
            str(output),
            num_train_epochs=DPO.epochs,
            learning_rate=DPO.learning_rate,
            per_device_train_batch_size=DPO.batch_size,
            logging_steps=1,
            bf16=False,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            seed=DPO.seed,
            **options,
        )
        trainer = InOurOrder(
            policy.model,
            other.model,
            args=arguments,
            train_dataset=load_dataset("json", data_files=str(file), split="train"),
            processing_class=policy.tokenizer,
        )
        trainer.train()
    return [row for row in trainer.state.log_history if "loss" in row]


REWARDS = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected")


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo"])
def test_dpo_equals_that_of_stock_trl(base: Path, dpo_file: Path, tmp_path: Path, loss_type: str) -> None:
    rows = run(base, base, evolve(DPO, loss_type=loss_type), dpo_file, tmp_path / "M2")
    assert_close(rows, stock_dpo(base, base, dpo_file, tmp_path / "stock", loss_type=[loss_type]), REWARDS)
    assert rows[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert rows[-1]["rewards/margins"] > 0.01


def test_dpo_on_conversations_equals_that_of_stock_trl(system_base: Path, dpo_chats: Path, tmp_path: Path) -> None:
    rows = run(system_base, system_base, DPO, dpo_chats, tmp_path / "M2")
    assert_close(rows, stock_dpo(system_base, system_base, dpo_chats, tmp_path / "stock"), REWARDS)
    assert rows[-1]["rewards/margins"] > 0.01


def test_a_reference_other_than_the_start_is_used(base: Path, other_base: Path, dpo_file: Path, tmp_path: Path) -> None:
    rows = run(base, other_base, DPO, dpo_file, tmp_path / "M2")
    assert_close(rows, stock_dpo(base, other_base, dpo_file, tmp_path / "stock"), REWARDS)
    assert abs(rows[0]["rewards/chosen"]) > 0.01


@pytest.mark.parametrize("reference", ["base", "other_base"])
def test_an_adapter_learns_against_the_reference_that_is_named(
    base: Path, reference: str, dpo_file: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    named: Path = request.getfixturevalue(reference)
    adapted = run(base, named, evolve(DPO, lora=LORA), dpo_file, tmp_path / "lora")
    full = run(base, named, DPO, dpo_file, tmp_path / "full")
    # before the first update an adapter changes nothing, so the first step depends on the reference alone
    assert_close(adapted[:1], full[:1], REWARDS)
    epochs = [[row["rewards/margins"] for row in rows] for rows in (adapted[:4], adapted[4:])]
    assert sum(epochs[1]) > sum(epochs[0])


def test_sft_lowers_the_loss_and_teaches_the_end_token(base: Path, sft_file: Path, tmp_path: Path) -> None:
    import torch

    rows = run(base, None, evolve(SFT, epochs=12), sft_file, tmp_path / "M1")
    assert rows[-1]["loss"] < 0.3 < rows[0]["loss"]
    assert [row["step"] for row in rows] == list(range(1, 49))
    trained = read(model_of(tmp_path / "M1"), TransformersSettings())
    ids = trained.tokenizer("<|user|>sort the words apple dog<|assistant|>dog apple", return_tensors="pt").input_ids
    with torch.no_grad():
        assert trained.model(ids).logits[0, -1].argmax() == trained.tokenizer.eos_token_id


@pytest.mark.parametrize("lora", [None, Lora(r=4, alpha=8, dropout=0.1)])
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_the_same_inputs_give_the_same_weights_bit_for_bit(
    base: Path, sft_file: Path, dpo_file: Path, tmp_path: Path, kind: str, lora: Lora | None
) -> None:
    import torch

    objective: Objective = evolve(SFT if kind == "sft" else DPO, lora=lora, seed=5)
    file = sft_file if kind == "sft" else dpo_file
    for name in ("one", "two"):
        run(base, None, objective, file, tmp_path / name)
        torch.rand(7)  # the state of the random generator must not matter
    run(base, None, evolve(objective, seed=6), file, tmp_path / "other")
    one, two, other = (weights(tmp_path / name) for name in ("one", "two", "other"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_small_micro_batches_learn_the_same(base: Path, sft_file: Path, dpo_file: Path, tmp_path: Path) -> None:
    for kind, file, objective in (("sft", sft_file, SFT), ("dpo", dpo_file, DPO)):
        whole = run(base, None, objective, file, tmp_path / f"{kind}-whole")
        parts = run(base, None, evolve(objective, micro_batch_size=1), file, tmp_path / f"{kind}-parts")
        assert_close(parts, whole, ("step", "loss", "grad_norm"))


def test_a_micro_batch_that_does_not_divide_the_batch_is_refused(base: Path, sft_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="micro_batch_size: 3; the batch_size 4 must be a multiple"):
        run(base, None, evolve(SFT, micro_batch_size=3), sft_file, tmp_path / "M1")


def test_a_warmup_that_is_not_a_share_is_refused(base: Path, sft_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="warmup_ratio: 10; it is a share"):
        run(base, None, evolve(SFT, warmup_ratio=10), sft_file, tmp_path / "M1")


def test_an_unknown_loss_is_refused_before_anything_is_read(dpo_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"loss_type: 'sigmiod' is unknown; did you mean 'sigmoid'"):
        run(tmp_path / "no-model", None, evolve(DPO, loss_type="sigmiod"), dpo_file, tmp_path / "M2")


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({}, "no loss is named"),
        ({"sigmoid": 1.0, "stf": 0.2}, "loss_type: 'stf' is unknown; did you mean 'sft'"),
        ({"sigmoid": 0.0}, "loss_type: the weight of 'sigmoid' is 0.0; give one above 0"),
    ],
)
def test_a_sum_of_losses_is_checked_before_anything_is_read(
    dpo_file: Path, tmp_path: Path, losses: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(tmp_path / "no-model", None, evolve(DPO, loss_type=losses), dpo_file, tmp_path / "M2")


def test_a_sum_of_losses_equals_trls(base: Path, dpo_file: Path, tmp_path: Path) -> None:
    rows = run(base, base, evolve(DPO, loss_type={"sigmoid": 1.0, "sft": 0.2}), dpo_file, tmp_path / "M2")
    combined = stock_dpo(
        base, base, dpo_file, tmp_path / "stock", loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.2]
    )
    assert_close(rows, combined, REWARDS)
    assert rows[0]["loss"] > 0.7


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_every_loss_that_may_be_named_trains(base: Path, dpo_file: Path, tmp_path: Path, loss_type: str) -> None:
    objective = evolve(DPO, loss_type=loss_type, epochs=0.25, label_smoothing=SMOOTHED.get(loss_type, 0.0))
    rows = run(base, None, objective, dpo_file, tmp_path / "M2")
    assert len(rows) == 1 and math.isfinite(rows[0]["loss"])


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_every_loss_trains_with_all_settings_that_are_accepted_for_it(
    base: Path, dpo_file: Path, tmp_path: Path, loss_type: str
) -> None:
    """It keeps away a combination that TRL refuses, or cannot compute, after the run has started."""
    objective = evolve(DPO, loss_type=loss_type, epochs=0.25, label_smoothing=0.1)
    settings: dict[str, Any] = {"use_weighting": True, "ld_alpha": 0.5, "f_divergence_type": "js_divergence"}
    for key, value in settings.items():
        changed = evolve(objective, **{key: value})
        objective = objective if list(objective_problems(changed)) else changed
    assert objective.ld_alpha == 0.5
    rows = run(base, None, objective, dpo_file, tmp_path / "M2")
    assert len(rows) == 1 and math.isfinite(rows[0]["loss"])


def test_an_adapter_has_every_linear_layer_of_phi_except_the_head(base: Path, sft_file: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    run(base, None, evolve(SFT, lora=LORA, epochs=1), sft_file, tmp_path / "M1")
    names = load_file(tmp_path / "M1" / "adapter" / "adapter_model.safetensors")
    assert {name.split(".")[-3] for name in names} == {"q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"}


@pytest.fixture
def dropping(base: Path, tmp_path: Path) -> Path:
    """The base model with a dropout of its own."""
    folder = tmp_path / "dropping"
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    changed = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attention_dropout"), 0.5)
    (folder / "config.json").write_text(json.dumps(config | changed))
    return folder


def test_a_models_own_dropout_is_off_in_dpo(base: Path, dropping: Path, dpo_file: Path, tmp_path: Path) -> None:
    """With it, policy and reference would differ at the first step, by chance."""
    expected = run(base, base, evolve(DPO, epochs=1), dpo_file, tmp_path / "without")
    rows = run(dropping, dropping, evolve(DPO, epochs=1), dpo_file, tmp_path / "with")
    assert_close(rows, expected, REWARDS)


def test_the_reference_has_no_dropout_and_the_mode_of_the_model_is_as_before(
    base: Path, dpo_file: Path, tmp_path: Path
) -> None:
    settings = TransformersSettings(device="cpu")
    request = TrainingRequest(model_of(base), None, DPO, dpo_file, tmp_path, tmp_path, settings)
    with quiet():
        trainer = build(request, read(model_of(base), settings), None, tmp_path, Context())
    columns = ["ref_chosen_logps", "ref_rejected_logps"]
    expected = [trainer.train_dataset[name] for name in columns]
    rows = trainer.train_dataset.remove_columns(columns)
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    for training in (True, False):
        trainer.model.train(training)
        found = add_reference_logps(trainer, rows, DPO.batch_size, columns)
        assert [list(found[name]) for name in columns] == [list(column) for column in expected]
        assert trainer.model.training is training


def test_the_adapters_dropout_is_used_in_dpo(base: Path, dpo_file: Path, tmp_path: Path) -> None:
    losses = [
        [
            row["loss"]
            for row in run(base, base, evolve(DPO, lora=Lora(4, 8, dropout)), dpo_file, tmp_path / f"{dropout}")
        ]
        for dropout in (0.0, 0.5)
    ]
    assert losses[0][0] == pytest.approx(losses[1][0])
    assert losses[0][1:] != pytest.approx(losses[1][1:])


def test_progress_is_reported_step_by_step(base: Path, sft_file: Path, tmp_path: Path) -> None:
    reported: list[tuple[str, int]] = []
    run(
        base,
        None,
        SFT,
        sft_file,
        tmp_path / "M1",
        expect=lambda steps: reported.append(("of", steps)),
        advance=lambda steps: reported.append(("done", steps)),
    )
    assert reported == [("of", 8)] + [("done", 1)] * 8


def test_cudnns_attention_is_off_during_a_training_and_as_before_afterwards(
    base: Path, sft_file: Path, tmp_path: Path
) -> None:
    """Its gradients were NaN in the SFT of Gemma 3 270M (``test_finite_gpu.py`` has the inputs)."""
    seen: list[bool] = []
    before = torch.backends.cuda.cudnn_sdp_enabled()

    def advance(_: int) -> None:
        seen.append(torch.backends.cuda.cudnn_sdp_enabled())

    run(base, None, SFT, sft_file, tmp_path / "out", advance=advance)
    assert seen and not any(seen)
    assert torch.backends.cuda.cudnn_sdp_enabled() is before is True


def test_cancelling_leaves_no_checkpoint(base: Path, sft_file: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    with pytest.raises(StageError, match="cancelled after 3 of 8 steps"):
        run(base, None, SFT, sft_file, tmp_path / "M1", advance=steps.append, cancelled=lambda: len(steps) >= 3)
    assert not list((tmp_path / "M1").iterdir())


def test_training_is_silent(
    base: Path, dpo_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    run(base, base, evolve(DPO, lora=LORA), dpo_file, tmp_path / "M2")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert not list(recwarn)


def test_examples_are_checked_before_training(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text("")
    with pytest.raises(InputError, match="no examples"):
        run(base, None, SFT, file, tmp_path / "M1")


def test_an_example_longer_than_the_models_context_is_an_error(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    words = "cat " * 130
    file.write_text(
        f'{{"prompt": [{{"role": "user", "content": "{words}"}}], '
        '"completion": [{"role": "assistant", "content": "dog"}]}'
    )
    with pytest.raises(InputError, match="line 1: prompt and completion are 134 tokens, but only 128 fit"):
        run(base, None, evolve(SFT, max_length=10_000), file, tmp_path / "M1")


def test_a_training_that_learns_nothing_is_warned_about(base: Path, dpo_file: Path, tmp_path: Path) -> None:
    """The metrics are TRL's own, so the warning fits the value that its loss has without learning."""
    found = {}
    for rate in (1e-12, 1e-2):
        objective = evolve(DPO, learning_rate=rate)
        rows = run(base, base, objective, dpo_file, tmp_path / str(rate))
        warnings = training_health(rows, objective.beta, loss_type=objective.loss_type).warnings
        found[rate] = [one for one in warnings if "so nothing was learned: raise dpo.learning_rate" in one]
    assert (len(found[1e-12]), found[1e-2]) == (1, [])
