"""What a plugin promised, and whether it kept it."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from tutelage.errors import PluginError


@frozen
class Check:
    """One promise of one hook."""

    hook: str
    promise: str
    problem: str | None = None
    """None where the promise is kept."""


@frozen
class Report:
    """Every promise that was checked. ``str(report)`` is a list to read."""

    plugin: str
    checks: tuple[Check, ...]

    @property
    def problems(self) -> tuple[Check, ...]:
        """The broken promises."""
        return tuple(check for check in self.checks if check.problem is not None)

    def raise_for_problems(self) -> None:
        """Raise ``PluginError`` with the whole report where a promise is broken."""
        if self.problems:
            raise PluginError(str(self))

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        broken = f"{len(self.problems)} of {len(self.checks)} promises broken" if self.problems else "all promises kept"
        yield f"{self.plugin}: {broken}"
        for check in self.checks:
            yield f"  {'ok' if check.problem is None else 'BROKEN':6}  {check.hook}: {check.promise}"
            for line in (check.problem or "").splitlines():
                yield f"            {line}"
