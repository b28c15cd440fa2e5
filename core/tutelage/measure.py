"""Measures of plugins: functions that give each prompt one value, from what a run has of one model.

A plugin offers measures in ``PluginInfo.measures``; a recipe takes them under ``evaluation.measures``::

    def shouted(answer):
        return answer.isupper()

    Measure(function=shouted, help="share of answers in capitals", lowest=0, highest=1)

From the values, tutelage computes the figure of each model, the differences between models, and their intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeAlias

from attrs import field, fields, frozen
from attrs.converters import optional

from tutelage.examples import Example, LabelledAnswer, Preference
from tutelage.records import Candidate, Judgement, Prompt

Over: TypeAlias = Literal["answers", "sampled", "judgements", "training", "checkpoint"]
"""What a measure is computed from:

- ``answers``: the greedy answers to the held-out prompts;
- ``sampled``: the sampled answers to the held-out prompts;
- ``judgements``: the model's own judgements of its sampled answers, beside the gold scores;
- ``training``: the preference pairs, labelled answers or examples that the model was trained on;
- ``checkpoint``: the model itself.
"""
Better: TypeAlias = Literal["higher", "lower", "neither"]
"""Which values are better."""


def _check_weight(_: Any, attribute: Any, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"`{attribute.name}` must be a finite number of at least 0, not {value!r}")


@frozen
class Measurement:
    """The value of a measure on one prompt, with what the value counts for."""

    value: float | None
    """A finite number; None if the prompt cannot be measured."""
    weight: float = field(default=1.0, validator=_check_weight)
    """Number of units that the value is the mean of, such as the instructions of a prompt. The figure of a model is the
    mean over units. With ``value`` None, the number of units that cannot be measured."""
    unmeasured: float = field(default=0.0, validator=_check_weight)
    """Number of further units of the prompt that cannot be measured. They count in the coverage only."""
    detail: str = ""
    """Why there is no value, or what the value is based on."""
    prompt_id: str = ""
    """Id of the prompt. Core sets it. A measure of a checkpoint sets it to the id of its own item."""

    @property
    def id(self) -> str:
        """The id of the prompt: a measure gives each prompt one value."""
        return self.prompt_id


@frozen(kw_only=True)
class MeasuredPrompt:
    """What a run has of one model and one prompt, for a measure. Only the fields of its ``over`` are set."""

    prompt: Prompt
    """The prompt, with its metadata."""
    answers: tuple[Candidate, ...] = ()
    """The answers that have text: one greedy answer, or the sampled ones. Not for ``training``."""
    without_text: int = 0
    """Number of answers without text, because the model or its service failed. They cannot be measured."""
    gold: tuple[Judgement, ...] = ()
    """The evaluator's judgements of these answers; ``item_id`` is the id of the answer."""
    judgements: tuple[Judgement, ...] = ()
    """For ``judgements``: the model's own judgements of these answers."""
    pairs: tuple[Preference, ...] = ()
    """For ``training``: the preference pairs of the prompt, if the model was trained on pairs."""
    examples: tuple[Example, ...] = ()
    """For ``training``: the examples of the prompt, if the model was trained on examples."""
    labelled: tuple[LabelledAnswer, ...] = ()
    """For ``training``: the labelled answers to the prompt, if the model was trained on these."""


@frozen(kw_only=True)
class MeasureInfo:
    """What readers of results need to know of a measure. A run keeps it, for readers without the plugin."""

    help: str
    """What it is, in one line for ``tutelage plugins show`` and the report."""
    over: Over = "answers"
    """What it is computed from."""
    unit: str = ""
    """Unit of the values: ``words``. Empty for a share or a plain number."""
    better: Better = "higher"
    """Which values are better."""
    lowest: float | None = field(default=None, converter=optional(float))
    """Lowest possible value; None for no limit. With 0 and 1, the figure is a share: it has the interval of a share,
    and tables show it in percent."""
    highest: float | None = field(default=None, converter=optional(float))
    """Highest possible value; None for no limit."""
    name: str = ""
    """``PLUGIN/NAME``. Core sets it."""

    @property
    def is_share(self) -> bool:
        """Whether the values are shares, from 0 to 1."""
        return (self.lowest, self.highest) == (0, 1)


@frozen(kw_only=True)
class Measure(MeasureInfo):
    """A measure that a plugin offers in ``PluginInfo.measures``; ``evaluation.measures`` of a recipe names it."""

    function: Callable[..., Any]
    """Gives the values. It is called with the arguments that it names, in one of three forms:

    - some of ``prompt``, ``answer``, ``messages`` and ``metadata``: called once for each answer of ``answers`` or
      ``sampled``. Returns a number, None, or a ``Measurement``;
    - ``items``: called once with an iterator of ``MeasuredPrompt``. Returns or yields one of these for each prompt, in
      their order;
    - ``model`` (a ``Model`` whose ``name`` is the folder of the weights) and, if needed, ``context`` (a ``Context``
      with a scratch folder): called once for a ``checkpoint``. Returns or yields a ``Measurement`` with a
      ``prompt_id`` for each item of its own.

    With ``settings``, it also gets the settings, or None. True and False are 1 and 0."""
    settings: type | None = None
    """attrs class of the settings, which the recipe sets beside the name of the measure."""
    check: Callable[[Any], Iterable[str]] | None = None
    """Called before a run with the settings, or None; returns or yields each problem as ``KEY: problem and remedy``,
    where KEY is a setting."""
    files: Callable[[Any], Iterable[Path]] | None = None
    """Called with the settings, or None; returns or yields the files and folders that the function reads. If their
    content changes, a run that continues takes the measure again."""

    def info(self, name: str) -> MeasureInfo:
        """Return the part that readers of results need. ``name`` is ``PLUGIN/NAME``."""
        kept = {one.name: getattr(self, one.name) for one in fields(MeasureInfo)}
        return MeasureInfo(**{**kept, "name": name})
