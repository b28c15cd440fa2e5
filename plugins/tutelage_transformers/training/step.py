"""One training: check the examples, load the model, run TRL, write the checkpoint."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from attrs import evolve

from tutelage.context import Context
from tutelage.errors import InputError, StageError
from tutelage.objectives import Dpo, Objective, PairLoss, Sft
from tutelage.records import Model
from tutelage_transformers.attention.activations import fuse_activations
from tutelage_transformers.attention.rotary import fuse_rotations
from tutelage_transformers.devices import parallel
from tutelage_transformers.devices.selection import device_of, dtype_of, empty_cache, kernels_problem
from tutelage_transformers.generation import dispatch
from tutelage_transformers.models import checkpoint, loading, model_card, quantizing, trial
from tutelage_transformers.models.finding import require
from tutelage_transformers.models.loading import LoadedModel
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.settings import TransformersSettings, settings_of
from tutelage_transformers.training import (
    adapters,
    capturing,
    finite,
    launching,
    packing,
    pair_labels,
    routing,
    together,
    tracking,
    trainers,
    unpaired,
)
from tutelage_transformers.training.arguments import check, lora_config, trainer_arguments
from tutelage_transformers.training.batching import sequence_length, tokens_held
from tutelage_transformers.training.examples import dpo_rows, labelled_rows, sft_rows
from tutelage_transformers.training.fitting import divide_step, explain_out_of_memory
from tutelage_transformers.training.gathering import gathered_model
from tutelage_transformers.training.objectives import smallest_batch
from tutelage_transformers.training.pair_losses import WeightedLoss
from tutelage_transformers.training.request import TrainingRequest, check_importable
from tutelage_transformers.training.resuming import (
    TrainingFolder,
    checkpoint_callback,
    logged_rows,
    step_of,
    training_folder,
)


def train(
    model: Model, reference: Model | None, objective: Objective, examples: Path, output: Path, context: Context
) -> Model:
    """Train ``model`` and write the whole checkpoint into ``output``; returns the model of that folder.

    ``reference`` is the policy that the objective stays near; None is the model that training starts from. Raises
    ``InputError`` before training for anything wrong with model, objective or examples, and ``StageError`` if the user
    cancels; in both cases no checkpoint is written.
    """
    require("torch", "transformers", "trl", "peft", "datasets", "accelerate")
    settings = settings_of(context)
    request = TrainingRequest(model, reference, objective, examples, output, context.scratch, settings)
    request = evolve(request, tracking=context.tracking, plugin_files=context.plugin_files)
    check(objective)
    quantizing.check(objective, settings)
    dispatch.release_all()
    processes = parallel.training_processes(settings, objective.batch_size)
    if settings.accelerate_config is not None or processes > 1:
        check_importable(objective)
    if settings.accelerate_config is not None:
        launching.launch(request, settings.accelerate_config, context)
    elif processes > 1:
        together.train(request, parallel.device_names(settings), processes, context)
    else:
        single = parallel.settings_of_one_process(settings, str(device_of(settings)))
        train_here(evolve(request, settings=single), context)
    return evolve(model, name=str(output))


def train_here(request: TrainingRequest, context: Context) -> None:
    """Do a training in this process, which may be one of ``settings.processes`` that train together.

    Of ``context`` only progress, metrics and cancellation are used. Raises ``StageError`` at the first step that gives
    a number that is not finite; the training checkpoints that remain are those of earlier, finite steps.
    """
    with quiet(), _light_garbage_collection(), _without_cudnn_attention(), _on_device(request.settings):
        try:
            _train(request, context)
        except finite.NotFiniteError as error:
            raise finite.stopped(error, request) from error


def _train(request: TrainingRequest, context: Context) -> None:
    settings, objective = request.settings, request.objective
    dtype = training_dtype(objective, settings)
    with adapters.kernels_compiled(objective.lora if _can_be_packed(objective) else None, settings):
        start = quantizing.read(request.model, settings, dtype)
        if problem := trial.generation_problem(start.model.generation_config):
            raise InputError(f"model {loading.location(request.model)}: {problem}")
        reference = None
        if _needs_reference(request):
            assert request.reference is not None
            reference = quantizing.read(request.reference, settings, dtype)
        folder = training_folder(request)
        trainer = build(request, start, reference, folder.path, context)
    del reference  # its memory is for the training
    with explain_out_of_memory(objective, trainer.args.per_device_train_batch_size):
        _run(trainer, folder, settings, context)
    trained = gathered_model(trainer, lambda: loading.read(request.model, evolve(settings, device="cpu"), dtype).model)
    if trained is not None:
        trained = quantizing.on_full_precision(trained, request.model, settings)
        location = loading.location(request.model)
        checkpoint.save(trained, start.tokenizer, request.output, dtype_of(settings), location)
        model_card.write(request.output, request.model, request.reference, objective, request.examples)
        folder.remove()


@contextmanager
def _light_garbage_collection() -> Iterator[None]:
    """Keep the libraries' objects out of garbage collection, and collect the trainer at the end: it is full of cycles.

    The libraries have half a million objects. A full collection takes 0.2 s for them, and TRL collects at every start.
    """
    trainers.import_all()
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
        empty_cache()


@contextmanager
def _on_device(settings: TransformersSettings) -> Iterator[None]:
    """Make the GPU of the settings the one that accelerate takes: it asks torch for the current one."""
    import torch

    device = device_of(settings)
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        yield


@contextmanager
def _without_cudnn_attention() -> Iterator[None]:
    """Keep torch's sdpa from cuDNN, whose gradients of padded batches can be NaN.

    Seen with cuDNN's attention of torch 2.11 on an H100: Gemma 3 270M in bfloat16, 16 rows of 50 to 576 tokens, windows
    of 512. The loss was finite; the gradient of the queries of one layer was NaN. With the same inputs the other
    implementations give finite gradients. ``sdpa_kernel`` is not used, because it excludes implementations that later
    versions add.
    """
    import torch

    was_enabled = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(was_enabled)


def training_dtype(objective: Objective, settings: TransformersSettings) -> Any:
    """Return the torch type that the weights are trained in.

    Full fine-tuning keeps them in float32 and computes in the settings' type (mixed precision): a step of 1e-5 is lost
    in bfloat16. Under an adapter the weights do not change, so they stay in the settings' type.
    """
    import torch

    return torch.float32 if objective.lora is None else dtype_of(settings)


def build(
    request: TrainingRequest, start: LoadedModel, reference: LoadedModel | None, folder: Path, context: Context
) -> Any:
    """Return the TRL trainer of a training, ready for ``train()``; its state is saved in ``folder``.

    ``start`` is ``request.model`` in memory. ``reference`` is None if the objective stays near the start model itself.
    Raises ``InputError`` with file and line for an example that cannot be trained on.
    """
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    objective, settings = request.objective, request.settings
    limit = min(objective.max_length, loading.context_length(start.model.config))
    rows = _rows(objective, request.examples, start.tokenizer, limit)
    has_pairs = objective.examples == "preferences"
    if has_pairs:
        pair_labels.check(objective, context.pair_losses, rows, request.examples)
    packed = _can_be_packed(objective) and packing.is_wanted(start.model, settings)
    lengths = [tokens_held(row, packed) for row in rows]
    division = divide_step(parallel.share_of_objective(objective, settings), start.model, lengths, packed, settings)
    common = {
        "model": start.model,
        "args": trainer_arguments(objective, start.model, folder, settings, packed, division, _labels(rows)),
        "data_collator": _collator(objective, start, reference, packed, dtype_of(settings)),
        "train_dataset": Dataset.from_list(rows),
        "processing_class": start.tokenizer,
        "peft_config": lora_config(objective.lora, start.model),
        "callbacks": [trainers.progress_callback()(context)],
    }
    if request.tracking is not None:
        tracking.name_run(common["args"], request.tracking)
        common["callbacks"].append(tracking.tracking_callback()(request.tracking))
    if isinstance(objective, Sft):
        with routing.kept_settings(start.model), adapters.drawn_on_the_gpu(start.model.device):
            trainer = trainers.sft_trainer()(**common)
    else:
        trainers.disable_dropout(start.model)
        common |= {"objective": objective, "ref_model": reference.model if reference else None}
        with explain_out_of_memory(objective, division.rows), adapters.drawn_on_the_gpu(start.model.device):
            if has_pairs:
                trainer = trainers.dpo_trainer()(**common, pair_losses=_weighted_losses(objective, context))
            else:
                trainer = unpaired.unpaired_trainer()(**common)
        if reference is not None:  # its log-probabilities are columns of the rows now
            trainer.ref_model = None
            trainer.accelerator.free_memory()
    trainer.remove_callback(PrinterCallback)
    if objective.lora is not None:
        adapters.cast_adapters(trainer.model, adapters.adapter_dtype(settings))
        if packed and not trainer.is_fsdp_enabled:  # FSDP may keep an adapter's weights apart from its layer
            # DeepSpeed may gather the base's weights in a hook, which the kernels would pass by
            adapters.fuse_adapters(trainer.model, with_kernels=not trainer.is_deepspeed_enabled)
    if packed and settings.cuda_graphs and capturing.is_worth_it(trainer, lengths):
        packing.capture(trainer, max(map(sequence_length, rows)), capturing.token_sizes(trainer, lengths))
    return trainer


def _can_be_packed(objective: Objective) -> bool:
    return objective.examples == "preferences" or isinstance(objective, Sft)


def _rows(objective: Objective, examples: Path, tokenizer: Any, limit: int) -> Sequence[dict[str, Any]]:
    """Return the tokenised rows for the trainer of an objective."""
    if isinstance(objective, Sft):
        return sft_rows(examples, tokenizer, limit)
    if objective.examples == "preferences":
        return dpo_rows(examples, tokenizer, limit)
    rows = labelled_rows(examples, tokenizer, limit, has_labels=objective.examples == "labelled")
    if len(rows) < (least := smallest_batch(objective)):
        raise InputError(
            f"{examples}: {len(rows)} answer; the KL term of KTO is estimated from at least {least}: add more"
        )
    return rows


def _labels(rows: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Return the numbers of desirable and undesirable answers."""
    desirable = sum(row.get("label") is True for row in rows)
    return desirable, sum(row.get("label") is False for row in rows)


