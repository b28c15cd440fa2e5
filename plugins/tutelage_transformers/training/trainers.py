"""TRL's trainers on rows that are tokenised by this plugin. Losses, rewards, metrics and the loop are TRL's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, cached_property
from typing import Any

from tutelage.objectives import Objective
from tutelage_transformers.devices.parallel import broadcast
from tutelage_transformers.models.garbage_collection import without_garbage_collection
from tutelage_transformers.training import finite, packing, pair_labels, pair_losses
from tutelage_transformers.training.batching import BucketSampler, by_rows, by_tokens, row_length, tokens_held
from tutelage_transformers.training.pair_losses import WeightedLoss
from tutelage_transformers.training.sharing import batches_of_rank, shared_loader
from tutelage_transformers.training.shortcuts import without_visits

REFERENCE_TOKENS = 32_768
"""Tokens of packed pairs whose reference is computed at once: enough to fill a GPU, a few GB of activations at 2.7B."""


class TrainerChanges:
    """The changes that all trainers need."""

    objective: Objective | None = None
    """The objective, unless it is SFT."""

    @cached_property
    def step_batch(self) -> finite.StepBatch:
        """The examples of the current optimizer step."""
        return finite.StepBatch()

    def train(self, *arguments: Any, **options: Any) -> Any:
        """Train as TRL does; from the second batch on, without visits of all modules (see ``shortcuts``)."""
        with ExitStack() as self.shortcuts:
            return super().train(*arguments, **options)  # type: ignore[misc]

    def training_step(self, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        """Do TRL's step, and keep the examples and the loss for the error if the loss is not finite."""
        trainer: Any = self
        loss = super().training_step(model, inputs, *arguments, **options)  # type: ignore[misc]
        self.step_batch.add(trainer.state.global_step, inputs, loss)
        if "train" not in vars(model) and not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
            self.shortcuts.enter_context(without_visits(model))
        return loss

    @cached_property
    def number_of_weights(self) -> int:
        """Number of the model's weights, without those of embeddings."""
        return int(self.model.num_parameters(exclude_embeddings=True))  # type: ignore[attr-defined]

    def floating_point_ops(self, inputs: Any) -> int:
        """Compute what transformers does. It counts the weights, module by module, in every step; here, once."""
        return int(6 * inputs["input_ids"].numel() * self.number_of_weights)

    def log(self, logs: dict[str, Any], *arguments: Any, **options: Any) -> None:
        """Stop the training if a number of the step is not finite. Nothing is logged or saved before."""
        if "loss" in logs:
            finite.check_step(self, logs)
        if self.objective is not None and not self.objective.has_reference:
            trainer: Any = self
            metrics = trainer._metrics["train"]
            for name in [name for name in metrics if name.startswith("rewards/")]:
                del metrics[name]  # they compare with a reference, which was not computed
        super().log(logs, *arguments, **options)  # type: ignore[misc]

    def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        """Save a training checkpoint, unless a weight is not finite: a training continues from finite weights only."""
        finite.check_weights(self)
        super()._save_checkpoint(*arguments, **options)  # type: ignore[misc]

    def _send_telemetry(self) -> None:
        """Send nothing: TRL's telemetry is off."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write no card: a training checkpoint is not a model to publish."""

    def get_train_dataloader(self) -> Any:
        """Return TRL's loader, or with several processes one that gives each step the rows of a training by one."""
        trainer: Any = self
        if trainer.args.world_size == 1:
            return super().get_train_dataloader()  # type: ignore[misc]
        is_packed = packing.is_packed(trainer.data_collator)
        return shared_loader(trainer, [tokens_held(row, is_packed) for row in rows_of(trainer.train_dataset)])

    def _load_from_checkpoint(self, *arguments: Any, **options: Any) -> None:
        """Load a training checkpoint, and keep the types of the weights, which PEFT would load as float32."""
        model: Any = self.model  # type: ignore[attr-defined]
        types = {name: weight.dtype for name, weight in model.named_parameters()}
        super()._load_from_checkpoint(*arguments, **options)  # type: ignore[misc]
        for name, weight in model.named_parameters():
            if weight.dtype != types[name]:
                weight.data = weight.data.to(types[name])


def import_all() -> None:
    """Import TRL and what its trainers need, which takes seconds. Later calls cost nothing."""
    with without_garbage_collection():
        sft_trainer()
        dpo_trainer()


@cache
def sft_trainer() -> type[Any]:
    """Return ``trl.SFTTrainer`` without its telemetry."""
    from trl.trainer.sft_trainer import SFTTrainer

    class StudentSftTrainer(TrainerChanges, SFTTrainer):  # type: ignore[misc]  # TRL has no types
        """See ``TrainerChanges``."""

    return StudentSftTrainer


@cache
def dpo_trainer() -> type[Any]:
    """Return ``trl.DPOTrainer`` for tokenised rows, with a reference that is computed once, before training."""
    from trl.trainer import dpo_trainer

    class StudentDpoTrainer(TrainerChanges, dpo_trainer.DPOTrainer):  # type: ignore[misc]  # TRL has no types
        _signature_columns: Any

        def __init__(
            self, *arguments: Any, objective: Objective, pair_losses: Sequence[WeightedLoss] = (), **options: Any
        ) -> None:
            self.objective = objective
            self.pair_losses = pair_losses
            with own_reference(dpo_trainer):
                super().__init__(*arguments, **options)

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            """Return the rows as they are: they have TRL's columns prompt_ids, chosen_ids, rejected_ids."""
            return dataset

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            """Return an order with rows of similar length in each batch."""
            return bucket_sampler(self)

        def _set_signature_columns_if_needed(self) -> None:
            """Keep the columns of weights and soft labels in the batches, too."""
            super()._set_signature_columns_if_needed()
            self._signature_columns = list(dict.fromkeys([*self._signature_columns, *pair_labels.COLUMNS]))

        def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
            """Compute what TRL does, without the columns that the model does not know."""
            return super().compute_ref_log_probs(model, pair_labels.split(inputs)[0])

        def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
            """Compute TRL's loss, with weights and soft labels of the pairs and the losses of plugins, if any."""
            if not self.pair_losses and not pair_labels.split(inputs)[1]:
                return super()._compute_loss(model, inputs, return_outputs)
            return pair_losses.loss_of_batch(self, self.pair_losses, super()._compute_loss, model, inputs)

        def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
            """Compute what TRL does, without its cache file: a training may write into its output only."""
            return add_reference_logps(self, dataset, batch_size, ("ref_chosen_logps", "ref_rejected_logps"))

    return StudentDpoTrainer


