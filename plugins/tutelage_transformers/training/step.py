"""One training step, by SFT or DPO: examples checked, model loaded, TRL run, checkpoint written."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import evolve

from tutelage.context import Context
from tutelage.errors import StageError
from tutelage.records import Dpo, Model, Objective, Sft
from tutelage_transformers.attention.activations import fuse_activations
from tutelage_transformers.devices import parallel
from tutelage_transformers.devices.selection import device_of, dtype_of, empty_cache
from tutelage_transformers.generation import asking
from tutelage_transformers.models import checkpoint, loading, model_card, quantizing
from tutelage_transformers.models.finding import require
from tutelage_transformers.models.loading import Loaded
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.settings import TransformersSettings, settings_of
from tutelage_transformers.training import adapters, launching, packing, trainers
from tutelage_transformers.training.arguments import check, lora_config, trainer_arguments
from tutelage_transformers.training.batching import tokens_held
from tutelage_transformers.training.examples import dpo_rows, sft_rows
from tutelage_transformers.training.fitting import fit, told_when_full
from tutelage_transformers.training.gathering import whole_model
from tutelage_transformers.training.request import Request
from tutelage_transformers.training.resuming import (
    TrainingFolder,
    keeping_callback,
    logged_rows,
    step_of,
    training_folder,
)


def train(
    model: Model, reference: Model | None, objective: Objective, examples: Path, output: Path, context: Context
) -> Model:
    """Train ``model`` and write the whole checkpoint into ``output``; returns the model that lies there.

    ``reference`` is the policy that DPO stays near; None is the model that it starts from. Raises ``InputError`` before
    training for anything wrong with model, objective or examples, and ``StageError`` where the user cancels: there is
    no half a checkpoint.
    """
    require("torch", "transformers", "trl", "peft", "datasets", "accelerate")
    settings = settings_of(context)
    check(objective)
    quantizing.check(objective, settings)
    asking.release_all()
    processes = parallel.training_processes(settings, objective.batch_size)
    if processes > 1 or settings.accelerate_config is not None:
        asked = Request.of(model, reference, objective, examples, output, evolve(context, settings=settings))
        launching.launch(asked, processes, context)
    else:
        one = parallel.of_one_process(settings, str(device_of(settings)))
        train_here(model, reference, objective, examples, output, context.with_settings(one))
    return evolve(model, name=str(output))


def train_here(
    model: Model, reference: Model | None, objective: Objective, examples: Path, output: Path, context: Context
) -> None:
    """``train`` in this process, which may be one of ``settings.processes`` that train together on their devices."""
    with quiet(), _light_garbage_collection():
        _train(model, reference, objective, examples, output, settings_of(context), context)


def _train(
    model: Model,
    reference: Model | None,
    objective: Objective,
    examples: Path,
    output: Path,
    settings: TransformersSettings,
    context: Context,
) -> None:
    dtype = training_dtype(objective, settings)
    start = quantizing.read(model, settings, dtype)
    other = None
    if isinstance(objective, Dpo) and reference is not None and not _is_same(reference, model):
        other = quantizing.read(reference, settings, dtype)
    folder = training_folder(model, reference, objective, examples, output, settings, context)
    trainer = build(objective, start, other, examples, folder.path, settings, context)
    del other  # its memory is for the training
    with told_when_full(objective, trainer.args.per_device_train_batch_size):
        _run(trainer, folder, settings, context)
    trained = whole_model(trainer, lambda: loading.read(model, evolve(settings, device="cpu"), dtype).model)
    if trained is not None:
        trained = quantizing.on_whole_weights(trained, model, settings)
        checkpoint.save(trained, start.tokenizer, output, dtype_of(settings), loading.location(model))
        model_card.write(output, model, reference, objective, examples)
        folder.remove()


@contextmanager
def _light_garbage_collection() -> Iterator[None]:
    """Leave the libraries' objects out of garbage collection, and collect the trainer, which is full of cycles.

    The libraries are half a million objects, which a full collection walks in 0.2 s, and TRL collects at every start.
    """
    for imports in (trainers.sft_trainer, trainers.dpo_trainer):
        imports()
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
        empty_cache()


def training_dtype(objective: Objective, settings: TransformersSettings) -> Any:
    """The torch type that the weights are trained in.

    Full fine-tuning keeps them in float32 and computes in the settings' type (mixed precision): a step of 1e-5 is lost
    in bfloat16. Under an adapter the weights stand still, so they stay in the settings' type.
    """
    import torch

    return torch.float32 if objective.lora is None else dtype_of(settings)


def build(
    objective: Objective,
    start: Loaded,
    reference: Loaded | None,
    examples: Path,
    output: Path,
    settings: TransformersSettings,
    context: Context,
) -> Any:
    """The TRL trainer of this step, ready to ``train()``. ``reference`` is None where DPO stays near the start itself.

    Raises ``InputError`` with file and line for an example that cannot be trained on.
    """
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    limit = min(objective.max_length, loading.context_length(start.model.config))
    read = sft_rows if isinstance(objective, Sft) else dpo_rows
    rows = read(examples, start.tokenizer, limit)
    packed = packing.wanted(start.model, settings)
    division = fit(
        parallel.share_of(objective, settings),
        start.model,
        [tokens_held(row, packed) for row in rows],
        packed,
        settings,
    )
    common = {
        "model": start.model,
        "args": trainer_arguments(objective, start.model, output, settings, packed, division),
        "data_collator": _packing_collator(objective, start, reference) if packed else None,
        "train_dataset": Dataset.from_list(rows),
        "processing_class": start.tokenizer,
        "peft_config": lora_config(objective.lora, start.model),
        "callbacks": [trainers.progress_callback()(context)],
    }
    if isinstance(objective, Sft):
        trainer = trainers.sft_trainer()(**common)
    else:
        trainers.disable_dropout(start.model)
        with told_when_full(objective, division.rows):
            trainer = trainers.dpo_trainer()(**common, ref_model=reference.model if reference else None)
        if reference is not None:  # its log-probabilities are in the rows by now
            trainer.ref_model = None
            trainer.accelerator.free_memory()
    trainer.remove_callback(PrinterCallback)
    if objective.lora is not None:
        adapters.cast_adapters(trainer.model, adapters.adapter_dtype(settings))
        if packed and not trainer.is_fsdp_enabled:  # which may keep the weights of an adapter from its layer
            adapters.fuse_adapters(trainer.model)
    return trainer


def _packing_collator(objective: Objective, start: Loaded, reference: Loaded | None) -> Any:
    """Make the models ready to run packed; returns what collates their batches."""
    for loaded in (start, reference):
        if loaded is not None:
            packing.pack(loaded.model)
            fuse_activations(loaded.model)
    collator = packing.sft_collator if isinstance(objective, Sft) else packing.dpo_collator
    return collator(start.tokenizer.pad_token_id)


def _is_same(reference: Model, model: Model) -> bool:
    return Path(loading.location(reference)).resolve() == Path(loading.location(model)).resolve()


def _run(trainer: Any, folder: TrainingFolder, settings: TransformersSettings, context: Context) -> None:
    """Train, from the folder's checkpoint on where it has one. Raises ``StageError`` where the user cancels."""
    trainer.add_callback(keeping_callback()(folder, settings.checkpoint_minutes, context))
    last = _last(trainer, folder)
    if last is not None:
        trainer._total_train_tokens = int(logged_rows(last)[-1]["num_tokens"])  # TRL counts on from 0
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    state = trainer.state
    if state.global_step < state.max_steps:
        kept = _last(trainer, folder)
        if kept is None:
            folder.remove()
        raise StageError(
            f"training was cancelled after {state.global_step} of {state.max_steps} steps; the same command "
            + (f"goes on after step {step_of(kept)}" if kept else "starts this step again")
        )


def _last(trainer: Any, folder: TrainingFolder) -> Path | None:
    """The training checkpoint to go on from, which the first of several processes chooses."""
    last = folder.last() if trainer.is_world_process_zero() else None
    step = parallel.agreed(step_of(last) if last else 0, trainer.args.device)
    return folder.checkpoint(step) if step else None
