"""The section ``data`` of a recipe: the sources of its examples, prompts and pairs."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from tutelage.errors import InputError
from tutelage.records import Sampling, added_key


@frozen
class Source:
    """A source of prompts or examples."""

    source: str
    """Name of a set that a plugin offers (`tiny/train`), or path of a JSON-lines file."""
    count: int | None = None
    """Number of rows to use. If left out, all rows are used."""


@frozen
class SelfInstruct:
    """Generation of fresh prompts by a model: each request shows it prompts of the source, and it continues the list.

    Wang et al., 2023, as used by Yuan et al., 2024, section 2.2.
    """

    writer: Literal["student", "teacher"] = "student"
    """The model that writes the prompts: the student's current model, or the teacher."""
    seeds: int = 5000
    """Number of prompts of `source` that examples are drawn from. If the source has fewer, all of them."""
    shots: int = 8
    """Number of example prompts in each request."""
    listing: Literal["tags", "lines"] = "tags"
    """Format of the list: `tags` puts each prompt between an opening and a closing tag; `lines` puts one prompt on each
    line, for models that are too small to close tags reliably."""
    temperature: float = 0.6
    """Softmax temperature; 0 is greedy decoding."""
    top_p: float = 0.9
    """Probability mass of nucleus sampling; 1 samples from the whole distribution."""
    max_new_tokens: int = 256
    """Maximum number of tokens of a reply. A reply contains several prompts."""
    max_requests: int = 4000
    """Maximum number of requests per iteration. If it is reached, the iteration uses the prompts that it has, and the
    counts of the step contain the number of missing prompts."""
    similarity: float = 0.7
    """A prompt is dropped if its Jaccard similarity to an earlier prompt or to a seed is at least this value, above 0
    and at most 1."""
    min_characters: int = 10
    """Minimum number of characters of a prompt. Shorter prompts are dropped."""
    max_characters: int = 2000
    """Maximum number of characters of a prompt. Longer prompts are dropped."""
    top_k: int | None = added_key(None)
    """Number of most probable tokens to sample from. If left out, all tokens."""
    min_p: float = added_key(0.0)
    """Minimum probability of a token, as a share of the probability of the most probable token; 0 for none."""

    def sampling(self) -> Sampling:
        """Return the sampling parameters for the stages. The runner sets the seed."""
        return Sampling(self.temperature, self.top_p, self.max_new_tokens, top_k=self.top_k, min_p=self.min_p)


@frozen
class Prompts(Source):
    """The source of fresh prompts."""

    self_instruct: SelfInstruct | None = None
    """A model writes the prompts, with examples from `source`. If left out, the prompts are taken from `source`, each
    at most once."""


@frozen
class Preferences(Source):
    """The source of the user's preference pairs."""

    count: int | None = None
    """Number of pairs to use. It is required."""
    join: tuple[str, ...] = ()
    """Pipelines that train on these pairs in addition to the pairs of each round. The pipeline `own-preferences` trains
    on these pairs alone."""


@frozen
class Decontamination:
    """The removal of prompts and examples that contain an evaluation prompt. They are dropped and listed."""

    against: tuple[str, ...] = ()
    """Prompt sets or files whose prompts count as evaluation prompts, in addition to `evaluation.prompts`."""
    n: int = 3
    """Number of words of an n-gram."""
    share: float = 0.6
    """Minimum share of an evaluation prompt's n-grams that a text must contain to count as a copy, above 0 and at most
    1. With 1, only verbatim copies count."""


@frozen
class Data:
    """The training data."""

    ift: Source | None = None
    """Instruction examples of M1: rows with `prompt` and `answer`."""
    eft: Source | None = None
    """Judging examples of M1: rows with `prompt`, `answer`, `score` and `reason`."""
    prompts: Prompts | None = None
    """Fresh prompts of the iterations: rows with `prompt`. `count` is the number per iteration and is required. Only a
    recipe with the pipeline `own-preferences` alone needs no prompts."""
    preferences: Preferences | None = None
    """Preference pairs of your own: rows in TRL's conversational format, as `tutelage data import preferences` writes
    them. `count` is required."""
    decontaminate: Decontamination | None = field(factory=Decontamination)
    """Removal of evaluation prompts from all training data. null turns it off."""

    @property
    def has_seed_examples(self) -> bool:
        """Whether there are examples to train M1 on. Without them, the first round starts from M0."""
        return self.ift is not None or self.eft is not None

    @property
    def fresh_prompts(self) -> Prompts:
        """The source of fresh prompts. Raises InputError if the recipe has none."""
        if self.prompts is None:
            raise InputError("data.prompts: missing; a pipeline that samples needs fresh prompts")
        return self.prompts

    @property
    def self_instruct(self) -> SelfInstruct | None:
        """The settings with which a model writes the fresh prompts; None if no model writes them."""
        return self.prompts.self_instruct if self.prompts else None
