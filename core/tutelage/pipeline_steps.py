"""The steps of a pipeline, as a plugin declares them: what each makes, what it reads, and which model works."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from attrs import evolve, field, fields, frozen

from tutelage.examples import Example, LabelledAnswer, Preference
from tutelage.objectives import OBJECTIVES
from tutelage.records import Candidate, Demonstration, Judgement, Prompt, Sampling

Kind: TypeAlias = Literal[
    "prompts", "candidates", "judgements", "demonstrations", "preferences", "examples", "labelled", "records"
]
"""The type of the records of an artifact. ``records`` are mappings of plain values, for what no other type fits."""
RECORD_TYPES: Mapping[str, type] = {
    "prompts": Prompt,
    "candidates": Candidate,
    "judgements": Judgement,
    "demonstrations": Demonstration,
    "preferences": Preference,
    "examples": Example,
    "labelled": LabelledAnswer,
    "records": Mapping,
}
"""The class of the records of each kind, as a ``TransformStep`` gets and returns them."""
By: TypeAlias = Literal["student", "predecessor", "M0", "teacher", "judge", "evaluator"]
"""The model that answers or judges: ``student`` is the model that the round starts from, M(t-1) in the training of
M(t); ``predecessor`` is the model before the student, M(t-2), or the student itself if it is M0."""
Combination: TypeAlias = Literal["mean", "median", "majority", "minimum", "first"]
"""How several scores of an answer become one: as ``judging.jury``, or the first one that exists."""

TRANSFORM_SETTINGS = frozenset({"options", "rubric"})
"""The settings of the recipe that the function of a ``TransformStep`` can take, as keyword-only arguments."""

PROMPTS = "prompts"
"""The fresh prompts of the round, which no step has to make."""
MIRRORED_PAIRS = "mirrored/pairs"
"""For a control: the artifact that the ``TrainStep`` of the mirrored pipeline names."""
MIRRORED_TRAINING = "mirrored/training"
"""For a control: everything that the mirrored pipeline trains on, with the user's pairs if the recipe joins them."""
MIRRORED = (MIRRORED_PAIRS, MIRRORED_TRAINING)


_READ = "kind of the artifact that is read"


def _read(kind: Kind) -> dict[str, Kind]:
    """The metadata of a field with the name, or the names, of artifacts of this kind that the step reads."""
    return {_READ: kind}


@frozen
class _Step:
    """A step, which reads the artifacts that its fields name."""

    @property
    def reads(self) -> tuple[tuple[str, Kind | None], ...]:
        """The artifacts that the step reads, each with the kind that it must have; None for any kind."""
        found: list[tuple[str, Kind | None]] = []
        for one in fields(type(self)):
            if _READ in one.metadata:
                value = getattr(self, one.name)
                names = (value,) if isinstance(value, str) else value
                found += [(name, one.metadata[_READ]) for name in names if name]
        return tuple(found)


@frozen
class SampleStep(_Step):
    """Let a model answer prompts: candidates, or replies to requests that a ``TransformStep`` wrote.

    A step with the defaults is shared by all pipelines of a recipe whose round starts from the same model.
    """

    kind: ClassVar[Kind] = "candidates"

    name: str
    """Name of the artifact: candidates."""
    prompts: str = field(default=PROMPTS, metadata=_read("prompts"))
    """The prompts to answer."""
    by: By = "student"
    """The model that answers. Its plugin must implement ``generate_candidates``."""
    n: int | None = None
    """Number of answers per prompt; ``generation.n`` of the recipe if left out."""
    temperature: float | None = None
    """Softmax temperature; ``generation.temperature`` if left out."""
    max_new_tokens: int | None = None
    """Maximum number of tokens of an answer; ``generation.max_new_tokens`` if left out."""

    def sampling(self, general: Sampling) -> Sampling:
        """Return the sampling parameters of the recipe with those of the step."""
        own: dict[str, Any] = {"temperature": self.temperature, "max_new_tokens": self.max_new_tokens}
        return evolve(general, **{key: value for key, value in own.items() if value is not None})


@frozen
class JudgeStep(_Step):
    """Let a model score answers, with ``judging`` of the recipe."""

    kind: ClassVar[Kind] = "judgements"

    name: str
    """Name of the artifact: judgements."""
    answers: str = field(metadata=_read("candidates"))
    """The candidates to score."""
    by: By = "student"
    """The model that judges. Its plugin must implement ``judge``. ``judge`` is the teacher if no judge is bound."""
    prompts: str = field(default=PROMPTS, metadata=_read("prompts"))
    """The prompts of the answers. Answers to other prompts are not judged."""
    rubric: str | None = None
    """Name of the rubric if the pipeline needs a certain one; scores are then parsed from the replies.
    ``judging.rubric`` if left out."""
    samples: int | None = None
    """Number of judgements per answer; ``judging.samples`` if left out."""


