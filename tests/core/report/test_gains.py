"""The first sentences of the page claim no more than the intervals show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import evolve

from tutelage.evaluation.intervals import Metric
from tutelage.evaluation.scores import score_differences
from tutelage.recipe.schema import Recipe
from tutelage.report.gains import Gains, first_sentences, read_gains
from tutelage.results.run_results import RunResults
from tutelage.results.summary import ModelResult, read_summary

ABOVE, OPEN, BELOW = Metric(1.0, 0.5, 1.5, 20), Metric(0.1, -0.2, 0.4, 20), Metric(-1.0, -1.5, -0.5, 20)
MODELS = {"M0": 1.0, "M1": 2.0, "M2/teacher-reward": 3.0, "M2/random-pairs": 2.5}


def sentences(recipe: Recipe, over: Mapping[str, Mapping[str, Metric]], scores: Mapping[str, float] = MODELS) -> str:
    models = [
        ModelResult(
            id,
            id.partition("/")[2] or None,
            int(id[1]),
            None,
            0,
            {"gold_score": Metric(score, score - 0.1, score + 0.1, 20)},
        )
        for id, score in scores.items()
    ]
    gains = [Gains(name, {id: {"gold_score": one} for id, one in found.items()}) for name, found in over.items()]
    return "\n".join(first_sentences(models, gains, recipe, "tiny"))


def all_over_m0(metric: Metric) -> dict[str, Metric]:
    return {id: metric for id in MODELS if id != "M0"}


def test_the_best_model_of_a_pipeline_is_compared_with_m0_m1_and_every_control(
    make_recipe: Callable[..., Recipe],
) -> None:
    recipe = make_recipe(pipelines={"teacher-reward": None}, controls={"random-pairs": {"mirrors": "teacher-reward"}})
    best = "M2/teacher-reward"
    text = sentences(
        recipe, {"M0": all_over_m0(ABOVE), "M1": {best: OPEN}, "M2/random-pairs": {best: BELOW}}
    ).splitlines()
    assert text[0] == (
        "M2/teacher-reward scores 3.00 [2.90, 3.10] on average, +1.00 [+0.50, +1.50] compared with M0, the model "
        "before training."
    )
    assert text[1] == "Whether M2/teacher-reward is better or worse than M1 is open: +0.10 [-0.20, +0.40]."
    assert text[2] == "M2/teacher-reward scores lower than the control M2/random-pairs: -1.00 [-1.50, -0.50]."
    assert "20 held-out prompts, given by tiny" in text[3]
    assert "one seed" in text[4] and "chosen among 3" in text[5]


def test_a_difference_without_an_interval_is_neither_open_nor_a_gain(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe(pipelines={"teacher-reward": None}, controls={"random-pairs": {"mirrors": "teacher-reward"}})
    few = Metric(2.0, None, None, 3, "there are fewer than 6 prompts")
    text = sentences(recipe, {"M0": all_over_m0(few), "M1": {"M2/teacher-reward": few}})
    assert text.startswith("No trained model scores measurably higher than M0")
    assert "with a difference to M0 of +2.00 [cannot tell]." in text
    assert "better or worse than M1 is not known, because there are fewer than 6 prompts." in text


def test_if_no_model_beats_m0_this_is_the_first_sentence(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe(pipelines={"teacher-reward": None}, controls={"random-pairs": {"mirrors": "teacher-reward"}})
    undecided = sentences(recipe, {"M0": all_over_m0(OPEN)}).splitlines()
    assert undecided[0] == "No trained model scores measurably higher than M0, the model before training."
    assert undecided[1].endswith("M2/teacher-reward, with a difference to M0 of +0.10 [-0.20, +0.40].")
    worse = sentences(recipe, {"M0": all_over_m0(BELOW)}).splitlines()
    assert worse[0] == "No trained model beats M0, the model before training: all of them score lower."


def test_a_control_that_beats_m0_does_not_count_as_a_success_of_the_pipelines(
    make_recipe: Callable[..., Recipe],
) -> None:
    recipe = make_recipe(pipelines={"teacher-reward": None}, controls={"random-pairs": {"mirrors": "teacher-reward"}})
    text = sentences(recipe, {"M0": {**all_over_m0(OPEN), "M2/random-pairs": ABOVE}}).splitlines()
    assert text[0] == "No model of a pipeline scores measurably higher than M0, the model before training."
    assert text[1].endswith("; M2/random-pairs scores higher than M0.")


def test_with_several_seeds_the_sentence_about_one_seed_is_left_out(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe(pipelines={"teacher-reward": None}, controls={})
    text = sentences(evolve(recipe, seeds=(1, 2)), {"M0": all_over_m0(ABOVE)})
    assert "over 2 seeds" in text and "one seed" not in text


def test_gains_are_the_differences_of_the_summary_or_computed_like_them(finished: Path) -> None:
    results, summary = RunResults.open(finished), read_summary(finished / "summary.json")
    gains = {one.over: one for one in read_gains(results.reader, summary)}
    assert list(gains) == ["M0", "M1", "M2/random-pairs"]
    assert list(gains["M0"].metrics) == ["M1", "M2/self-reward", "M2/random-pairs"]
    [stored] = [one for one in summary.differences if (one.left, one.right) == ("M2/self-reward", "M1")]
    assert gains["M1"].score("M2/self-reward") == stored.metrics["gold_score"]
    left, right = (results.reader.answers(id, "greedy", 0) for id in ("M2/self-reward", "M0"))
    assert gains["M0"].metrics["M2/self-reward"] == score_differences(left, right)
    assert gains["M0"].score("M0") is None
