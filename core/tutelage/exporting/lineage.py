"""Lineage of a model of a run: its trainings back to M0, and the steps that made their training data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tutelage.planning.steps import Plan, Step, Train


def trainings(plan: Plan, seed: int, id: str) -> list[Train]:
    """Return the trainings from M0 to the model ``id`` of one seed, first M1's; empty for M0."""
    by_model = {step.model: step for step in plan.steps if isinstance(step, Train) and step.seed == seed}
    lineage: list[Train] = []
    while id in by_model:
        lineage.append(by_model[id])
        id = by_model[id].start.id
    return lineage[::-1]


def data_steps(plan: Plan, lineage: Sequence[Train]) -> list[Step]:
    """Return the steps that made the training data of these trainings, directly or indirectly, in the plan's order."""
    by_output = {step.output: step for step in plan.steps}
    found = {step.output for training in lineage for step in _ancestors(training.examples, by_output)}
    return [step for step in plan.steps if step.output in found]


def _ancestors(path: str, by_output: dict[str, Step]) -> Iterator[Step]:
    """The step that made an artifact, and all steps before it back to trainings, which are not included."""
    step = by_output.get(path)
    if step is None or isinstance(step, Train):
        return
    yield step
    for earlier in step.inputs:
        yield from _ancestors(earlier, by_output)
