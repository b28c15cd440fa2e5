"""The recipe: everything that a run depends on, in one YAML file. It is checked completely before the run starts.

A recipe binds each role (student, teacher, judge, evaluator) to a plugin, and sets the data, the pipelines and the
settings of every stage. A key that is left out has the default of the paper (see the records). The top-level sections
``dpo``, ``sft``, ``judging`` and ``pairs`` apply to all pipelines and controls; a pipeline or a control may override
those of them that it uses. The overrides are stored as they are given. They are applied when they are used, so that a
``Recipe`` with another top-level section (``attrs.evolve``) has it in every pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import evolve, field, fields_dict, frozen

from tutelage.files.overrides import Overrides, as_overrides, overrides_of
from tutelage.files.settings import structure
from tutelage.objectives import Dpo, Sft
from tutelage.recipe.bindings import MeasureUse, Roles, Wrapping
from tutelage.recipe.data_section import Data, Source
from tutelage.records import ADDED_KEY, Jury, Sampling, Scores, added_key

SCHEMA = 1
"""Version of the recipe format."""
OWN_PREFERENCES = "own-preferences"
"""Name of the pipeline that trains on the pairs of ``data.preferences`` alone."""


@frozen
class Generation:
    """The sampling of candidates by the student."""

    n: int = 4
    """Number of candidates per prompt; at least 2."""
    temperature: float = 0.7
    """Softmax temperature; 0 is greedy decoding."""
    top_p: float = 0.9
    """Probability mass of nucleus sampling; 1 samples from the whole distribution."""
    max_new_tokens: int = 256
    """Maximum number of tokens of an answer. A longer answer is cut, and its outcome is `cut`."""
    keep_thinking: bool = False
    """Whether candidates and demonstrations keep their thinking blocks (`<think>`). If false, the blocks are removed
    before answers are judged and trained on."""
    top_k: int | None = added_key(None)
    """Number of most probable tokens to sample from. If left out, all tokens."""
    min_p: float = added_key(0.0)
    """Minimum probability of a token, as a share of the probability of the most probable token; 0 for none."""

    def sampling(self) -> Sampling:
        """Return the sampling parameters for the stages. The runner sets the seed."""
        return Sampling(
            self.temperature,
            self.top_p,
            self.max_new_tokens,
            keep_thinking=self.keep_thinking,
            top_k=self.top_k,
            min_p=self.min_p,
        )


@frozen
class Judging:
    """The scoring of answers, for every model that judges."""

    rubric: str = "additive"
    """Name of a rubric that a plugin offers, or of a built-in one such as `additive`."""
    samples: int = 1
    """Number of judgements per answer. Their scores are averaged."""
    temperature: float = 0.0
    """Softmax temperature; 0 is greedy decoding."""
    top_p: float = 1.0
    """Probability mass of nucleus sampling; 1 samples from the whole distribution."""
    max_new_tokens: int = 256
    """Maximum number of tokens of a judgement."""
    top_k: int | None = added_key(None)
    """Number of most probable tokens to sample from. If left out, all tokens."""
    min_p: float = added_key(0.0)
    """Minimum probability of a token, as a share of the probability of the most probable token; 0 for none."""
    score: Scores = added_key("parsed")
    """How a score is made: `parsed` from the judge's reply; or `expected`, the expectation over the probabilities of
    the scores as the next token, from one forward pass without decoding. `expected` needs a judge that can compute it
    (the plugin `transformers`), a rubric whose reply begins with the score, and `samples: 1`."""
    jury: Jury = added_key("mean")
    """How the scores of the judges in `models.judges` become one, without those that gave none: their `mean`, `median`
    or `minimum`; or `majority`, the score that more than half of them gave, and no score if there is none."""
    dispute_spread: float = added_key(0.5)
    """`cascade` only: the judge is asked about an answer if the standard deviation of the student's samples is above
    this value, or if a sample has no score."""
    dispute_share: float = added_key(1.0)
    """`cascade` only: maximum share of the answers that the judge is asked about, those with the largest spread."""
    pairwise_rubric: str = added_key("pairwise")
    """Name of the rubric with which candidates are compared in pairs (`win-rate`)."""

    def sampling(self, score: Scores = "parsed") -> Sampling:
        """Return the sampling parameters for the stages. The runner sets the seed.

        An expected score is not sampled: its parameters do not depend on those of the recipe.
        """
        if score == "expected":
            return Sampling(0.0, 1.0, 1)
        return Sampling(self.temperature, self.top_p, self.max_new_tokens, top_k=self.top_k, min_p=self.min_p)


@frozen
class Pairs:
    """The construction of preference pairs from scored candidates."""

    rule: str | None = None
    """Name of the pair rule. If left out, the default rule of the pipeline."""
    margin: float = 0.0
    """Minimum difference between the scores of the chosen and the rejected answer."""
    keep_cut: bool = False
    """Whether answers that reached their length limit may be chosen or rejected answers."""
    near_best: float = 0.5
    """`length-controlled` only: an answer counts as good if it scores at most this much less than the best one."""
    length_ratio: float = 1.25
    """`similar-length` only: maximum ratio of the number of words of the longer answer to that of the shorter one."""
    threshold: float | None = None
    """Only for objectives on labelled answers (`transformers/kto`): lowest score of a desirable answer. Every scored
    answer is then labelled, and no pairs are made. If left out, the answers of the pairs are labelled: the chosen ones
    are desirable, the rejected ones undesirable."""


@frozen
class PipelineSettings:
    """The overrides of one pipeline; ``Recipe.for_pipeline`` returns its complete settings."""

    judging: Overrides[Judging] = field(factory=Overrides, converter=as_overrides)
    """Overrides of the top-level key `judging`."""
    pairs: Overrides[Pairs] = field(factory=Overrides, converter=as_overrides)
    """Overrides of the top-level key `pairs`."""
    dpo: Overrides[Dpo] = field(factory=Overrides, converter=as_overrides)
    """Overrides of the top-level key `dpo`."""
    objective: str | None = None
    """Objective that the models are trained with, in place of that of the pipeline: `dpo`, `sft`, or `PLUGIN/NAME`. For
    `sft`, the examples are the chosen answers of the pairs."""
    objectives: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    """Overrides of the top-level key `objectives`."""


@frozen
class Control:
    """A control of a pipeline: it shows which part of the pipeline causes its effect."""

    mirrors: str
    """Name of the pipeline whose first iteration is mirrored."""
    pairs: Overrides[Pairs] = field(factory=Overrides, converter=as_overrides)
    """Overrides of the top-level key `pairs`."""
    dpo: Overrides[Dpo] = field(factory=Overrides, converter=as_overrides)
    """Overrides of the top-level key `dpo` (random-pairs)."""
    sft: Overrides[Sft] = field(factory=Overrides, converter=as_overrides)
    """Overrides of the top-level key `sft` (sft-on-chosen)."""


@frozen
class MemberSettings:
    """The complete settings of one pipeline or control: the top-level sections with its overrides."""

    judging: Judging
    pairs: Pairs
    dpo: Dpo
    sft: Sft


@frozen
class Evaluation:
    """The measurements of every model, on prompts that no model was trained on."""

    prompts: Source
    """Held-out prompts: rows with `prompt`."""
    sampled: int = 4
    """Number of sampled answers per prompt, in addition to the greedy answer. 0 turns them off."""
    temperature: float = 1.0
    """Softmax temperature of the sampled answers."""
    top_p: float = 1.0
    """Probability mass of nucleus sampling of the sampled answers; 1 samples from the whole distribution."""
    max_new_tokens: int = 256
    """Maximum number of tokens of an answer."""
    agreement_prompts: int = 100
    """Number of held-out prompts on which each model's own judging is compared with the gold scores. 0 turns the
    comparison off."""
    self_preference: bool = added_key(False)
    """Whether `summary.json` has the self-preference of each model as a judge: how much more it overrates its own
    answers than those of other models. It needs no further answers or judgements."""
    compare: Literal["all", "parent"] = "all"
    """Head-to-head comparisons: `all` compares every two models, `parent` compares each model with its parent only. The
    price of an API evaluator grows with the number of comparisons."""
    rubric: str = "additive"
    """Name of the rubric of the gold scores; see `judging.rubric`."""
    comparison_rubric: str = "pairwise"
    """Name of the rubric of the comparisons: one that a plugin offers, or `pairwise`, which is built in."""
    judgement_tokens: int = 256
    """Maximum number of tokens of a judgement or verdict of the evaluator."""
    top_k: int | None = added_key(None)
    """Number of most probable tokens that the sampled answers are sampled from. If left out, all tokens."""
    min_p: float = added_key(0.0)
    """Minimum probability of a token of the sampled answers, as a share of the probability of the most probable token;
    0 for none."""
    measures: Mapping[str, MeasureUse] = field(factory=dict, metadata={ADDED_KEY: True})
    """Measures of plugins, each by the name that its figures have in the results:
    `{followed: {measure: ifeval/instruction-strict}}`."""

    def sampling(self) -> Sampling:
        """Return the sampling parameters of the sampled answers. The runner sets the seed."""
        return Sampling(self.temperature, self.top_p, self.max_new_tokens, top_k=self.top_k, min_p=self.min_p)


@frozen
class Recipe:
    """The recipe of a run."""

    models: Roles
    """The model of each role."""
    data: Data
    """Training data: the examples of M1, and the fresh prompts of the iterations."""
    pipelines: Mapping[str, PipelineSettings]
    """The pipelines to run, by name, each with its overrides of `judging`, `pairs` and `dpo`."""
    name: str = "run"
    """Name of the run's folder, unless --run names another one."""
    schema: int = SCHEMA
    """Version of the recipe format."""
    seeds: tuple[int, ...] = (0,)
    """Random seeds. Each seed trains and evaluates a complete series of models."""
    iterations: int = 1
    """Number of preference rounds: with 1 the last model is M2, with 2 it is M3."""
    controls: Mapping[str, Control] = field(factory=dict)
    """The controls to run, by name; each mirrors a pipeline."""
    generation: Generation = field(factory=Generation)
    """Sampling of the candidates."""
    judging: Judging = field(factory=Judging)
    """Scoring of the candidates."""
    pairs: Pairs = field(factory=Pairs)
    """Construction of the preference pairs."""
    sft: Sft = field(factory=Sft)
    """Training of M1 (SFT)."""
    dpo: Dpo = field(factory=Dpo)
    """Training of the later models (DPO)."""
    objectives: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    """Settings of the objectives of plugins, by name: `{transformers/kto: {beta: 0.2}}`. `tutelage plugins show PLUGIN`
    lists them. A pipeline is trained with the objective that its key `objective` names."""
    start: Literal["previous", "M1"] = "previous"
    """The model from which the training of each preference round starts: the previous model of the pipeline, or M1."""
    reference: Literal["previous", "M1", "M0"] = "previous"
    """The reference policy of DPO: the previous model of the pipeline, M1 or M0. If it is the model that the training
    starts from, it needs no memory of its own."""
    preferences: Literal["last", "all"] = "last"
    """The pairs to train on: those of the current round, or those of all rounds so far."""
    evaluation: Evaluation | None = None
    """Measurements of every model. If left out, nothing is measured."""
    budget: float | None = None
    """Maximum that the run may spend on services, in US dollars. The run stops before it exceeds the budget. If left
    out, there is no limit."""
    variants: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    """Variants of the recipe by name, each with other values for some dotted keys: `{hot: {judging.temperature: 1.0}}`.
    A variant shares every artifact that it does not change with the recipe itself and with the other variants."""
    grid: Mapping[str, tuple[Any, ...]] = field(factory=dict)
    """Several values for some dotted keys: `{dpo.beta: [0.1, 0.3], dpo.loss_type: [sigmoid, ipo]}`. Every combination
    is a variant."""
    report_to: tuple[str, ...] = added_key(())
    """Experiment trackers that the losses of trainings and the metrics of steps are reported to, by the names that
    transformers gives them: `tensorboard`, `trackio`, `wandb`, `mlflow` and others. It changes no result."""
    wrappers: Mapping[str, Wrapping] = field(factory=dict)
    """Settings and roles of plugins that wrap hooks of other plugins, by the name of the plugin. An installed wrapper
    that is not named here has its default settings, and wraps the roles that it names itself."""
    chunk: int = 512
    """Number of items of local work (prompts to answer, answers to judge, comparisons) that are computed and stored
    together. A chunk that a kill interrupts is computed again. A GPU gets several chunks at once if one is too short to
    keep it busy, and a kill interrupts all of them."""

    def for_pipeline(self, name: str) -> MemberSettings:
        """Return the settings of a pipeline. Raises InputError if one of its overrides is wrong."""
        return self._settings(self.pipelines[name], f"pipelines.{name}")

    def for_control(self, name: str) -> MemberSettings:
        """Return the settings of a control. Raises InputError if one of its overrides is wrong."""
        return self._settings(self.controls[name], f"controls.{name}")

    def _settings(self, member: PipelineSettings | Control, where: str) -> MemberSettings:
        sections = {key: getattr(self, key) for key in fields_dict(MemberSettings)}
        for key, section in sections.items():
            if own := getattr(member, key, None):
                # Structured here, because a Recipe that was made in Python may have overrides of any type.
                own = structure(overrides_of(type(section)), own, f"{where}.{key}")
                sections[key] = evolve(section, **own)
        return MemberSettings(**sections)
