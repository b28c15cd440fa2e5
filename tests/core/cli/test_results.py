"""The tables at the end of a run, over one seed and over several."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import echoing_world
import pytest
from attrs import evolve
from click.testing import Result
from recipes import numbers_recipe

from tutelage.cli.output import plain
from tutelage.cli.results import answers_table, gains_table, result_tables, rivals_table
from tutelage.evaluation.intervals import Metric
from tutelage.execution.runner import run
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values
from tutelage.recipe.schema import Recipe
from tutelage.results.summary import Summary, read_summary
from tutelage.results.wording import metric_words


@pytest.fixture(scope="module")
def several_seeds(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    registry = Registry.empty()
    registry.register(echoing_world, "numbers")
    values = numbers_recipe(seeds=[3, 4], pipelines={"teacher-reward": None}, controls={}, iterations=2)
    summary = run(from_values(values), tmp_path_factory.mktemp("runs") / "run", registry)
    assert summary is not None
    return summary


def test_several_seeds_are_shown_together_and_each_model_once(several_seeds: Summary) -> None:
    answers, gains, rivals = result_tables(several_seeds)
    ids = ["M0", "M1", "M2/teacher-reward", "M3/teacher-reward"]
    assert [row[0] for row in answers.rows] == [row[0] for row in rivals.rows] == ids
    assert [row[0] for row in gains.rows] == ids[2:]
    assert answers.rows[1][1] == metric_words(several_seeds.model("M1").metrics["gold_score"])


def test_a_model_is_compared_with_its_parent_and_judged_on_its_own_answers(several_seeds: Summary) -> None:
    rows = {row[0]: row for row in rivals_table(several_seeds, several_seeds.overall()).rows}
    assert rows["M0"][1] == "-"
    [result] = [
        each
        for each in several_seeds.comparisons
        if (each.left, each.right, each.seed) == ("M3/teacher-reward", "M2/teacher-reward", None)
    ]
    assert rows["M3/teacher-reward"][1] == f"{result.wins}/{result.ties}/{result.losses}"
    [own] = [each for each in several_seeds.agreement if (each.model, each.answers, each.seed) == ("M1", "own", None)]
    assert rows["M1"][3] == metric_words(own.metrics["spearman"])


def test_self_preference_is_a_column_of_the_rivals_only_if_the_recipe_has_it(several_seeds: Summary) -> None:
    without = rivals_table(several_seeds, several_seeds.overall())
    metric = Metric(0.31, 0.1, 0.52, 40)
    rows = [
        evolve(one, metrics={**one.metrics, "self_preference": metric})
        if (one.model, one.answers, one.seed) == ("M1", "mixed", None)
        else one
        for one in several_seeds.agreement
    ]
    found = rivals_table(evolve(several_seeds, agreement=tuple(rows)), several_seeds.overall())
    assert found.columns == (*without.columns, "self-preference")
    assert [row[-1] for row in found.rows] == ["-", "+0.31 [+0.10, +0.52]", "-", "-"]
    assert [row[:-1] for row in found.rows] == list(without.rows)


def test_what_was_not_measured_is_a_dash(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    evaluation = {"prompts": {"source": "numbers/held-out", "count": 10}, "sampled": 0, "rubric": "numbers/numbers"}
    recipe = make_recipe(pipelines={"teacher-reward": None}, controls={}, iterations=1, evaluation=evaluation)
    summary = run(recipe, tmp_path / "run", numbers_registry)
    assert summary is not None
    assert {row[4] for row in answers_table(summary.overall()).rows} == {"-"}
    assert {row[2:] for row in rivals_table(summary, summary.overall()).rows} == {("-",) * 4}
    assert "M2/teacher-reward" in plain(gains_table(summary))


def test_a_run_with_a_summary_of_an_earlier_version_is_still_read(invoke: Callable[..., Result], golden: Path) -> None:
    """The earlier summary has no ``chance``, no ``updates``, and intervals without a width."""
    text = (Path(__file__).parents[2] / "fixtures/earlier-summary.json").read_text(encoding="utf-8")
    assert "chance" not in text and "updates" not in text and "no_interval" not in text
    (golden / "summary.json").write_text(text, encoding="utf-8")
    summary = read_summary(golden / "summary.json")
    assert {one.health.updates for one in summary.training} == {None}
    assert {tuple(one.chance) for one in summary.agreement} == {()}
    for command in ("status", "report", "compare"):
        assert invoke(command, golden).exit_code == 0, command
    assert "M2/self-reward" in (golden / "report.html").read_text(encoding="utf-8")


def test_the_new_figures_of_a_run_are_in_its_tables(golden: Path) -> None:
    with (golden / "evaluation/agreement.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-4:] == ["no_interval", "constant_judge", "length_judge", "random_judge"]
    own = {row["metric"]: row for row in rows if (row["model"], row["answers"]) == ("M1", "own")}
    assert own["pairwise_accuracy"]["constant_judge"] == "0.0"
    assert 0 < float(own["pairwise_accuracy"]["random_judge"]) <= 0.5
    assert (own["spearman"]["random_judge"], own["spearman"]["constant_judge"]) == ("0.0", "")
    assert (own["spearman"]["low"], own["spearman"]["no_interval"]) == ("", "there are fewer than 6 prompts")
    assert own["parsed"]["random_judge"] == ""
