"""The training data of a model of a run, by prompt: candidates, scores, reasons, demonstrations and pairs."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypeGuard, TypeVar

from attrs import evolve, field, frozen

from tutelage.data.similarity import SeenTexts
from tutelage.errors import InputError
from tutelage.examples import LabelledAnswer, Preference
from tutelage.files.trl_format import read_labelled, read_preferences
from tutelage.planning.label_steps import LabelAnswers, UnpairAnswers
from tutelage.planning.steps import ChosenExamples, JoinPairs, MakePairs, SelectPreferences, Step, Train, Transform
from tutelage.planning.trained_by import TRAINED_ON
from tutelage.preferences.judging import average
from tutelage.records import Candidate, Demonstration, Judgement, Message, Outcome, Prompt
from tutelage.runs.run import RunModels

T = TypeVar("T")
DataStep: TypeAlias = MakePairs | SelectPreferences | JoinPairs | Transform | LabelAnswers
"""A step that makes the preference pairs or the labelled answers of a model."""


@frozen
class ScoredCandidate:
    """One answer with its score and the judge's reasons."""

    candidate: Candidate
    score: float | None = None
    """Mean over the samples with a score; None if there is none."""
    reasons: tuple[str, ...] = ()
    """The reason of each sample, or the reason why the sample has no score."""

    @property
    def words(self) -> int:
        """Length in words, separated by whitespace."""
        return len(self.candidate.text.split())


@frozen
class PromptData:
    """One prompt with its candidates, its demonstration, and its pairs or labels."""

    prompt: Prompt
    candidates: tuple[ScoredCandidate, ...] = ()
    demonstration: Demonstration | None = None
    pairs: tuple[Preference, ...] = ()
    labels: Mapping[str, bool] = field(factory=dict)
    """Whether an answer is desirable, by its id, for the answers that the model was trained on with a label."""

    @property
    def scores(self) -> tuple[float, ...]:
        """The scores of the candidates; candidates without a score are left out."""
        return tuple(one.score for one in self.candidates if one.score is not None)


@frozen
class DataStatistics:
    """Statistics of the training data of a model."""

    prompts: int
    """Number of prompts."""
    prompts_with_a_pair: int
    """Number of prompts with at least one pair."""
    repeated_prompts: int
    """Number of prompts that repeat an earlier prompt, exactly or nearly."""
    candidates: int
    """Number of candidates."""
    repeated_candidates: int
    """Number of answered candidates with the same text as an earlier candidate of the same prompt."""
    outcomes: Mapping[str, int]
    """Number of candidates by outcome."""
    scores: Mapping[int, int]
    """Number of candidates by score, rounded to whole points."""
    unscored: int
    """Number of candidates without a score; 0 if no candidate was judged."""
    words: tuple[float, float, float] | None
    """Minimum, median and maximum number of words of a candidate; None if there are no candidates."""
    pairs: int
    """Number of pairs."""
    margin: float | None
    """Mean difference of the two scores of a pair; None if no pair has scores."""
    chosen_longer: float | None
    """Share of pairs whose chosen side has more words. The length bias of a judge increases it. None without pairs."""
    dropped: Mapping[str, int]
    """Counts of the prompts and answers without a pair, by reason, from the run."""


def read_training_data(models: RunModels, id: str) -> list[PromptData]:
    """Read the training data of the model ``id``, by prompt.

    In an unfinished run, and in one that ended because no pair was left, these are the candidates, judgements and
    demonstrations that have been made so far. Raises ``InputError`` if the model is not trained on pairs, or if nothing
    of its data has been made yet.
    """
    step, store = _data_step(models, id), models.store
    missing = missing_data(models, id)
    if not isinstance(step, MakePairs | LabelAnswers):
        if step.output in missing:
            raise _not_made(models, step.output)
        if _is_labelled(step):
            return list(_labelled_data(read_labelled(store.complete(step.output))))
        source = step.source if isinstance(step, SelectPreferences) else ""
        return list(_given_data(read_preferences(store.complete(step.output)), source))
    if step.prompts in missing:
        raise _not_made(models, step.prompts)
    judgements = _made_so_far(models, step.judgements, Judgement)
    scores, reasons = average(judgements), defaultdict(list)
    for judgement in judgements:
        reasons[judgement.item_id].append(judgement.reason or judgement.detail)
    candidates: dict[str, list[ScoredCandidate]] = defaultdict(list)
    for candidate in _made_so_far(models, step.candidates, Candidate):
        averaged = scores.get(candidate.id)
        scored = ScoredCandidate(candidate, averaged.score if averaged else None, tuple(reasons[candidate.id]))
        candidates[candidate.prompt_id].append(scored)
    prompts = store.read(step.prompts, Prompt)
    if isinstance(step, LabelAnswers):
        labels: dict[str, dict[str, bool]] = defaultdict(dict)
        for answer in [] if step.output in missing else read_labelled(store.complete(step.output)):
            labels[answer.prompt_id][answer.answer_id] = answer.desirable
        return [PromptData(one, tuple(candidates[one.id]), labels=labels[one.id]) for one in prompts]
    demonstrations = {one.prompt_id: one for one in _made_so_far(models, step.demonstrations, Demonstration)}
    pairs: dict[str, list[Preference]] = defaultdict(list)
    for pair in [] if step.output in missing else read_preferences(store.complete(step.output)):
        pairs[pair.prompt_id].append(pair)
    return [
        PromptData(one, tuple(candidates[one.id]), demonstrations.get(one.id), tuple(pairs[one.id])) for one in prompts
    ]


