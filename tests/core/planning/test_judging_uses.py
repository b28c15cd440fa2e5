"""``judging.score``: what it makes of the plan, the checks, the fingerprints and the summary of a run."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import echoing_world
import pytest
from attrs import evolve
from known import known
from recipes import numbers_recipe

from tutelage.cli.results import rivals_table
from tutelage.errors import InputError
from tutelage.execution.runner import run
from tutelage.files.jsonl import read_records
from tutelage.hookspecs import hookimpl
from tutelage.planning.checks import checked_plan
from tutelage.planning.made_from import MadeFrom, made_from
from tutelage.planning.pipelines import make_plan
from tutelage.planning.preflight import preflight
from tutelage.planning.sources import Sources
from tutelage.planning.steps import Judge
from tutelage.planning.unused_keys import unused_keys
from tutelage.plugin_info import Finding, PluginInfo, RunNeeds
from tutelage.plugins.registry import Registry
from tutelage.preferences.expected_scores import expected_judgement
from tutelage.recipe.loading import from_values
from tutelage.recipe.schema import Recipe
from tutelage.records import JudgeItem, Judgement, Model, Rubric, Sampling, Scores
from tutelage.results.summary import read_summary

OWN = "seed-0/M1/samples/judgements-own.jsonl"
OWN_EXPECTED = "seed-0/M1/samples/judgements-own-expected.jsonl"
JUDGEMENTS = "seed-0/self-reward/M2/judgements.jsonl"
PREFIXED = evolve(echoing_world.describe().rubrics["numbers"], score_prefix="score: ")
EXPECTED: dict[str, Any] = {"rubric": "numbers/numbers", "samples": 1, "score": "expected"}
ALONE: dict[str, Any] = {"pipelines": {"self-reward": None}, "controls": {}, "iterations": 1}


class World:
    """The echoing world, whose judge also gives expected scores: the probability of a 5 differs from item to item."""

    generate_candidates = staticmethod(echoing_world.generate_candidates)
    train_step = staticmethod(echoing_world.train_step)
    evaluate = staticmethod(echoing_world.evaluate)
    demonstrate = staticmethod(echoing_world.demonstrate)

    def __init__(self, scores: tuple[Scores, ...] = ("expected",), rubric: Rubric = PREFIXED) -> None:
        self.needs: list[RunNeeds] = []
        described = echoing_world.describe()
        self.info = evolve(described, scores=scores, rubrics={"numbers": rubric})

    @hookimpl
    def describe(self) -> PluginInfo:
        return self.info

    @hookimpl
    def check_run(self, needs: RunNeeds) -> Iterator[Finding]:
        self.needs.append(needs)
        yield from ()

    @hookimpl
    def judge(
        self, model: Model, items: Iterable[JudgeItem], rubric: Rubric, samples: int, sampling: Sampling, score: Scores
    ) -> Iterator[Judgement]:
        if score == "parsed":
            yield from echoing_world.judge(model, items, rubric, samples, sampling)
            return
        assert (samples, sampling.temperature, sampling.max_new_tokens) == (1, 0.0, 1)
        for item in items:
            high = (0.9 if echoing_world.is_right(item.prompt, item.answer) else 0.3) - echoing_world.chance(
                item.id
            ) / 9
            yield expected_judgement(item.id, (0, 1 - high, 0, 0, 0, high), rubric)


def registry_of(**worlds: World) -> Registry:
    registry = Registry.empty()
    for name, world in worlds.items():
        registry.register(world, name)
    return registry


def recipe_of(**changes: Any) -> Recipe:
    return from_values(numbers_recipe(**changes))


def of(recipe: Recipe, registry: Registry) -> dict[str, MadeFrom]:
    return made_from(make_plan(recipe), Sources(recipe, registry), lambda artifact: None)


def problems_of(recipe: Recipe, registry: Registry) -> list[str]:
    with pytest.raises(InputError) as error:
        checked_plan(recipe, registry)
    return [line.strip() for line in str(error.value).splitlines()]


def test_own_judging_is_measured_in_both_ways_only_if_the_recipe_uses_expected_scores() -> None:
    plain, expecting = recipe_of(), recipe_of(judging=EXPECTED)
    files = {step.output for step in make_plan(plain).steps}
    more = {step.output for step in make_plan(expecting).steps} - files
    assert OWN_EXPECTED in more
    assert {Path(path).name for path in more} == {"judgements-own-expected.jsonl", "judgements-mixed-expected.jsonl"}
    [pairs] = [step for step in make_plan(expecting).steps if step.output == JUDGEMENTS]
    assert isinstance(pairs, Judge)
    assert pairs.score == "expected"


def test_a_run_with_expected_scores_reports_agreement_and_ties_of_both(tmp_path: Path) -> None:
    run(recipe_of(judging=EXPECTED, **ALONE), tmp_path / "run", registry_of(numbers=World()))
    summary = read_summary(tmp_path / "run" / "summary.json")
    rows = {(row.answers, row.scores): row.metrics for row in summary.agreement if row.model == "M1"}
    assert set(rows) == {("own", "parsed"), ("own", "expected"), ("mixed", "parsed"), ("mixed", "expected")}
    unique = {scores: known(rows["own", scores]["unique_best"].value) for scores in ("parsed", "expected")}
    assert unique["parsed"] < unique["expected"] == 1.0
    assert known(rows["own", "expected"]["pairwise_accuracy"].value) == 1.0
    kept = list(read_records(tmp_path / "run" / JUDGEMENTS, Judgement))
    assert all(len(one.probabilities) == 6 and one.raw == "" for one in kept)
    with (tmp_path / "run" / "evaluation" / "agreement.csv").open() as file:
        assert {row["scores"] for row in csv.DictReader(file)} == {"parsed", "expected"}
    shown = [row[0] for row in rivals_table(summary, summary.overall()).rows]
    assert shown[:4] == ["M0", "M0, expected scores", "M1", "M1, expected scores"]


def test_a_run_with_parsed_scores_has_no_row_or_column_more(tmp_path: Path) -> None:
    run(recipe_of(**ALONE), tmp_path / "run", registry_of(numbers=World()))
    text = (tmp_path / "run" / "summary.json").read_text()
    assert '"scores"' not in text and "unique_best" not in text
    assert "scores" not in (tmp_path / "run" / "evaluation" / "agreement.csv").read_text().splitlines()[0]


def test_expected_scores_do_not_depend_on_the_keys_of_decoding(numbers_registry: Registry) -> None:
    registry = registry_of(numbers=World())
    cold, hot = (of(recipe_of(judging={**EXPECTED, "temperature": one}), registry) for one in (0.0, 1.0))
    assert cold[JUDGEMENTS].fingerprint == hot[JUDGEMENTS].fingerprint
    assert cold[OWN_EXPECTED].fingerprint == hot[OWN_EXPECTED].fingerprint
    assert cold[OWN].fingerprint != hot[OWN].fingerprint


def test_the_text_before_the_score_is_in_the_fingerprint_of_expected_scores_alone() -> None:
    other = evolve(PREFIXED, score_prefix="points: ")
    before, after = (
        of(recipe_of(judging=EXPECTED), registry_of(numbers=World(rubric=one))) for one in (PREFIXED, other)
    )
    differing = {path for path in before if before[path].fingerprint != after[path].fingerprint}
    assert {JUDGEMENTS, OWN_EXPECTED} <= differing
    assert OWN not in differing and "seed-0/M1/examples.jsonl" not in differing
    assert after[JUDGEMENTS].values["rubric.score_prefix"] == "points: "


def test_a_judge_that_cannot_give_expected_scores_is_refused_by_name() -> None:
    lines = problems_of(recipe_of(judging=EXPECTED), registry_of(numbers=World(scores=())))
    assert lines == [
        "judging.score: expected; plugin 'numbers' (registered manually) cannot compute it: set it to parsed, here or "
        "for one pipeline (pipelines.NAME.judging.score)"
    ]


def test_one_pipeline_may_have_parsed_scores_beside_expected_ones() -> None:
    models = {**numbers_recipe()["models"], "teacher": {"plugin": "other"}}
    registry = registry_of(numbers=World(), other=World(scores=()))
    pipelines: dict[str, Any] = {"self-reward": None, "teacher-reward": None}
    changes = {"judging": EXPECTED, "models": models, "controls": {}}
    [line] = problems_of(recipe_of(pipelines=pipelines, **changes), registry)
    assert line.startswith("judging.score: expected; plugin 'other'")
    pipelines["teacher-reward"] = {"judging": {"score": "parsed"}}
    assert checked_plan(recipe_of(pipelines=pipelines, **changes), registry)


@pytest.mark.parametrize("generator_scores", [(), ("expected",)])
def test_the_generator_judges_for_the_student_and_is_the_one_that_is_checked(
    generator_scores: tuple[Scores, ...],
) -> None:
    student = {"plugin": "numbers", "model": "numbers/novice", "generator": {"plugin": "engine"}}
    recipe = recipe_of(judging=EXPECTED, models={**numbers_recipe()["models"], "student": student}, **ALONE)
    engine = World(scores=generator_scores)
    registry = registry_of(numbers=World(scores=()), engine=engine)
    if generator_scores:
        preflight(Sources(recipe, registry))
        assert [one.expected_scores for one in engine.needs] == [(PREFIXED,)]
    else:
        assert problems_of(recipe, registry)[0].startswith("judging.score: expected; plugin 'engine'")


def test_a_sampling_key_is_checked_for_the_generator_too() -> None:
    student = {"plugin": "numbers", "model": "numbers/novice", "generator": {"plugin": "engine"}}
    registry = Registry.empty()
    able, unable = World(), World()
    able.info = evolve(able.info, sampling=("top_k",))
    registry.register(able, "numbers")
    registry.register(unable, "engine")
    recipe = recipe_of(models={**numbers_recipe()["models"], "student": student}, generation={"top_k": 9}, **ALONE)
    assert problems_of(recipe, registry)[0].startswith(
        "generation.top_k: 9; plugin 'engine' (registered manually) cannot"
    )


def test_several_samples_of_an_expected_score_are_refused() -> None:
    with pytest.raises(InputError, match=r"judging\.samples: 2; with score: expected all samples"):
        recipe_of(judging={**EXPECTED, "samples": 2})
    with pytest.raises(InputError, match=r"pipelines\.self-reward\.judging\.samples: 2"):
        recipe_of(pipelines={"self-reward": {"judging": {"score": "expected"}}}, controls={})


def test_a_rubric_whose_reply_does_not_begin_with_the_score_is_refused() -> None:
    registry = registry_of(numbers=World(rubric=evolve(PREFIXED, score_prefix="")))
    [line] = problems_of(recipe_of(judging=EXPECTED, **ALONE), registry)
    assert line.startswith("judging.score: expected; rubric 'numbers' has no score_prefix")


def test_only_the_judge_is_given_the_rubrics_of_expected_scores() -> None:
    world, teacher = World(), World()
    models = {**numbers_recipe()["models"], "teacher": {"plugin": "teacher"}, "evaluator": {"plugin": "teacher"}}
    recipe = recipe_of(judging=EXPECTED, models=models, **ALONE)
    preflight(Sources(recipe, registry_of(numbers=world, teacher=teacher)))
    assert [one.expected_scores for one in world.needs] == [(PREFIXED,)]
    assert [one.expected_scores for one in teacher.needs] == [()]


def test_keys_of_decoding_are_notices_if_nothing_is_decoded() -> None:
    judging = {**EXPECTED, "temperature": 0.5, "max_new_tokens": 8}
    evaluation = {**numbers_recipe()["evaluation"], "agreement_prompts": 0}
    found = list(unused_keys(recipe_of(judging=judging, evaluation=evaluation, **ALONE)))
    assert [line.partition(":")[0] for line in found] == ["judging.temperature", "judging.max_new_tokens"]
    assert list(unused_keys(recipe_of(judging=judging, **ALONE))) == []  # the parsed scores that are measured use them
    own = {"pipelines": {"self-reward": {"judging": {**EXPECTED, "top_p": 0.5}}}}
    assert [line.partition(":")[0] for line in unused_keys(recipe_of(**{**ALONE, **own}))] == [
        "pipelines.self-reward.judging.top_p"
    ]
