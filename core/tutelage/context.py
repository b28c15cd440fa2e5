"""The ``context`` argument of the stages: services that core provides, so that plugins do not build their own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import evolve, field, frozen

from tutelage.errors import PluginError

if TYPE_CHECKING:
    from tutelage.objectives import PairLoss
    from tutelage.services.caller import Caller


SettingsT = TypeVar("SettingsT")


def _ignore(*_: object, **__: object) -> None:
    """The default of the reporting functions: does nothing."""


def _never() -> bool:
    """The default of ``cancelled``."""
    return False


def _temporary_folder() -> Path:
    return Path(tempfile.gettempdir())


@frozen
class Tracking:
    """The experiment trackers that a recipe names in ``report_to``, and the run in them: that of one model."""

    trackers: tuple[str, ...]
    """Names of the trackers: ``tensorboard``, ``trackio``."""
    project: str
    """The project of the trackers: the name of the recipe."""
    run: str
    """The name of the run in the trackers, the same for each attempt of a step. It contains the model and what it is
    made from, so that a changed recipe has another run."""
    folder: Path
    """Folder for trackers that write files. It is kept with the run."""


@frozen
class Context:
    """Services for one call of a stage. The defaults are for library users who call a single stage themselves."""

    settings: Any = None
    """An instance of the plugin's settings class, made from the recipe; None if the plugin has no settings."""
    scratch: Path = field(factory=_temporary_folder)
    """A folder for temporary files. In a run, each step has its own folder: it survives a killed attempt, so that the
    next attempt can continue from its files, and is deleted when the step is finished. Outside a run, it may be deleted
    after the call."""
    advance: Callable[[int], None] = _ignore
    """Report progress: called with the number of training steps finished since the last call. Core itself counts
    answers, judgements and verdicts."""
    expect: Callable[[int], None] = _ignore
    """Report progress: called with the total number of training steps."""
    log: Callable[[Mapping[str, Any]], None] = _ignore
    """Report a row of training metrics, with TRL's metric names and ``step``. A run writes it to ``metrics.jsonl``."""
    tracking: Tracking | None = None
    """Where a training reports its metrics besides ``log``; None for nowhere. A killed training that continues is one
    run there: each step is reported once."""
    partial: Callable[[str], None] | None = None
    """Show an answer while it is generated: called with the text of the candidate so far. None unless
    ``generate_candidates`` is called with one prompt and ``n`` 1 for a user who waits for the answer, as in ``tutelage
    chat``. A plugin may ignore it: the answer is then shown when it is complete."""
    cancelled: Callable[[], bool] = _never
    """Returns true once the user has asked to stop. A plugin with long computations checks it regularly and returns
    early."""
    seeds: Mapping[str, int] = field(factory=dict)
    """Seeds of single items (prompts, items to judge, comparisons) by their ids, in place of that of ``sampling``. Only
    for a plugin with the hook ``devices`` or ``requests_at_once``, which gets the items of several chunks at once."""
    pair_losses: Mapping[str, PairLoss] = field(factory=dict)
    """For a student with ``PluginInfo.trains_pair_losses``: the losses of plugins that ``Dpo.loss_type`` names, by this
    name. Their ``function`` is called with the ``PairBatch`` alone: it has its settings already."""
    plugin_files: Mapping[str, Mapping[str, str]] = field(factory=dict)
    """For a student that trains in other processes: the plugin files (``--plugin``) that were loaded, as ``run.json``
    has them. ``Registry.for_process`` loads them there."""
    wrappers: Mapping[str, Any] = field(factory=dict)
    """The settings of the plugins that wrap the call, by the name of the plugin. A wrapper gets its own settings with
    ``wrapper_settings``; ``settings`` are those of the plugin that it wraps."""
    caller: Caller = field()
    """Calls APIs (bounded, retried, with ledger and budget). The default uses the user's ledger, which is opened at the
    first call, and has no budget."""

    @caller.default
    def _default_caller(self) -> Caller:
        from tutelage.services.caller import Caller

        return Caller(cancelled=self.cancelled)

    def wrapper_settings(self, kind: type[SettingsT]) -> SettingsT:
        """Return the settings of a plugin that wraps this call, by their class (``PluginInfo.settings``).

        Raises ``PluginError`` if no wrapper of the call has settings of this class, or if several have.
        """
        found = {name: value for name, value in self.wrappers.items() if isinstance(value, kind)}
        if len(found) != 1:
            reason = f"{' and '.join(found)} have" if found else "no plugin that wraps this call has"
            raise PluginError(f"wrapper_settings: {reason} settings of the class {kind.__name__}")
        return next(iter(found.values()))

    def with_settings(self, settings: Any) -> Context:
        """Return a copy of this context with the settings of another plugin."""
        return evolve(self, settings=settings)