@frozen
class CompareStep(_Step):
    """Let a model compare every two answers to a prompt in both orders. The score of an answer is its win rate, 0 to 1.

    The win rate is the mean probability that the answer is better than another candidate of its prompt, as in SPPO (Wu
    et al., 2024, "Self-Play Preference Optimization", section 4). Equal answers are a tie, which is not asked about.
    """

    kind: ClassVar[Kind] = "judgements"

    name: str
    """Name of the artifact: judgements."""
    answers: str = field(metadata=_read("candidates"))
    """The candidates to compare."""
    by: By = "judge"
    """The model that compares. Its plugin must implement ``evaluate``."""
    prompts: str = field(default=PROMPTS, metadata=_read("prompts"))
    """The prompts of the answers."""
    rubric: str | None = None
    """Name of the rubric if the pipeline needs a certain one; ``judging.pairwise_rubric`` if left out."""


@frozen
class CombineStep(_Step):
    """Combine judgements of the same answers into one judgement per answer."""

    kind: ClassVar[Kind] = "judgements"

    name: str
    """Name of the artifact: judgements."""
    judgements: tuple[str, ...] = field(metadata=_read("judgements"))
    """The judgements to combine."""
    how: Combination | None = None
    """How to combine the averaged scores of an answer; ``judging.jury`` if left out."""


@frozen
class DisputedStep(_Step):
    """Select the answers on which the samples of a judge disagree, to ask another judge about them.

    An answer is disputed if the standard deviation of its scores is above ``judging.dispute_spread``, or if a sample
    has no score. At most ``judging.dispute_share`` of the answers are selected, those with the largest spread.
    """

    kind: ClassVar[Kind] = "candidates"

    name: str
    """Name of the artifact: candidates."""
    answers: str = field(metadata=_read("candidates"))
    """The candidates that were judged."""
    judgements: str = field(metadata=_read("judgements"))
    """The judgements, several per answer."""


@frozen
class DemonstrateStep(_Step):
    """Let a teacher answer prompts, once each. Its plugin must implement ``demonstrate``."""

    kind: ClassVar[Kind] = "demonstrations"

    name: str
    """Name of the artifact: demonstrations."""
    prompts: str = field(default=PROMPTS, metadata=_read("prompts"))
    """The prompts to answer."""
    by: Literal["teacher", "judge", "evaluator"] = "teacher"
    """The role that answers."""


@frozen
class PairStep(_Step):
    """Make preference pairs of answers with a pair rule."""

    kind: ClassVar[Kind] = "preferences"

    name: str
    """Name of the artifact: preferences."""
    answers: str = field(metadata=_read("candidates"))
    """The candidates to make pairs of."""
    rule: str
    """Name of the pair rule; ``pairs.rule`` of the recipe replaces it, unless ``fixed`` is true."""
    scores: str = field(default="", metadata=_read("judgements"))
    """The judgements with the scores of the answers; empty if the rule needs none."""
    demonstrations: str = field(default="", metadata=_read("demonstrations"))
    """Demonstrations for the rule; empty if it needs none."""
    prompts: str = field(default=PROMPTS, metadata=_read("prompts"))
    """The prompts of the answers."""
    like: str = field(default="", metadata=_read("preferences"))
    """Preferences: pairs are made only for the prompts that have a pair in them. Empty for all prompts."""
    fixed: bool = False
    """Whether the rule is a part of the pipeline. Of the keys of ``pairs``, only ``keep_cut`` then has an effect."""


@frozen
class LabelStep(_Step):
    """Label each scored answer as desirable, if its score is at least a threshold, or as undesirable."""

    kind: ClassVar[Kind] = "labelled"

    name: str
    """Name of the artifact: labelled answers."""
    answers: str = field(metadata=_read("candidates"))
    """The candidates to label. Those without a score are dropped."""
    scores: str = field(metadata=_read("judgements"))
    """The judgements with the scores of the answers."""
    threshold: float | None = None
    """Lowest score of a desirable answer; ``pairs.threshold`` of the recipe replaces it, and is required if it is left
    out."""
    prompts: str = field(default=PROMPTS, metadata=_read("prompts"))
    """The prompts of the answers."""


@frozen
class JoinStep(_Step):
    """Join several artifacts with preference pairs into one to train on."""

    kind: ClassVar[Kind] = "preferences"

    name: str
    """Name of the artifact: preferences."""
    parts: tuple[str, ...] = field(metadata=_read("preferences"))
    """The preferences to join."""


@frozen
class GivenStep(_Step):
    """Take rows of the recipe's data: the user's pairs, or the instruction examples of M1."""

    name: str
    """Name of the artifact."""
    source: Literal["preferences", "ift"]
    """``preferences`` for ``data.preferences`` (preferences), ``ift`` for ``data.ift`` (examples)."""

    @property
    def kind(self) -> Kind:
        """The kind of the artifact."""
        return "preferences" if self.source == "preferences" else "examples"


