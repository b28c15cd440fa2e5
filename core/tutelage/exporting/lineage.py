"""How a model of a run came to be: its trainings back to M0, and the steps that made what they learned from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tutelage.planning.steps import Plan, Step, Train


def trainings(plan: Plan, seed: int, id: str) -> list[Train]:
    """The trainings from M0 to the model ``id`` of one seed, M1's first."""
    by_model = {step.model: step for step in plan.steps if isinstance(step, Train) and step.seed == seed}
    line: list[Train] = []
    while id in by_model:
        line.append(by_model[id])
        id = by_model[id].start.id
    return line[::-1]


def data_steps(plan: Plan, line: Sequence[Train]) -> list[Step]:
    """Every step that made, directly or not, what the trainings of ``line`` learned from, in the plan's order."""
    by_output = {step.output: step for step in plan.steps}
    found = {step.output for training in line for step in _behind(training.examples, by_output)}
    return [step for step in plan.steps if step.output in found]


def _behind(path: str, by_output: dict[str, Step]) -> Iterator[Step]:
    """The step that made an artifact, and all before it, up to trainings, which are listed by themselves."""
    step = by_output.get(path)
    if step is None or isinstance(step, Train):
        return
    yield step
    for earlier in step.inputs:
        yield from _behind(earlier, by_output)
