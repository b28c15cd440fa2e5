"""The plots of the page: Vega-Lite specifications, drawn as SVG by vl-convert.

The SVG has presentation attributes and no styles, so that a strict Content-Security-Policy allows it and the style
sheet of the page can set its colours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from tutelage.evaluation.intervals import Metric
from tutelage.measure import MeasureInfo
from tutelage.report.compared import ComparedContents
from tutelage.report.contents import Contents, Curve
from tutelage.report.hidden import visible

LONGEST_CURVE = 400
"""Maximum number of points of a curve. Of a longer curve, evenly spaced points are drawn."""
MOST_POINTS = 4000
"""Maximum number of points of all curves of a plot, so that many models and seeds do not make the page large."""
_WIDTH = 300
_CONFIG = {
    "background": None,
    "aria": False,
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    # A browser may use a wider font than the one by which vl-convert measures the labels.
    "padding": {"left": 30, "right": 12, "top": 4, "bottom": 4},
    "view": {"stroke": None},
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 260},
    "legend": {"labelFontSize": 12, "labelLimit": 300, "orient": "bottom", "columns": 1, "title": None},
}
_TITLES = {
    "margin": "Margin: change of chosen minus change of rejected",
    "chosen": "Log-probability of chosen answers, compared with the reference",
    "rejected": "Log-probability of rejected answers, compared with the reference",
}
"""Titles of the quantities in nats. The others are losses."""


@frozen
class Plot:
    """One plot."""

    title: str
    svg: str


def gain_plots(contents: Contents) -> Iterator[Plot]:
    """Yield the forest plots: for each model to beat, the differences of the gold scores of the other models."""
    for gains in contents.gains:
        scores = {id: gains.score(id) for id in gains.metrics}
        yield Plot(f"Gain in gold score over {gains.over}", forest(scores, "difference of gold scores", zero=True))


def model_plots(contents: Contents) -> Iterator[Plot]:
    """Yield the plots of the models' scores and of the lengths of their answers."""
    models = contents.summary.overall() if contents.summary else ()
    scores, words = ({model.id: model.metrics.get(key) for model in models} for key in ("gold_score", "answer_words"))
    if models:
        yield Plot("Gold score", forest(scores, "mean score", domain=(0, 5)))
        yield Plot("Length of answers", forest(words, "words"))


def measure_plots(contents: Contents) -> Iterator[Plot]:
    """Yield the plots of the measures of plugins."""
    if (summary := contents.summary) is not None:
        for name, info in summary.measures.items():
            figures = {model.id: model.metrics.get(name) for model in summary.overall()}
            yield _measure_plot(name, info, figures)


def difference_plots(contents: ComparedContents) -> Iterator[Plot]:
    """Yield the forest plot of the differences between the compared models."""
    if found := contents.differences():
        title = f"Difference in {contents.metric} to {contents.against()}"
        yield Plot(title, forest(found, f"difference in {contents.metric}", zero=True))


def compared_plots(contents: ComparedContents) -> Iterator[Plot]:
    """Yield the plots of the compared models' scores and of the lengths of their answers, side by side."""
    models = contents.compared.models
    scores, words = ({one.name: one.metrics.get(key) for one in models} for key in ("gold_score", "answer_words"))
    yield Plot("Gold score", forest(scores, "mean score", domain=(0, 5)))
    yield Plot("Length of answers", forest(words, "words"))
    if (info := contents.compared.measure) is not None:
        figures = {one.name: one.metrics.get(contents.metric) for one in models}
        yield _measure_plot(contents.metric, info, figures)


def _measure_plot(name: str, info: MeasureInfo, figures: Mapping[str, Metric | None]) -> Plot:
    return Plot(name, forest(figures, info.unit or name, domain=(0, 1) if info.is_share else None))