@frozen
class ChosenStep(_Step):
    """Make examples for SFT of the chosen answers of preference pairs."""

    kind: ClassVar[Kind] = "examples"

    name: str
    """Name of the artifact: examples."""
    preferences: str = field(metadata=_read("preferences"))
    """The pairs."""


@frozen
class TransformStep(_Step):
    """Make records of other records with a function of the plugin: rewritten prompts, revised answers, pairs.

    The function gets the records of each artifact of ``reads`` as a sequence, in this order, and returns or yields
    records. It is a function of a module, not a lambda, and gives the same records for the same arguments. To ask a
    model, make prompts with one transform, answer them with a ``SampleStep``, and read the replies with another
    transform::

        TransformStep("requests", ask_for_critiques, reads=("prompts", "candidates"), makes="prompts"),
        SampleStep("critiques", "requests", by="teacher", n=1),
        TransformStep("revised", revise, reads=("candidates", "requests", "critiques"), makes="candidates"),

    A function may also take settings of the recipe, as keyword-only arguments: ``options``, the ``PairOptions`` of the
    pipeline with the seed, as a pair rule gets them, and ``rubric``, the ``Rubric`` of ``judging.rubric``::

        def rescored(candidates, judgements, *, options, rubric): ...
    """

    name: str
    """Name of the artifact."""
    function: Callable[..., Any] | str
    """The function. Its qualified name if the declaration was read from the folder of a run."""
    reads_from: tuple[str, ...] = field(alias="reads")
    """The artifacts that the function gets, of any kind."""
    makes: Kind = "records"
    """The kind of the records that the function returns."""
    times: float = 1.0
    """Planned number of records per record of the first artifact, for the plan, its costs and times."""

    @property
    def kind(self) -> Kind:
        """The kind of the artifact."""
        return self.makes

    @property
    def reads(self) -> tuple[tuple[str, Kind | None], ...]:
        """The artifacts that the step reads, as in ``SampleStep``."""
        return tuple((name, None) for name in self.reads_from)

    @property
    def takes(self) -> frozenset[str]:
        """The settings of the recipe that the function takes, of ``TRANSFORM_SETTINGS``. Unknown for a stored name."""
        return keyword_arguments(self.function) & TRANSFORM_SETTINGS

    @property
    def function_name(self) -> str:
        """The module and the qualified name of the function: ``tutelage_loops.spin:pairs``."""
        return function_name(self.function)


@frozen
class TrainStep(_Step):
    """Train the next model. It is the last step of every pipeline."""

    examples: str
    """The artifact to train on: preferences (``dpo``), examples (``sft``), or what the objective of a plugin trains on.
    Of preferences, the chosen answers also serve as examples, and both answers as labelled answers."""
    objective: str = "dpo"
    """The objective: ``dpo``, ``sft`` or ``PLUGIN/NAME``. ``objective`` of the pipeline in the recipe replaces it."""
    settings: Mapping[str, Any] = field(factory=dict)
    """Settings of the objective that are a part of the pipeline, for example ``{"loss_type": "ipo"}``. They replace
    those of the top-level section; an override of the pipeline in the recipe replaces them."""

    @property
    def name(self) -> str:
        """Name of the artifact."""
        return "checkpoint"

    @property
    def kind(self) -> None:
        """The artifact has no records."""
        return

    @property
    def reads(self) -> tuple[tuple[str, Kind | None], ...]:
        """The artifacts that the step reads, as in ``SampleStep``."""
        known = OBJECTIVES.get(self.objective)
        return ((self.examples, known.examples if known else None),)


PipelineStep: TypeAlias = (
    SampleStep
    | JudgeStep
    | CompareStep
    | CombineStep
    | DisputedStep
    | DemonstrateStep
    | PairStep
    | LabelStep
    | JoinStep
    | GivenStep
    | ChosenStep
    | TransformStep
    | TrainStep
)
"""A step of a pipeline."""


def keyword_arguments(function: Callable[..., Any] | str, required: bool = False) -> frozenset[str]:
    """Return the names of the keyword-only arguments of a function, or only of those without a default.

    Empty for a stored name, and for a function whose signature is not known.
    """
    try:
        arguments = inspect.signature(function).parameters.values() if callable(function) else ()
    except ValueError:  # of a function in C
        return frozenset()
    return frozenset(
        one.name
        for one in arguments
        if one.kind is inspect.Parameter.KEYWORD_ONLY and not (required and one.default is not inspect.Parameter.empty)
    )


def function_name(function: Callable[..., Any] | str) -> str:
    """Return the module and the qualified name of a function, or the stored name itself."""
    if isinstance(function, str):
        return function
    return f"{function.__module__}:{function.__qualname__}"
