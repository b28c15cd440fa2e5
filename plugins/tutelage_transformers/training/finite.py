"""Losses, gradients and weights that are not finite: the training stops, and the error names step and examples.

The check reads numbers that the trainer logs anyway, after the optimizer step and before anything is saved, so it adds
no wait for the device. The weights are read before a training checkpoint is saved and at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field

from tutelage.errors import StageError
from tutelage.files.jsonl import read_rows
from tutelage_transformers.devices.selection import device_of, dtype_of
from tutelage_transformers.models import loading
from tutelage_transformers.models.finite import listed, weights_not_finite
from tutelage_transformers.training.objectives import section_of
from tutelage_transformers.training.request import TrainingRequest

_SHOWN = 64
"""Maximum number of examples that an error names."""
_CHECKED = ("loss", "grad_norm")
_CHECKED_PREFIXES = ("rewards/", "logps/")
"""Other metrics, such as the mean of the logits, do not enter the loss and may be infinite in a sound training."""
SKIPPED = "skipped_steps"
"""Metric of a float16 step that the loss scaling skipped: 1. The row has no ``grad_norm``, which was not finite."""


class NotFiniteError(Exception):
    """A number of a training is not finite. ``step.train`` turns it into a ``StageError``."""

    def __init__(
        self,
        step: int,
        steps: int,
        found: Sequence[str],
        rows: Sequence[int] = (),
        causes: Sequence[int] = (),
        updated: bool = False,
    ) -> None:
        super().__init__(step, found)
        self.step, self.steps = step, steps
        self.found = found
        """What is not finite, as text."""
        self.rows = rows
        """Indices of the examples of the step."""
        self.causes = causes
        """Those of them whose micro-batch has a loss that is not finite."""
        self.updated = updated
        """Whether the weights had been changed before."""


@define
class StepBatch:
    """The micro-batches of the current optimizer step in this process."""

    _step: int = -1
    _parts: list[tuple[Mapping[str, Any], Any]] = field(factory=list)
    """The token ids and the attention mask of each micro-batch, and its loss; they stay on the device."""

    def add(self, step: int, inputs: Mapping[str, Any], loss: Any) -> None:
        """Add a micro-batch of the optimizer step ``step``; those of an earlier step are dropped."""
        if step != self._step:
            self._step, self._parts = step, []
        self._parts.append(({key: inputs[key] for key in ("input_ids", "attention_mask")}, loss))

    def rows(self, dataset: Iterable[Mapping[str, Any]]) -> tuple[list[int], list[int]]:
        """Return the indices in ``dataset`` of the examples, and of those whose loss is not finite.

        The examples are found by their tokens, so examples with the same tokens are all returned.
        """
        indices: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for index, row in enumerate(dataset):
            indices.setdefault(_tokens_of_row(row), []).append(index)
        found: list[int] = []
        causes: list[int] = []
        for inputs, loss in self._parts:
            here = [index for tokens in _tokens_of_batch(inputs, dataset) for index in indices.get(tokens, [])]
            found += here
            causes += here if not math.isfinite(loss) else []
        return sorted(set(found)), sorted(set(causes))


def _tokens_of_row(row: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
    if "input_ids" in row:
        return (tuple(row["input_ids"]),)
    sides = ("completion_ids",) if "completion_ids" in row else ("chosen_ids", "rejected_ids")
    return tuple((*row["prompt_ids"], *row[side]) for side in sides)


def _tokens_of_batch(inputs: Mapping[str, Any], dataset: Any) -> list[tuple[tuple[int, ...], ...]]:
    """Return the tokens of each example. A batch of pairs has the chosen answers first, then the rejected ones."""
    rows = zip(inputs["input_ids"].tolist(), inputs["attention_mask"].tolist(), strict=True)
    sequences = [tuple(token for token, real in zip(ids, mask, strict=True) if real) for ids, mask in rows]
    if {"input_ids", "completion_ids"} & set(dataset.column_names):
        return [(sequence,) for sequence in sequences]
    half = len(sequences) // 2
    return list(zip(sequences[:half], sequences[half:], strict=True))


def check_step(trainer: Any, logs: dict[str, Any]) -> None:
    """Raise ``NotFiniteError`` if loss, gradient norm, rewards or log-probabilities of a step are not finite.

    ``logs`` has the loss and the gradient norm. They and the metrics are the same in all processes, so that all
    processes raise. In float16 the loss scaling skips a step whose scaled gradient overflows, and lowers the scale.
    That is no error while the scale is above 1; the gradient norm of the step is replaced by ``SKIPPED``.
    """
    means = {name: sum(values) / len(values) for name, values in trainer._metrics["train"].items() if values}
    checked = {name: value for name, value in {**means, **logs}.items() if _is_checked(name)}
    bad = {name: value for name, value in checked.items() if not math.isfinite(value)}
    if bad.keys() == {"grad_norm"} and _was_skipped(trainer):
        del logs["grad_norm"]
        logs[SKIPPED] = 1
    elif bad:
        rows, causes = trainer.step_batch.rows(trainer.train_dataset)
        found = [f"{_NAMES.get(name, name)} is {value}" for name, value in sorted(bad.items(), key=_order)]
        raise _error(trainer, found, rows, causes, updated=trainer.state.global_step > 1)


_NAMES = {"loss": "the loss", "grad_norm": "the gradient norm"}


def _order(item: tuple[str, Any]) -> int:
    return _CHECKED.index(item[0]) if item[0] in _CHECKED else len(_CHECKED)


def _is_checked(name: str) -> bool:
    return name in _CHECKED or name.startswith(_CHECKED_PREFIXES)


def _was_skipped(trainer: Any) -> bool:
    """Return whether the loss scaling skipped the step, and the scale is not below 1 yet.

    A skipped step sets the number of steps since the last change of the scale to 0. accelerate's
    ``optimizer_step_was_skipped`` cannot be used: it is false for a fused optimizer, which skips the step itself.
    """
    scaler = trainer.accelerator.scaler
    state = {} if scaler is None else scaler.state_dict()
    return bool(state) and state["_growth_tracker"] == 0 and state["scale"] >= 1


def check_weights(trainer: Any) -> None:
    """Raise ``NotFiniteError``, in all processes, if a weight that is trained is not finite in one of them."""
    import torch

    bad = weights_not_finite(
        (name, weight) for name, weight in trainer.model.named_parameters() if weight.requires_grad
    )
    count = torch.tensor([len(bad)], device=trainer.args.device)
    if int(trainer.accelerator.reduce(count, "sum")):
        rows, _ = trainer.step_batch.rows(trainer.train_dataset)
        names = sorted(set(_gathered(trainer, bad)))
        raise _error(trainer, [f"these weights are not finite: {listed(names)}"], rows, updated=True)


def or_none(value: Any) -> Any:
    """Return a metric that does not enter the loss as it is stored: None, JSON's null, if it is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_reference(logps: Sequence[Sequence[float]]) -> None:
    """Raise ``NotFiniteError`` if the reference's log-probability of an answer is not finite.

    ``logps`` has those of the chosen and of the rejected answers, or of the answers and the mismatched ones, in the
    order of the examples.
    """
    rows = [index for index, both in enumerate(zip(*logps, strict=True)) if not all(map(math.isfinite, both))]
    if rows:
        found = "the reference model's log-probability of an answer is not finite"
        raise NotFiniteError(0, 0, [found], rows, rows)


