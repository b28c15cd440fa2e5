"""What a plugin says of itself: the answer to the ``describe`` hook."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from attrs import field, frozen

from tutelage.records import Example, RatedExample, Rubric

if TYPE_CHECKING:
    from tutelage.services.requests import Endpoint

T = TypeVar("T")


@frozen
class EnvironmentVariable:
    """A variable that the plugin reads, such as the one that holds its key."""

    name: str
    help: str
    required: bool = True


@frozen
class Finding:
    """One thing that ``tutelage doctor`` looked at."""

    what: str
    """In a word: SDK, key, endpoint, model, GPU."""
    ok: bool
    detail: str
    """What was found; where it is not well, what to do."""


@frozen
class TokenCounts:
    """How long conversations are in a model's own tokens."""

    tokens: tuple[int, ...]
    """One number a conversation, in their order."""
    context: int
    """Tokens that the model can see at once."""


@frozen
class Conversion:
    """What ``tutelage export`` changes of a checkpoint's weights."""

    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Their type; None leaves it as it is."""
    quantize: Literal["8bit", "4bit"] | None = None
    """The linear layers' weights in so many bits; None leaves them whole."""

    @property
    def words(self) -> str:
        """For a card: "in 4 bits, the rest in bfloat16"; empty where nothing is changed."""
        if self.quantize is None:
            return f"in {self.dtype}" if self.dtype else ""
        rest = f", the rest in {self.dtype}" if self.dtype else ""
        return f"quantised: the linear layers in {self.quantize.removesuffix('bit')} bits{rest}"


@frozen
class NamedModel:
    """A model that the plugin offers under ``PLUGIN/NAME``: for instance weights that it ships."""

    location: str
    """What the plugin that runs it should load: a folder, a hub name, an API model name."""
    help: str = ""


@frozen
class NamedSet(Generic[T]):
    """A set of prompts or examples that the plugin offers under ``PLUGIN/NAME``, read when it is needed."""

    load: Callable[[int, int], Iterable[T]]
    """Called with (count, seed): at most that many items, none twice, the same ones for the same seed."""
    help: str = ""
    size: int | None = None
    """How many there are in all, where that is known."""


@frozen
class PluginInfo:
    """A plugin's description of itself. Everything but ``help`` may be left out."""

    help: str
    """One line for ``tutelage plugins``."""
    aliases: tuple[str, ...] = ()
    """Former or short names under which the plugin is found, too: in a recipe, on the command line, in ``NAME/MODEL``.
    An alias that another plugin has as its name or alias is an error."""
    settings: type | None = None
    """An attrs class. ``tutelage plugins show`` shows the docstring of each field (the string literal below it)."""
    environment: tuple[EnvironmentVariable, ...] = ()
    item_by_item: bool = False
    """True for an API: each answer is kept by itself. False for local work, which is kept in whole chunks."""
    models: Mapping[str, NamedModel] = field(factory=dict)
    prompt_sets: Mapping[str, NamedSet[str]] = field(factory=dict)
    example_sets: Mapping[str, NamedSet[Example]] = field(factory=dict)
    rated_sets: Mapping[str, NamedSet[RatedExample]] = field(factory=dict)
    rubrics: Mapping[str, Rubric] = field(factory=dict)
    pair_rules: Mapping[str, Callable[..., Any]] = field(factory=dict)
    """Rules by name, each with the signature of ``tutelage.preferences.pairing.PairRule``."""
    endpoint: Callable[[Any, str], Endpoint] | None = None
    """For an API: the service that a model stands for, given (settings or None, model name or ""). It has a price."""
    check: Callable[[Any, str], Iterable[Finding]] | None = None
    """For ``tutelage doctor``: look at what the plugin needs, given (settings or None, model name or ""); at most one
    call, and a free one. Problems are findings, never exceptions."""
    count_tokens: Callable[[Any, str, Sequence[Mapping[str, Any]], bool], TokenCounts | None] | None = None
    """For a student, before a run starts: given (settings or None, model name or "", rows in TRL's format of prompt and
    completion or of a prompt alone, whether anything may be downloaded), how long each is as it would be trained on.
    Raises a ``TutelageError`` for a model that isn't there or cannot be trained. Where nothing may be downloaded, None
    where it cannot be known on this machine."""
    convert: Callable[[Path, Path, Conversion], None] | None = None
    """For ``tutelage export``: write the checkpoint in one folder into another, empty one, changed as asked; all of it,
    what does not change too. Raises a ``TutelageError`` for what cannot be done here. A plain copy needs no plugin."""
