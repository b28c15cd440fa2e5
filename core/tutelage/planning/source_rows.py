"""The rows of the artifacts that are made from the recipe's sources alone, without a model.

The steps write these rows. Their content is known before a run starts, so it is what the artifacts are compared by: a
changed source that gives the same rows changes nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from tutelage.data.decontamination import HOLDS, Dropped, slice_of
from tutelage.data.sets import load_prompts
from tutelage.files.trl_format import preference_row
from tutelage.planning.sources import Sources
from tutelage.planning.steps import BuildExamples, SelectExamples, SelectPreferences, SelectPrompts, Step

FROM_SOURCES = (BuildExamples, SelectPrompts, SelectPreferences, SelectExamples)
"""The types of the steps whose artifacts are made from sources alone."""


@frozen
class SourceRows:
    """The rows of one artifact."""

    rows: Sequence[Any]
    counts: Mapping[str, int]
    """Number of rows by kind, and number of dropped texts."""
    dropped: Sequence[Dropped] | None = None
    """The texts that contain an evaluation prompt; None if the artifact is not decontaminated."""


def rows_of(step: Step, sources: Sources) -> SourceRows:
    """Return the rows of a step that is one of ``FROM_SOURCES``.

    Raises InputError if a source is missing, has too few rows or a row that cannot be used.
    """
    if isinstance(step, BuildExamples):
        return _examples(step.seed, sources)
    if isinstance(step, SelectPreferences):
        return _preferences(step.seed, sources)
    if isinstance(step, SelectExamples):
        return _examples(step.seed, sources, of_judging=False)
    if isinstance(step, SelectPrompts):
        return _prompts(step, sources)
    raise TypeError(f"{step.output} is not made from sources alone")


def _prompts(step: SelectPrompts, sources: Sources) -> SourceRows:
    """A slice of a source's prompts, in the order that the seed determines."""
    if not step.decontaminate:
        most = None if step.take is None else step.skip + step.take
        prompts = load_prompts(sources.sets, step.source, most, step.seed)[step.skip :]
        return SourceRows(prompts, {"prompts": len(prompts)})
    kept, dropped = slice_of(sources.fresh_rows(step.seed), step.skip, step.take or step.count)
    return _without_held({"prompts": len(kept)}, kept, dropped)


def _examples(seed: int, sources: Sources, of_judging: bool = True) -> SourceRows:
    """The examples of M1, shuffled; without those of judging if ``of_judging`` is false."""
    counts: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    dropped: list[Dropped] = []
    for kind, row, held in (*sources.ift(seed), *(sources.eft(seed) if of_judging else ())):
        if held:
            dropped.append(held)
        else:
            rows.append(row)
            counts[kind] += 1
    random.Random(seed).shuffle(rows)
    return _without_held(counts, rows, dropped)


def _preferences(seed: int, sources: Sources) -> SourceRows:
    """The user's preference pairs of one seed."""
    found = sources.preferences(seed)
    rows = [preference_row(preference) for preference, held in found if held is None]
    return _without_held({"pairs": len(rows)}, rows, [held for _, held in found if held is not None])


def _without_held(counts: Mapping[str, int], rows: Sequence[Any], dropped: Sequence[Dropped]) -> SourceRows:
    held = {HOLDS: len(dropped)} if dropped else {}
    return SourceRows(rows, {**counts, **held}, dropped)
