"""The objectives that a student on actors is trained with are those of the plugin that trains. Ray is not needed."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from attrs import frozen

tutelage_ray = pytest.importorskip(
    "tutelage_ray", reason="tutelage-ray is not installed; run: pip install ./contrib/tutelage-ray"
)

from tutelage import Dpo, InputError, Model, Objective, Sft  # noqa: E402
from tutelage.objectives import ExampleKind  # noqa: E402
from tutelage.plugins import helpers  # noqa: E402
from tutelage.plugins.objectives import untrained  # noqa: E402
from tutelage.plugins.registry import Registry  # noqa: E402
from tutelage_transformers.training.objectives import Kto  # noqa: E402

OTHER = Model("ray", settings={"worker": {"plugin": "tiny"}})


@frozen
class Own(Objective):
    """An objective with a loss."""

    examples: ClassVar[ExampleKind] = "labelled"

    def loss(self, batch: Any) -> Any:
        return batch.log_probability


@frozen
class Bare(Objective):
    """An objective that no plugin trains."""

    examples: ClassVar[ExampleKind] = "labelled"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.discover()


@pytest.mark.parametrize("objective", [Sft(), Dpo(), Kto(), Own()])
def test_the_objectives_of_the_worker_are_trained(registry: Registry, objective: Objective) -> None:
    assert untrained(objective, "ray", registry) == ""
    assert helpers.check_objective(registry, Model("ray"), objective) == []


def test_an_objective_that_the_worker_does_not_train_is_refused(registry: Registry) -> None:
    assert "does not train Bare" in untrained(Bare(), "ray", registry)
    with pytest.raises(InputError, match=r"plugin 'tiny' .* does not train transformers/kto"):
        helpers.check_objective(registry, OTHER, Kto())


def test_the_settings_are_checked_by_the_worker(registry: Registry) -> None:
    problems = helpers.check_objective(registry, Model("ray"), Kto(batch_size=16, micro_batch_size=5))
    assert [one.partition(":")[0] for one in problems] == ["micro_batch_size"]
