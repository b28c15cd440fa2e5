"""TRL's configuration for an objective of a recipe.

What the recipe cannot set keeps TRL's default, with one difference: DPO disables the model's own dropout, as TRL does,
but not the adapter's, which the recipe sets.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from tutelage.errors import InputError, nearest
from tutelage.objectives import DIVERGENCES, SCHEDULERS, Dpo, Lora, Objective, Sft
from tutelage_transformers.devices.selection import dtype_of
from tutelage_transformers.models.experts import experts_of
from tutelage_transformers.models.weights import ALL_LINEAR, target_problems
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.fitting import StepDivision
from tutelage_transformers.training.objectives import Kto
from tutelage_transformers.training.routing import balance_coefficient

_PHI_LAYERS = ("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2")
"""All linear layers of Phi except the head."""
_MAMBA_TYPES = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
"""The types in which PEFT (0.21) refuses an adapter on ``out_proj``."""
LOSS_TYPES = [
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]
"""TRL's losses; all of them need only pairs."""
SMOOTHED = {"robust": 0.1, "exo_pair": 0.001}
"""The losses that need label smoothing, with the value of their papers. Without it, ``robust`` is ``sigmoid``."""
OF_REWARD_DIFFERENCES = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"}
"""The losses that TRL's trainer computes with another divergence than ``reverse_kl``."""
_NOT_WEIGHTED = {"aot", "aot_unpaired", "sft", "hinge"}
"""The losses whose pairs TRL cannot weight: those of a whole batch, and ``hinge``, whose gradient then fails."""


def check(objective: Objective) -> None:
    """Raise ``InputError`` with every problem of an objective that cannot be trained, before anything is loaded."""
    if problems := list(objective_problems(objective)):
        raise InputError("\n".join(problems))


def objective_problems(objective: Objective) -> Iterator[str]:
    """Yield each problem of an objective, as ``KEY: problem``."""
    micro = objective.micro_batch_size
    if micro is not None and (micro < 1 or objective.batch_size % micro):
        yield (
            f"micro_batch_size: {micro}; the batch_size {objective.batch_size} must be a multiple of it, "
            "so that every step learns from as many examples"
        )
    if not 0 <= objective.warmup_ratio < 1:
        yield f"warmup_ratio: {objective.warmup_ratio}; it is a share of the steps, from 0 to below 1"
    for key in ("epochs", "learning_rate"):
        value = getattr(objective, key)
        if not (value > 0 and math.isfinite(value)):
            yield f"{key}: {value}; it must be a number above 0"
    for key in ("batch_size", "max_length"):
        if getattr(objective, key) < 1:
            yield f"{key}: {getattr(objective, key)}; it must be at least 1"
    if not (objective.weight_decay >= 0 and math.isfinite(objective.weight_decay)):
        yield f"weight_decay: {objective.weight_decay}; it must be a number of at least 0"
    if not (objective.max_grad_norm >= 0 and math.isfinite(objective.max_grad_norm)):
        yield f"max_grad_norm: {objective.max_grad_norm}; it must be a number above 0, or 0 for no clipping"
    yield from _choice_problems("lr_scheduler_type", objective.lr_scheduler_type, get_args(SCHEDULERS))
    if (lora := objective.lora) is not None:
        for key in ("r", "alpha"):
            if getattr(lora, key) < 1:
                yield f"lora.{key}: {getattr(lora, key)}; it must be at least 1"
        if not 0 <= lora.dropout < 1:
            yield f"lora.dropout: {lora.dropout}; it is a probability, from 0 to below 1"
        if not lora.target_modules or (isinstance(lora.target_modules, str) and lora.target_modules != ALL_LINEAR):
            yield f"lora.target_modules: {lora.target_modules!r}; name linear layers in a list, or use {ALL_LINEAR}"
    if isinstance(objective, Dpo):
        if not (objective.beta > 0 and math.isfinite(objective.beta)):
            yield f"beta: {objective.beta}; it must be a number above 0"
        yield from _loss_problems(objective.losses)
        yield from _dpo_problems(objective)


def _choice_problems(key: str, value: str, choices: Collection[str]) -> Iterator[str]:
    """A value that is not one of the choices, which an objective that was made in Python may have."""
    if value not in choices:
        yield f"{key}: {value!r} is unknown{nearest(value, choices)}"


