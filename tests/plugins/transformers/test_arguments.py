"""Every key of an objective reaches the argument of TRL's trainer, or of PEFT, that it is named after."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, fields
from model_families import FAMILIES, config_of
from transformers import AutoModelForCausalLM

from tutelage.context import Context
from tutelage.errors import InputError
from tutelage.objectives import Dpo, Lora, Objective, Sft
from tutelage.records import Model
from tutelage_transformers.models.loading import LoadedModel
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.arguments import lora_config, objective_problems, trainer_arguments
from tutelage_transformers.training.fitting import divide_step
from tutelage_transformers.training.request import TrainingRequest
from tutelage_transformers.training.step import train

LOADED_KEYS = {"lora": "lora_config below", "max_length": "examples are checked against it, and nothing is truncated"}
"""Keys that are no argument of the trainer, and where they are used."""

OF_LOSSES = {"loss_settings": "test_pair_losses.py: the loss of a plugin gets them, and the trainer does not"}
"""Keys of DPO that only the loss of a plugin reads."""

COMMON: dict[str, tuple[Any, dict[str, Any]]] = {
    "epochs": (2.5, {"num_train_epochs": 2.5}),
    "learning_rate": (3e-3, {"learning_rate": 3e-3}),
    "batch_size": (12, {"per_device_train_batch_size": 12, "gradient_accumulation_steps": 1}),
    "micro_batch_size": (4, {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}),
    "warmup_ratio": (0.3, {"warmup_steps": 0.3}),
    "seed": (7, {"seed": 7}),
    "lr_scheduler_type": ("cosine", {"lr_scheduler_type": "cosine"}),
    "weight_decay": (0.2, {"weight_decay": 0.2}),
    "max_grad_norm": (0.5, {"max_grad_norm": 0.5}),
}
OF_DPO: dict[str, tuple[Any, dict[str, Any]]] = {
    "beta": (0.7, {"beta": 0.7}),
    "loss_type": ({"ipo": 0.5, "sft": 2.0}, {"loss_type": ["ipo", "sft"], "loss_weights": [0.5, 2.0]}),
    "label_smoothing": (0.2, {"label_smoothing": 0.2}),
    "f_divergence_type": ("js_divergence", {"f_divergence_type": "js_divergence"}),
    "f_alpha_divergence_coef": (0.3, {"f_alpha_divergence_coef": 0.3}),
    "discopop_tau": (0.2, {"discopop_tau": 0.2}),
    "ld_alpha": (0.4, {"ld_alpha": 0.4}),
    "use_weighting": (True, {"use_weighting": True}),
}
CASES: list[tuple[Objective, str, Any, dict[str, Any]]] = [(Sft(), key, *case) for key, case in COMMON.items()]
CASES += [(Dpo(), key, *case) for key, case in (COMMON | OF_DPO).items()]
SETTINGS = TransformersSettings(device="cpu", gradient_checkpointing=False)
Make = Callable[[Objective], Any]


@pytest.fixture
def arguments_of(loaded: LoadedModel, tmp_path: Path) -> Make:
    def make(objective: Objective) -> Any:
        division = divide_step(objective, loaded.model, [10] * 64, False, SETTINGS)
        with quiet():
            return trainer_arguments(objective, loaded.model, tmp_path, SETTINGS, False, division)

    return make


@pytest.mark.parametrize(("cls", "keys"), [(Sft, COMMON), (Dpo, COMMON | OF_DPO)])
def test_every_key_of_an_objective_has_a_case(cls: type, keys: dict[str, Any]) -> None:
    """It keeps away a key that the trainer's arguments ignore, as `beta` and `warmup_ratio` once could have been."""
    assert {field.name for field in fields(cls)} - OF_LOSSES.keys() == keys.keys() | LOADED_KEYS.keys()


@pytest.mark.parametrize(("objective", "key", "value", "expected"), CASES, ids=lambda one: str(one)[:24])
def test_a_key_reaches_the_arguments_of_the_trainer_and_changes_no_other(
    objective: Objective, key: str, value: Any, expected: dict[str, Any], arguments_of: Make
) -> None:
    before, after = (arguments_of(one).to_dict() for one in (objective, evolve(objective, **{key: value})))
    assert {name: after[name] for name in expected} == expected
    assert {name for name in after if after[name] != before[name]} - {"logging_dir"} <= expected.keys()
    assert any(before[name] != after[name] for name in expected)


