"""A recipe and its variants, checked and compared with the folder of their run. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import frozen

from tutelage.errors import InputError, TutelageError
from tutelage.planning.artifacts import VARIANTS
from tutelage.planning.preflight import Preflight, preflight
from tutelage.planning.sources import Sources
from tutelage.planning.steps import Plan, Step, Summarise
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.recipe.variants import BASE, Variant, variants_of
from tutelage.runs.changes import Changes, Place, RunComparison
from tutelage.runs.run import Run
from tutelage.runs.store import Store


@frozen
class Prepared:
    """The recipe of a run or one of its variants."""

    name: str
    """Name of the variant; ``base`` for the recipe itself."""
    recipe: Recipe
    store: Store
    preflight: Preflight
    comparison: RunComparison

    @property
    def plan(self) -> Plan:
        """The plan. Raises the error of the preflight if the recipe, its data or its local models have a problem."""
        return self.preflight.planned

    @property
    def sources(self) -> Sources:
        """The data of the recipe."""
        return self.comparison.sources

    @property
    def changes(self) -> Changes:
        """What the recipe would change in its folder."""
        return self.comparison.changes

    @property
    def run(self) -> Run:
        """The run in the folder."""
        return Run(self.store, self.recipe, self.plan, self.sources.declared)


def prepare(
    recipe: Recipe,
    registry: Registry,
    store: Store,
    elsewhere: Sequence[Place] = (),
    download: bool = True,
) -> list[Prepared]:
    """Check a recipe and its variants, and compare them with the folder of their run. The recipe itself comes first.

    ``elsewhere`` are places that artifacts can be taken from; ``download`` as in ``preflight``. Raises InputError if a
    variant is no recipe. Other problems are kept in the results; see ``raise_problems``.
    """
    base = Sources(recipe, registry)
    variants = [_prepare_variant(one, base, store, elsewhere, download) for one in variants_of(recipe)]
    return [_prepare(BASE, base, store, elsewhere, download, _summaries(store, variants)), *variants]


def raise_problems(prepared: Sequence[Prepared]) -> None:
    """Raise one error with every problem of the recipe and of its variants, if there is one."""
    base, *variants = prepared
    known = set(base.preflight.problems)
    others = [
        f"variant {one.name}: {problem}"
        for one in variants
        for problem in one.preflight.problems
        if problem not in known
    ]
    if others:
        raise InputError("\n".join([*base.preflight.problems, *others]))
    base.preflight.passed()


def notices_of(prepared: Iterable[Prepared]) -> list[str]:
    """Return the notices of the recipe and of its variants, each once."""
    return list(dict.fromkeys(notice for one in prepared for notice in one.preflight.notices))


def unshared(prepared: Iterable[Prepared]) -> Iterator[Step]:
    """Yield the steps to do, each artifact that several variants share once."""
    seen: set[tuple[str, str]] = set()
    for one in prepared:
        for change in one.changes.steps:
            key = change.step.output, change.made_from.fingerprint
            if key not in seen and change.state in ("again", "new"):
                yield change.step
            seen.add(key)


def _prepare_variant(
    variant: Variant, base: Sources, store: Store, elsewhere: Sequence[Place], download: bool
) -> Prepared:
    folder = Store(store.path(f"{VARIANTS}/{variant.name}"))
    return _prepare(variant.name, base.like(variant.recipe), folder, elsewhere, download, {})


def _prepare(
    name: str,
    sources: Sources,
    store: Store,
    elsewhere: Sequence[Place],
    download: bool,
    summaries: Mapping[str, str],
) -> Prepared:
    comparison = RunComparison(store, sources, elsewhere, summaries)
    checked = preflight(sources, store.root, download, comparison)
    return Prepared(name, sources.recipe, store, checked, comparison)


def _summaries(store: Store, variants: Sequence[Prepared]) -> dict[str, str]:
    """The fingerprints of the summaries that the summary of the recipe itself compares, by path."""
    found = {}
    for one in variants:
        try:
            plan = one.plan
        except TutelageError:  # reported together with the other problems
            continue
        for step, change in zip(plan.steps, one.changes.steps, strict=True):
            if isinstance(step, Summarise):
                found[f"{VARIANTS}/{one.store.root.name}/{step.output}"] = change.made_from.fingerprint
    return found
