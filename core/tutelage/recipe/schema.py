"""The recipe: everything that a run depends on, as one YAML file, checked whole before anything runs.

A recipe binds each role (student, teacher, judge, evaluator) to a plugin, names the data, the pipelines and the
settings of every stage. What is left out has the paper's default (see the records). ``dpo``, ``sft``, ``judging`` and
``pairs`` at the top hold for all; a pipeline or a control may override those of them that it uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from tutelage.records import Dpo, Sampling, Sft

SCHEMA = 1
"""Version of the recipe format."""


@frozen
class Binding:
    """The model that fills a role."""

    plugin: str
    """Name of the plugin that runs the model."""
    model: str = ""
    """What it runs: a model that a plugin offers (`tiny/student`), a weights folder, a hub name, or an API model name.
    Empty: the plugin's default."""
    settings: Mapping[str, Any] = field(factory=dict)
    """The plugin's own settings; `tutelage plugins show NAME` lists them."""


@frozen
class Roles:
    """Which model plays which part."""

    student: Binding
    """The model to align."""
    teacher: Binding | None = None
    """Demonstrates, and judges where no judge is bound."""
    judge: Binding | None = None
    """Judges in teacher-reward; the teacher, if left out."""
    evaluator: Binding | None = None
    """Judges every model's answers (the gold scores) and compares them. Without it nothing is measured."""


@frozen
class Source:
    """Where prompts or examples come from."""

    source: str
    """A set that a plugin offers (`tiny/train`), or the path of a JSON-lines file."""
    count: int | None = None
    """How many to use; all of them, if left out."""


@frozen
class SelfInstruct:
    """How a model writes the fresh prompts: it is shown some of the source's and continues the list."""

    writer: Literal["student", "teacher"] = "student"
    """Who writes: the student's current model, or the teacher."""
    seeds: int = 5000
    """So many prompts of `source` are shown from; all, where it has fewer."""
    shots: int = 8
    """Prompts that each request shows."""
    listing: Literal["tags", "lines"] = "tags"
    """How a list is written: each prompt between marks, or one a line for models too small to keep to marks."""
    temperature: float = 0.6
    """0 is greedy."""
    top_p: float = 0.9
    """Nucleus sampling."""
    max_new_tokens: int = 256
    """Tokens of a reply, which holds several prompts."""
    max_requests: int = 4000
    """So many requests are made at most; an iteration with fewer prompts than wanted says so."""
    similarity: float = 0.7
    """A prompt is dropped where its Jaccard similarity to an earlier one or a seed is at least this."""
    min_characters: int = 10
    """A shorter prompt is dropped."""
    max_characters: int = 2000
    """A longer prompt is dropped."""

    def sampling(self) -> Sampling:
        """As the stages take it; the seed is set by the runner."""
        return Sampling(self.temperature, self.top_p, self.max_new_tokens)


@frozen
class Prompts(Source):
    """Where fresh prompts come from."""

    self_instruct: SelfInstruct | None = None
    """A model writes them, from examples of `source`; without this they are taken from `source`, none twice."""


@frozen
class Decontamination:
    """Prompts and examples that hold an evaluation prompt are dropped and listed."""

    against: tuple[str, ...] = ()
    """Prompt sets or files to keep clear of, beside `evaluation.prompts`."""
    n: int = 3
    """Words of an n-gram."""
    share: float = 0.6
    """Of an evaluation prompt's n-grams, the least share that counts as a copy; 1 for verbatim ones alone."""


@frozen
class Data:
    """What the models learn from."""

    ift: Source | None = None
    """Instruction data of M1; rows with `prompt` and `answer`."""
    eft: Source | None = None
    """Judging data of M1; rows with `prompt`, `answer`, `score`, `reason`."""
    prompts: Prompts = field(kw_only=True)
    """Fresh prompts; `count` is for each iteration. Rows with `prompt`."""
    decontaminate: Decontamination | None = field(factory=Decontamination)
    """Keep evaluation prompts out of all that is learned from; null looks for none."""


@frozen
class Generation:
    """How the student samples candidates."""

    n: int = 4
    """Candidates for each prompt; at least 2."""
    temperature: float = 0.7
    """0 is greedy."""
    top_p: float = 0.9
    """Nucleus sampling."""
    max_new_tokens: int = 256
    """Tokens; a longer answer is cut and says so."""
    keep_thinking: bool = False
    """Whether candidates and demonstrations keep their thinking blocks (`<think>`), to be judged and learned from."""

    def sampling(self) -> Sampling:
        """As the stages take it; the seed is set by the runner."""
        return Sampling(self.temperature, self.top_p, self.max_new_tokens, keep_thinking=self.keep_thinking)


