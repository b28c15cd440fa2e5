"""Runs with measures: their figures, their errors, their continuation, and readers without the plugin."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import approving_world
import measure_world
import pytest
from click.testing import CliRunner
from echoing_world import skill_of
from interrupted_runs import artifacts_of
from measure_world import USES
from recipes import numbers_recipe

from tutelage.cli import cli
from tutelage.cli.plugins import info_tables
from tutelage.cli.results import measures_table
from tutelage.errors import Interrupted, StageError
from tutelage.execution.runner import run
from tutelage.exporting.results import ModelResults
from tutelage.files.jsonl import read_records
from tutelage.files.trl_format import read_labelled
from tutelage.measure import Measure, MeasuredPrompt, Measurement
from tutelage.plugins.functions import plugin
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values, to_values
from tutelage.recipe.schema import Recipe
from tutelage.records import Model
from tutelage.results.run_results import RunResults
from tutelage.results.summary import Summary, read_summary

M2 = "M2/teacher-reward"


def recipe_with(uses: dict[str, Any], **evaluation: Any) -> Recipe:
    values = numbers_recipe(pipelines={"teacher-reward": None}, controls={}, iterations=1)
    values["data"]["prompts"]["count"] = 12
    values["evaluation"] |= {"prompts": {"source": "numbers/held-out", "count": 12}, "agreement_prompts": 8}
    values["evaluation"] |= {"measures": uses, **evaluation}
    return from_values(values)


def quick(uses: dict[str, Any]) -> Recipe:
    return recipe_with(uses, sampled=0, agreement_prompts=0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all measures, which no test changes."""
    import echoing_world

    registry = Registry.empty()
    registry.register(echoing_world, "numbers")
    registry.register(measure_world, "mine")
    folder = tmp_path_factory.mktemp("measures") / "run"
    run(recipe_with(USES), directory=folder, registry=registry)
    return folder


@pytest.fixture(scope="module")
def summary(finished: Path) -> Summary:
    return read_summary(finished / "summary.json")


@pytest.fixture
def registry(numbers_registry: Registry) -> Registry:
    numbers_registry.register(measure_world, "mine")
    return numbers_registry


def test_a_measure_of_answers_has_the_figures_that_the_gold_has_of_them(summary: Summary) -> None:
    """The evaluator of the echoing world gives the top score to the right answers."""
    for row in summary.models:
        assert row.metrics["right"] == row.metrics["gold_exact"]
        assert row.metrics["right_measured"].value == 1.0
    for difference in summary.differences:
        assert difference.metrics["right"] == difference.metrics["gold_exact"]


def test_a_measure_of_parts_of_prompts_counts_the_parts_and_its_coverage(finished: Path, summary: Summary) -> None:
    values = rows_of(finished, "digits", "M1")
    figure, coverage = (summary.model("M1").metrics[name] for name in ("digits", "digits_measured"))
    weights = sum(one.weight for one in values if one.value is not None)
    assert figure.value == pytest.approx(sum(one.weight * (one.value or 0) for one in values) / weights)
    assert figure.n == weights < coverage.n
    assert coverage.value == pytest.approx(weights / coverage.n)


def test_a_measure_of_judgements_a_training_or_a_checkpoint_gets_those_of_the_model(
    finished: Path, summary: Summary
) -> None:
    assert len(rows_of(finished, "strictness", "M1")) == 8
    assert len(rows_of(finished, "distinct", "M1")) == 12
    assert "pair-words" not in summary.model("M0").metrics
    assert summary.model(M2).metrics["pair-words"].value == 1.0  # the teacher's favourite answers are numbers
    checkpoint = finished / "seed-0/teacher-reward/M2/checkpoint"
    [first, *_] = rows_of(finished, "skill", M2)
    assert first.value == pytest.approx(0.9 * skill_of(Model("numbers", str(checkpoint))))


def rows_of(folder: Path, name: str, model: str) -> list[Measurement]:
    return list(read_records(folder / f"evaluation/seed-0/{model}/measured-{name}.jsonl", Measurement))


def test_the_summary_describes_the_measures(summary: Summary) -> None:
    assert list(summary.measures) == list(USES)
    found = summary.measures["distinct"]
    assert (found.name, found.over, found.unit, found.better) == ("mine/distinct", "sampled", "answers", "neither")