def _dpo_problems(objective: Dpo) -> Iterator[str]:
    """The settings of losses: their ranges, and what TRL's trainer cannot combine."""
    losses = objective.losses
    if not 0 <= objective.label_smoothing < 0.5:
        yield f"label_smoothing: {objective.label_smoothing}; it is a share of the pairs, from 0 to below 0.5"
    for name in losses.keys() & SMOOTHED.keys() if objective.label_smoothing == 0 else ():
        other = "; without it the loss is sigmoid" if name == "robust" else ""
        yield f"label_smoothing: missing; the loss {name} needs it{other}: set it, for example to {SMOOTHED[name]:g}"
    yield from _choice_problems("f_divergence_type", objective.f_divergence_type, get_args(DIVERGENCES))
    others = sorted(losses.keys() - OF_REWARD_DIFFERENCES)
    if objective.f_divergence_type != "reverse_kl" and others:
        yield (
            f"f_divergence_type: {objective.f_divergence_type}; the loss {', '.join(others)} knows reverse_kl only: "
            "leave it out, or choose another loss_type"
        )
    if not 0 <= objective.f_alpha_divergence_coef <= 1:
        yield f"f_alpha_divergence_coef: {objective.f_alpha_divergence_coef}; it must be from 0 to 1"
    if not (objective.discopop_tau > 0 and math.isfinite(objective.discopop_tau)):
        yield f"discopop_tau: {objective.discopop_tau}; it must be a number above 0"
    if objective.ld_alpha is not None and not 0 <= objective.ld_alpha <= 1:
        yield f"ld_alpha: {objective.ld_alpha}; it must be from 0 to 1"
    unknown = {"ld_alpha": objective.ld_alpha is not None, "use_weighting": objective.use_weighting}
    for key in [key for key, is_set in unknown.items() if is_set and objective.plugin_losses]:
        yield f"{key}: {getattr(objective, key)}; the losses of plugins do not know it; leave it out"
    unweighted = sorted(losses.keys() & _NOT_WEIGHTED)
    if objective.use_weighting and unweighted:
        yield (
            f"use_weighting: true; TRL cannot weight the pairs of the loss {', '.join(unweighted)}: "
            "leave it out, or choose another loss_type"
        )


def trl_losses(objective: Dpo) -> dict[str, float]:
    """Return the losses that TRL's trainer computes, each with its weight: all but those of plugins."""
    return {name: weight for name, weight in objective.losses.items() if name not in objective.plugin_losses}


def _loss_problems(losses: Mapping[str, float]) -> Iterator[str]:
    if not losses:
        yield "loss_type: no loss is named; leave it out for sigmoid"
    for name, weight in losses.items():
        if name not in LOSS_TYPES and "/" not in name:  # core has checked the losses of plugins
            yield f"loss_type: {name!r} is unknown{nearest(name, LOSS_TYPES)}"
        if not (weight > 0 and math.isfinite(weight)):
            yield f"loss_type: the weight of {name!r} is {weight}; give one above 0, or leave the loss out"


def trainer_arguments(
    objective: Objective,
    model: Any,
    output: Path,
    settings: TransformersSettings,
    packed: bool,
    division: StepDivision,
    labels: tuple[int, int] = (0, 0),
) -> Any:
    """Return a ``trl.SFTConfig``, ``trl.DPOConfig`` or ``trl.KTOConfig``. The trainer itself saves and prints nothing.

    ``labels`` are the numbers of desirable and undesirable answers, for KTO.

    Half-precision weights below a fused adapter need no autocast, which would cast each layer's input without need.
    """
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.sft_config import SFTConfig

    dtype = str(dtype_of(settings)).removeprefix("torch.")
    common: dict[str, Any] = {
        "output_dir": str(output),
        "num_train_epochs": objective.epochs,
        "learning_rate": objective.learning_rate,
        "lr_scheduler_type": objective.lr_scheduler_type,
        "weight_decay": objective.weight_decay,
        "max_grad_norm": objective.max_grad_norm,
        "per_device_train_batch_size": division.rows,
        "gradient_accumulation_steps": objective.batch_size // (division.rows * (settings.processes or 1)),
        "ddp_find_unused_parameters": False,
        "warmup_steps": objective.warmup_ratio,
        "seed": objective.seed,
        "bf16": dtype == "bfloat16" and not (packed and objective.lora),
        "fp16": dtype == "float16",
        "use_cpu": model.device.type == "cpu",
        "gradient_checkpointing": division.checkpointing,
        "logging_steps": 1,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # it would log a mean of other steps in place of a loss that is NaN
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": model.device.type == "cuda",
        "router_aux_loss_coef": balance_coefficient(model),
        "max_length": None,  # the length of every row is checked before; nothing is truncated
    }
    if isinstance(objective, Sft):
        arguments = SFTConfig(**common, dataset_kwargs={"skip_prepare_dataset": True})
    else:
        common |= {
            "beta": objective.reward_factor or 1.0,
            "precompute_ref_log_probs": True,
            "disable_dropout": False,  # done before the adapter is added, whose dropout is the recipe's
        }
        if objective.examples == "preferences":
            arguments = DPOConfig(**common, **_dpo_options(objective))
        else:
            arguments = KTOConfig(**common, **_kto_options(objective, labels))
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # otherwise one process copies the model to every visible GPU, which TRL refuses
    return arguments