def test_without_the_keys_the_arguments_are_those_of_trl(arguments_of: Make) -> None:
    """The keys of this test were added later: without them, trainings are those of earlier versions."""
    from trl.trainer.dpo_config import DPOConfig

    with quiet():
        stock = DPOConfig(output_dir="unused", use_cpu=True, bf16=False).to_dict()
    own = arguments_of(Dpo()).to_dict()
    added = [field.name for field in fields(Dpo) if field.metadata and field.name not in OF_LOSSES]
    assert len(added) == 9
    assert {name: own[name] for name in added} == {name: stock[name] for name in added}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("r", 3, {"r": 3}),
        ("alpha", 5, {"lora_alpha": 5}),
        ("dropout", 0.25, {"lora_dropout": 0.25}),
        ("target_modules", ("q_proj", "mlp.fc1"), {"target_modules": {"q_proj", "mlp.fc1"}}),
    ],
)
def test_every_key_of_an_adapter_reaches_peft(
    key: str, value: Any, expected: dict[str, Any], loaded: LoadedModel
) -> None:
    config = lora_config(evolve(Lora(), **{key: value}), loaded.model).to_dict()
    assert {name: config[name] for name in expected} == expected
    assert key in {field.name for field in fields(Lora)} and len(fields(Lora)) == 4


INFINITE = (math.inf, math.nan)
RANGES: list[tuple[Objective, str, tuple[Any, ...], tuple[Any, ...], str]] = [
    (Sft(), "epochs", (0.01,), (0, -1, *INFINITE), "it must be a number above 0"),
    (Sft(), "learning_rate", (1e-9,), (0.0, -1e-5, *INFINITE), "it must be a number above 0"),
    (Sft(), "batch_size", (1,), (0, -1), "it must be at least 1"),
    (Sft(), "max_length", (1,), (0, -1), "it must be at least 1"),
    (Sft(batch_size=12), "micro_batch_size", (1, 12, None), (0, -4, 5, 24), "the batch_size 12 must be a multiple"),
    (Sft(), "warmup_ratio", (0.0, 0.99), (-0.01, 1.0), "it is a share of the steps, from 0 to below 1"),
    (Sft(), "weight_decay", (0.0, 2.0), (-0.01, *INFINITE), "it must be a number of at least 0"),
    (Sft(), "max_grad_norm", (0.0, 2.0), (-0.01, *INFINITE), "it must be a number above 0, or 0 for no clipping"),
    (Dpo(), "beta", (1e-9, 2.0), (0.0, -0.1, *INFINITE), "it must be a number above 0"),
    (Dpo(), "label_smoothing", (0.0, 0.49), (-0.01, 0.5), "it is a share of the pairs, from 0 to below 0.5"),
    (Dpo(), "f_alpha_divergence_coef", (0.0, 1.0), (-0.01, 1.01), "it must be from 0 to 1"),
    (Dpo(), "discopop_tau", (1e-9, 2.0), (0.0, -0.1, *INFINITE), "it must be a number above 0"),
    (Dpo(), "ld_alpha", (0.0, 1.0, None), (-0.01, 1.01), "it must be from 0 to 1"),
]
OF_LORA: list[tuple[str, tuple[Any, ...], tuple[Any, ...], str]] = [
    ("r", (1,), (0, -1), "it must be at least 1"),
    ("alpha", (1,), (0, -1), "it must be at least 1"),
    ("dropout", (0.0, 0.99), (-0.01, 1.0), "it is a probability, from 0 to below 1"),
    ("target_modules", ("all-linear", ("q_proj",)), ((), "q_proj"), "name linear layers in a list, or use all-linear"),
]


@pytest.mark.parametrize(("objective", "key", "trained", "refused", "reason"), RANGES, ids=[row[1] for row in RANGES])
def test_a_number_at_the_end_of_its_range_is_trained_with_and_one_beyond_it_is_refused(
    objective: Objective, key: str, trained: tuple[Any, ...], refused: tuple[Any, ...], reason: str
) -> None:
    for value in trained:
        assert list(objective_problems(evolve(objective, **{key: value}))) == []
    for value in refused:
        [problem] = objective_problems(evolve(objective, **{key: value}))
        assert problem.startswith(f"{key}: {value}; {reason}")


