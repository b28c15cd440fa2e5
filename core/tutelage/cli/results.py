"""The tables at the end of a run: each model's answers, its gain over the start model, its quality as a judge."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from tutelage.cli.output import Table
from tutelage.evaluation.intervals import Metric
from tutelage.results.measure_rows import measure_rows
from tutelage.results.summary import AgreementResult, ComparisonResult, ModelResult, Summary, start_model
from tutelage.results.wording import metric_words, skill_words

NOTE = "Each figure with its 95% interval. Exact: share of answers with the top score. Greedy answers, unless sampled."
CHANCE_NOTE = "By length, by chance: pairwise accuracy and Spearman of judges without skill on the same answers."


def result_tables(summary: Summary) -> Iterator[Table]:
    """Yield the tables of a summary, over all its seeds."""
    models = summary.overall()
    yield answers_table(models)
    yield gains_table(summary)
    if summary.measures:
        yield measures_table(summary)
    yield rivals_table(summary, models)
    if summary.variants:
        yield variants_table(summary)


def answers_table(models: tuple[ModelResult, ...]) -> Table:
    """Return the table of each model's scores on the held-out prompts."""
    rows = [
        (
            model.id,
            metric_words(model.metrics.get("gold_score")),
            metric_words(model.metrics.get("gold_exact"), scale=100, decimals=0),
            metric_words(model.metrics.get("answer_words"), decimals=1),
            metric_words(model.metrics.get("sampled_gold_score")),
        )
        for model in models
    ]
    return Table(("model", "gold score", "exact %", "words", "sampled gold score"), rows, "Answers to held-out prompts")


def gains_table(summary: Summary) -> Table:
    """Return the table of differences between each later model and M1, paired by prompt; M0 if there is no M1."""
    scope = _scope(summary)
    start = start_model(summary)
    rows = [
        (
            difference.left,
            metric_words(difference.metrics.get("gold_score"), sign=True),
            metric_words(difference.metrics.get("gold_exact"), scale=100, decimals=0, sign=True),
            metric_words(difference.metrics.get("answer_words"), decimals=1, sign=True),
            metric_words(difference.metrics.get("sampled_gold_score"), sign=True),
        )
        for difference in summary.differences
        if difference.right == start and difference.seed == scope
    ]
    return Table(("model", "gold score", "exact %", "words", "sampled gold score"), rows, f"Gain over {start}")


def measures_table(summary: Summary) -> Table:
    """Return the table of the measures of plugins: the figure of each model, and its gain over M1."""
    rows = [attrs.astuple(row) for row in measure_rows(summary)]
    columns = ("measure", "model", "value", f"over {start_model(summary)}", "measured %")
    return Table(columns, rows, "Measures", left=frozenset({"model"}))


def rivals_table(summary: Summary, models: tuple[ModelResult, ...]) -> Table:
    """Return the table of wins against the parent, and of agreement between own judgements and gold scores."""
    rows = []
    for model in models:
        compared = _against_parent(summary, model)
        contest = f"{compared.wins}/{compared.ties}/{compared.losses}" if compared else "-"
        judgings = _own_judging(summary, model.id)
        rows.append((model.id, contest, *_judging_cells(judgings.get("parsed"))))
        if (expected := judgings.get("expected")) is not None:
            rows.append((f"{model.id}, expected scores", "", *_judging_cells(expected)))
    columns: tuple[str, ...] = ("model", "won / tied / lost", "own judging: pairwise %", "Spearman")
    columns += ("by length", "by chance")
    preferences = _self_preferences(summary)
    if preferences:
        columns += ("self-preference",)
        rows = [(*row, metric_words(preferences.get(row[0]), sign=True)) for row in rows]
    return Table(columns, rows, "Against its parent, and as a judge of its own answers")


def _self_preferences(summary: Summary) -> dict[str, Metric]:
    """The self-preference of each model as a judge, by the first cell of its row; empty if the recipe has none."""
    return {
        one.model if one.scores == "parsed" else f"{one.model}, expected scores": one.metrics["self_preference"]
        for one in summary.agreement
        if one.seed == _scope(summary) and "self_preference" in one.metrics
    }


def _judging_cells(judging: AgreementResult | None) -> tuple[str, ...]:
    metrics, chance = (judging.metrics, judging.chance) if judging else ({}, {})
    accuracy = metric_words(metrics.get("pairwise_accuracy"), scale=100, decimals=0)
    return accuracy, metric_words(metrics.get("spearman")), *(skill_words(chance, one) for one in ("length", "random"))


def variants_table(summary: Summary) -> Table:
    """Return the ranked table of the recipe's variants, each model compared with that of the recipe itself."""
    rows = [
        (
            result.name,
            metric_words(result.metrics.get("gold_score")),
            metric_words(result.difference, sign=True),
            "-" if result.p_value_adjusted is None else f"{result.p_value_adjusted:.3f}",
            metric_words(result.metrics.get("answer_words"), decimals=1),
        )
        for result in summary.variants
    ]
    columns = ("model@variant", "gold score", "against base", "p (adjusted)", "words")
    return Table(columns, rows, "Variants, ranked; differences paired by prompt, p-values adjusted by Holm")


def _scope(summary: Summary) -> int | None:
    """The seed of the rows to show: the only seed, or None for the rows over all seeds."""
    return summary.seeds[0] if len(summary.seeds) == 1 else None


def _against_parent(summary: Summary, model: ModelResult) -> ComparisonResult | None:
    for result in summary.comparisons:
        if (result.left, result.right, result.seed) == (model.id, model.parent, model.seed):
            return result
    return None


def _own_judging(summary: Summary, model: str) -> dict[str, AgreementResult]:
    """The agreement of a model on its own answers, by how its scores were made."""
    wanted = (model, "own", _scope(summary))
    return {one.scores: one for one in summary.agreement if (one.model, one.answers, one.seed) == wanted}
