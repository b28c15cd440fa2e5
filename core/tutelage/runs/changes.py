"""What a recipe would change in a run: the artifacts that are kept, reused, made again, or set aside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from attrs import evolve, field, frozen

from tutelage.errors import InputError, PluginError
from tutelage.files.digests import file_digest
from tutelage.planning.artifacts import RECIPE, REPLACED, SCRATCH, dropped_beside
from tutelage.planning.made_from import Known, MadeFrom, made_from
from tutelage.planning.pipelines import make_plan
from tutelage.planning.sources import Sources
from tutelage.planning.steps import Plan, Step
from tutelage.recipe.differences import differences
from tutelage.recipe.loading import load_recipe
from tutelage.runs.artifact_cache import ArtifactCache
from tutelage.runs.declarations import stored_declarations
from tutelage.runs.integrity import FinishedStep
from tutelage.runs.started import read_started
from tutelage.runs.store import Store

ChangeState = Literal["kept", "reused", "again", "new"]
Place: TypeAlias = ArtifactCache | Store
"""A cache or another run, from which artifacts can be reused."""


@frozen
class StepChange:
    """What a recipe means for one artifact."""

    step: Step
    """The step that makes the artifact."""
    made_from: MadeFrom
    """What the step makes the artifact from."""
    state: ChangeState
    """``kept``: it is in place. ``reused``: it exists elsewhere, and is linked or copied from there. ``again``: another
    one is in place, which is set aside. ``new``: it is missing."""
    why: tuple[str, ...] = ()
    """For ``again``: what differs, as ``name: before -> now``."""
    finished: FinishedStep | None = None
    """The row of the artifact that is in place in the log of steps."""
    in_place: str | None = None
    """The fingerprint of the artifact that is in place; None if there is none."""


@frozen
class Changes:
    """What a recipe would change in a run. Nothing was changed yet."""

    store: Store
    """The files of the run."""
    steps: tuple[StepChange, ...]
    """The changes of all artifacts, in the order of the plan."""
    recipe: tuple[str, ...] = ()
    """The keys of the recipe that differ from the last one, as ``key: before -> now``."""
    leftover: tuple[str, ...] = ()
    """Artifacts in place that the plan does not have. They are set aside."""
    adopted: Mapping[str, MadeFrom] = field(factory=dict)
    """What the artifacts were made from that an earlier version made, which recorded nothing. Also what its unfinished
    steps make."""

    def of(self, state: ChangeState) -> list[StepChange]:
        """Return the changes of one kind."""
        return [change for change in self.steps if change.state == state]

    @property
    def remaining(self) -> list[Step]:
        """The steps that will be done."""
        return [change.step for change in self.steps if change.state in ("again", "new")]

    @property
    def replaced(self) -> int:
        """Number of artifacts that are set aside."""
        return len(self.leftover) + sum(change.in_place is not None for change in self._set_aside())

    @property
    def replaced_cost(self) -> float:
        """US dollars that were paid for the artifacts that are set aside."""
        return sum(finished.cost for finished in self._replaced())

    @property
    def replaced_seconds(self) -> float:
        """Time that the artifacts took that are set aside."""
        return sum(finished.seconds for finished in self._replaced())

    def _replaced(self) -> Iterator[FinishedStep]:
        finished = self.store.finished_steps()
        yield from (change.finished for change in self._set_aside() if change.finished)
        yield from (finished[artifact] for artifact in self.leftover if artifact in finished)

    def _set_aside(self) -> Iterator[StepChange]:
        return (change for change in self.steps if change.state in ("again", "reused"))


class RunComparison:
    """Compares a run's folder with a recipe when the plan is known, for ``preflight``, and keeps the result."""

    def __init__(
        self,
        store: Store,
        sources: Sources,
        elsewhere: Sequence[Place] = (),
        summaries: Mapping[str, str] | None = None,
    ) -> None:
        self.sources = sources
        """The data of the recipe."""
        self._store = store
        self._elsewhere = elsewhere
        self._summaries = summaries
        self._changes: Changes | None = None

    def __call__(self, plan: Plan) -> list[Step]:
        """Compare the run's folder with the plan, and return the steps that are left."""
        self._changes = changes(self._store, plan, self.sources, self._elsewhere, self._summaries)
        return self._changes.remaining

    @property
    def changes(self) -> Changes:
        """The result of the comparison, which must have been made."""
        assert self._changes is not None, "the recipe was not compared"
        return self._changes


