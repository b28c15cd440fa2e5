"""Helpers of the page's template: rows of tables from the contents of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import frozen

from tutelage.evaluation.calibration import Calibration
from tutelage.evaluation.chance import JUDGES as JUDGES
from tutelage.evaluation.intervals import Metric
from tutelage.report.compared import ComparedContents
from tutelage.report.contents import Contents
from tutelage.results.comparing import ComparedModel
from tutelage.results.measure_rows import MeasureRow, measure_rows
from tutelage.results.summary import AgreementResult, ComparisonResult, Summary
from tutelage.results.summary import start_model as start_model
from tutelage.results.wording import measure_words as measure_words
from tutelage.results.wording import metric_words, skill_words

AGREEMENT = {
    "pairwise_accuracy": "pairwise %",
    "five_best": "5 best %",
    "exact_match": "exact %",
    "spearman": "Spearman",
    "kendall_tau": "Kendall",
    "parsed": "scores read %",
}
"""Metrics of agreement that are shown, with their titles."""
CALIBRATION = {
    "parsed": "scores read",
    "repeated": "repeated scores",
    "ties": "ties",
    "length_correlation": "correlation with length",
    "length_correlation_within": "the same within prompts",
    "verbosity_bias": "verbosity bias",
}
"""Metrics of calibration that are shown, with their titles."""


@frozen
class Link:
    """A selection of answers in the reader."""

    a: str
    """Id of the model whose answers are looked at."""
    b: str
    """Id of the model that it is compared with."""
    sort: str = "gain"
    show: str = "all"


def reader_link(contents: Contents, link: Link) -> str:
    """Return the fragment of the page's address that selects answers in the reader."""
    models = contents.answers.models if contents.answers else ()
    return f"#read?a={models.index(link.a)}&b={models.index(link.b)}&sort={link.sort}&show={link.show}"


def answers_link(contents: Contents, model: str) -> str:
    """Return the link to the answers of a model, compared with those of M0, or for M0 with those of the next model."""
    models = contents.answers.models if contents.answers else ()
    other = models[0] if model != models[0] or len(models) < 2 else models[1]
    return reader_link(contents, Link(model, other))


def gain_link(contents: Contents, model: str, over: str) -> str:
    """Return the link to the answers of two models, sorted by the gain of the first."""
    return reader_link(contents, Link(model, over))


def verdict_link(contents: Contents, result: ComparisonResult, show: str) -> str:
    """Return the link to the prompts on which a comparison was ``won``, ``lost`` or ``tied``."""
    return reader_link(contents, Link(result.left, result.right, "order", show))


def judging_link(contents: Contents, model: str) -> str:
    """Return the link to the prompts on which a model's own score of an answer differs from the gold score."""
    models = contents.answers.models if contents.answers else ()
    return reader_link(contents, Link(model, models[0], "order", "disagrees"))


def compared_link(contents: ComparedContents, model: ComparedModel) -> str:
    """Return the link to the answers of a compared model and of the one that it is compared with."""
    a, b = (contents.answers.models.index(name) for name in (model.name, model.against or model.name))
    return f"#read?a={a}&b={b}&sort=gain&show=all"


def scope(summary: Summary) -> int | None:
    """Return the seed of the rows to show: the only seed, or None for the rows over all seeds."""
    return summary.seeds[0] if len(summary.seeds) == 1 else None


def measures(summary: Summary) -> list[MeasureRow]:
    """Return the rows of the table of measures."""
    return list(measure_rows(summary))


def matrix(summary: Summary) -> tuple[list[str], list[tuple[str, list[ComparisonResult | None]]]]:
    """Return the columns and the rows of the win matrix: the later model of a comparison is the row."""
    found = {(one.left, one.right): one for one in summary.comparisons if one.seed == scope(summary)}
    ids = [model.id for model in summary.overall()]
    columns = [id for id in ids if any(right == id for _, right in found)]
    rows = [id for id in ids if any(left == id for left, _ in found)]
    return columns, [(row, [found.get((row, column)) for column in columns]) for row in rows]


def agreement(summary: Summary, answers: str) -> list[AgreementResult]:
    """Return the agreement of each model as a judge of ``own`` or ``mixed`` answers."""
    return [one for one in summary.agreement if (one.answers, one.seed) == (answers, scope(summary))]


def agreement_columns(results: Sequence[AgreementResult]) -> dict[str, str]:
    """Return the metrics that a table of agreement shows, with their titles."""
    has_preference = any("self_preference" in one.metrics for one in results)
    return {**AGREEMENT, **({"self_preference": "self-preference"} if has_preference else {})}


def agreement_cells(result: AgreementResult, columns: Iterable[str] = AGREEMENT) -> list[str]:
    """Return the cells of one row of agreement, in the order of ``columns`` and ``JUDGES``."""
    own = [_share_or_number(name, result.metrics.get(name)) for name in columns]
    return [*own, *(skill_words(result.chance, judge) for judge in JUDGES)]


def calibration_cells(result: Calibration) -> list[str]:
    """Return the cells of one row of calibration, in the order of ``CALIBRATION``."""
    return [metric_words(getattr(result, name)) for name in CALIBRATION]


def confusion(result: Calibration) -> tuple[Sequence[float], Iterator[tuple[float, list[int]]]]:
    """Return the columns (the model's own scores) and the rows (gold score and counts) of the confusion table."""
    columns = sorted({score for counts in result.confusion.values() for score in counts})
    rows = ((gold, [counts.get(score, 0) for score in columns]) for gold, counts in result.confusion.items())
    return columns, rows


def ids_of_models(contents: Contents) -> list[str]:
    """Return the ids of all models."""
    return [model.id for model in contents.summary.overall()] if contents.summary else []


def flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested values as pairs of a dotted key and a text."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _share_or_number(name: str, metric: Metric | None) -> str:
    if name in ("spearman", "kendall_tau", "self_preference"):
        return metric_words(metric, sign=name == "self_preference")
    return metric_words(metric, scale=100, decimals=0)
