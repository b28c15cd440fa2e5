"""The actions of the steps that prepare training data: fresh prompts, the examples of M1, and the user's pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tutelage.data.decontamination import HOLDS, Dropped, evaluation_prompts
from tutelage.data.intake import Intake
from tutelage.data.sets import load_seed_prompts
from tutelage.data.similarity import SeenTexts
from tutelage.errors import StageError
from tutelage.execution.step_context import Artifact, Counts, StepContext
from tutelage.planning.artifacts import dropped_beside
from tutelage.planning.source_rows import rows_of
from tutelage.planning.sources import sets_of
from tutelage.planning.steps import (
    PROMPTS_A_REQUEST,
    REQUESTS_AT_ONCE,
    BuildExamples,
    SelectExamples,
    SelectPreferences,
    SelectPrompts,
    Step,
    WritePrompts,
)
from tutelage.plugins import stages
from tutelage.plugins.helpers import requests_at_once
from tutelage.preferences.prompt_listing import LISTINGS, PromptLimits, few_shots, showable
from tutelage.recipe.data_section import SelfInstruct
from tutelage.records import Candidate, Prompt
from tutelage.results.nothing_left import no_prompt, no_row
from tutelage.runs.durable import Unit, derive_seed
from tutelage.runs.failures import unless_all_failed
from tutelage.runs.store import Journal


def from_sources(step: BuildExamples | SelectExamples | SelectPrompts | SelectPreferences, at: StepContext) -> Artifact:
    """Write what the sources of the recipe give: examples of M1, prompts, or the user's pairs.

    Raises StageError if nothing is left, because every text contains an evaluation prompt.
    """
    found = rows_of(step, at.sources)
    if not found.rows:
        raise StageError(no_row(step, at.recipe, len(found.dropped or ())))
    if found.dropped is None:
        return Artifact(found.counts, lambda: at.store.write(step.output, found.rows), rows=len(found.rows))
    return _with_dropped(step, at, found.counts, found.rows, found.dropped)


def write_prompts(step: WritePrompts, at: StepContext) -> Artifact:
    """Let a model write prompts, until there are enough or the maximum number of requests is reached.

    If the maximum is reached, the counts contain the number of missing prompts. Raises StageError if no prompt could be
    kept.
    """
    settings = at.recipe.data.self_instruct or SelfInstruct()
    seeds = load_seed_prompts(sets_of(at.registry), step.source, settings.seeds, step.seed)
    intake = _intake(step, at, settings, seeds)
    journal = at.store.journal(step.output, Candidate)
    at.context.expect(step.count)
    requests = 0

    def rounds() -> int:
        """Return the number of rounds that are expected to bring the missing prompts.

        After the first replies, one is added: another call would wait for its longest reply again.
        """
        rate = len(intake.kept) / requests if requests else PROMPTS_A_REQUEST
        missing = step.count - len(intake.kept)
        expected = math.ceil(missing / max(rate, 1 / REQUESTS_AT_ONCE) / REQUESTS_AT_ONCE)
        return expected + 1 if requests else expected

    for replies in _replies(step, at, settings, seeds, journal, rounds):
        requests += len(replies)
        for candidate in replies:
            at.context.advance(intake.read(candidate))
        if intake.is_full:
            break
    counts = {"prompts": len(intake.kept), "requests": requests, **dict(sorted(intake.reasons.items()))}
    if not intake.kept:
        held = sum(one.reason == HOLDS for one in intake.dropped)
        dropped = {**intake.reasons, **({HOLDS: held} if held else {})}
        raise StageError(no_prompt(step, settings, requests, dropped))
    if missing := step.count - len(intake.kept):
        counts["missing when max_requests was reached"] = missing
    return _with_dropped(step, at, counts, intake.kept, intake.dropped, journal)


def _intake(step: WritePrompts, at: StepContext, settings: SelfInstruct, seeds: Sequence[str]) -> Intake:
    """Return the filter of the written prompts: they must not repeat a seed or a prompt of an earlier iteration."""
    seen = SeenTexts(settings.similarity)
    seen.remember(seeds)
    for path in step.earlier:
        seen.remember(prompt.text for prompt in at.prompts(path))
    return Intake(
        wanted=step.count,
        source=step.worker.id,
        listing=LISTINGS[settings.listing],
        limits=PromptLimits(settings.min_characters, settings.max_characters),
        seen=seen,
        known=evaluation_prompts(at.recipe, sets_of(at.registry), step.seed),
    )


def _replies(
    step: WritePrompts,
    at: StepContext,
    settings: SelfInstruct,
    seeds: Sequence[str],
    journal: Journal[Candidate],
    rounds: Callable[[], int],
) -> Iterator[list[Candidate]]:
    """Yield the writer's replies, one round of requests at a time, each in the order of its requests.

    A writer that answers many requests at once gets the number of rounds that ``rounds`` returns together: the longest
    reply of a round takes as long as that of several.
    """
    listing = LISTINGS[settings.listing]
    shown = showable(seeds, listing)

    def request(number: int) -> Prompt:
        examples = few_shots(shown, settings.shots, derive_seed(step.seed, step.output, "request", number))
        return Prompt(listing.ask(examples), id=f"request-{number:06d}")

    requests = (request(number) for number in range(settings.max_requests))
    units = (Unit(one, (f"{one.id}/0",)) for one in requests)
    writer, seed = at.durable_stage(step.worker, REQUESTS_AT_ONCE), (step.seed, step.output)
    most = max(1, requests_at_once(writer.registry, writer.model) // REQUESTS_AT_ONCE)
    asked = writer.rounds(
        journal, units, stages.generate_candidates, step.sampling, seed, at_once=lambda: min(rounds(), most), n=1
    )
    for replies in asked:
        is_rest = len(replies) < min(REQUESTS_AT_ONCE, settings.max_requests)  # a rest of one request may fail alone
        answered = unless_all_failed(replies, writer.registry, writer.model, others=is_rest)
        yield sorted(answered, key=lambda candidate: candidate.id)


def _with_dropped(
    step: Step,
    at: StepContext,
    counts: Counts,
    rows: Sequence[Any],
    dropped: Sequence[Dropped],
    journal: Journal[Any] | None = None,
) -> Artifact:
    """Return an artifact with a list of the dropped texts and the reasons beside it.

    The list is written first, so that no artifact is without its list.
    """
    held = sum(one.reason == HOLDS for one in dropped)

    def commit() -> None:
        at.store.write(dropped_beside(step.output), dropped)
        at.store.write(step.output, rows)
        if journal:
            journal.discard()

    return Artifact({**counts, HOLDS: held} if held else counts, commit, rows=len(rows))
