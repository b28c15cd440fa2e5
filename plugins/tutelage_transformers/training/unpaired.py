"""TRL's KTO trainer on rows that are tokenised by this plugin, and losses of plugins on single answers.

TRL estimates the KL term of a batch from mismatched answers: each prompt with the answer before it in the batch. They
are the same in every epoch, so the order of the rows is fixed: it is drawn once, by seed. Batches are padded.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from tutelage.objectives import AnswerBatch, Objective
from tutelage_transformers.training.pair_losses import checked_loss
from tutelage_transformers.training.trainers import TrainerChanges, add_reference_logps, own_reference


class FixedOrder:
    """A sampler of row indices with the same order in every epoch."""

    def __init__(self, rows: int, seed: int) -> None:
        self.indices = list(range(rows))
        random.Random(f"{seed}/unpaired").shuffle(self.indices)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the order is that of every epoch."""

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


@cache
def unpaired_trainer() -> type[Any]:
    """Return ``trl.KTOTrainer`` for tokenised rows, with a reference that is computed once, before training."""
    from trl.trainer import kto_trainer

    class StudentKtoTrainer(TrainerChanges, kto_trainer.KTOTrainer):  # type: ignore[misc]  # TRL has no types
        objective: Objective

        def __init__(self, *arguments: Any, objective: Objective, **options: Any) -> None:
            self.objective = objective
            with own_reference(kto_trainer):
                super().__init__(*arguments, **options)

        def _prepare_dataset(self, dataset: Any, tokenizer: Any, args: Any, name: str) -> Any:
            """Return the rows, which have TRL's columns, with the mismatched answers of the KL term."""
            if not self.calculate_KL:
                return dataset
            order = FixedOrder(len(dataset), args.seed).indices
            mismatched = mismatched_answers(dataset["completion_ids"], order, args.per_device_train_batch_size)
            return dataset.add_column("KL_completion_ids", mismatched)

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            """Return the order by which the mismatched answers were chosen."""
            return FixedOrder(len(self.train_dataset), self.args.seed)

        def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
            """Compute what TRL does, without its cache file: a training may write into its output only."""
            columns = ("ref_logps", "ref_KL_logps") if self.calculate_KL else ("ref_logps",)
            return add_reference_logps(self, dataset, batch_size, columns)

        def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
            """Compute TRL's loss, or that of the objective of a plugin. The metrics are always TRL's."""
            if not self.objective.has_loss:
                return super()._compute_loss(model, inputs, return_outputs)
            seen: list[Any] = []

            def observed(*arguments: Any, **options: Any) -> Any:
                seen.append(model(*arguments, **options))
                return seen[-1]

            super()._compute_loss(observed, inputs, return_outputs=False)
            loss = answer_loss(self.objective, seen[0].log_probs, inputs)
            return loss + self.router_aux_loss_coef * seen[0].aux_loss if self.aux_loss_enabled else loss

    return StudentKtoTrainer


def mismatched_answers(answers: Sequence[Any], order: Sequence[int], rows: int) -> list[Any]:
    """Return for each answer the one before it in its batch of ``rows`` rows; for the first one, the last one."""
    found = list(answers)
    for start in range(0, len(order), rows):
        batch = order[start : start + rows]
        for index, before in zip(batch, [batch[-1], *batch[:-1]], strict=True):
            found[index] = answers[before]
    return found


def answer_loss(objective: Objective, logps: Any, inputs: Mapping[str, Any]) -> Any:
    """Return the mean loss of a batch of answers. ``logps`` (rows, width - 1) are 0 outside the answers."""
    batch = AnswerBatch(
        log_probability=logps.sum(dim=1),
        reference=inputs["ref_logps"],
        token_log_probability=logps,
        token_mask=inputs["completion_mask"][:, 1:],
        desirable=inputs["label"].bool(),
    )
    return checked_loss(f"loss of {objective.label}", objective.loss(batch), batch.log_probability, "answer").mean()