def test_without_measures_a_summary_is_the_same_file_as_before(
    finished: Path, registry: Registry, tmp_path: Path
) -> None:
    run(recipe_with({}), directory=tmp_path / "plain", registry=registry)
    plain, measured = (json.loads((one / "summary.json").read_text()) for one in (tmp_path / "plain", finished))
    assert "measures" not in plain and "measures" not in (tmp_path / "plain/recipe.yaml").read_text()
    assert not (tmp_path / "plain/measures.json").exists()
    del measured["measures"]
    names = {*USES, *(f"{name}_measured" for name in USES)}
    for row in (*measured["models"], *measured["differences"]):
        for name in names:
            row["metrics"].pop(name, None)
    measured["steps"] = [step for step in measured["steps"] if "/measured-" not in step["output"]]
    assert measured == plain


def test_the_commands_that_read_a_run_do_not_need_the_plugin(finished: Path, tmp_path: Path) -> None:
    def output(*words: object) -> str:
        found = CliRunner().invoke(cli, list(map(str, words)))
        assert found.exit_code == 0, found.output
        return found.output

    status = output("status", finished, "--all")
    assert "measure M0" in status and "12 measured" in status and "the run is finished" in status
    page = tmp_path / "page.html"
    output("report", finished, "--output", page)
    text = page.read_text(encoding="utf-8")
    assert "<b>digits</b> (mine/digits, over answers): share of the digits that are right, higher is better" in text
    compared = output("compare", finished, "--metric", "digits", "--page", tmp_path / "compared.html")
    assert "digits: share of the digits that are right, higher is better." in compared
    assert "digits" in (tmp_path / "compared.html").read_text(encoding="utf-8")
    assert M2 in output("evaluate", "difference", f"{finished}:M1", f"{finished}:{M2}", "--metric", "digits")


def test_compare_gives_the_difference_of_the_summary(finished: Path, summary: Summary) -> None:
    shown = CliRunner().invoke(cli, ["compare", f"{finished}:M1", f"{finished}:{M2}", "--metric", "digits", "--json"])
    compared = json.loads(shown.stdout)
    [difference] = [one for one in summary.differences if (one.left, one.right) == (M2, "M1")][:1]
    found = compared["models"][1]
    assert found["separation"]["difference"]["value"] == difference.metrics["digits"].value
    assert found["separation"]["difference"]["low"] == difference.metrics["digits"].low
    assert found["metrics"]["digits"]["value"] == summary.model(M2).metrics["digits"].value
    assert found["p_value_adjusted"] is not None
    assert compared["measure"]["name"] == "mine/digits"


def test_a_model_that_a_measure_is_not_taken_of_is_left_out(finished: Path) -> None:
    shown = CliRunner().invoke(cli, ["compare", f"{finished}:M0", f"{finished}:M1", "--metric", "pair-words"])
    assert "at least two models with values of pair-words are required to compare" in shown.output
    assert "M0 is left out: it has no values of pair-words" in shown.output
    refused = CliRunner().invoke(cli, ["evaluate", "difference", str(finished), "--metric", "pair-words"])
    assert "pair-words is not measured of M0; leave the model out" in refused.output


@pytest.mark.parametrize("command", [("compare",), ("evaluate", "difference")])
def test_an_unknown_metric_is_named_with_the_nearest_one(finished: Path, command: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli, [*command, str(finished), "--metric", "digit"])
    assert "did you mean 'digits'?" in shown.output


def test_runs_whose_measures_have_other_settings_are_compared_with_a_note(
    finished: Path, registry: Registry, tmp_path: Path
) -> None:
    uses = {"skill": {"measure": "mine/skill"}}
    run(quick(uses), directory=tmp_path / "other", registry=registry)
    shown = CliRunner().invoke(cli, ["compare", str(finished), str(tmp_path / "other"), "--metric", "skill"])
    assert "note: skill is another measure, or has other settings, in some of the runs" in shown.output


def test_the_table_of_measures_has_a_row_for_each_measure_and_model(summary: Summary) -> None:
    table = measures_table(summary)
    rows = {row[:2]: row[2:] for row in table.rows}
    assert table.columns == ("measure", "model", "value", "over M1", "measured %")
    assert len(rows) == 3 * len(USES) - 1
    coverage = summary.model("M1").metrics["digits_measured"].value
    assert coverage is not None and rows["digits %", "M1"][1:] == ("-", f"{100 * coverage:.0f}")
    value, gain, _ = rows["distinct (answers)", M2]
    assert value.startswith(f"{summary.model(M2).metrics['distinct'].value:.2f} [") and gain[0] in "+-"


def test_the_card_of_a_model_names_its_measures(finished: Path, summary: Summary) -> None:
    card = "\n".join(ModelResults(summary, "M1", 0).paragraphs(RunResults.open(finished).run.recipe))
    assert "`digits` is a measure (mine/digits): share of the digits that are right, higher is better." in card
    assert "| digits_measured |" in card.replace("`", "")