def stopped(error: NotFiniteError, request: TrainingRequest) -> StageError:
    """Return the error for the user: the step, its examples by file and line, and the settings to change."""
    where = f"at step {error.step} of {error.steps}" if error.step else "before the first step"
    causes = error.causes if 0 < len(error.causes) < len(error.rows) else ()
    lines = (
        f"examples{' of the step' if error.step else ''}: {_places(request.examples, error.rows)}"
        + (f"; the loss is not finite in {_places(request.examples, causes, with_file=False)}" if causes else "")
        if error.rows
        else f"examples: {request.examples}"
    )
    return StageError(
        f"training stopped {where}: {', '.join(error.found)}. No checkpoint was written with it. {lines}. "
        f"With the same settings it would stop there again. {_advice(error, request)}"
    )


def _error(
    trainer: Any, found: Sequence[str], rows: Sequence[int], causes: Sequence[int] = (), updated: bool = False
) -> NotFiniteError:
    state = trainer.state
    every, bad = (sorted(set(_gathered(trainer, one))) for one in (rows, causes))
    return NotFiniteError(state.global_step, state.max_steps, found, every, bad, updated)


def _gathered(trainer: Any, items: Sequence[Any]) -> list[Any]:
    """Return the items of all processes of the training; every process has to call it."""
    if trainer.args.world_size == 1:
        return list(items)
    from accelerate.utils import gather_object

    gathered: list[Any] = gather_object(list(items))
    return gathered


def _places(file: Path, rows: Sequence[int], with_file: bool = True) -> str:
    """Return the lines of the examples, each with the id of its prompt if it has one."""
    lines = list(read_rows(file))
    shown = [lines[row] for row in rows[:_SHOWN]]
    texts = [f"{line} ({row['prompt_id']})" if row.get("prompt_id") else str(line) for line, row in shown]
    more = f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
    return f"{f'{file}, ' if with_file else ''}line{'s' * (len(rows) > 1)} {', '.join(texts)}{more}"


def _advice(error: NotFiniteError, request: TrainingRequest) -> str:
    """Return what to change. Before the first update, the learning rate cannot be the reason."""
    settings, objective = request.settings, request.objective
    kind = section_of(objective)
    dtype = str(dtype_of(settings)).removeprefix("torch.")
    wider = {"float16": "bfloat16 or float32", "bfloat16": "float32"}.get(dtype)
    advice = [
        f"lower {kind}.learning_rate (now {objective.learning_rate:g})",
        f"raise {kind}.warmup_ratio (now {objective.warmup_ratio:g})",
    ]
    advice = advice if error.updated else []
    advice += [f"set models.student.settings.dtype to {wider} (now {dtype})"] if wider else []
    is_eager = loading.uses_eager(request.model, settings)
    advice += [] if is_eager else ["set models.student.settings.attention to eager"]
    may_pack = settings.packing or (settings.packing is None and device_of(settings).type != "cpu")
    advice += ["set models.student.settings.packing to false"] if may_pack else []
    advice += [f"check that the loss of {kind} is finite for these examples"] if objective.has_loss else []
    advice += ["look at the examples above, and leave out those that are damaged"]
    start = (
        f"The model has not been updated before: check that the weights of {request.model.name} are whole. "
        if not error.updated
        else ""
    )
    return f"{start}Change one of these: {'; '.join(advice)}"
