"""The declaration of a pipeline: the steps of one round, from fresh prompts to the training of the next model.

A step makes one artifact, reads artifacts of steps before it, and names all of them::

    SELF_REWARD = Pipeline(
        "the student judges its own candidates",
        (
            SampleStep("candidates"),
            JudgeStep("judgements", "candidates", by="student"),
            PairStep("preferences", "candidates", rule="best-worst", scores="judgements"),
            TrainStep("preferences"),
        ),
    )

The artifact ``prompts`` exists in every round: the fresh prompts of ``data.prompts``. A plugin offers pipelines and
controls in ``PluginInfo.pipelines`` and ``PluginInfo.controls``; a recipe runs them as ``PLUGIN/NAME``.
"""

from __future__ import annotations

from attrs import frozen

from tutelage.pipeline_steps import (
    PROMPTS,
    CompareStep,
    DemonstrateStep,
    DisputedStep,
    GivenStep,
    JudgeStep,
    Kind,
    LabelStep,
    PairStep,
    PipelineStep,
    SampleStep,
    TrainStep,
    TransformStep,
)


@frozen
class Pipeline:
    """A pipeline or a control: the steps of one round.

    A control mirrors the first round of a pipeline. It is trained once, from the same model, and its steps may also
    read ``MIRRORED_PAIRS`` and ``MIRRORED_TRAINING``.
    """

    help: str
    """What it does, in one line for ``tutelage plugins show`` and the card of a model."""
    steps: tuple[PipelineStep, ...]
    """The steps, each after the steps whose artifacts it reads. The last one, and no other, is a ``TrainStep``."""
    once: bool = False
    """Whether a model is trained in the first round only, because the steps do not depend on the round."""

    @property
    def training(self) -> TrainStep:
        """The last step."""
        last = self.steps[-1]
        assert isinstance(last, TrainStep), "checked when the plugin was loaded"
        return last

    @property
    def artifacts(self) -> frozenset[str]:
        """The names of all artifacts that a step reads."""
        return frozenset(name for step in self.steps for name, _ in step.reads)

    @property
    def uses_prompts(self) -> bool:
        """Whether the pipeline needs fresh prompts in every round."""
        return PROMPTS in self.artifacts

    @property
    def samples(self) -> tuple[SampleStep, ...]:
        """The steps in which a model answers prompts."""
        return tuple(step for step in self.steps if isinstance(step, SampleStep))

    @property
    def judges(self) -> tuple[JudgeStep, ...]:
        """The steps in which a model judges."""
        return tuple(step for step in self.steps if isinstance(step, JudgeStep))

    @property
    def compares(self) -> tuple[CompareStep, ...]:
        """The steps in which a model compares candidates."""
        return tuple(step for step in self.steps if isinstance(step, CompareStep))

    @property
    def disputes(self) -> tuple[DisputedStep, ...]:
        """The steps that select answers on which samples disagree."""
        return tuple(step for step in self.steps if isinstance(step, DisputedStep))

    @property
    def demonstrates(self) -> tuple[DemonstrateStep, ...]:
        """The steps in which a teacher answers."""
        return tuple(step for step in self.steps if isinstance(step, DemonstrateStep))

    @property
    def pairs(self) -> tuple[PairStep, ...]:
        """The steps that make pairs with a rule."""
        return tuple(step for step in self.steps if isinstance(step, PairStep))

    @property
    def labels(self) -> tuple[LabelStep, ...]:
        """The steps that label scored answers."""
        return tuple(step for step in self.steps if isinstance(step, LabelStep))

    @property
    def trains_on(self) -> Kind | None:
        """The kind of the artifact that the ``TrainStep`` names; None for one of a mirrored pipeline."""
        return next((step.kind for step in self.steps if step.name == self.training.examples), None)

    @property
    def takes(self) -> frozenset[str]:
        """The settings of the recipe that transforms take: ``options`` (of pairs), ``rubric``."""
        return frozenset(name for step in self.steps if isinstance(step, TransformStep) for name in step.takes)

    @property
    def given(self) -> frozenset[str]:
        """The parts of the recipe's data that the pipeline takes rows of."""
        return frozenset(step.source for step in self.steps if isinstance(step, GivenStep))
