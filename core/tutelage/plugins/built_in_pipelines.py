"""The pipelines and controls that are built in, declared as those of a plugin are."""

from __future__ import annotations

from collections.abc import Mapping

from tutelage.pipeline import Pipeline
from tutelage.pipeline_steps import (
    MIRRORED_PAIRS,
    MIRRORED_TRAINING,
    ChosenStep,
    CombineStep,
    CompareStep,
    DemonstrateStep,
    DisputedStep,
    GivenStep,
    JudgeStep,
    PairStep,
    SampleStep,
    TrainStep,
    TransformStep,
)
from tutelage.plugins import checklists
from tutelage.recipe.schema import OWN_PREFERENCES

SELF_REWARD = Pipeline(
    "the student judges its own candidates",
    (
        SampleStep("candidates"),
        JudgeStep("judgements", "candidates", by="student"),
        PairStep("preferences", "candidates", rule="best-worst", scores="judgements"),
        TrainStep("preferences"),
    ),
)
TEACHER_REWARD = Pipeline(
    "the teacher judges the student's candidates",
    (
        SampleStep("candidates"),
        JudgeStep("judgements", "candidates", by="judge"),
        PairStep("preferences", "candidates", rule="best-worst", scores="judgements"),
        TrainStep("preferences"),
    ),
)
CASCADE = Pipeline(
    "the student judges all candidates, the judge only those on which the student's samples disagree",
    (
        SampleStep("candidates"),
        JudgeStep("own-judgements", "candidates", by="student"),
        DisputedStep("disputed", "candidates", "own-judgements"),
        JudgeStep("second-judgements", "disputed", by="judge", samples=1),
        CombineStep("judgements", ("second-judgements", "own-judgements"), how="first"),
        PairStep("preferences", "candidates", rule="best-worst", scores="judgements"),
        TrainStep("preferences"),
    ),
)
WIN_RATE = Pipeline(
    "the judge compares the candidates of a prompt in pairs; their win rates are the scores",
    (
        SampleStep("candidates"),
        CompareStep("judgements", "candidates", by="judge"),
        PairStep("preferences", "candidates", rule="best-worst", scores="judgements"),
        TrainStep("preferences"),
    ),
)
CHECKLIST = Pipeline(
    "the teacher writes a checklist for each prompt, and the judge scores the candidates by it",
    (
        SampleStep("candidates"),
        TransformStep("checklist-requests", checklists.requests, reads=("prompts",), makes="prompts"),
        SampleStep("checklists", "checklist-requests", by="teacher", n=1, temperature=0.0),
        TransformStep("checked-prompts", checklists.with_checklists, reads=("prompts", "checklists"), makes="prompts"),
        JudgeStep("judgements", "candidates", by="judge", prompts="checked-prompts", rubric="checklist"),
        PairStep("preferences", "candidates", rule="best-worst", scores="judgements"),
        TrainStep("preferences"),
    ),
)
TEACHER_DEMONSTRATION = Pipeline(
    "the teacher's answer is chosen, the student's own rejected",
    (
        SampleStep("candidates"),
        DemonstrateStep("demonstrations"),
        PairStep("preferences", "candidates", rule="demonstration-vs-own", demonstrations="demonstrations"),
        TrainStep("preferences"),
    ),
)
GIVEN_PAIRS = Pipeline(
    "DPO on the pairs of `data.preferences`, without sampling or judging",
    (GivenStep("preferences", "preferences"), TrainStep("preferences")),
    once=True,
)
PIPELINES: Mapping[str, Pipeline] = {
    "self-reward": SELF_REWARD,
    "teacher-reward": TEACHER_REWARD,
    "teacher-demonstration": TEACHER_DEMONSTRATION,
    "cascade": CASCADE,
    "win-rate": WIN_RATE,
    "checklist": CHECKLIST,
    OWN_PREFERENCES: GIVEN_PAIRS,
}
"""The built-in pipelines, by the names that a recipe uses."""

RANDOM_PAIRS = Pipeline(
    "the same candidates, pairs drawn at random: what DPO does without a judge",
    (
        SampleStep("candidates"),
        PairStep("preferences", "candidates", rule="random-pairs", like=MIRRORED_PAIRS, fixed=True),
        TrainStep("preferences"),
    ),
)
SFT_ON_CHOSEN = Pipeline(
    "SFT on the chosen side of the same pairs: what the answers do without DPO",
    (ChosenStep("examples", MIRRORED_TRAINING), TrainStep("examples", "sft")),
)
CONTROLS: Mapping[str, Pipeline] = {"random-pairs": RANDOM_PAIRS, "sft-on-chosen": SFT_ON_CHOSEN}
"""The built-in controls, by the names that a recipe uses."""
