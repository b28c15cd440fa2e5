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
    stopped: bool = False
    """Whether the check stopped at a problem that an earlier check has reported."""


@frozen
class Report:
    """The checks of a plugin. ``str(report)`` lists them."""

    plugin: str
    """Name and origin of the plugin."""
    checks: tuple[Check, ...]
    """All checks, in the order in which they were made."""

    @property
    def problems(self) -> tuple[Check, ...]:
        """The checks that failed: one for each problem, without the checks that stopped at the same one."""
        return tuple(check for check in self.checks if check.problem is not None and not check.stopped)

    def raise_for_problems(self) -> None:
        """Raise ``PluginError`` with the whole report if a check failed."""
        if self.problems:
            raise PluginError(str(self))

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.plugin}: {self._result()}"
        for check in self.checks:
            found = "ok" if check.problem is None else "stopped" if check.stopped else "FAILED"
            yield f"  {found:7}  {check.hook}: {check.promise}"
            if found == "FAILED":
                yield from (f"             {line}" for line in (check.problem or "").splitlines())

    def _result(self) -> str:
        if not self.problems:
            return "all checks passed"
        stopped = sum(check.stopped for check in self.checks)
        others = f", and {stopped} stopped at the same problem{'s' * (len(self.problems) > 1)}" if stopped else ""
        return f"{len(self.problems)} of {len(self.checks)} checks failed{others}"
