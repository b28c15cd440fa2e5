"""Weights and soft labels of preference pairs, which TRL's DPO trainer does not have.

Weight: the gradient that reaches the log-probabilities of a pair's tokens is multiplied by the weight of the pair. As
the loss is a mean of losses of single pairs, this is the gradient of the mean of the weighted losses, for each of TRL's
losses. The loss that TRL logs is the mean without weights.

Soft label: with the probability p that the chosen answer is the better one, the loss is conservative DPO's,
-p log sigmoid(x) - (1 - p) log sigmoid(-x) with x = beta * difference of the log-ratios (Mitchell, 2023, "A note on DPO
with noisy preferences"). It equals TRL's ``sigmoid`` loss plus (1 - p) x, because log sigmoid(-x) = log sigmoid(x) - x.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tutelage.errors import InputError
from tutelage.objectives import Dpo, Objective, PairLoss

COLUMNS = ("weight", "probability")
"""Columns of a dataset of pairs. A dataset has a column only if a pair has another value than 1 in it."""
_REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")
"""TRL's columns of the reference's log-probabilities."""
_OF_BATCH = ("aot", "aot_unpaired")
"""The losses that sort the pairs of a batch, in which no pair has a loss of its own."""


def check(
    objective: Objective, plugin_losses: Mapping[str, PairLoss], rows: Sequence[Mapping[str, Any]], examples: Path
) -> None:
    """Raise ``InputError`` if pairs have weights or soft labels that the loss of the objective cannot take."""
    for column in COLUMNS if rows else ():
        if column in rows[0] and (problems := list(_problems(column, objective, plugin_losses))):
            labelled = sum(row[column] != 1 for row in rows)
            raise InputError(
                f"{examples}: {labelled:,} of {len(rows):,} pairs have another {column} than 1: " + "; ".join(problems)
            )


def _problems(column: str, objective: Objective, plugin_losses: Mapping[str, PairLoss]) -> Iterator[str]:
    if not isinstance(objective, Dpo):
        if column == "probability" and not objective.soft_labels:
            yield f"the objective {objective.label} does not read soft labels; train with dpo"
        return
    losses = objective.losses
    if column == "weight":
        if found := sorted(losses.keys() & set(_OF_BATCH)):
            names = ", ".join(found)
            yield f"the loss {names} sorts the pairs of a batch and cannot weight them; choose another loss_type"
        return
    readers = {"sigmoid", *(name for name, loss in plugin_losses.items() if loss.soft_labels)}
    if not losses.keys() & readers or losses.keys() - readers - {"sft"}:
        others = f", or {', '.join(sorted(readers - {'sigmoid'}))}" if len(readers) > 1 else ""
        yield f"soft labels need the loss sigmoid{others}, alone or in a sum with sft; choose this loss_type"
    if objective.f_divergence_type != "reverse_kl":
        yield f"soft labels need f_divergence_type: reverse_kl, not {objective.f_divergence_type}"
    if objective.ld_alpha is not None:
        yield "soft labels cannot be combined with ld_alpha; leave it out"
    if objective.use_weighting:
        yield "soft labels cannot be combined with use_weighting; leave it out"


@cache
def collator() -> type[Any]:
    """Return the class of TRL's collator of pairs, whose batches also have the columns of weights and soft labels."""
    import torch
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    class LabelledCollator(DataCollatorForPreference):  # type: ignore[misc]  # TRL has no types
        def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
            """Return TRL's batch. TRL makes three tensors per sequence and copies each of them into its batch."""
            pairs = [(row["prompt_ids"], row[side]) for side in ("chosen_ids", "rejected_ids") for row in examples]
            sequences = [prompt + answer for prompt, answer in pairs]
            starts = torch.tensor([len(prompt) for prompt, _ in pairs])[:, None]
            ends = torch.tensor([len(sequence) for sequence in sequences])[:, None]
            width = int(ends.max())
            positions = torch.arange(width)
            is_token = positions < ends
            padding = [self.pad_token_id] * width
            batch = {
                "input_ids": torch.tensor([sequence + padding[len(sequence) :] for sequence in sequences]),
                "attention_mask": is_token.long(),
                "completion_mask": (is_token & (positions >= starts)).long(),
            }
            columns = [column for column in (*_REFERENCE, *COLUMNS) if column in examples[0]]
            return batch | {column: torch.tensor([float(row[column]) for row in examples]) for column in columns}

    return LabelledCollator


def split(inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the inputs of TRL's functions and the columns of this module, each as a dictionary."""
    return _chosen(inputs, inputs.keys() - set(COLUMNS)), _chosen(inputs, COLUMNS)


def _chosen(inputs: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in inputs.items() if key in keys}
