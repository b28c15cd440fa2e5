"""What core hands to a plugin's hook: the things that a plugin needs and should not build for itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

if TYPE_CHECKING:
    from tutelage.services.caller import Caller


def _nothing(*_: object, **__: object) -> None:
    """Where nobody watches."""


def _never() -> bool:
    """Where nobody cancels."""
    return False


def _temporary_folder() -> Path:
    return Path(tempfile.gettempdir())


@frozen
class Context:
    """One stage call's surroundings. The defaults serve a library user who calls one stage by hand."""

    settings: Any = None
    """The plugin's own settings class, structured from the recipe; None where the plugin declares none."""
    scratch: Path = field(factory=_temporary_folder)
    """A folder for temporary files. In a run it is the step's own: what an attempt that was killed left in it is still
    there for the next one, and it is gone once the step is finished. Elsewhere it may be gone after the call."""
    advance: Callable[[int], None] = _nothing
    """Progress: so many more training steps are done. (Answers, judgements and verdicts are counted by core.)"""
    expect: Callable[[int], None] = _nothing
    """Progress: the training has so many steps in all."""
    log: Callable[[Mapping[str, Any]], None] = _nothing
    """One row of training metrics, under TRL's own names, with ``step``. It ends in ``metrics.jsonl``."""
    cancelled: Callable[[], bool] = _never
    """True once the user asked to stop. A plugin that works long looks now and then and returns early."""
    caller: Caller = field()
    """How every API is called; the default has the user's ledger, opened at the first call, and no budget."""

    @caller.default
    def _plain_caller(self) -> Caller:
        from tutelage.services.caller import Caller

        return Caller(cancelled=self.cancelled)

    def with_settings(self, settings: Any) -> Context:
        """The same surroundings for another plugin."""
        return evolve(self, settings=settings)
