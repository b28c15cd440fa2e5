"""What a changed recipe keeps and makes again, in words."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from tutelage.planning.steps import Step, Train
from tutelage.results.wording import seconds_words
from tutelage.runs.changes import Changes, StepChange

_MOST_NAMES = 4
_MOST_REASONS = 6
_MOST_KEYS = 12


def changes_words(changes: Changes) -> Iterator[str]:
    """Yield sentences about what a run keeps and makes again. Nothing is yielded for a run that only continues."""
    again = changes.of("again")
    if not (again or changes.leftover or changes.recipe or changes.of("reused")):
        return
    for line in changes.recipe[:_MOST_KEYS]:
        yield f"  {line}"
    if more := len(changes.recipe[_MOST_KEYS:]):
        yield f"  and {more} more key{'s' * (more != 1)}"
    if again and not changes.recipe:
        for change in again[:_MOST_REASONS]:
            yield f"  {change.step.output}: {brief(change.why)}"
    yield f"kept: {_artifacts(changes.of('kept'))}"
    if reused := changes.of("reused"):
        yield f"reused from elsewhere: {_artifacts(reused)}"
    if changes.remaining:
        yield f"to make: {steps_words(changes.remaining)}"
    if number := changes.replaced:
        folder = shlex.quote(str(changes.store.root))
        yield (
            f"set aside: {number} artifact{'s' * (number != 1)} that {worth_words(changes)}; "
            f"`tutelage free {folder}` deletes {'it' if number == 1 else 'them'}"
        )


def worth_words(changes: Changes) -> str:
    """Return the time and the money that the replaced artifacts took as text: ``took 2 h 5 min and cost $3.20``."""
    cost = f" and cost ${changes.replaced_cost:,.2f}" if changes.replaced_cost else ""
    return f"took {seconds_words(changes.replaced_seconds)}{cost}"


def brief(why: Sequence[str]) -> str:
    """Return the first reason why an artifact would be made again, and the number of the others."""
    others = len(why) - 1
    return f"{why[0]} (and {others} more)" if others > 0 else "".join(why)


def steps_words(steps: Iterable[Step]) -> str:
    """Return the planned work of steps as text: ``3 trainings, 2,048 answers``."""
    counts: Counter[str] = Counter()
    for step in steps:
        if isinstance(step, Train):
            counts["training"] += 1
        else:
            counts[step.unit] += step.count
    return _counts_words(counts)


def _artifacts(changes: list[StepChange]) -> str:
    """The finished artifacts as text: the models by name, the number of the other items."""
    if not changes:
        return "nothing"
    models = [change.step.model for change in changes if isinstance(change.step, Train)]
    counts: Counter[str] = Counter()
    for change in changes:
        if not isinstance(change.step, Train):
            rows = change.finished.expected_rows if change.finished and change.state == "kept" else None
            counts[change.step.unit] += change.step.count if rows is None else rows
    cost = sum(change.finished.cost for change in changes if change.finished and change.state == "kept")
    names = ", ".join(models) if len(models) <= _MOST_NAMES else f"{len(models)} models"
    paid = f" (${cost:,.2f} were paid)" if cost else ""
    return "; ".join(filter(None, (names, _counts_words(counts)))) + paid


def _counts_words(counts: Counter[str]) -> str:
    trainings = counts.pop("training", 0)
    words = [f"{trainings} training{'s' * (trainings != 1)}"] if trainings else []
    return ", ".join([*words, *(f"{count:,} {unit}" for unit, count in counts.items() if count)])
