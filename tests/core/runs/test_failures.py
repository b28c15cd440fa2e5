"""A step in which every request failed is an error; a step with one result is not."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

import tutelage_openai
from tutelage.errors import StageError
from tutelage.plugins.registry import Registry
from tutelage.records import Demonstration, Model, Outcome
from tutelage.runs.failures import unless_all_failed

MODEL = Model("openai", "loud-1", settings={"base_url": "http://127.0.0.1:9/v1"})


@pytest.fixture
def registry() -> Registry:
    registry = Registry.empty()
    registry.register(tutelage_openai, "openai")
    return registry


def results(*outcomes: Outcome) -> Iterable[Demonstration]:
    return [Demonstration(str(number), "", outcome, f"why {number}") for number, outcome in enumerate(outcomes)]


@pytest.mark.parametrize("count", [1, 3])
def test_only_failures_are_an_error_with_plugin_model_address_and_cause(registry: Registry, count: int) -> None:
    yielded = []
    with pytest.raises(
        StageError,
        match=rf"plugin 'openai', model 'loud-1' at http://127\.0\.0\.1:9/v1: every request failed \({count}\), "
        rf"the last error is: why {count - 1}; the same command sends them again",
    ) as caught:
        for result in unless_all_failed(results(*[Outcome.FAILED] * count), registry, MODEL):
            yielded.append(result)  # noqa: PERF402  # the results before the error are kept
    assert (len(yielded), caught.value.exit_code) == (count, 6)


@pytest.mark.parametrize("other", [outcome for outcome in Outcome if outcome is not Outcome.FAILED])
def test_one_other_outcome_is_enough(registry: Registry, other: Outcome) -> None:
    for outcomes in ((other, Outcome.FAILED), (Outcome.FAILED, other), (other,), ()):
        assert len(list(unless_all_failed(results(*outcomes), registry, MODEL))) == len(outcomes)


def test_results_of_an_earlier_call_count(registry: Registry) -> None:
    assert list(unless_all_failed(results(Outcome.FAILED), registry, MODEL, others=True))