def _dpo_options(objective: Objective) -> dict[str, Any]:
    """The options of TRL's DPO trainer. It computes none of its losses for an objective of a plugin."""
    if not isinstance(objective, Dpo):
        return {"loss_type": [], "loss_weights": []}
    losses = trl_losses(objective)
    return {
        "loss_type": list(losses),
        "loss_weights": list(losses.values()),
        "label_smoothing": objective.label_smoothing,
        "f_divergence_type": objective.f_divergence_type,
        "f_alpha_divergence_coef": objective.f_alpha_divergence_coef,
        "discopop_tau": objective.discopop_tau,
        "ld_alpha": objective.ld_alpha,
        "use_weighting": objective.use_weighting,
    }


def _kto_options(objective: Objective, labels: tuple[int, int]) -> dict[str, Any]:
    """The options of TRL's KTO trainer. A loss of a plugin replaces the loss, whose KL term is then not needed."""
    if not isinstance(objective, Kto):
        return {"loss_type": "apo_zero_unpaired"}
    desirable, undesirable = objective.weights(*labels)
    return {
        "loss_type": objective.loss_type,
        "desirable_weight": desirable,
        "undesirable_weight": undesirable,
    }


def lora_config(lora: Lora | None, model: Any) -> Any:
    """Return a ``peft.LoraConfig`` for the layers that the recipe names, or None for full fine-tuning.

    Raises ``InputError`` for a name that matches no linear layer of the model, and for dropout that PEFT does not have.
    """
    if lora is None:
        return None
    import torch
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    ]
    if problems := list(target_problems(lora, layers)):
        raise InputError("\n".join(problems))
    if experts_of(model) and (problem := dropout_problem(lora, model.config)):
        raise InputError(problem)
    return _peft_config(lora, model)


def dropout_problem(lora: Lora, config: Any) -> str | None:
    """Return why PEFT cannot make an adapter with dropout for a model of this configuration, or None if it can.

    In some mixtures of experts (Mixtral, Qwen 3 MoE), the weights of all experts are one tensor, and PEFT adapts it
    without dropout only. The model is made without memory for its weights.
    """
    import torch
    from peft import get_peft_model
    from transformers.models.auto.modeling_auto import AutoModelForCausalLM

    if not lora.dropout:
        return None
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    try:
        get_peft_model(model, _peft_config(lora, model), low_cpu_mem_usage=True)
    except ValueError as error:
        if "lora_dropout" not in str(error):
            raise
        return (
            f"lora.dropout: PEFT adapts the experts of this model (type {config.model_type}) without dropout; set it "
            "to 0, or name the layers of its attention in lora.target_modules"
        )
    return None


def _peft_config(lora: Lora, model: Any) -> Any:
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    every = list(_PHI_LAYERS) if model.config.model_type == "phi" else ALL_LINEAR
    return LoraConfig(
        exclude_modules=excluded_layers(model) or None,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2's layers
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=every if lora.target_modules == ALL_LINEAR else list(lora.target_modules),
        task_type="CAUSAL_LM",
    )


def excluded_layers(model: Any) -> list[str]:
    """Return the names of the layers that get no adapter although they are linear: routers, and some of Mamba.

    A router chooses the experts of a token and returns more than the product of its weights. PEFT refuses the output
    projection of the types in ``_MAMBA_TYPES``, whose fused kernels read the weights without the layer.
    """
    routers = {name for name, module in model.named_modules() if "Router" in type(module).__name__}
    mamba = {"out_proj"} if model.config.model_type in _MAMBA_TYPES else set()
    return sorted(routers | mamba)
