"""The steps of a plan, as plain data. Each step writes one artifact, whose path is the step's name.

Paths are relative to the run's folder. A step is done if its artifact is in place and was made from what the recipe
says. The runner does the other steps in the plan's order.
"""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

from tutelage.objectives import Objective
from tutelage.pipeline_steps import Kind
from tutelage.planning.artifacts import ModelArtifacts, model_artifacts
from tutelage.preferences.pairing import PairOptions
from tutelage.records import Sampling, Scores, added_key

PROMPTS_A_REQUEST = 3
"""Guessed number of new prompts per reply of 256 tokens. A reply has room for four, but some repeat earlier ones."""
REQUESTS_AT_ONCE = 32
"""Number of requests for prompts per round. A round is stored and parsed before the next one is sent."""


@frozen
class Worker:
    """A model in the plan, before it is loaded."""

    role: str
    """student, teacher, judge or evaluator."""
    id: str
    """``M1``, ``M2/self-reward``, or the name of the role."""
    checkpoint: str = ""
    """Path of a trained student's weights; empty for a model that is used as the recipe binds it."""


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
        """The paths of the model's artifacts."""
        return model_artifacts(self.seed, self.id, self.pipeline, self.iteration)

    @property
    def worker(self) -> Worker:
        """The model as the worker of a step."""
        return Worker("student", self.id, self.files.checkpoint if self.iteration else "")


@frozen(kw_only=True)
class Step:
    """The base of all steps."""

    stage: ClassVar[str]
    """Kind of work in one word, as shown in the plan, in the progress and in the ledger."""
    version: ClassVar[int] = 1
    """Version of the step's results. It is raised in a release that gives other results for the same inputs."""
    output: str
    """Path of the artifact, and name of the step."""
    count: int
    """Planned number of items. It is an upper bound if items may be dropped."""
    unit: str
    """Name of the items that are counted."""
    seed: int = 0
    """Seed of the run that the step belongs to."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Paths of the artifacts that the step reads."""
        return ()


@frozen(kw_only=True)
class SelectPrompts(Step):
    """Take a slice of the prompts of a source. Each iteration takes another slice, so that no prompt is used twice."""

    stage: ClassVar[str] = "prompts"
    source: str
    skip: int
    take: int | None
    decontaminate: bool = False
    """Whether to drop prompts that contain an evaluation prompt. True for all prompts that models are trained on."""
    unit: str = "prompts"


@frozen(kw_only=True)
class WritePrompts(Step):
    """Let a model write prompts (self-instruct): a request shows it prompts of a source, and it continues the list."""

    stage: ClassVar[str] = "prompts"
    worker: Worker
    source: str
    """Source of the example prompts in the requests."""
    earlier: tuple[str, ...] = ()
    """Artifacts with the prompts of earlier iterations, which the new prompts must not repeat."""
    sampling: Sampling
    unit: str = "prompts"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The earlier prompts, and the checkpoint of the writer."""
        return tuple(path for path in (*self.earlier, self.worker.checkpoint) if path)


@frozen(kw_only=True)
class BuildExamples(Step):
    """Write the IFT and EFT examples of M1 into one file."""

    stage: ClassVar[str] = "examples"
    unit: str = "examples"


@frozen(kw_only=True)
class SelectPreferences(Step):
    """Draw preference pairs of the user, without those that contain an evaluation prompt."""

    stage: ClassVar[str] = "preferences"
    source: str
    unit: str = "pairs"


@frozen(kw_only=True)
class SelectExamples(Step):
    """Write the instruction examples of ``data.ift``, for a pipeline that reads them."""

    stage: ClassVar[str] = "examples"
    unit: str = "examples"


@frozen(kw_only=True)
class Transform(Step):
    """Make records of other records with a function of a plugin."""

    stage: ClassVar[str] = "transform"
    pipeline: str
    """Name of the pipeline or control."""
    is_control: bool = False
    name: str
    """Name of the artifact in the declaration."""
    function: str
    """The module and the qualified name of the function."""
    makes: Kind
    reads: tuple[tuple[str, Kind], ...]
    """The artifacts that the function gets, each with its kind."""
    options: PairOptions | None = added_key(None)
    """The options of pairs, if the function takes them."""
    rubric: str = added_key("")
    """Name of the judging rubric, if the function takes it."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The artifacts that the function gets."""
        return tuple(dict.fromkeys(path for path, _ in self.reads))


