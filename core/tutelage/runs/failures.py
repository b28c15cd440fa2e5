"""The error of a step in which every request failed: its artifact would be empty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from tutelage.errors import StageError
from tutelage.plugins.helpers import endpoint
from tutelage.plugins.registry import Registry
from tutelage.records import Model, Outcome


class _HasOutcome(Protocol):
    @property
    def outcome(self) -> Outcome: ...


_T = TypeVar("_T", bound=_HasOutcome)


def unless_all_failed(results: Iterable[_T], registry: Registry, model: Model, others: bool = False) -> Iterator[_T]:
    """Yield the results. Raises ``StageError`` after the last one if there were results and all of them failed.

    ``others``: whether the step has results that did not fail besides these.
    """
    count, last, all_failed = 0, "", not others
    for result in results:
        count += 1
        last = getattr(result, "detail", "")
        all_failed = all_failed and result.outcome is Outcome.FAILED
        yield result
    if count and all_failed:
        raise StageError(
            f"{_described(registry, model)}: every request failed ({count})"
            + (f", the last error is: {last}" if last else "")
            + "; the same command sends them again"
        )


def _described(registry: Registry, model: Model) -> str:
    """The plugin and, for an API, the model and the address that are called."""
    service = endpoint(registry, model, "settings")
    if service is None:
        return f"plugin {model.plugin!r}, model {model.name!r}"
    return f"plugin {model.plugin!r}, model {service.model!r} at {service.base_url}"
