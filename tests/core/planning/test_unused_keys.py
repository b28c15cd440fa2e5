"""A key that has no effect in a recipe is named, with the reason; a key that has one is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from recipes import numbers_recipe

from tutelage.planning.declared import BUILT_IN
from tutelage.planning.unused_keys import unused_keys
from tutelage.recipe.loading import built_in, load_recipe
from tutelage.recipe.schema import Recipe

Make = Callable[..., Recipe]
VALUES = numbers_recipe()
DATA = VALUES["data"]
EVALUATION = VALUES["evaluation"]
PAIRS = {"source": "numbers/pairs", "count": 30}
DEMONSTRATION = {
    "pipelines": {"teacher-demonstration": None},
    "controls": {},
    "evaluation": None,
    "judging": {"rubric": "numbers/numbers"},  # of the EFT examples
}
ONE_ROUND = {"iterations": 1}


def alone(**changes: Any) -> dict[str, Any]:
    own = {"pipelines": {"own-preferences": None}, "controls": {}, "iterations": 1, "judging": {}}
    return {**own, "data": {"preferences": PAIRS}, "evaluation": None, **changes}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"evaluation": {**EVALUATION, "sampled": 1}}, "evaluation.agreement_prompts"),
        (
            {"evaluation": {**EVALUATION, "agreement_prompts": 0, "self_preference": True}},
            "evaluation.self_preference",
        ),
        (
            {"evaluation": {**EVALUATION, "sampled": 0, "agreement_prompts": 0, "temperature": 0.3}},
            "evaluation.temperature",
        ),
        (
            {"evaluation": {**EVALUATION, "sampled": 0, "agreement_prompts": 0, "top_p": 0.3}},
            "evaluation.top_p",
        ),
        (
            {"evaluation": {**EVALUATION, "sampled": 0, "agreement_prompts": 0, "min_p": 0.3}},
            "evaluation.min_p",
        ),
        ({"dpo": {"label_smoothing": 0.1}}, "dpo.label_smoothing"),
        ({"sft": {"lr_scheduler_type": "constant", "warmup_ratio": 0.2}}, "sft.warmup_ratio"),
        ({"dpo": {"loss_type": {"ipo": 1.0, "sft": 0.1}, "discopop_tau": 0.1}}, "dpo.discopop_tau"),
        ({"dpo": {"f_alpha_divergence_coef": 0.1}}, "dpo.f_alpha_divergence_coef"),
        (
            {
                "dpo": {"loss_type": "robust", "label_smoothing": 0.1},
                "pipelines": {"self-reward": {"dpo": {"loss_type": "ipo"}}, "teacher-reward": None},
                "controls": {},
            },
            "pipelines.self-reward.dpo.label_smoothing",
        ),
        ({**DEMONSTRATION, "data": {**DATA, "eft": None}, "judging": {"samples": 3}}, "judging.samples"),
        ({**DEMONSTRATION, "pairs": {"margin": 1.0}}, "pairs.margin"),
        ({**DEMONSTRATION, "judging": {"rubric": "numbers/numbers", "samples": 3}}, "judging.samples"),
        (
            {"pairs": {"margin": 1.0}, "pipelines": {"self-reward": {"pairs": {"margin": 2.0}}}, "controls": {}},
            "pairs.margin",
        ),
        ({"pairs": {"near_best": 1.0}}, "pairs.near_best"),
        ({"pairs": {"length_ratio": 2.0}}, "pairs.length_ratio"),
        (
            {"pipelines": {"self-reward": {"pairs": {"near_best": 1.0}}}, "controls": {}},
            "pipelines.self-reward.pairs.near_best",
        ),
        (
            {
                "pipelines": {"self-reward": None, "teacher-demonstration": {"judging": {"temperature": 1.0}}},
                "controls": {},
            },
            "pipelines.teacher-demonstration.judging.temperature",
        ),
        (
            {"controls": {"random-pairs": {"mirrors": "self-reward", "sft": {"epochs": 9}}}},
            "controls.random-pairs.sft.epochs",
        ),
        (
            {"controls": {"random-pairs": {"mirrors": "self-reward", "pairs": {"margin": 2.0}}}},
            "controls.random-pairs.pairs.margin",
        ),
        (
            {"controls": {"sft-on-chosen": {"mirrors": "self-reward", "dpo": {"beta": 9}}}},
            "controls.sft-on-chosen.dpo.beta",
        ),
        (alone(data={"preferences": PAIRS, "prompts": {"source": "numbers/train", "count": 4}}), "data.prompts"),
        (alone(sft={"epochs": 9}), "sft.epochs"),
        (
            {"pipelines": {"self-reward": {"dpo": {"beta": 0.3}}}, "controls": {}, "dpo": {"beta": 9}},
            "dpo.beta",
        ),
        (alone(generation={"n": 8}), "generation.n"),
        (alone(judging={"rubric": "numbers/numbers"}), "judging.rubric"),
        (alone(data={"preferences": PAIRS, "decontaminate": {"share": 0.9}}), "data.decontaminate.share"),
        ({**ONE_ROUND, "start": "M1"}, "start"),
        ({**ONE_ROUND, "reference": "M1"}, "reference"),
        ({**ONE_ROUND, "preferences": "all"}, "preferences"),
        (
            {**DEMONSTRATION, "models": {**VALUES["models"], "judge": {"plugin": "numbers"}}},
            "models.judge",
        ),
    ],
)
def test_a_key_without_effect_is_the_one_notice(make_recipe: Make, changes: dict[str, Any], key: str) -> None:
    notices = list(unused_keys(make_recipe(**changes)))
    assert [line.partition(":")[0] for line in notices] == [key]
    assert ": has no effect, because " in notices[0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pairs": {"rule": "length-controlled", "near_best": 1.0}, "pipelines": {"self-reward": None}, "controls": {}},
        {"pairs": {"margin": 1.0}, "pipelines": {"self-reward": None, "teacher-demonstration": None}, "controls": {}},
        {"pairs": {"keep_cut": True}},
        {**DEMONSTRATION, "judging": {"rubric": "numbers/numbers"}},
        {"pipelines": {"teacher-demonstration": None}, "controls": {}, "judging": {"samples": 3}},
        alone(controls={"sft-on-chosen": {"mirrors": "own-preferences"}}, sft={"epochs": 9}),
        {"start": "M1", "reference": "M0", "preferences": "all"},
        {"controls": {"random-pairs": {"mirrors": "self-reward", "dpo": {"beta": 9}}}},
        {
            "pipelines": {"self-reward": {"dpo": {"loss_type": "robust"}}},
            "controls": {},
            "dpo": {"label_smoothing": 0.1},
        },
    ],
)
def test_a_key_with_an_effect_is_no_notice(make_recipe: Make, changes: dict[str, Any]) -> None:
    assert list(unused_keys(make_recipe(**changes))) == []


BY_SFT = {"self-reward": {"objective": "sft"}}


@pytest.mark.parametrize(
    ("pipelines", "dpo", "reasons"),
    [
        (BY_SFT, {"beta": 9}, ["nothing is trained by DPO with it"]),
        (BY_SFT, {"label_smoothing": 0.1}, ["nothing is trained by DPO with it"]),
        ({**BY_SFT, "teacher-demonstration": None}, {"beta": 9}, []),
        ({**BY_SFT, "teacher-demonstration": None}, {"label_smoothing": 0.1}, ["loss_type is sigmoid"]),
    ],
)
def test_a_key_of_dpo_has_no_effect_if_no_pipeline_or_control_trains_by_it(
    make_recipe: Make, pipelines: dict[str, Any], dpo: dict[str, Any], reasons: list[str]
) -> None:
    recipe = make_recipe(pipelines=pipelines, controls={}, dpo=dpo)
    found = [line for line in unused_keys(recipe, BUILT_IN.adapted_to(recipe)) if line.startswith("dpo.")]
    assert found == [f"dpo.{key}: has no effect, because {reason}" for key in dpo for reason in reasons]


@pytest.mark.parametrize("name", sorted(built_in()))
def test_every_key_of_a_built_in_recipe_has_an_effect(name: str) -> None:
    assert list(unused_keys(load_recipe(built_in()[name]))) == []


def test_the_keys_that_a_comparison_of_candidates_uses_have_an_effect(make_recipe: Make) -> None:
    """They were reported as ineffective, because the pipeline scores no answers."""
    used = {"pairwise_rubric": "pairwise", "temperature": 0.4, "max_new_tokens": 9}
    recipe = make_recipe(pipelines={"win-rate": {"judging": {**used, "samples": 3}}}, controls={}, evaluation=None)
    found = [line for line in unused_keys(recipe) if line.startswith("pipelines.win-rate.judging.")]
    reason = "has no effect, because win-rate compares answers and scores none"
    assert found == [f"pipelines.win-rate.judging.samples: {reason}"]
