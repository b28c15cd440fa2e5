"""The report of ``check_plugin``: the checked requirements, and the problems that were found."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from tutelage.errors import PluginError


@frozen
class Check:
    """The check of one requirement of a hook."""

    hook: str
    """Name of the hook, or ``loading``."""
    promise: str
    """The requirement of the contract."""
    problem: str | None = None
    """The problem; None if the requirement is fulfilled."""


@frozen
class Report:
    """The checks of a plugin. ``str(report)`` lists them."""

    plugin: str
    """Name and origin of the plugin."""
    checks: tuple[Check, ...]
    """All checks, in the order in which they were made."""

    @property
    def problems(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.problem is not None)

    def raise_for_problems(self) -> None:
        """Raise ``PluginError`` with the whole report if a check failed."""
        if self.problems:
            raise PluginError(str(self))

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        result = f"{len(self.problems)} of {len(self.checks)} checks failed" if self.problems else "all checks passed"
        yield f"{self.plugin}: {result}"
        for check in self.checks:
            yield f"  {'ok' if check.problem is None else 'FAILED':6}  {check.hook}: {check.promise}"
            for line in (check.problem or "").splitlines():
                yield f"            {line}"