def missing_data(models: RunModels, id: str) -> list[str]:
    """Return the artifacts of a model's training data that are not finished, in the order in which they are made."""
    step = _data_step(models, id)
    return [path for path in (*step.inputs, step.output) if not models.store.has(path)]


def _made_so_far(models: RunModels, path: str, cls: type[T]) -> list[T]:
    """Return the rows of an artifact, or, if it is not finished, those in its journal; empty without a path."""
    if not path:
        return []
    store = models.store
    return store.read(path, cls) if store.has(path) else list(store.journal(path, cls))


def _not_made(models: RunModels, path: str) -> InputError:
    store = models.store
    return InputError(f"{store.path(path)}: not made yet; `tutelage status {store.root}` shows the progress of the run")


def data_statistics(data: Sequence[PromptData], dropped: Mapping[str, int] | None = None) -> DataStatistics:
    """Compute the statistics of training data; ``dropped`` has the counts of the step that made the pairs."""
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
    """Return the counts of the step that made the pairs or the labelled answers of a model.

    They are empty if the step is not finished.
    """
    step = _data_step(models, id)
    finished = models.store.finished_steps().get(step.output)
    return dict(finished.counts) if finished else {}


def preferences_of(models: RunModels, id: str) -> list[Preference]:
    """Read the pairs of a model's own round. Raises ``InputError`` if it has none, or they have not been made yet."""
    step, store = _data_step(models, id), models.store
    if _is_labelled(step):
        raise InputError(f"{store.root}: {id} was trained on labelled answers, not on pairs: {store.path(step.output)}")
    if not store.has(step.output):
        raise _not_made(models, step.output)
    if not isinstance(step, MakePairs):
        return read_preferences(store.complete(step.output))
    return [pair for row in read_training_data(models, id) for pair in row.pairs]


def _given_data(pairs: Iterable[Preference], source: str) -> Iterator[PromptData]:
    """Pairs that no rule made, by prompt. The distinct sides are the candidates, and the pairs refer to them."""
    by_prompt: dict[tuple[str, tuple[Message, ...]], list[Preference]] = defaultdict(list)
    for pair in pairs:
        by_prompt[pair.prompt_id, pair.turns].append(pair)
    for (id, turns), group in by_prompt.items():
        scores = {side: score for pair in group for side, score in _sides(pair)}
        scored = {
            side: ScoredCandidate(Candidate(id, index, side), score)
            for index, (side, score) in enumerate(scores.items())
        }
        shown = (
            evolve(
                pair,
                chosen_id=scored[pair.chosen].candidate.id,
                rejected_id=scored[pair.rejected].candidate.id,
            )
            for pair in group
        )
        prompt = evolve(Prompt.of_messages(turns, source), id=id)
        yield PromptData(prompt, tuple(scored.values()), pairs=tuple(shown))


def _labelled_data(answers: Iterable[LabelledAnswer]) -> Iterator[PromptData]:
    """Labelled answers that a plugin made, by prompt. They are the candidates."""
    by_prompt: dict[tuple[str, tuple[Message, ...]], list[LabelledAnswer]] = defaultdict(list)
    for answer in answers:
        by_prompt[answer.prompt_id, answer.turns].append(answer)
    for (id, turns), group in by_prompt.items():
        scored = [ScoredCandidate(Candidate(id, index, one.answer), one.score) for index, one in enumerate(group)]
        labels = {one.candidate.id: answer.desirable for one, answer in zip(scored, group, strict=True)}
        yield PromptData(evolve(Prompt.of_messages(turns), id=id), tuple(scored), labels=labels)


def _sides(pair: Preference) -> tuple[tuple[str, float | None], tuple[str, float | None]]:
    return (pair.chosen, pair.score_chosen), (pair.rejected, pair.score_rejected)


def _data_step(models: RunModels, id: str) -> DataStep:
    """The step that makes the pairs or the labelled answers of a model's own round, without those that join them."""
    planned = {model.id: model for model in models.models}
    makers = {step.output: step for step in models.run.plan.steps}
    steps: dict[str, DataStep] = {}
    for training in models.run.plan.steps:
        if isinstance(training, Train) and training.seed == models.seed and training.model in planned:
            files, step = planned[training.model].files, makers[training.examples]
            if step.output == files.named(TRAINED_ON) and isinstance(step, UnpairAnswers | ChosenExamples):
                step = makers[step.preferences]
            if step.output in (files.joined_preferences, files.preferences_of_all_rounds):
                step = makers[step.inputs[-1]]
            if _is_data_step(step):
                steps[training.model] = step
    if id in steps:
        return steps[id]
    problem = f"{id} was not trained on pairs" if id in planned else f"no model {id!r}"
    raise InputError(f"{models.store.root}: {problem}; models with pairs: {', '.join(steps)}")


def _is_data_step(step: Step) -> TypeGuard[DataStep]:
    is_other = isinstance(step, Transform) and step.makes not in ("preferences", "labelled")
    return isinstance(step, DataStep) and not is_other


def _is_labelled(step: DataStep) -> bool:
    return isinstance(step, LabelAnswers) or (isinstance(step, Transform) and step.makes == "labelled")


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
