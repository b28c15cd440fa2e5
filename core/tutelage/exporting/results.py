"""The measured results of one model, as a card shows them: of ``summary.json``, each figure with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import frozen

from tutelage.evaluation.intervals import Metric
from tutelage.exporting.model_card import code, table
from tutelage.recipe.schema import Recipe
from tutelage.results.summary import ComparisonResult, Summary
from tutelage.results.wording import metric_words

_COLUMNS = ("metric", "value", "95% interval", "n")


@frozen
class ModelResults:
    """What a summary says of one model of one seed: of these very weights."""

    summary: Summary
    id: str
    seed: int

    def paragraphs(self, recipe: Recipe) -> Iterator[str]:
        """Tables of its scores, its gains, its comparisons and its own judging, each with a line of explanation."""
        yield _explanation(recipe)
        for result in self.summary.models:
            if (result.id, result.seed) == (self.id, self.seed):
                yield metric_table(result.metrics)
        for difference in self.summary.differences:
            if (difference.left, difference.seed) == (self.id, self.seed):
                yield f"{code(self.id)} less {code(difference.right)}, paired by prompt:"
                yield metric_table(difference.metrics, sign=True)
        if contests := self.contests():
            yield "Head-to-head, each prompt in both orders:"
            yield table(
                ("against", "won", "tied", "lost", "unparsed", "win rate", "95% interval"), map(_contest, contests)
            )
        for judged in self.summary.agreement:
            if (judged.model, judged.answers, judged.seed) == (self.id, "own", self.seed):
                yield "As a judge of its own sampled answers, against the evaluator's scores:"
                yield metric_table(judged.metrics)
        if warnings := [warning for warning in self.summary.warnings if warning.startswith(self._warned)]:
            yield table(("warning",), [(warning,) for warning in warnings])

    def contests(self) -> list[ComparisonResult]:
        """The comparisons in which the model stands left, as the later one of two does."""
        return [one for one in self.summary.comparisons if (one.left, one.seed) == (self.id, self.seed)]

    @property
    def _warned(self) -> str:
        return f"{self.id}, seed {self.seed}: "


def metric_table(metrics: Mapping[str, Metric], sign: bool = False) -> str:
    """Metrics by name; a dash where nothing could be measured."""
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
        f"Scores and verdicts are those of {judge}{rubric}, on held-out prompts that no model was trained on. "
        "`gold_score` is the mean score, `gold_exact` the share of answers with the top score, `gold_scored` the share "
        "that could be scored; answers are greedy, unless `sampled_`. Intervals are 95% bootstrap intervals over "
        "prompts. The figures are of these very weights: other seeds give others."
    )


def _contest(result: ComparisonResult) -> tuple[str, ...]:
    counts = (f"{count:,}" for count in (result.wins, result.ties, result.losses, result.unparsed))
    rate = result.win_rate
    return (result.right, *counts, metric_words(_point(rate), decimals=3), _interval(rate, sign=False))


def _point(metric: Metric) -> Metric:
    return Metric(metric.value, None, None, metric.n)


def _interval(metric: Metric, sign: bool) -> str:
    if metric.value is None or metric.low is None or metric.high is None:
        return "-"
    low, high = (metric_words(Metric(end, None, None, metric.n), decimals=3, sign=sign) for end in _ends(metric))
    return f"{low} to {high}"


def _ends(metric: Metric) -> tuple[float | None, float | None]:
    return metric.low, metric.high
