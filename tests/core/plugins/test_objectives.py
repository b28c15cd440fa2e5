"""The objectives that a plugin offers: their declaration, and which students train them."""

from __future__ import annotations

from typing import Any

import approving_world
import echoing_world
import pytest
from approving_world import Approve, Rank
from attrs import define, field, frozen

from tutelage.errors import InputError, PluginError
from tutelage.hookspecs import hookimpl
from tutelage.objectives import Dpo, Objective, Sft
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.objectives import check_trainable, objective_problems, untrained
from tutelage.plugins.registry import Registry


@pytest.fixture
def registry() -> Registry:
    registry = Registry.empty()
    registry.register(echoing_world, "numbers")
    registry.register(approving_world.Offering(), "approving")
    registry.register(approving_world.Learner(), "learner")
    return registry


def offering(**objectives: Any) -> object:
    @define(eq=False)
    class Offering:
        @hookimpl
        def describe(self) -> PluginInfo:
            return PluginInfo("Offers.", objectives=objectives)

    return Offering()


@frozen
class NoKind(Objective):
    """Does not say what it trains on."""


@frozen
class Required(Approve):
    """Has a setting without a default."""

    strength: float = field(kw_only=True)


class Plain(Approve):
    """Is not decorated."""

    more: float = 1.0


@frozen
class OwnDpo(Dpo):
    """Has a loss that a student of DPO would not call."""

    def loss(self, batch: Any) -> Any:
        return batch.rejected - batch.chosen


@frozen
class OwnSft(Sft):
    """Has a loss that a student of SFT would not call."""

    def loss(self, batch: Any) -> Any:
        return -batch.log_probability


@frozen
class Gentle(Dpo):
    """Has other defaults, and no loss of its own."""

    beta: float = 0.5


def test_an_objective_with_other_defaults_may_be_derived_from_one_of_core() -> None:
    registry = Registry.empty()
    registry.register(offering(gentle=Gentle), "mine")
    assert registry.get("objectives", "mine/gentle") is Gentle


def test_the_objectives_of_core_and_of_plugins_are_offered_by_name(registry: Registry) -> None:
    assert registry.offered("objectives") == {
        "sft": Sft,
        "dpo": Dpo,
        "approving/approve": Approve,
        "approving/rank": Rank,
    }
    with pytest.raises(InputError, match="has no objective 'approving/aprove'; did you mean 'approving/approve'"):
        registry.get("objectives", "approving/aprove")
    assert [registry.name_of_objective(one) for one in (Sft(), Dpo(), Approve())] == ["sft", "dpo", "approving/approve"]


@pytest.mark.parametrize(
    ("objectives", "problem"),
    [
        ({"own": dict}, "objectives['own']: must be an attrs class that is derived from tutelage.Objective"),
        ({"own": Approve()}, "objectives['own']: must be an attrs class that is derived from tutelage.Objective"),
        ({"own": NoKind}, "objectives['own']: NoKind.examples must be one of examples, preferences, labelled"),
        ({"own": Plain}, "objectives['own']: Plain is not an attrs class: decorate it with @attrs.frozen"),
        ({"own": Required}, "objectives['own']: Required: every setting needs a default; strength has none"),
        (
            {"own": OwnDpo},
            "objectives['own']: OwnDpo is derived from Dpo, whose losses students would train in place of",
        ),
        (
            {"own": OwnSft},
            "objectives['own']: OwnSft is derived from Sft, whose losses students would train in place of",
        ),
        ({"Own One": Approve}, "objectives['Own One']: a name has small letters, digits and hyphens only"),
    ],
)
def test_a_declaration_that_cannot_be_used_is_refused(objectives: dict[str, Any], problem: str) -> None:
    with pytest.raises(PluginError) as error:
        Registry.empty().register(offering(**objectives), "mine")
    assert problem in str(error.value)


def test_a_student_trains_what_it_names_and_what_has_a_loss_for_it(registry: Registry) -> None:
    assert [untrained(one, "numbers", registry) for one in (Sft(), Dpo())] == ["", ""]
    assert untrained(Approve(), "learner", registry) == ""

    @define(eq=False)
    class ByLoss:
        @hookimpl
        def describe(self) -> PluginInfo:
            return PluginInfo("Trains losses.", trains_losses=("preferences",))

        @hookimpl
        def train_step(self) -> None: ...

    registry.register(ByLoss(), "losses")
    assert untrained(Rank(), "losses", registry) == ""
    assert untrained(Approve(), "losses", registry) == (
        "plugin 'losses' (registered manually) does not train approving/approve; it trains sft, dpo, objectives with a "
        "loss of preferences. Plugins that train approving/approve: learner"
    )
    assert untrained(Rank(), "learner", registry).endswith("Plugins that train approving/rank: losses")


def test_an_objective_that_is_not_trained_is_refused_by_the_stage(registry: Registry) -> None:
    with pytest.raises(
        InputError, match=r"plugin 'numbers' \(.*\) does not train approving/approve; it trains sft, dpo"
    ):
        check_trainable(Approve(), "numbers", registry)
    with pytest.raises(InputError, match=r"beta: -1\.0; it must be above 0"):
        check_trainable(Approve(beta=-1.0), "learner", registry)


def test_the_problems_of_an_objective_are_those_of_its_check_and_of_its_numbers(registry: Registry) -> None:
    problems = list(objective_problems(Approve(beta=0.0, batch_size=0, epochs=-1.0), "learner", registry))
    assert problems == [
        "batch_size: 0; must be positive",
        "epochs: -1.0; must be positive",
        "beta: 0.0; it must be above 0",
    ]


def test_a_check_that_raises_is_an_error_of_its_plugin(registry: Registry) -> None:
    with pytest.raises(
        PluginError,
        match=r"^objective 'approving/approve' of plugin 'approving' \(.*\), problems, failed: RuntimeError",
    ):
        list(objective_problems(Approve(beta=13), "learner", registry))


def test_a_check_that_gives_no_problems_as_texts_is_an_error_of_its_plugin(registry: Registry) -> None:
    @frozen
    class Careless(Approve):
        """Has a check of the wrong form."""

        given: Any = None

        def problems(self) -> Any:
            return self.given

    registry.register(offering(careless=Careless), "careless")
    for given, problem in (("beta: wrong", "returned 'beta: wrong'; it must return or yield"), ([7], "gave 7, which")):
        with pytest.raises(PluginError, match=f"^objective 'careless/careless' of .*, problems, {problem}"):
            list(objective_problems(Careless(given=given), "learner", registry))
    assert list(objective_problems(Careless(given=None), "learner", registry)) == []