@contextmanager
def own_reference(module: Any) -> Iterator[None]:
    """Keep a trainer of TRL, in this module, from what it does for the reference and what is not needed here.

    It would hash all weights, on the CPU and in float32, to name a cache file that is not written. Under FSDP, it would
    read the reference again, and shard a reference that is another model. The log-probabilities of the reference are
    computed before the policy is sharded, when each process has the whole model on its device. TRL reads its copy with
    ``device_map="auto"``, which is the first GPU in every process. A reference that is another model is whole on each
    device, too, and is dropped after these log-probabilities.

    TRL asks accelerate whether a model is PEFT's, also in each batch of the reference. accelerate then reads the
    metadata of the installed package twice, which takes 4 ms.
    """
    from accelerate.utils import extract_model_from_parallel
    from peft import PeftModel

    changed = {
        "is_peft_model": lambda model: isinstance(extract_model_from_parallel(model), PeftModel),
        "hash_module": lambda _: "",
        "create_model_from_path": lambda *_, **__: None,
        "prepare_fsdp": lambda model, _: model.eval(),
    }
    originals = {name: getattr(module, name) for name in changed}
    for name, function in changed.items():
        setattr(module, name, function)
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(module, name, function)


def bucket_sampler(trainer: Any) -> BucketSampler:
    """Return the order of this trainer's rows. Each step has the same rows however many the device holds at once."""
    lengths = [row_length(row) for row in rows_of(trainer.train_dataset)]
    rows_per_step = trainer.args.train_batch_size * trainer.args.gradient_accumulation_steps * trainer.args.world_size
    return BucketSampler(lengths, rows_per_step, trainer.args.seed)


def add_reference_logps(trainer: Any, dataset: Any, batch_size: int, columns: Sequence[str]) -> Any:
    """Return the dataset with the reference's log-probabilities as columns; zeros for an objective without a reference.

    TRL's ``compute_ref_log_probs`` computes them, for pairs those of both sides, by the trainer's reference model or,
    without one, by the model before its first step with its adapter off. Rows of similar length are computed together,
    to reduce padding; packed batches have as many pairs as fill a GPU.
    """
    import torch

    model = trainer.ref_model or trainer.model
    rows = rows_of(dataset)
    if not trainer.objective.has_reference:
        return _with_columns(dataset, dict.fromkeys(columns, [0.0] * len(rows)))
    lengths = [row_length(row) for row in rows]
    is_packed = packing.is_packed(trainer.data_collator)
    found = torch.zeros(len(columns), len(rows))
    batches = by_tokens(lengths, REFERENCE_TOKENS // 2) if is_packed else by_rows(lengths, batch_size)
    training = model.training
    model.eval()
    for indices, is_mine in batches_of_rank(batches, trainer.args.world_size, trainer.args.process_index):
        batch = trainer._prepare_inputs(trainer.data_collator([rows[index] for index in indices]))
        logps = trainer.compute_ref_log_probs(model, batch)[: len(columns)]
        if is_mine:
            found[:, indices] = torch.stack([one.float().cpu() for one in logps])
    model.train(training)
    all_logps = trainer.accelerator.reduce(found.to(trainer.args.device), "sum").tolist()
    finite.check_reference(all_logps)
    return _with_columns(dataset, dict(zip(columns, all_logps, strict=True)))


def rows_of(dataset: Any) -> list[dict[str, Any]]:
    """Return all rows of a dataset. They are read column by column, because reading row by row is slower."""
    columns = dataset[:]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _with_columns(dataset: Any, columns: Mapping[str, Sequence[float]]) -> Any:
    for name, column in columns.items():
        dataset = dataset.add_column(name, column)
    return dataset


def disable_dropout(model: Any) -> None:
    """Disable the model's own dropout, as TRL does for DPO by default: policy and reference must be comparable.

    TRL disables modules of dropout only. The dropout of attention is a number in most types of models.
    """
    from trl.trainer.utils import disable_dropout_in_model

    disable_dropout_in_model(model)
    for module in model.modules():
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


@cache
def progress_callback() -> type[Any]:
    """Return the class of a trainer callback that reports to a ``Context`` and stops if that is cancelled."""
    from transformers.trainer_callback import TrainerCallback

    class Progress(TrainerCallback):  # type: ignore[misc]  # transformers is not followed
        def __init__(self, context: Any) -> None:
            self.context = context

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.context.expect(state.max_steps)
            if state.global_step:  # a killed training continues
                self.context.advance(state.global_step)
            for row in state.log_history:
                self._log(row["step"], row)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.context.advance(1)
            if broadcast(self.context.cancelled(), args.device):
                control.should_training_stop = True

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            self._log(state.global_step, logs)

        def _log(self, step: int, row: dict[str, Any]) -> None:
            if "loss" in row:  # in the order in which transformers stores its rows
                self.context.log({"step": step, **{name: finite.or_none(row[name]) for name in sorted(row)}})

    return Progress