@frozen
class Judging:
    """How answers are scored, by whichever model judges."""

    rubric: str = "additive"
    """A rubric that a plugin offers, or `additive`, the built-in one."""
    samples: int = 1
    """Judgements of each answer, averaged."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    """Nucleus sampling."""
    max_new_tokens: int = 256
    """Tokens of a judgement."""

    def sampling(self) -> Sampling:
        """As the stages take it; the seed is set by the runner."""
        return Sampling(self.temperature, self.top_p, self.max_new_tokens)


@frozen
class Pairs:
    """How scored candidates become preference pairs."""

    rule: str | None = None
    """A pair rule; the pipeline's own, if left out."""
    margin: float = 0.0
    """Chosen must score higher than rejected by at least this."""
    keep_cut: bool = False
    """Whether answers that hit their length limit may be sides."""
    near_best: float = 0.5
    """`length-controlled`: answers that score at most so much less than the best are as good."""
    length_ratio: float = 1.25
    """`similar-length`: the longer side has at most so many times the words of the shorter one."""


@frozen
class PipelineSettings:
    """One pipeline, with what it changes of the settings that hold for all."""

    judging: Judging = field(factory=Judging)
    """As the top-level key."""
    pairs: Pairs = field(factory=Pairs)
    """As the top-level key."""
    dpo: Dpo = field(factory=Dpo)
    """As the top-level key."""


@frozen
class Control:
    """A control run beside a pipeline, to tell what did the work."""

    mirrors: str
    """The pipeline whose first iteration it mirrors."""
    pairs: Pairs = field(factory=Pairs)
    """As the top-level key."""
    dpo: Dpo = field(factory=Dpo)
    """As the top-level key (random-pairs)."""
    sft: Sft = field(factory=Sft)
    """As the top-level key (sft-on-chosen)."""


@frozen
class Evaluation:
    """What is measured of every model, on prompts that no model has trained on."""

    prompts: Source
    """Held-out prompts."""
    sampled: int = 4
    """Sampled answers a prompt, beside the greedy one; 0 leaves them out."""
    temperature: float = 1.0
    """Of the sampled answers."""
    top_p: float = 1.0
    """Of the sampled answers."""
    max_new_tokens: int = 256
    """Tokens of an answer."""
    agreement_prompts: int = 100
    """On so many of the held-out prompts each model's own judging is compared with the gold; 0 leaves it out."""
    compare: Literal["all", "parent"] = "all"
    """Head-to-head of every two models, or of each with its parent alone (an API is paid per comparison)."""
    rubric: str = "additive"
    """Of the gold scores; as `judging.rubric`."""
    comparison_rubric: str = "pairwise"
    """Of the comparisons; `pairwise` is the built-in one."""
    judgement_tokens: int = 256
    """Tokens of an evaluator's judgement or verdict."""


@frozen
class Recipe:
    """A whole run."""

    models: Roles
    """Role bindings."""
    data: Data
    """Seed data and prompts."""
    pipelines: Mapping[str, PipelineSettings]
    """The pipelines to run, each with its overrides."""
    name: str = "run"
    """Names the run's folder, unless --run does."""
    schema: int = SCHEMA
    """Version of this format."""
    seeds: tuple[int, ...] = (0,)
    """One whole series of models for each."""
    iterations: int = 1
    """Preference rounds: 1 ends at M2, 2 at M3."""
    controls: Mapping[str, Control] = field(factory=dict)
    """Controls, each mirroring a pipeline."""
    generation: Generation = field(factory=Generation)
    """Candidates."""
    judging: Judging = field(factory=Judging)
    """Judgements."""
    pairs: Pairs = field(factory=Pairs)
    """Preference pairs."""
    sft: Sft = field(factory=Sft)
    """M1's training."""
    dpo: Dpo = field(factory=Dpo)
    """The later models' training."""
    start: Literal["previous", "M1"] = "previous"
    """Where each preference round's training starts: from the model before, or from M1 again."""
    reference: Literal["previous", "M1", "M0"] = "previous"
    """The policy that DPO stays near; the one it starts from is no further model in memory."""
    preferences: Literal["last", "all"] = "last"
    """Train on the pairs of this round, or on those of all rounds so far."""
    evaluation: Evaluation | None = None
    """Measures; none, if left out."""
    budget: float | None = None
    """US dollars that the run may spend on services; it stops before it would spend more."""
    chunk: int = 512
    """Prompts that local work finishes, and keeps, at a time."""
