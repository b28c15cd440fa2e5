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


def described(help: str, **kwargs: Any) -> Any:
    """An attrs field whose help is shown in the generated reference of recipe keys."""
    return field(metadata={"help": help}, **kwargs)


@frozen
class Binding:
    """The model that fills a role."""

    plugin: str = described("Name of the plugin that runs the model.")
    model: str = described(
        "What it runs: a model that a plugin offers (`tiny/student`), a weights folder, a hub name, or an API model "
        "name. Empty: the plugin's default.",
        default="",
    )
    settings: Mapping[str, Any] = described(
        "The plugin's own settings; `tutelage plugins show NAME` lists them.", factory=dict
    )


@frozen
class Roles:
    """Which model plays which part."""

    student: Binding = described("The model to align.")
    teacher: Binding | None = described("Demonstrates, and judges where no judge is bound.", default=None)
    judge: Binding | None = described("Judges in teacher-reward; the teacher, if left out.", default=None)
    evaluator: Binding | None = described(
        "Judges every model's answers (the gold scores) and compares them. Without it nothing is measured.",
        default=None,
    )


@frozen
class Source:
    """Where prompts or examples come from."""

    source: str = described("A set that a plugin offers (`tiny/train`), or the path of a JSON-lines file.")
    count: int | None = described("How many to use; all of them, if left out.", default=None)


@frozen
class SelfInstruct:
    """How a model writes the fresh prompts: it is shown some of the source's and continues the list."""

    writer: Literal["student", "teacher"] = described(
        "Who writes: the student's current model, or the teacher.", default="student"
    )
    seeds: int = described("So many prompts of `source` are shown from; all, where it has fewer.", default=5000)
    shots: int = described("Prompts that each request shows.", default=8)
    listing: Literal["tags", "lines"] = described(
        "How a list is written: each prompt between marks, or one a line for models too small to keep to marks.",
        default="tags",
    )
    temperature: float = described("0 is greedy.", default=0.6)
    top_p: float = described("Nucleus sampling.", default=0.9)
    max_new_tokens: int = described("Tokens of a reply, which holds several prompts.", default=256)
    max_requests: int = described(
        "So many requests are made at most; an iteration with fewer prompts than wanted says so.", default=4000
    )
    similarity: float = described(
        "A prompt is dropped where its Jaccard similarity to an earlier one or a seed is at least this.", default=0.7
    )
    min_characters: int = described("A shorter prompt is dropped.", default=10)
    max_characters: int = described("A longer prompt is dropped.", default=2000)

    def sampling(self) -> Sampling:
        """As the stages take it; the seed is set by the runner."""
        return Sampling(self.temperature, self.top_p, self.max_new_tokens)


@frozen
class Prompts(Source):
    """Where fresh prompts come from."""

    self_instruct: SelfInstruct | None = described(
        "A model writes them, from examples of `source`; without this they are taken from `source`, none twice.",
        default=None,
    )


@frozen
class Decontamination:
    """Prompts and examples that hold an evaluation prompt are dropped and listed."""

    against: tuple[str, ...] = described(
        "Prompt sets or files to keep clear of, beside `evaluation.prompts`.", default=()
    )
    n: int = described("Words of an n-gram.", default=3)
    share: float = described(
        "Of an evaluation prompt's n-grams, the least share that counts as a copy; 1 for verbatim ones alone.",
        default=0.6,
    )


@frozen
class Data:
    """What the models learn from."""

    ift: Source | None = described("Instruction data of M1; rows with `prompt` and `answer`.", default=None)
    eft: Source | None = described("Judging data of M1; rows with `prompt`, `answer`, `score`, `reason`.", default=None)
    prompts: Prompts = described("Fresh prompts; `count` is for each iteration. Rows with `prompt`.", kw_only=True)
    decontaminate: Decontamination | None = described(
        "Keep evaluation prompts out of all that is learned from; null looks for none.", factory=Decontamination
    )


@frozen
class Generation:
    """How the student samples candidates."""

    n: int = described("Candidates for each prompt; at least 2.", default=4)
    temperature: float = described("0 is greedy.", default=0.7)
    top_p: float = described("Nucleus sampling.", default=0.9)
    max_new_tokens: int = described("Tokens; a longer answer is cut and says so.", default=256)

    def sampling(self) -> Sampling:
        """As the stages take it; the seed is set by the runner."""
        return Sampling(self.temperature, self.top_p, self.max_new_tokens)