def changes(
    store: Store,
    plan: Plan,
    sources: Sources,
    elsewhere: Sequence[Place] = (),
    summaries: Mapping[str, str] | None = None,
) -> Changes:
    """Compare the artifacts in a run's folder with those that the recipe of ``sources`` makes. Nothing is written.

    ``elsewhere`` are other places that artifacts can be taken from; ``summaries`` as in ``made_from``. Raises
    InputError if a source of the recipe cannot be read, or if the artifacts of an earlier version cannot be compared,
    because their recipe cannot be read.
    """
    stored = store.path(RECIPE)
    before = load_recipe(stored) if stored.exists() else None
    old_plan = Plan((), ())
    if before is not None:
        old_plan = make_plan(before, declared=stored_declarations(store, before))
    adopted = _adopted(store, old_plan, Sources(before, sources.registry)) if before is not None else {}
    finished = store.finished_steps()
    outputs = {*(step.output for step in plan.steps), *finished} - adopted.keys()
    adopted |= {output: _unrecorded(output) for output in sorted(outputs) if _lacks_record(store, output)}

    def known(artifact: str) -> MadeFrom | None:
        return store.made_from(artifact) or adopted.get(artifact)

    wanted = made_from(plan, sources, known, summaries)
    steps = tuple(
        _change(store, step, wanted[step.output], _in_place(store, step, known), finished.get(step.output), elsewhere)
        for step in plan.steps
    )
    planned = {step.output for step in plan.steps}
    in_place = dict.fromkeys([*(step.output for step in old_plan.steps), *finished])
    leftover = tuple(output for output in in_place if output not in planned and store.has(output))
    return Changes(store, steps, tuple(differences(before, sources.recipe)) if before else (), leftover, adopted)


def _change(
    store: Store,
    step: Step,
    wanted: MadeFrom,
    before: MadeFrom | None,
    finished: FinishedStep | None,
    elsewhere: Sequence[Place],
) -> StepChange:
    in_place = before.fingerprint if before is not None else None
    if in_place == wanted.fingerprint:
        return StepChange(step, wanted, "kept", (), finished, in_place)
    places = (ArtifactCache(store.path(REPLACED)), *elsewhere)
    if any(holds(place, step.output, wanted.fingerprint) for place in places):
        return StepChange(step, wanted, "reused", (), finished, in_place)
    if before is not None:
        return StepChange(step, wanted, "again", tuple(reasons(before, wanted)), finished, in_place)
    return StepChange(step, wanted, "new")


def holds(place: Place, artifact: str, fingerprint: str) -> bool:
    """Return whether a cache or another run has an artifact with this fingerprint."""
    if isinstance(place, ArtifactCache):
        return place.has(fingerprint, artifact)
    made = place.made_from(artifact)
    return made is not None and made.fingerprint == fingerprint


def reasons(before: MadeFrom, now: MadeFrom) -> Iterator[str]:
    """Yield the differences between what an artifact was made from and what it would be made from."""
    yield from _differing(before.sources, now.sources)
    yield from _differing(before.values, now.values)
    for path in {**before.inputs, **now.inputs}:
        if before.inputs.get(path) != now.inputs.get(path):
            yield f"{path} changes"


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            yield f"{key}: {_shown(before.get(key))} -> {_shown(now.get(key))}"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _in_place(store: Store, step: Step, known: Known) -> MadeFrom | None:
    return known(step.output) if store.has(step.output) else None


def _lacks_record(store: Store, artifact: str) -> bool:
    return store.has(artifact) and store.made_from(artifact) is None


def _unrecorded(artifact: str) -> MadeFrom:
    """For an artifact in a folder without a recipe, or of a step that the stored recipe does not have."""
    return MadeFrom({"output": artifact, "made from": "not recorded"})


def _adopted(store: Store, plan: Plan, sources: Sources) -> dict[str, MadeFrom]:
    """What the artifacts without a record were made from: an earlier version made them, from the stored recipe.

    The rows of an artifact that is made from sources are compared with what the sources give today.
    """
    without = [step.output for step in plan.steps if _lacks_record(store, step.output) or _lacks_note(store, step)]
    if not without:
        return {}
    try:
        made = made_from(plan, sources, store.made_from, found_in_place=partial(_as_in_place, store))
    except (InputError, PluginError) as error:
        raise InputError(
            f"{store.root}: this run was made by an earlier version, and its artifacts cannot be compared with the "
            f"recipe, because {store.path(RECIPE)} cannot be checked: {error}"
        ) from error
    return {artifact: made[artifact] for artifact in without}


def _lacks_note(store: Store, step: Step) -> bool:
    """Whether an earlier version has left finished items of an unfinished step."""
    kept = (store.journal(step.output, object).path, store.path(SCRATCH) / step.output)
    return not store.has(step.output) and any(map(Path.exists, kept)) and read_started(store, step.output) is None


def _as_in_place(store: Store, artifact: str, made: MadeFrom) -> MadeFrom:
    """The origin of an artifact, with the content that it has in the folder."""
    if "content" not in made.values or not store.has(artifact):
        return made
    values, digest = dict(made.values), file_digest(store.path(artifact))
    if digest != values.get("rows", values["content"]):
        values["content"] = digest
    if "dropped" in values and store.path(dropped_beside(artifact)).exists():
        values["dropped"] = file_digest(store.path(dropped_beside(artifact)))
    same = values == made.values
    return evolve(made, values=values, sources=made.sources if same else {})
