"""The plots are SVG without styles, scripts and links, and show every value."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from attrs import evolve

from tutelage.evaluation.intervals import Metric
from tutelage.report.contents import Curve, read_contents
from tutelage.report.plots import LONGEST_CURVE, curve_plots, forest, gain_plots, model_plots, thinned

pytest.importorskip("vl_convert", reason="plots need the extra `report`")


def test_a_forest_plot_has_a_point_and_an_interval_per_model_with_a_value() -> None:
    metrics = {
        "M1": Metric(1.0, 0.5, 1.5, 9),
        "M2/<script>\u202e": Metric(2.0, 1.5, 2.5, 9),
        "M3": Metric(None, None, None, 0),
    }
    svg = forest(metrics, "difference", zero=True)
    root = ElementTree.fromstring(svg)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "M1" in texts and "M2/<script>[U+202E]" in texts and "M3" not in texts
    points = next(
        group for group in root.iter() if "role-mark" in group.get("class", "") and "symbol" in group.get("class", "")
    )
    assert len(points) == 2


def test_a_value_without_an_interval_is_a_point_without_a_line() -> None:
    known, unknown = Metric(1.0, 0.5, 1.5, 9), Metric(1.0, None, None, 3, "there are fewer than 6 prompts")

    def marks(metrics: dict[str, Metric]) -> tuple[int, int]:
        root = ElementTree.fromstring(forest(metrics, "difference"))
        groups = [group for group in root.iter() if "role-mark" in group.get("class", "")]
        lines, points = ([one for one in groups if kind in one.get("class", "")] for kind in ("mark-rule", "symbol"))
        return sum(len(one) for one in lines if "axis" not in one.get("class", "")), sum(len(one) for one in points)

    assert marks({"M1": known, "M2": known}) == (2, 2)
    assert marks({"M1": known, "M2": unknown}) == (1, 2)


def test_the_plots_of_a_run_need_no_style_no_script_and_no_address(finished: Path) -> None:
    metrics = '{"step": 1, "loss": 0.7, "rewards/chosen": 0.0}\n{"step": 2, "loss": 0.6, "rewards/chosen": 0.5}\n'
    (finished / "seed-0/self-reward/M2/metrics.jsonl").write_text(metrics, encoding="utf-8")
    contents = read_contents(finished)
    plots = [*gain_plots(contents), *model_plots(contents), *curve_plots(contents)]
    titles = [plot.title for plot in plots]
    assert titles[:3] == [f"Gain in gold score over {id}" for id in ("M0", "M1", "M2/random-pairs")]
    assert "Gold score" in titles and "DPO loss" in titles
    for plot in plots:
        names = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(plot.svg).iter()}
        assert names <= {"svg", "g", "path", "line", "text", "rect", "defs", "clipPath", "tspan"}
        assert "style=" not in plot.svg
        assert set(re.findall(r"https?://[^\"' ]+", plot.svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }


def test_a_long_curve_keeps_its_first_and_last_point() -> None:
    points = [(step, float(step)) for step in range(10_000)]
    found = list(thinned(points))
    assert len(found) == LONGEST_CURVE and found[0] == points[0] and found[-1] == points[-1]
    assert list(thinned(points[:5])) == points[:5]
    assert list(thinned(points, 3)) == [points[0], points[5000], points[-1]]


def test_many_long_curves_do_not_make_the_page_large(finished: Path) -> None:
    contents = read_contents(finished)
    points = tuple((step, math.sin(step)) for step in range(10_000))
    quantities = ("DPO loss", "margin", "chosen", "rejected")
    curves = tuple(Curve(f"M{n}", seed, one, points) for n in range(12) for seed in range(3) for one in quantities)
    plots = list(curve_plots(evolve(contents, curves=curves)))
    assert len(plots) == 4 and sum(len(plot.svg) for plot in plots) < 500_000


def test_the_long_name_of_a_variant_is_not_cut() -> None:
    metric = Metric(0.25, 0.05, 0.45, 40)
    svg = forest({"M2/self-reward@dpo.beta=0.3,dpo.loss_type=sigmoid": metric, "M1": metric}, "difference")
    assert "@dpo.beta=0.3,dpo.loss_type=sigmoid" in svg and "M2/self-reward<" in svg and "…" not in svg