@pytest.mark.parametrize(("key", "trained", "refused", "reason"), OF_LORA, ids=[row[0] for row in OF_LORA])
def test_the_ranges_of_an_adapters_keys_are_checked(
    key: str, trained: tuple[Any, ...], refused: tuple[Any, ...], reason: str
) -> None:
    for value in trained:
        assert list(objective_problems(Sft(lora=evolve(Lora(), **{key: value})))) == []
    for value in refused:
        [problem] = objective_problems(Dpo(lora=evolve(Lora(), **{key: value})))
        assert problem == f"lora.{key}: {value!r}; {reason}"


@pytest.mark.parametrize(
    "objective", [Sft(lora=Lora()), Dpo(lora=Lora(target_modules=("q_proj", "fc1")), ld_alpha=0.5)]
)
def test_every_key_reaches_the_processes_of_a_training(objective: Objective, tmp_path: Path) -> None:
    request = TrainingRequest(Model("transformers"), None, objective, tmp_path, tmp_path, tmp_path, SETTINGS)
    request.write(tmp_path)
    assert TrainingRequest.read(tmp_path).objective == objective


@pytest.mark.parametrize("name", ["q_porj", "lm_head", "embed_tokens"])
def test_a_layer_that_gets_no_adapter_is_refused_before_training(
    name: str, base: Path, sft_file: Path, tmp_path: Path
) -> None:
    objective = Sft(lora=Lora(target_modules=("q_proj", name)))
    with pytest.raises(InputError, match=f"lora.target_modules: '{name}' is no linear layer of the model"):
        train(Model("transformers", str(base)), None, objective, sft_file, tmp_path, Context(settings=SETTINGS))


def test_dropout_of_experts_is_refused_when_the_model_is_read() -> None:
    """A model of the hub is not on the machine when a run is checked."""
    config = config_of(next(family for family in FAMILIES if family.model_type == "mixtral"))
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(InputError, match=r"lora\.dropout: PEFT adapts the experts .* set it to 0"):
        lora_config(Lora(dropout=0.1), model)
    assert lora_config(Lora(dropout=0.0), model).lora_dropout == 0
    assert lora_config(Lora(dropout=0.1, target_modules=("q_proj",)), model).lora_dropout == 0.1


@pytest.mark.parametrize(
    "changes",
    [
        {"loss_type": "robust", "label_smoothing": 0.2},
        {"loss_type": "exo_pair", "label_smoothing": 0.01},
        {"f_divergence_type": "js_divergence"},
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.2},
        {"ld_alpha": 0.0},
        {"use_weighting": True},
        {"lr_scheduler_type": "constant"},
        {"weight_decay": 0.5},
        {"max_grad_norm": 0.01},
        {"lora": Lora(r=4, target_modules=("q_proj",))},
    ],
    ids=str,
)
def test_a_key_changes_the_training(changes: dict[str, Any], base: Path, dpo_file: Path, tmp_path: Path) -> None:
    """The losses of the second epoch differ from those of the same training without the key."""

    def losses(name: str, objective: Dpo) -> list[float]:
        rows: list[Any] = []
        (tmp_path / name).mkdir()
        context = Context(settings=SETTINGS, log=rows.append)
        train(Model("transformers", str(base)), None, objective, dpo_file, tmp_path / name, context)
        return [row["loss"] for row in rows]

    plain = Dpo(epochs=2, learning_rate=1e-2, batch_size=4, warmup_ratio=0.0)
    if "lora" in changes:
        plain = evolve(plain, lora=Lora(r=4))
    before, after = losses("before", plain), losses("after", evolve(plain, **changes))
    assert len(before) == len(after) > 2
    assert before != after


@pytest.mark.parametrize("names", [("q_proj", "fc1"), ("mlp.fc2",)])
def test_only_the_named_layers_change(names: tuple[str, ...], base: Path, sft_file: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    objective = Sft(epochs=1, learning_rate=1e-2, batch_size=4, warmup_ratio=0.0, lora=Lora(r=4, target_modules=names))
    train(Model("transformers", str(base)), None, objective, sft_file, tmp_path, Context(settings=SETTINGS))
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path))
    changed = {name for name in before if not before[name].equal(after[name])}
    wanted = {name for name in before if name.endswith(tuple(f".{target}.weight" for target in names))}
    assert changed == wanted != set()