@frozen(kw_only=True)
class Train(Step):
    """Train a model: SFT, or DPO with a reference policy."""

    stage: ClassVar[str] = "train"
    examples: str
    start: Worker
    reference: Worker | None
    objective: Objective
    model: str
    unit: str = "examples seen"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The examples, the checkpoint to start from, and that of the reference if it is another model."""
        other = self.reference.checkpoint if self.reference and self.reference != self.start else ""
        return tuple(path for path in (self.examples, self.start.checkpoint, other) if path)


@frozen(kw_only=True)
class Sample(Step):
    """Let a model answer prompts: candidates to train on, or answers to evaluate."""

    stage: ClassVar[str] = "generate"
    worker: Worker
    prompts: str
    n: int
    sampling: Sampling
    take: int | None = None
    """Number of prompts to answer, from the first; None for all."""
    unit: str = "answers"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The prompts, and the checkpoint of the model."""
        return tuple(path for path in (self.prompts, self.worker.checkpoint) if path)


@frozen(kw_only=True)
class Judge(Step):
    """Let a model score answers."""

    stage: ClassVar[str] = "judge"
    worker: Worker
    prompts: str
    answers: str
    rubric: str
    samples: int
    sampling: Sampling
    take: int | None = None
    """Number of prompts whose answers are judged, from the first; None for all."""
    score: Scores = added_key("parsed")
    """How the scores are made."""
    unit: str = "judgements"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The prompts, the answers, and the checkpoint of the judge."""
        return tuple(path for path in (self.prompts, self.answers, self.worker.checkpoint) if path)


@frozen(kw_only=True)
class Demonstrate(Step):
    """Let the teacher answer prompts."""

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
    """Make preference pairs from scored candidates, or from demonstrations and candidates."""

    stage: ClassVar[str] = "pair"
    prompts: str
    candidates: str
    judgements: str = ""
    demonstrations: str = ""
    like: str = ""
    """Pairs are made only for prompts that have a pair in this file (controls); empty for all prompts."""
    rule: str
    margin: float = 0.0
    keep_cut: bool = False
    near_best: float = 0.5
    length_ratio: float = 1.25
    unit: str = "pairs"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The prompts, candidates, judgements, demonstrations and pairs that the step reads."""
        paths = (self.prompts, self.candidates, self.judgements, self.demonstrations, self.like)
        return tuple(path for path in paths if path)


@frozen(kw_only=True)
class JoinPairs(Step):
    """Join the preference pairs of several rounds, and those of the user, into one file to train on."""

    stage: ClassVar[str] = "join"
    parts: tuple[str, ...]
    unit: str = "pairs"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The files of pairs that are joined."""
        return self.parts


@frozen(kw_only=True)
class ChosenExamples(Step):
    """Make SFT examples from the chosen answers of preference pairs (a control)."""

    stage: ClassVar[str] = "examples"
    preferences: str
    unit: str = "examples"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The pairs."""
        return (self.preferences,)


@frozen(kw_only=True)
class MixAnswers(Step):
    """Draw a set of answers from all models. Every model judges the same set, so that their judging is comparable."""

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
    """Let the evaluator compare pairs of models, each pair of answers in both orders."""

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
    """Read the artifacts of the other steps; write ``summary.json`` and the tables."""

    stage: ClassVar[str] = "summarise"
    unit: str = "summary"


@frozen
class Plan:
    """The steps and models of a run. The inputs of a step are outputs of steps before it."""

    steps: tuple[Step, ...]
    """The steps, in the order in which they are done."""
    models: tuple[PlannedModel, ...]
    """The models of all seeds."""

    def models_of(self, seed: int) -> tuple[PlannedModel, ...]:
        """Return the models of one seed, M0 first."""
        return tuple(model for model in self.models if model.seed == seed)

    def model_of(self, output: str) -> str:
        """Return the id of the model that an artifact is a part of; empty for one that models share.

        Pairs, and the judgements and demonstrations they are made from, are a part of the model that is trained on
        them; answers of the model that wrote them; gold scores of the model whose answers were scored.
        """
        return next((model.id for model in self.models if model.files.has(output)), "")

    def model(self, seed: int, id: str) -> PlannedModel:
        """Return one model. Raises KeyError if the plan has no model with this id and seed."""
        for model in self.models:
            if (model.seed, model.id) == (seed, id):
                return model
        raise KeyError(id)
