"""The results of one model for its card: metrics of ``summary.json`` with their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import frozen

from tutelage.evaluation.chance import JUDGES
from tutelage.evaluation.intervals import Metric
from tutelage.evaluation.self_preference import METRICS as SELF_PREFERENCE
from tutelage.exporting.model_card import code, table
from tutelage.recipe.schema import Recipe
from tutelage.results.summary import ComparisonResult, Summary
from tutelage.results.wording import CANNOT_TELL, metric_words, skill_words

_COLUMNS = ("metric", "value", "95% interval", "n")


@frozen
class ModelResults:
    """The results of one model with one seed."""

    summary: Summary
    id: str
    """Id of the model."""
    seed: int

    def paragraphs(self, recipe: Recipe) -> Iterator[str]:
        """Yield tables of scores, differences to other models, comparisons, agreement as a judge, and warnings."""
        yield _explanation(recipe)
        for result in self.summary.models:
            if (result.id, result.seed) == (self.id, self.seed):
                yield metric_table(result.metrics)
        for difference in self.summary.differences:
            if (difference.left, difference.seed) == (self.id, self.seed):
                yield f"{code(self.id)} minus {code(difference.right)}, paired by prompt:"
                yield metric_table(difference.metrics, sign=True)
        if contests := self.contests():
            yield "Head-to-head comparisons, with both orders of the two answers:"
            yield table(
                ("against", "won", "tied", "lost", "unparsed", "win rate", "95% interval"), map(_contest, contests)
            )
        for judged in self.summary.agreement:
            if (judged.model, judged.answers, judged.seed) == (self.id, "own", self.seed):
                how = "" if judged.scores == "parsed" else f", with {judged.scores} scores"
                yield f"Agreement of the model as a judge of its own sampled answers{how} with the evaluator's scores:"
                yield metric_table(judged.metrics)
                if judged.chance:
                    yield "Judges without skill on the same answers, pairwise accuracy and Spearman's correlation:"
                    yield table(("judge", "reaches"), [(one, skill_words(judged.chance, one)) for one in JUDGES])
            if (judged.model, judged.seed) == (self.id, self.seed) and "self_preference" in judged.metrics:
                yield "Self-preference of the model as a judge, in points of the scale:"
                yield metric_table({one: judged.metrics[one] for one in SELF_PREFERENCE}, sign=True)
        if warnings := [warning for warning in self.summary.warnings if warning.startswith(self._warned)]:
            yield table(("warning",), [(warning,) for warning in warnings])

    def contests(self) -> list[ComparisonResult]:
        """Return the comparisons in which the model is on the left, that is, those with earlier models."""
        return [one for one in self.summary.comparisons if (one.left, one.seed) == (self.id, self.seed)]

    @property
    def _warned(self) -> str:
        return f"{self.id}, seed {self.seed}: "


def metric_table(metrics: Mapping[str, Metric], sign: bool = False) -> str:
    """Make a table of metrics; a metric without a value is shown as a dash."""
    return table(
        _COLUMNS,
        [
            (name, metric_words(_point(metric), decimals=3, sign=sign), _interval(metric, sign), f"{metric.n:,}")
            for name, metric in metrics.items()
        ],
    )


def _explanation(recipe: Recipe) -> str:
    evaluation, evaluator = recipe.evaluation, recipe.models.evaluator
    judge = "the evaluator" if evaluator is None else code(":".join(filter(None, (evaluator.plugin, evaluator.model))))
    rubric = f", with the rubric {code(evaluation.rubric)}" if evaluation else ""
    return (
        f"Scores and verdicts are by {judge}{rubric}, on held-out prompts that no model was trained on. `gold_score` "
        "is the mean score, `gold_exact` the share of answers with the highest score, and `gold_scored` the share of "
        "answers with a score. Answers are greedy, except in metrics with the prefix `sampled_`. Intervals are 95% "
        "intervals over prompts. The figures are for these weights only; models with other seeds have other "
        "figures."
    )


def _contest(result: ComparisonResult) -> tuple[str, ...]:
    counts = (f"{count:,}" for count in (result.wins, result.ties, result.losses, result.unparsed))
    rate = result.win_rate
    return (result.right, *counts, metric_words(_point(rate), decimals=3), _interval(rate, sign=False))


def _point(metric: Metric) -> Metric:
    return Metric(metric.value, None, None, metric.n)


def _interval(metric: Metric, sign: bool) -> str:
    if metric.value is None or metric.low is None or metric.high is None:
        return CANNOT_TELL if metric.no_interval else "-"
    low, high = (metric_words(Metric(end, None, None, metric.n), decimals=3, sign=sign) for end in _ends(metric))
    return f"{low} to {high}"


def _ends(metric: Metric) -> tuple[float | None, float | None]:
    return metric.low, metric.high
