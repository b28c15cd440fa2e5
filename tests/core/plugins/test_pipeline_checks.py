"""The checks of declared pipelines and controls when their plugin is registered."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import critic_world
import pytest
from attrs import evolve

from tutelage import (
    MIRRORED_PAIRS,
    ChosenStep,
    DemonstrateStep,
    JoinStep,
    JudgeStep,
    PairStep,
    Pipeline,
    PluginInfo,
    SampleStep,
    TrainStep,
    TransformStep,
    hookimpl,
)
from tutelage.errors import PluginError
from tutelage.plugins.built_in_pipelines import CONTROLS, PIPELINES, SELF_REWARD
from tutelage.plugins.pipeline_checks import pipeline_problems
from tutelage.plugins.registry import Registry

SAMPLE, TRAIN = SampleStep("candidates"), TrainStep("pairs")
PAIR = PairStep("pairs", "candidates", "best-worst")


class Offering:
    """A plugin that offers what it is given."""

    def __init__(self, **offered: Mapping[str, Any]) -> None:
        self.offered = offered

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo("Offers.", **self.offered)  # type: ignore[arg-type]


def problems(*steps: Any, is_control: bool = False) -> list[str]:
    return list(pipeline_problems(Pipeline("A pipeline.", steps), is_control))


def test_the_built_in_pipelines_and_those_of_a_plugin_have_no_problem() -> None:
    for pipeline in (*PIPELINES.values(), critic_world.REVISE, critic_world.SPIN, critic_world.TWO_JUDGES):
        assert list(pipeline_problems(pipeline)) == []
    for control in (*CONTROLS.values(), critic_world.REVERSED):
        assert list(pipeline_problems(control, is_control=True)) == []


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        (
            (SAMPLE, JudgeStep("scores", "candidate"), PAIR, TRAIN),
            "JudgeStep 'scores' reads 'candidate', which no step makes; did you mean 'candidates'?",
        ),
        (
            (SAMPLE, JudgeStep("scores", "candidates"), evolve(PAIR, demonstrations="scores"), TRAIN),
            "PairStep 'pairs' reads 'scores' as demonstrations, but 'scores' has judgements",
        ),
        (
            (SAMPLE, evolve(PAIR, scores="scores"), JudgeStep("scores", "candidates"), TRAIN),
            "PairStep 'pairs' reads 'scores', which a later step makes; put JudgeStep 'scores' before it",
        ),
        (
            (
                TransformStep("one", critic_world.exchanged, reads=("two",), makes="preferences"),
                JoinStep("two", ("pairs", "one")),
                SAMPLE,
                PAIR,
                TrainStep("two"),
            ),
            "TransformStep 'one' reads 'two', which depends on it: one -> two -> one; remove one of them",
        ),
        ((SAMPLE, PAIR, TrainStep("candidates")), "TrainStep reads 'candidates' as preferences, but 'candidates' has "),
        ((SAMPLE, PAIR, ChosenStep("sft", "pairs"), TrainStep("pairs", "sft")), "TrainStep reads 'pairs' as examples"),
        ((SAMPLE, PAIR), "the last step, and no other, must be a TrainStep; it has 0"),
        ((TRAIN, SAMPLE, PAIR), "the last step, and no other, must be a TrainStep; it has 1"),
        ((SAMPLE, SAMPLE, PAIR, TRAIN), "two steps make 'candidates'; give each artifact its own name"),
        ((SAMPLE, PAIR, TrainStep("pairs", "dpoo")), "TrainStep: no objective 'dpoo'; did you mean 'dpo'?"),
        ((SAMPLE, PAIR, TrainStep("pairs", settings={"betta": 1.0})), "TrainStep: settings: betta"),
        ((SAMPLE, PAIR, TrainStep("pairs", settings={"seed": 1})), "TrainStep: settings: seed: the seed is set by"),
        ((SampleStep("metrics"), PAIR, TRAIN), "SampleStep 'metrics': the artifact needs another name"),
        ((SampleStep("../up"), PAIR, TRAIN), "SampleStep '../up': the artifact needs another name"),
        ((SampleStep("candidates", by="studnet"), PAIR, TRAIN), "by is 'studnet'; did you mean 'student'?"),  # type: ignore[arg-type]
        (
            (SampleStep("candidates", by="judge"), DemonstrateStep("shown", by="student"), PAIR, TRAIN),  # type: ignore[arg-type]
            "by is 'student'",
        ),
        (("sample",), "steps must be a tuple of steps"),
        (
            (TransformStep("pairs", lambda prompts: [], reads=("prompts",), makes="preferences"), TRAIN),
            "must be a function at the top of a module, because its name is recorded",
        ),
        (
            (TransformStep("pairs", partial(critic_world.exchanged), reads=("prompts",), makes="preferences"), TRAIN),
            "must be a function at the top of a module",
        ),
        (
            (TransformStep("pairs", critic_world.exchanged, reads=("prompts",), makes="pairs"), TRAIN),  # type: ignore[arg-type]
            "TransformStep 'pairs': makes is 'pairs'; ",
        ),
        ((SAMPLE, evolve(PAIR, like=MIRRORED_PAIRS), TRAIN), "reads 'mirrored/pairs', which no step makes"),
    ],
)
def test_a_wrong_declaration_is_named_with_its_step_and_the_remedy(steps: tuple[Any, ...], problem: str) -> None:
    assert any(problem in found for found in problems(*steps)), problems(*steps)


def test_only_a_control_reads_artifacts_of_the_mirrored_pipeline() -> None:
    assert problems(SAMPLE, evolve(PAIR, like=MIRRORED_PAIRS), TRAIN, is_control=True) == []


def test_a_plugin_with_a_wrong_pipeline_is_not_registered_and_the_error_names_the_pipeline() -> None:
    wrong = Pipeline("Wrong.", (SAMPLE, TRAIN))
    with pytest.raises(PluginError, match=r"describe\(\): pipelines\['mine'\]: TrainStep reads 'pairs', which no step"):
        Registry.empty().register(Offering(pipelines={"mine": wrong}), "loops")
    with pytest.raises(PluginError, match=r"pipelines\['a/b'\]: a name has small letters, digits and hyphens only"):
        Registry.empty().register(Offering(pipelines={"a/b": SELF_REWARD}), "loops")
    with pytest.raises(PluginError, match=r"controls\['mine'\] must be a Pipeline, not str"):
        Registry.empty().register(Offering(controls={"mine": "random-pairs"}), "loops")
