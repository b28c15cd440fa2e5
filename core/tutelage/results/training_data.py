"""What a model of a run learned from, prompt by prompt: candidates, scores, reasons, demonstrations and pairs."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from attrs import field, frozen

from tutelage.data.similarity import SeenTexts
from tutelage.errors import InputError
from tutelage.files.trl_format import read_preferences
from tutelage.planning.steps import MakePairs
from tutelage.preferences.judging import average
from tutelage.records import Candidate, Demonstration, Judgement, Outcome, Preference, Prompt
from tutelage.runs.run import RunModels


@frozen
class ScoredCandidate:
    """One answer and what its judge said of it."""

    candidate: Candidate
    score: float | None = None
    """Average of the samples that could be read; None where there is none."""
    reasons: tuple[str, ...] = ()

    @property
    def words(self) -> int:
        """Length in words, as whitespace separates them."""
        return len(self.candidate.text.split())


@frozen
class PromptData:
    """One prompt and all that was made of it."""

    prompt: Prompt
    candidates: tuple[ScoredCandidate, ...] = ()
    demonstration: Demonstration | None = None
    pairs: tuple[Preference, ...] = ()

    @property
    def scores(self) -> tuple[float, ...]:
        """The scores of its candidates, as far as there are any."""
        return tuple(one.score for one in self.candidates if one.score is not None)


@frozen
class DataStatistics:
    """What a look at single prompts does not show."""

    prompts: int
    prompts_with_a_pair: int
    repeated_prompts: int
    """Prompts that repeat an earlier one, exactly or nearly."""
    candidates: int
    repeated_candidates: int
    """Candidates whose text another candidate of the same prompt has."""
    outcomes: Mapping[str, int]
    scores: Mapping[int, int]
    """Candidates by score, rounded to whole points."""
    unscored: int
    """Candidates without a score, where there is a judge."""
    words: tuple[float, float, float] | None
    """Least, median and most words of a candidate."""
    pairs: int
    margin: float | None
    """Mean difference of scores of the pairs that have them."""
    chosen_longer: float | None
    """Share of the pairs whose chosen side has more words: what a judge that likes length would push up."""
    dropped: Mapping[str, int] = field(factory=dict)
    """Why prompts and answers gave no pair, as the run counted it."""


def read_training_data(models: RunModels, id: str) -> list[PromptData]:
    """What the model ``id`` learned from, prompt by prompt. Raises InputError where it has no pairs (yet)."""
    step, store = _pairs_step(models, id), models.store
    if not store.has(step.output):
        raise InputError(f"{store.path(step.output)}: not made yet; `tutelage status {store.root}` says how far it is")
    judgements = store.read(step.judgements, Judgement) if step.judgements else []
    scores, reasons = average(judgements), defaultdict(list)
    for judgement in judgements:
        reasons[judgement.item_id].append(judgement.reason or judgement.detail)
    candidates: dict[str, list[ScoredCandidate]] = defaultdict(list)
    for candidate in store.read(step.candidates, Candidate):
        averaged = scores.get(candidate.id)
        scored = ScoredCandidate(candidate, averaged.score if averaged else None, tuple(reasons[candidate.id]))
        candidates[candidate.prompt_id].append(scored)
    shown = (
        {one.prompt_id: one for one in store.read(step.demonstrations, Demonstration)} if step.demonstrations else {}
    )
    pairs: dict[str, list[Preference]] = defaultdict(list)
    for pair in read_preferences(store.path(step.output)):
        pairs[pair.prompt_id].append(pair)
    return [
        PromptData(prompt, tuple(candidates[prompt.id]), shown.get(prompt.id), tuple(pairs[prompt.id]))
        for prompt in store.read(step.prompts, Prompt)
    ]


def data_statistics(data: Sequence[PromptData], dropped: Mapping[str, int] | None = None) -> DataStatistics:
    """Statistics of prompts, candidates and pairs; ``dropped`` are the counts of the step that made the pairs."""
    candidates = [one for row in data for one in row.candidates]
    pairs = [pair for row in data for pair in row.pairs]
    has_judge = any(one.score is not None or one.reasons for one in candidates)
    return DataStatistics(
        prompts=len(data),
        prompts_with_a_pair=sum(bool(row.pairs) for row in data),
        repeated_prompts=sum(similar is not None for _, similar in SeenTexts().admit(row.prompt.text for row in data)),
        candidates=len(candidates),
        repeated_candidates=sum(_repeated(row) for row in data),
        outcomes=dict(Counter(str(one.candidate.outcome) for one in candidates)),
        scores=dict(sorted(Counter(round(one.score) for one in candidates if one.score is not None).items())),
        unscored=sum(one.score is None for one in candidates) if has_judge else 0,
        words=_spread([one.words for one in candidates]),
        pairs=len(pairs),
        margin=_mean(_margins(pairs)),
        chosen_longer=_mean([float(len(pair.chosen.split()) > len(pair.rejected.split())) for pair in pairs]),
        dropped=dict(dropped or {}),
    )


def pair_counts(models: RunModels, id: str) -> dict[str, int]:
    """What the run counted when it made the pairs of a model."""
    step = _pairs_step(models, id)
    finished = models.store.finished_steps().get(step.output)
    return dict(finished.counts) if finished else {}


def preferences_of(models: RunModels, id: str) -> list[Preference]:
    """The pairs that a model learned from in its own round. Raises InputError where it has none (yet)."""
    return [pair for row in read_training_data(models, id) for pair in row.pairs]


def _pairs_step(models: RunModels, id: str) -> MakePairs:
    planned = {model.id: model for model in models.models}
    folders = {model.files.preferences: model.id for model in planned.values()}
    steps = {
        folders[step.output]: step
        for step in models.run.plan.steps
        if isinstance(step, MakePairs) and step.output in folders
    }
    if id in steps:
        return steps[id]
    what = f"{id} learned from no pairs" if id in planned else f"no model {id!r}"
    raise InputError(f"{models.store.root}: {what}; models with pairs: {', '.join(steps)}")


def _repeated(row: PromptData) -> int:
    counts = Counter(one.candidate.text.strip() for one in row.candidates if one.candidate.outcome is Outcome.ANSWERED)
    return sum(count - 1 for count in counts.values())


def _margins(pairs: Iterable[Preference]) -> list[float]:
    return [
        pair.score_chosen - pair.score_rejected
        for pair in pairs
        if pair.score_chosen is not None and pair.score_rejected is not None
    ]


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _spread(values: Sequence[int]) -> tuple[float, float, float] | None:
    return (min(values), statistics.median(values), max(values)) if values else None
