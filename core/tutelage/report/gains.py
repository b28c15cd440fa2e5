"""Differences of a run's models to those that they have to beat, and the first sentences of the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from attrs import field, frozen

from tutelage.evaluation.intervals import Metric
from tutelage.evaluation.scores import score_differences
from tutelage.evaluation.warning_signs import is_above, is_below
from tutelage.recipe.schema import Recipe
from tutelage.results.summarise import Reader
from tutelage.results.summary import ModelResult, Summary
from tutelage.results.wording import metric_words


@frozen
class Gains:
    """The differences of all later models to one model, over all seeds, paired by prompt."""

    over: str
    """Id of the model that is subtracted: M0, M1 or a control."""
    metrics: Mapping[str, Mapping[str, Metric]] = field(factory=dict)
    """Metrics of the greedy answers by the id of the model, with the names of ``ModelResult.metrics``."""

    def score(self, model: str) -> Metric | None:
        """Return the difference of gold scores of a model; None if it was not compared."""
        return self.metrics.get(model, {}).get("gold_score")


def read_gains(reader: Reader, summary: Summary) -> tuple[Gains, ...]:
    """Return the gains over M0, over M1 and over each control.

    Differences of the summary are used; the others are computed by the same function from the same answers.
    """
    scope = summary.seeds[0] if len(summary.seeds) == 1 else None
    known = {(one.left, one.right): one.metrics for one in summary.differences if one.seed == scope}
    found = []
    for right, lefts in _compared(summary.overall(), reader.run.recipe):
        answers = reader.answers(right, "greedy", scope)
        metrics = {
            left: known.get((left, right)) or score_differences(reader.answers(left, "greedy", scope), answers)
            for left in lefts
        }
        found.append(Gains(right, metrics))
    return tuple(found)


def _compared(models: Sequence[ModelResult], recipe: Recipe) -> Iterator[tuple[str, list[str]]]:
    """Yield each model to beat, and the ids of the models that are compared with it."""
    for model in models:
        if model.id in ("M0", "M1") or model.pipeline in recipe.controls:
            first = min(model.iteration + 1, 2)
            lefts = [other.id for other in models if other.iteration >= first and other.id != model.id]
            if lefts:
                yield model.id, lefts


def first_sentences(
    models: Sequence[ModelResult], gains: Sequence[Gains], recipe: Recipe, evaluator: str
) -> Iterator[str]:
    """Yield the sentences at the top of the page: the gain of the best model over M0, M1 and the controls.

    If no trained model is measurably better than M0, this is the first sentence. ``models`` are those over all seeds;
    ``evaluator`` is the name of the model that scored the answers.
    """
    by_reference = {one.over: one for one in gains}
    base = by_reference.get("M0")
    trained = [model for model in models if model.iteration > 0 and _score(model) is not None]
    if base is None or not trained:
        yield "No scores of a trained model can be compared with those of M0, the model before training."
        return
    best = max((model for model in trained if model.pipeline in recipe.pipelines), key=_rank, default=None)
    best = best or max(trained, key=_rank)
    yield from _against_start(best, trained, base)
    for one in gains:
        if one.over != "M0" and (metric := one.score(best.id)) is not None:
            name = "M1" if one.over == "M1" else f"the control {one.over}"
            yield _against(best.id, name, metric)
    yield from _scope(trained, recipe, evaluator, base.score(best.id))


def _against_start(best: ModelResult, trained: Sequence[ModelResult], base: Gains) -> Iterator[str]:
    metric = base.score(best.id)
    differences = [one for model in trained if (one := base.score(model.id)) is not None]
    better = [model.id for model in trained if is_above(base.score(model.id))]
    if not better:
        if differences and all(is_below(one) for one in differences):
            yield "No trained model beats M0, the model before training: all of them score lower."
        else:
            yield "No trained model scores measurably higher than M0, the model before training."
        yield f"The best of them by its mean score is {best.id}, with a difference to M0 of {_signed(metric)}."
    elif best.id not in better:
        yield "No model of a pipeline scores measurably higher than M0, the model before training."
        yield f"The best of them is {best.id}, with a difference to M0 of {_signed(metric)}; {', '.join(better)} " + (
            "scores higher than M0." if len(better) == 1 else "score higher than M0."
        )
    else:
        yield (
            f"{best.id} scores {metric_words(best.metrics['gold_score'])} on average, {_signed(metric)} compared "
            "with M0, the model before training."
        )


def _against(best: str, name: str, metric: Metric) -> str:
    if metric.no_interval:
        return f"Whether {best} is better or worse than {name} is not known, because {metric.no_interval}."
    if metric.value is None or metric.low is None or metric.high is None:
        return f"{best} and {name} cannot be compared: no prompt has a score of both."
    if is_above(metric):
        return f"{best} scores higher than {name}: {_signed(metric)}."
    if is_below(metric):
        return f"{best} scores lower than {name}: {_signed(metric)}."
    return f"Whether {best} is better or worse than {name} is open: {_signed(metric)}."


def _scope(trained: Sequence[ModelResult], recipe: Recipe, evaluator: str, metric: Metric | None) -> Iterator[str]:
    seeds = len(recipe.seeds)
    count = f"{metric.n:,} held-out prompts" if metric else "held-out prompts"
    if seeds > 1:
        count += f" over {seeds} seeds"
    yield (
        f"The scores are of greedy answers to {count}, given by {evaluator}. Brackets are 95% intervals, paired by "
        "prompt for differences."
    )
    if seeds == 1:
        yield "The run has one seed: the intervals do not include how much a repeated training would vary."
    if len(trained) > 1:
        yield (
            f"The best model was chosen among {len(trained)} by the same scores, so its gain is likely to be somewhat "
            "smaller on other prompts."
        )


def _score(model: ModelResult) -> float | None:
    metric = model.metrics.get("gold_score")
    return metric.value if metric else None


def _rank(model: ModelResult) -> float:
    return _score(model) or 0.0


def _signed(metric: Metric | None) -> str:
    return metric_words(metric, sign=True)
