"""The answers of all models to the held-out prompts, side by side, as the reader of the page shows them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from attrs import field, frozen

from tutelage.planning.evaluation_plan import comparison_id
from tutelage.planning.steps import PlannedModel
from tutelage.preferences.judging import average
from tutelage.records import Candidate, Judgement, Prompt, Verdict
from tutelage.runs.run import Run


@frozen
class ShownAnswer:
    """One greedy answer with the evaluator's score."""

    text: str
    outcome: str
    """Outcome of the answer: answered, cut, ..."""
    detail: str
    """The reason of another outcome."""
    score: float | None
    """The evaluator's score; None if it gave none."""
    reason: str
    """The evaluator's reason, or why there is no score."""
    scored: str
    """Outcome of the evaluator's reply; empty if there is none."""


@frozen
class JudgedSample:
    """One sampled answer that its own model judged."""

    index: int
    text: str
    score: float | None
    """The evaluator's score."""
    own: float | None
    """The mean of the scores that the model itself gave."""


@frozen
class ShownPrompt:
    """One held-out prompt of one seed with the answers of all models."""

    id: str
    seed: int | None
    """None if the answers are of different seeds."""
    text: str
    answers: tuple[ShownAnswer | None, ...]
    """By model, in the order of ``ShownAnswers.models``; None if the model has no answer."""
    verdicts: tuple[tuple[float | None, float | None], ...] = ()
    """By pair of models, in the order of ``ShownAnswers.pairs``: the preference for the pair's first model if its
    answer was read first, and if it was read second. None if there is no verdict."""
    judged: tuple[tuple[JudgedSample, ...], ...] = ()
    """By model: the sampled answers that it judged itself; empty if the models' judging was not measured."""


@frozen
class ShownAnswers:
    """The answers of a run."""

    models: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    """The pairs of models that were compared."""
    prompts: tuple[ShownPrompt, ...]
    files: dict[int | None, tuple[str, ...]] = field(factory=dict)
    """The files of the answers by seed, in the order of ``models``; those of one run are relative to its folder."""


def read_answers(run: Run) -> ShownAnswers | None:
    """Read the answers of a finished run; None if its recipe has no evaluation."""
    evaluation = run.recipe.evaluation
    if evaluation is None:
        return None
    first = run.recipe.seeds[0]
    planned = {seed: run.plan.models_of(seed) for seed in run.recipe.seeds}
    return ShownAnswers(
        models=tuple(model.id for model in planned[first]),
        pairs=tuple(run.evaluation_plan(first).compared(evaluation)),
        prompts=tuple(prompt for seed in run.recipe.seeds for prompt in _prompts(run, seed, planned[seed])),
        files={seed: tuple(model.files.held_out("greedy") for model in models) for seed, models in planned.items()},
    )


def _prompts(run: Run, seed: int, models: Sequence[PlannedModel]) -> Iterator[ShownPrompt]:
    plan, evaluation = run.evaluation_plan(seed), run.recipe.evaluation
    if evaluation is None:
        return
    answers = [answers_of(run, model) for model in models]
    judged = [_judged(run, model) if plan.judges_measured else {} for model in models]
    verdicts = {verdict.comparison_id: verdict.preference for verdict in run.store.read(plan.files.verdicts, Verdict)}
    pairs = list(plan.compared(evaluation))
    for prompt in run.store.read(plan.files.prompts, Prompt):
        yield ShownPrompt(
            id=prompt.id,
            seed=seed,
            text=prompt.text,
            answers=tuple(by_prompt.get(prompt.id) for by_prompt in answers),
            verdicts=tuple(_both_orders(verdicts, *pair, prompt.id) for pair in pairs),
            judged=tuple(tuple(by_prompt.get(prompt.id, ())) for by_prompt in judged) if plan.judges_measured else (),
        )


def _both_orders(
    verdicts: dict[str, float | None], left: str, right: str, prompt: str
) -> tuple[float | None, float | None]:
    second = verdicts.get(comparison_id(right, left, prompt))
    return verdicts.get(comparison_id(left, right, prompt)), None if second is None else round(1 - second, 10)


def answers_of(run: Run, model: PlannedModel) -> dict[str, ShownAnswer]:
    """Return the greedy answers of one model of one seed by the id of the prompt, with the evaluator's scores."""
    gold = {one.item_id: one for one in run.store.read(model.files.gold("greedy"), Judgement)}
    return {
        answer.prompt_id: _shown(answer, gold.get(answer.id))
        for answer in run.store.read(model.files.held_out("greedy"), Candidate)
    }


def _shown(answer: Candidate, gold: Judgement | None) -> ShownAnswer:
    return ShownAnswer(
        text=answer.text,
        outcome=str(answer.outcome),
        detail=answer.detail,
        score=gold.score if gold else None,
        reason=(gold.reason or gold.detail) if gold else "",
        scored=str(gold.outcome) if gold else "",
    )


def _judged(run: Run, model: PlannedModel) -> dict[str, list[JudgedSample]]:
    own = average(run.store.read(model.files.own_judgements("own"), Judgement))
    gold = average(run.store.read(model.files.gold("sampled"), Judgement))
    found: dict[str, list[JudgedSample]] = defaultdict(list)
    for answer in run.store.read(model.files.held_out("sampled"), Candidate):
        if answer.id in own:
            truth = gold[answer.id].score if answer.id in gold else None
            found[answer.prompt_id].append(JudgedSample(answer.index, answer.text, truth, own[answer.id].score))
    return found