def test_the_settings_of_measures_are_shown_with_those_of_the_plugin() -> None:
    tables = {table.title: table for table in info_tables(measure_world.describe())}
    assert ("skill", "checkpoint", "stored skill") in tables["Measures"].rows
    assert tables["Settings of skill"].rows[0] == ("items", "whole number", "10", "Number of items.")


class Failing:
    """A measure that fails at one prompt of one model, until it is corrected."""

    def __init__(self) -> None:
        self.is_mended = False
        self.models = 0

    def __call__(self, items: Iterable[MeasuredPrompt]) -> Iterator[int]:
        self.models += 1
        for number, item in enumerate(items):
            if not self.is_mended and self.models == 2 and number == 7:
                raise ZeroDivisionError("no words")
            yield len(item.answers)


def test_a_measure_that_raises_stops_the_run_and_loses_nothing_of_it(registry: Registry, tmp_path: Path) -> None:
    failing, folder = Failing(), tmp_path / "run"
    registry.register(plugin(measures={"failing": Measure(function=failing, help="Fails.")}), "failing")
    uses = {"right": USES["right"], "failing": {"measure": "failing/failing"}}
    with pytest.raises(StageError) as caught:
        run(quick(uses), directory=folder, registry=registry)
    id = rows_of(folder, "right", "M1")[7].prompt_id
    label = f"measure 'failing/failing' of plugin 'failing' (registered manually), for M1, for the prompt {id},"
    message = re.escape(f"{label} failed: ZeroDivisionError: no words")
    assert re.fullmatch(message + r" \(test_measuring\.py, line \d+\)", str(caught.value))
    assert (folder / "evaluation/seed-0/verdicts.jsonl").exists(), "measures are taken last"
    before = {path: text for path, text in artifacts_of(folder).items() if path.endswith("jsonl")}
    summary = run(quick({"right": USES["right"]}), directory=folder, registry=registry)
    assert summary is not None and list(summary.measures) == ["right"]
    failing.is_mended = True
    summary = run(quick(uses), directory=folder, registry=registry)
    assert summary is not None and list(summary.measures) == list(uses)
    assert failing.models == 4, "of M0 it was taken before the failure"
    assert before.items() <= artifacts_of(folder).items()


def test_a_run_stops_between_two_values_of_a_slow_measure_and_continues(registry: Registry, tmp_path: Path) -> None:
    seen: list[str] = []

    def slow(prompt: str, answer: str) -> int:
        seen.append(prompt)
        return len(answer)

    registry.register(plugin(measures={"slow": slow}), "slow")
    recipe = quick({"slow": {"measure": "slow/slow"}})
    with pytest.raises(Interrupted):
        run(recipe, directory=tmp_path / "run", registry=registry, cancelled=lambda: len(seen) == 5)
    assert len(seen) == 5
    summary = run(recipe, directory=tmp_path / "run", registry=registry)
    assert summary is not None and len(seen) == 5 + 3 * 12


def test_values_of_a_run_are_those_of_its_results(finished: Path) -> None:
    results = RunResults.open(finished)
    observed = results.observed("M1", "digits")
    values = results.reader.measured("digits", "M1", None)
    assert values is not None and len(values) == 12
    assert [one.value for one in observed.observations] == [one.measurement.value for one in values]
    assert observed.left_out == 0
    assert results.reader.measured("pair-words", "M0", None) is None


def test_a_measure_of_labelled_answers_gets_those_of_each_prompt_of_the_training(
    registry: Registry, tmp_path: Path
) -> None:
    registry.register(approving_world.Offering(), "approving")
    registry.register(approving_world.Learner(), "learner")
    values = to_values(quick({"learnt": USES["pair-words"]}))
    values["models"]["student"] = {"plugin": "learner", "model": "numbers/novice"}
    values["pipelines"] = {"self-reward": {"objective": "approving/approve", "pairs": {"threshold": 3.0}}}
    run(from_values(values), directory=tmp_path, registry=registry)
    labelled = read_labelled(tmp_path / "seed-0/self-reward/M2/trained-on.jsonl")
    rows = rows_of(tmp_path, "learnt", "M2/self-reward")
    assert [one.prompt_id for one in rows] == list(dict.fromkeys(one.prompt_id for one in labelled))
    for row in rows:
        words = [len(one.answer.split()) for one in labelled if one.prompt_id == row.prompt_id]
        assert row.value == pytest.approx(sum(words) / len(words))