def _collator(
    objective: Objective, start: LoadedModel, reference: LoadedModel | None, packed: bool, trained_in: Any
) -> Any:
    """Return the collator of the batches, None for TRL's own. For packed batches, the models are prepared.

    ``trained_in`` is the torch type in which the training computes.
    """
    if not packed:
        has_pairs = objective.examples == "preferences"
        return pair_labels.collator()(start.tokenizer.pad_token_id) if has_pairs else None
    for loaded in (start, reference):
        if loaded is not None:
            packing.pack(loaded.model)
            fuse_activations(loaded.model)
            if kernels_problem(loaded.model.device) is None:
                fuse_rotations(loaded.model, trained_in)
    collator = packing.sft_collator if isinstance(objective, Sft) else packing.dpo_collator
    return collator(start.tokenizer.pad_token_id)


def _weighted_losses(objective: Objective, context: Context) -> list[WeightedLoss]:
    """Return the losses that TRL does not compute: those of plugins in DPO, or that of the objective itself."""
    if not isinstance(objective, Dpo):
        return [WeightedLoss(objective.label, PairLoss(objective.loss, objective.label), 1.0)]
    return [WeightedLoss(name, context.pair_losses[name], objective.losses[name]) for name in objective.plugin_losses]


def _needs_reference(request: TrainingRequest) -> bool:
    """Return whether the reference is another model than the start model, and so has to be loaded too."""
    if not request.objective.has_reference or request.reference is None:
        return False
    reference, start = (Path(loading.location(model)).resolve() for model in (request.reference, request.model))
    return reference != start


def _run(trainer: Any, folder: TrainingFolder, settings: TransformersSettings, context: Context) -> None:
    """Train, from the folder's training checkpoint on if it has one. Raises ``StageError`` if the user cancels."""
    trainer.add_callback(checkpoint_callback()(folder, settings.checkpoint_minutes, context))
    last = _last_checkpoint(trainer, folder)
    if last is not None:
        trainer._total_train_tokens = int(logged_rows(last)[-1]["num_tokens"])  # TRL would count from 0 again
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    finite.check_weights(trainer)
    state = trainer.state
    if state.global_step < state.max_steps:
        kept = _last_checkpoint(trainer, folder)
        if kept is None:
            folder.remove()
        raise StageError(
            f"training was cancelled after {state.global_step} of {state.max_steps} steps; the same command "
            + (f"continues after step {step_of(kept)}" if kept else "starts this step again")
        )


def _last_checkpoint(trainer: Any, folder: TrainingFolder) -> Path | None:
    """Return the training checkpoint to continue from; the first of several processes chooses it."""
    last = folder.latest() if trainer.is_world_process_zero() else None
    step = parallel.broadcast(step_of(last) if last else 0, trainer.args.device)
    return folder.checkpoint(step) if step else None