@frozen
class Judging:
    """How answers are scored, by whichever model judges."""

    rubric: str = described("A rubric that a plugin offers, or `additive`, the built-in one.", default="additive")
    samples: int = described("Judgements of each answer, averaged.", default=1)
    temperature: float = described("0 is greedy.", default=0.0)
    top_p: float = described("Nucleus sampling.", default=1.0)
    max_new_tokens: int = described("Tokens of a judgement.", default=256)

    def sampling(self) -> Sampling:
        """As the stages take it; the seed is set by the runner."""
        return Sampling(self.temperature, self.top_p, self.max_new_tokens)


@frozen
class Pairs:
    """How scored candidates become preference pairs."""

    rule: str | None = described("A pair rule; the pipeline's own, if left out.", default=None)
    margin: float = described("Chosen must score higher than rejected by at least this.", default=0.0)
    keep_cut: bool = described("Whether answers that hit their length limit may be sides.", default=False)
    near_best: float = described(
        "`length-controlled`: answers that score at most so much less than the best are as good.", default=0.5
    )
    length_ratio: float = described(
        "`similar-length`: the longer side has at most so many times the words of the shorter one.", default=1.25
    )


@frozen
class PipelineSettings:
    """One pipeline, with what it changes of the settings that hold for all."""

    judging: Judging = described("As the top-level key.", factory=Judging)
    pairs: Pairs = described("As the top-level key.", factory=Pairs)
    dpo: Dpo = described("As the top-level key.", factory=Dpo)


@frozen
class Control:
    """A control run beside a pipeline, to tell what did the work."""

    mirrors: str = described("The pipeline whose first iteration it mirrors.")
    pairs: Pairs = described("As the top-level key.", factory=Pairs)
    dpo: Dpo = described("As the top-level key (random-pairs).", factory=Dpo)
    sft: Sft = described("As the top-level key (sft-on-chosen).", factory=Sft)


@frozen
class Evaluation:
    """What is measured of every model, on prompts that no model has trained on."""

    prompts: Source = described("Held-out prompts.")
    sampled: int = described("Sampled answers a prompt, beside the greedy one; 0 leaves them out.", default=4)
    temperature: float = described("Of the sampled answers.", default=1.0)
    top_p: float = described("Of the sampled answers.", default=1.0)
    max_new_tokens: int = described("Tokens of an answer.", default=256)
    agreement_prompts: int = described(
        "On so many of the held-out prompts each model's own judging is compared with the gold; 0 leaves it out.",
        default=100,
    )
    compare: Literal["all", "parent"] = described(
        "Head-to-head of every two models, or of each with its parent alone (an API is paid per comparison).",
        default="all",
    )
    rubric: str = described("Of the gold scores; as `judging.rubric`.", default="additive")
    comparison_rubric: str = described("Of the comparisons; `pairwise` is the built-in one.", default="pairwise")
    judgement_tokens: int = described("Tokens of an evaluator's judgement or verdict.", default=256)


@frozen
class Recipe:
    """A whole run."""

    models: Roles = described("Role bindings.")
    data: Data = described("Seed data and prompts.")
    pipelines: Mapping[str, PipelineSettings] = described("The pipelines to run, each with its overrides.")
    name: str = described("Names the run's folder, unless --run does.", default="run")
    schema: int = described("Version of this format.", default=SCHEMA)
    seeds: tuple[int, ...] = described("One whole series of models for each.", default=(0,))
    iterations: int = described("Preference rounds: 1 ends at M2, 2 at M3.", default=1)
    controls: Mapping[str, Control] = described("Controls, each mirroring a pipeline.", factory=dict)
    generation: Generation = described("Candidates.", factory=Generation)
    judging: Judging = described("Judgements.", factory=Judging)
    pairs: Pairs = described("Preference pairs.", factory=Pairs)
    sft: Sft = described("M1's training.", factory=Sft)
    dpo: Dpo = described("The later models' training.", factory=Dpo)
    start: Literal["previous", "M1"] = described(
        "Where each preference round's training starts: from the model before, or from M1 again.", default="previous"
    )
    reference: Literal["previous", "M1", "M0"] = described(
        "The policy that DPO stays near; the one it starts from is no further model in memory.", default="previous"
    )
    preferences: Literal["last", "all"] = described(
        "Train on the pairs of this round, or on those of all rounds so far.", default="last"
    )
    evaluation: Evaluation | None = described("Measures; none, if left out.", default=None)
    budget: float | None = described(
        "US dollars that the run may spend on services; it stops before it would spend more.", default=None
    )
    chunk: int = described("Prompts that local work finishes, and keeps, at a time.", default=512)
