"""The steps that a plan is made of: plain data. Each one writes one artifact, and its path is the step's name.

Paths are relative to the run. A step whose artifact is there is done; the runner does the others in the plan's order.
"""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

from tutelage.planning.artifacts import ModelArtifacts, model_artifacts
from tutelage.records import Objective, Sampling

REQUESTS_AT_ONCE = 32
"""Requests for prompts that are made, and kept, at a time; a round of them is read before the next is asked for."""


@frozen
class Worker:
    """A model as the plan names it, before anything is loaded."""

    role: str
    """student, teacher, judge or evaluator."""
    id: str
    """``M1``, ``M2/self-reward``, or the role's own name."""
    checkpoint: str = ""
    """Where a trained student's weights will lie; empty for a model as it is bound."""


@frozen
class PlannedModel:
    """One model of the series of one seed."""

    id: str
    seed: int
    pipeline: str | None
    """None for M0 and M1, which all pipelines share."""
    iteration: int
    parent: str | None

    @property
    def files(self) -> ModelArtifacts:
        """The paths of its artifacts."""
        return model_artifacts(self.seed, self.id, self.pipeline, self.iteration)

    @property
    def worker(self) -> Worker:
        """The model as the worker of a step."""
        return Worker("student", self.id, self.files.checkpoint if self.iteration else "")


@frozen(kw_only=True)
class Step:
    """What every step has."""

    stage: ClassVar[str]
    """What kind of work it is, in one word: in the plan, in progress, in the ledger."""
    output: str
    """The artifact's path; the step's name."""
    count: int
    """How many items it makes, as far as the plan can know: an upper bound where answers may be dropped."""
    unit: str
    """What is counted."""
    seed: int = 0

    @property
    def inputs(self) -> tuple[str, ...]:
        """Paths of the artifacts that it reads."""
        return ()


@frozen(kw_only=True)
class SelectPrompts(Step):
    """Take prompts of a source: a slice, so that no iteration sees a prompt of another."""

    stage: ClassVar[str] = "prompts"
    source: str
    skip: int
    take: int | None
    decontaminate: bool = False
    """Keep clear of the evaluation prompts; so are all prompts to learn from."""
    unit: str = "prompts"


@frozen(kw_only=True)
class WritePrompts(Step):
    """A model writes prompts (self-instruct): it is shown some of a source's, and continues the list."""

    stage: ClassVar[str] = "prompts"
    worker: Worker
    source: str
    """Of the examples that it is shown."""
    earlier: tuple[str, ...] = ()
    """Artifacts of prompts that the new ones must not repeat: those of the iterations before."""
    sampling: Sampling
    unit: str = "prompts"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The earlier prompts, and the checkpoint of who writes."""
        return tuple(path for path in (*self.earlier, self.worker.checkpoint) if path)


@frozen(kw_only=True)
class BuildExamples(Step):
    """IFT and EFT examples of M1, in one file."""

    stage: ClassVar[str] = "examples"
    unit: str = "examples"


@frozen(kw_only=True)
class Train(Step):
    """One training run: SFT, or DPO against the reference."""

    stage: ClassVar[str] = "train"
    examples: str
    start: Worker
    reference: Worker | None
    objective: Objective
    model: str
    unit: str = "examples seen"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The examples, the checkpoint to start from, and the reference's where it is another one."""
        other = self.reference.checkpoint if self.reference and self.reference != self.start else ""
        return tuple(path for path in (self.examples, self.start.checkpoint, other) if path)


@frozen(kw_only=True)
class Sample(Step):
    """A model answers prompts: candidates to learn from, or answers to be evaluated."""

    stage: ClassVar[str] = "generate"
    worker: Worker
    prompts: str
    n: int
    sampling: Sampling
    take: int | None = None
    """Only so many of the prompts."""
    unit: str = "answers"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The prompts."""
        return tuple(path for path in (self.prompts, self.worker.checkpoint) if path)


@frozen(kw_only=True)
class Judge(Step):
    """A model scores answers."""

    stage: ClassVar[str] = "judge"
    worker: Worker
    prompts: str
    answers: str
    rubric: str
    samples: int
    sampling: Sampling
    take: int | None = None
    """Only the answers to so many of the prompts."""
    unit: str = "judgements"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Prompts and answers."""
        return tuple(path for path in (self.prompts, self.answers, self.worker.checkpoint) if path)


@frozen(kw_only=True)
class Demonstrate(Step):
    """The teacher answers prompts."""

    stage: ClassVar[str] = "demonstrate"
    worker: Worker
    prompts: str
    sampling: Sampling
    unit: str = "demonstrations"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The prompts."""
        return (self.prompts,)


@frozen(kw_only=True)
class MakePairs(Step):
    """Scored candidates, or demonstrations, become preference pairs."""

    stage: ClassVar[str] = "pair"
    prompts: str
    candidates: str
    judgements: str = ""
    demonstrations: str = ""
    like: str = ""
    """Only for prompts that have a pair in this file (controls)."""
    rule: str
    margin: float = 0.0
    keep_cut: bool = False
    near_best: float = 0.5
    length_ratio: float = 1.25
    unit: str = "pairs"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Everything that a pair is made of."""
        every = (self.prompts, self.candidates, self.judgements, self.demonstrations, self.like)
        return tuple(path for path in every if path)


@frozen(kw_only=True)
class JoinPairs(Step):
    """The preference pairs of several rounds, in one file, to train on."""

    stage: ClassVar[str] = "join"
    parts: tuple[str, ...]
    unit: str = "pairs"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The pairs of each round."""
        return self.parts


@frozen(kw_only=True)
class ChosenExamples(Step):
    """The chosen side of preference pairs as SFT examples (a control)."""

    stage: ClassVar[str] = "examples"
    preferences: str
    unit: str = "examples"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The pairs."""
        return (self.preferences,)


@frozen(kw_only=True)
class MixAnswers(Step):
    """A set of answers drawn from all models, on which every judge is measured alike."""

    stage: ClassVar[str] = "mix"
    answers: dict[str, str] = field(factory=dict)
    """Model id to its file of answers."""
    prompts: str
    take: int
    n: int
    unit: str = "answers"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The prompts and every model's answers."""
        return (self.prompts, *self.answers.values())


@frozen(kw_only=True)
class Compare(Step):
    """The evaluator compares pairs of models, each pair of answers in both orders."""

    stage: ClassVar[str] = "evaluate"
    worker: Worker
    pairs: tuple[tuple[str, str], ...]
    answers: dict[str, str] = field(factory=dict)
    """Model id to its file of greedy answers."""
    prompts: str
    rubric: str
    sampling: Sampling
    unit: str = "verdicts"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The prompts and every model's answers."""
        return (self.prompts, *self.answers.values())


@frozen(kw_only=True)
class Summarise(Step):
    """Read what the other steps made; write ``summary.json`` and the tables."""

    stage: ClassVar[str] = "summarise"
    unit: str = "summary"


@frozen
class Plan:
    """Every step of a run, in an order in which each finds its inputs."""

    steps: tuple[Step, ...]
    models: tuple[PlannedModel, ...]

    def models_of(self, seed: int) -> tuple[PlannedModel, ...]:
        """The series of one seed, M0 first."""
        return tuple(model for model in self.models if model.seed == seed)

    def model(self, seed: int, id: str) -> PlannedModel:
        """One model. Raises KeyError if the plan has none of that id under that seed."""
        for model in self.models:
            if (model.seed, model.id) == (seed, id):
                return model
        raise KeyError(id)
