"""The summary of the golden run, of copies of it with other recipes, and the tables that are written of it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import yaml
from attrs import evolve

from tutelage.evaluation.intervals import Metric
from tutelage.preferences.judging import average
from tutelage.records import Candidate, Judgement, Scores
from tutelage.results.summarise import Reader, summarise
from tutelage.results.summary import Summary, VariantResult, read_summary
from tutelage.results.summary_tables import write_summary
from tutelage.runs.run import Run
from tutelage.runs.store import Store

SCORES: tuple[Scores, Scores] = ("parsed", "expected")
GOLDEN = Path(__file__).parents[2] / "fixtures/golden-run"


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], None]], Run]:
    """Copies the golden run and changes the recipe of the copy."""

    def change(edit: Callable[[dict[str, Any]], None]) -> Run:
        folder = tmp_path / "run"
        shutil.copytree(GOLDEN, folder)
        values = yaml.safe_load((folder / "recipe.yaml").read_text())
        edit(values)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
        return Run.open(folder)

    return change


@pytest.fixture(scope="module")
def golden() -> Summary:
    return summarise(Run.open(GOLDEN))


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"evaluation/{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_golden_run_has_its_summary(golden: Summary) -> None:
    assert golden == read_summary(GOLDEN / "summary.json")


def test_a_second_seed_with_the_same_files_gives_the_same_figures_and_twice_as_many_answers(
    golden: Summary, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN, folder)
    for part in ("seed-0", "evaluation/seed-0"):
        shutil.copytree(folder / part, folder / part.replace("seed-0", "seed-1"))
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("seeds:\n- 0\n", "seeds:\n- 0\n- 1\n"))
    one, two = golden, summarise(Run.open(folder))
    for name in ("models", "differences", "comparisons", "agreement"):
        first, second, both = ([row for row in getattr(two, name) if row.seed == seed] for seed in (0, 1, None))
        assert first == list(getattr(one, name)), name
        assert [evolve(row, seed=0) for row in second] == first, name
        assert len(both) == len(first), name
        assert list(getattr(two, name)) == [*first, *second, *both]
    for single, row in zip(one.models, two.models[-len(one.models) :], strict=True):
        assert row.metrics["gold_score"].n == 2 * single.metrics["gold_score"].n
        assert row.metrics["gold_score"].value == pytest.approx(single.metrics["gold_score"].value)
    assert two.comparisons[-1].n == 2 * one.comparisons[-1].n
    assert one.evaluator and two.evaluator
    assert two.evaluator.position_bias.n == 2 * one.evaluator.position_bias.n
    assert [(row.model, row.seed) for row in two.training] == [
        (row.model, seed) for seed in (0, 1) for row in one.training
    ]


def test_a_recipe_without_sampled_answers_has_no_metrics_of_them_and_no_agreement(
    changed: Callable[[Callable[[dict[str, Any]], None]], Run],
) -> None:
    run = changed(lambda values: values["evaluation"].update(sampled=0))
    assert Reader(run).decodings() == ["greedy"]
    summary = summarise(run)
    assert summary.agreement == ()
    for metrics in [row.metrics for row in summary.models] + [row.metrics for row in summary.differences]:
        assert "gold_score" in metrics
        assert not any(name.startswith("sampled_") for name in metrics)


def test_expected_scores_are_summarised_beside_the_parsed_ones_with_the_share_of_unique_best_answers(
    golden: Summary,
    changed: Callable[[Callable[[dict[str, Any]], None]], Run],
) -> None:
    def edit(values: dict[str, Any]) -> None:
        for judging in (values["judging"], values["pipelines"]["self-reward"]["judging"]):
            judging.update(score="expected", samples=1)

    run = changed(edit)
    for model in run.plan.models:
        for answers in ("own", "mixed"):
            parsed, expected = (run.store.path(model.files.own_judgements(answers, one)) for one in SCORES)
            shutil.copy(parsed, expected)
    rows = summarise(run).agreement
    assert [(row.model, row.answers, row.scores) for row in rows] == [
        (row.model, row.answers, scores) for row in golden.agreement for scores in SCORES
    ]
    assert all("unique_best" in row.metrics for row in rows)
    assert not any("unique_best" in row.metrics for row in golden.agreement)
    assert [evolve(row, scores="parsed") for row in rows[1::2]] == list(rows[::2])


def test_self_preference_is_in_the_rows_of_mixed_answers_if_the_recipe_has_it(
    golden: Summary,
    changed: Callable[[Callable[[dict[str, Any]], None]], Run],
) -> None:
    run = changed(lambda values: values["evaluation"].update(self_preference=True))
    found = summarise(run)
    names = ("self_preference", "own_overrating", "others_overrating")
    without = [evolve(r, metrics={k: v for k, v in r.metrics.items() if k not in names}) for r in found.agreement]
    assert evolve(found, agreement=tuple(without)) == golden
    rows = {(row.model, row.answers): row.metrics for row in found.agreement}
    assert all(("self_preference" in metrics) is (answers == "mixed") for (_, answers), metrics in rows.items())

    def scores(path: str) -> dict[str, float | None]:
        return {id: one.score for id, one in average(run.store.read(path, Judgement)).items()}

    def gaps(judged: dict[str, float | None], gold: dict[str, float | None]) -> dict[str, list[float]]:
        by_prompt: dict[str, list[float]] = {}
        for id, score in judged.items():
            truth = gold.get(id)
            if score is not None and truth is not None:
                by_prompt.setdefault(id.partition("/")[0], []).append(score - truth)
        return by_prompt

    mixed = {one.id: one.model for one in run.store.read("evaluation/seed-0/mixed.jsonl", Candidate)}
    gold = {model.id: scores(model.files.gold("sampled")) for model in run.plan.models}
    for model in run.plan.models:
        judged = scores(model.files.own_judgements("mixed"))
        of_others = {id: score for id, score in judged.items() if mixed[id] != model.id}
        own = gaps(scores(model.files.own_judgements("own")), gold[model.id])
        others = gaps(of_others, {id: gold[mixed[id]].get(id) for id in mixed})
        common = own.keys() & others.keys()
        one, other = ([gap for prompt in common for gap in side[prompt]] for side in (own, others))
        metrics = rows[model.id, "mixed"]
        assert metrics["self_preference"].value == pytest.approx(mean(one) - mean(other))
        assert metrics["self_preference"].n == len(common) > 0
        assert (metrics["own_overrating"].n, metrics["others_overrating"].n) == (len(one), len(other))
    write_summary(found, run.store)
    written = [row for row in table(run.root, "agreement") if row["metric"] == "self_preference"]
    assert [row["answers"] for row in written] == ["mixed"] * len(run.plan.models)
    assert read_summary(run.summary) == found


def test_fewer_agreement_prompts_leave_fewer_answers_to_agree_on(
    golden: Summary,
    changed: Callable[[Callable[[dict[str, Any]], None]], Run],
) -> None:
    run = changed(lambda values: values["evaluation"].update(agreement_prompts=2))
    rows = {(row.model, row.answers): row.metrics["exact_match"].n for row in summarise(run).agreement}
    before = {(row.model, row.answers): row.metrics["exact_match"].n for row in golden.agreement}
    assert before["M0", "own"] == 4
    assert rows["M0", "own"] == 2


def test_all_gold_scores_of_a_seed_are_those_of_greedy_and_sampled_answers_of_every_model() -> None:
    reader = Reader(Run.open(GOLDEN))
    files = sorted((GOLDEN / "evaluation/seed-0").rglob("gold-*.jsonl"))
    scores = [json.loads(line)["score"] for file in files for line in file.read_text().splitlines()]
    assert sorted(reader.gold_scores(0)) == sorted(score for score in scores if score is not None)


def test_every_model_is_compared_to_its_parent_to_m1_and_to_the_control_of_its_pipeline(
    changed: Callable[[Callable[[dict[str, Any]], None]], Run],
) -> None:
    reader = Reader(changed(lambda values: values.update(iterations=2)))
    assert reader._compared() == [
        ("M1", "M0"),
        ("M2/self-reward", "M1"),
        ("M2/random-pairs", "M1"),
        ("M3/self-reward", "M2/self-reward"),
        ("M3/self-reward", "M1"),
        ("M2/self-reward", "M2/random-pairs"),
        ("M3/self-reward", "M2/random-pairs"),
    ]


def test_a_pipeline_that_trains_in_the_first_iteration_only_is_compared_in_it_only(
    changed: Callable[[Callable[[dict[str, Any]], None]], Run],
) -> None:
    run = changed(lambda values: values.update(iterations=2))
    first = evolve(run.plan, models=tuple(model for model in run.plan.models if model.iteration < 3))
    assert Reader(evolve(run, plan=first))._compared()[-1] == ("M2/self-reward", "M2/random-pairs")


def test_the_tables_have_one_row_per_metric_or_comparison_with_its_interval(golden: Summary, tmp_path: Path) -> None:
    write_summary(golden, Store(tmp_path))
    assert read_summary(tmp_path / "summary.json") == golden
    for name in ("models", "differences", "agreement"):
        rows, results = table(tmp_path, name), getattr(golden, name)
        assert len(rows) == sum(len(result.metrics) for result in results)
        metric = results[0].metrics[rows[0]["metric"]]
        assert [float(rows[0][key]) for key in ("value", "low", "high", "n")] == pytest.approx(
            [metric.value, metric.low, metric.high, metric.n]
        )
        assert not {"metrics", "scores"} & rows[0].keys()
    assert table(tmp_path, "models")[0]["id"] == "M0"
    first, compared = table(tmp_path, "comparisons")[0], golden.comparisons[0]
    assert list(first) == [
        *("left", "right", "seed", "wins", "ties", "losses", "unparsed", "n"),
        *("win_rate", "win_rate_low", "win_rate_high"),
    ]
    rate = compared.win_rate
    assert [float(first[key]) for key in ("n", "win_rate", "win_rate_low", "win_rate_high")] == pytest.approx(
        [compared.n, rate.value, rate.low, rate.high]
    )
    assert not (tmp_path / "evaluation/variants.csv").exists()


def test_the_table_of_agreement_has_a_column_of_scores_only_if_some_are_expected(
    golden: Summary, tmp_path: Path
) -> None:
    expected = tuple(evolve(row, scores="expected") for row in golden.agreement)
    write_summary(evolve(golden, agreement=(*golden.agreement, *expected)), Store(tmp_path))
    scores = [row["scores"] for row in table(tmp_path, "agreement")]
    assert scores == sorted(scores, reverse=True)
    assert set(scores) == {"parsed", "expected"}


def test_variants_have_a_table_and_one_without_a_difference_has_empty_cells(golden: Summary, tmp_path: Path) -> None:
    metrics = {"gold_score": Metric(3.0, 2.5, 3.5, 6)}
    variants = (
        VariantResult("dpo.beta=0.3", "M2/self-reward", metrics, Metric(0.5, 0.1, 0.9, 6), 0.04),
        VariantResult("dpo.beta=0.5", "M2/self-reward", metrics),
    )
    write_summary(evolve(golden, variants=variants), Store(tmp_path))
    first, second = table(tmp_path, "variants")
    assert first == {
        "variant": "dpo.beta=0.3",
        "model": "M2/self-reward",
        **{"gold_score_value": "3.0", "gold_score_low": "2.5", "gold_score_high": "3.5"},
        **{"difference_value": "0.5", "difference_low": "0.1", "difference_high": "0.9"},
        "p_value_adjusted": "0.04",
    }
    assert (second["variant"], second["gold_score_value"]) == ("dpo.beta=0.5", "3.0")
    assert {second[f"difference_{key}"] for key in ("value", "low", "high")} == {""} == {second["p_value_adjusted"]}


def test_a_run_without_results_has_tables_with_no_rows(tmp_path: Path) -> None:
    empty = Summary(1, "empty", (0,), (), (), (), (), (), None, (), ())
    write_summary(empty, Store(tmp_path))
    assert table(tmp_path, "models") == []