def curve_plots(contents: Contents) -> Iterator[Plot]:
    """Yield the plots of the trainings, one per quantity."""
    order = list(dict.fromkeys(curve.model for curve in contents.curves))
    losses = dict.fromkeys(curve.quantity for curve in contents.curves if curve.quantity not in _TITLES)
    for quantity in (*losses, *_TITLES):
        if found := [curve for curve in contents.curves if curve.quantity == quantity]:
            axis = "nats" if quantity in _TITLES else "loss"
            yield Plot(_TITLES.get(quantity, quantity), _drawn(_curves(found, axis, order)))


def forest(
    metrics: Mapping[str, Metric | None], axis: str, zero: bool = False, domain: tuple[float, float] | None = None
) -> str:
    """Return an SVG with one point and interval per model; models without a value are left out. A value without an
    interval is a point.

    ``axis`` is the title of the axis, which always includes 0, and ``domain`` its range. With ``zero``, a line marks
    the value 0.
    """
    values = [
        {"model": visible(id), "value": metric.value, "low": metric.low, "high": metric.high}
        for id, metric in metrics.items()
        if metric is not None and metric.value is not None
    ]
    scale = {"domain": domain} if domain else {"zero": True}
    x = {"type": "quantitative", "title": axis, "scale": scale, "axis": {"tickCount": 6}}
    marks: list[dict[str, Any]] = [
        {
            "transform": [{"filter": "isValid(datum.low)"}],
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {"x": {"field": "low", **x}, "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {"x": {"field": "value", **x}},
        },
    ]
    if zero:
        rule = {"type": "rule", "strokeDash": [4, 3], "color": "#888"}
        marks.insert(0, {"data": {"values": [{"at": 0}]}, "mark": rule, "encoding": {"x": {"field": "at", **x}}})
    y: dict[str, Any] = {"field": "model", "type": "nominal", "title": None, "sort": None}
    has_variants = any("@" in id for id in metrics)
    if has_variants:  # the name of a variant, which may be long, is on a line of its own
        y["axis"] = {"labelExpr": "split(replace(datum.label, '@', '\\n@'), '\\n')"}
    for mark in marks[-2:]:
        mark["encoding"]["y"] = y
        mark["mark"]["color"] = "#4c78a8"
    return _drawn({"height": {"step": 34 if has_variants else 22}, "data": {"values": values}, "layer": marks})


def _curves(curves: Sequence[Curve], axis: str, order: Sequence[str]) -> dict[str, Any]:
    longest = min(LONGEST_CURVE, max(2, MOST_POINTS // len(curves)))
    values = [
        {"model": visible(curve.model), "seed": curve.seed, "step": step, "value": value}
        for curve in curves
        for step, value in thinned(curve.points, longest)
    ]
    shown = [visible(model) for model in order if any(curve.model == model for curve in curves)]
    return {
        "height": 180,
        "data": {"values": values},
        "mark": {"type": "line", "strokeWidth": 1.5},
        "encoding": {
            "x": {"field": "step", "type": "quantitative", "title": "optimizer step"},
            "y": {"field": "value", "type": "quantitative", "title": axis},
            "color": {"field": "model", "type": "nominal", "scale": {"scheme": "tableau10", "domain": shown}},
            "strokeDash": {"field": "model", "type": "nominal", "scale": {"domain": shown}},
            "detail": {"field": "seed"},
        },
    }


def thinned(points: Sequence[tuple[int, float]], longest: int = LONGEST_CURVE) -> Iterable[tuple[int, float]]:
    """Return at most ``longest`` evenly spaced points, the first and the last one included; at least two."""
    if len(points) <= longest:
        return points
    return [points[round(number * (len(points) - 1) / (longest - 1))] for number in range(longest)]


def _drawn(spec: Mapping[str, Any]) -> str:
    import vl_convert

    whole = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": _WIDTH,
        "config": _CONFIG,
        **spec,
    }
    svg: str = vl_convert.vegalite_to_svg(whole, vl_version="5.20", allowed_base_urls=[])
    return svg
