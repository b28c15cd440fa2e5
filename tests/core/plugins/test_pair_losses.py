"""The losses of plugins that ``dpo.loss_type`` names are found, checked, and given their settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from attrs import frozen

from tutelage.errors import InputError, PluginError
from tutelage.hookspecs import hookimpl
from tutelage.objectives import Dpo, PairBatch, PairLoss, Sft
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.pair_losses import bound_pair_losses, pair_loss_problems
from tutelage.plugins.registry import Registry


@frozen
class Margin:
    gamma: float = 0.5


def margin_loss(batch: PairBatch, settings: Margin) -> Any:
    return settings.gamma - batch.chosen + batch.rejected


def check(objective: Dpo, settings: Margin) -> Iterator[str]:
    if objective.beta < settings.gamma:
        yield f"beta: {objective.beta:g}; it must be at least gamma, {settings.gamma:g}"


class Student:
    def __init__(self, trains: bool) -> None:
        losses = {"margin": PairLoss(margin_loss, "Margin.", Margin, check=check), "bare": PairLoss(margin_loss, "")}
        self.info = PluginInfo("", pair_losses=losses, trains_pair_losses=trains)

    @hookimpl
    def describe(self) -> PluginInfo:
        return self.info

    @hookimpl
    def train_step(self, model: Any) -> Any:
        raise AssertionError("must not be called")


@pytest.fixture
def registry() -> Registry:
    registry = Registry.empty()
    registry.register(Student(True), "able")
    registry.register(Student(False), "unable")
    return registry


def numbers(chosen: float, rejected: float) -> PairBatch:
    return PairBatch(chosen, rejected, 0.0, 0.0, 1, 1, 1.0, 0.1)


def test_the_function_of_a_loss_gets_its_settings(registry: Registry) -> None:
    objective = Dpo(loss_type={"able/margin": 1, "sft": 0.2}, loss_settings={"gamma": 2}, beta=3)
    [(name, loss)] = bound_pair_losses(objective, "able", registry).items()
    assert (name, loss.function(numbers(-1.0, -4.0))) == ("able/margin", -1.0)
    [default] = bound_pair_losses(Dpo(loss_type="able/margin", beta=3), "able", registry).values()
    assert default.function(numbers(-1.0, -4.0)) == -2.5


@pytest.mark.parametrize("objective", [Sft(), Dpo(), Dpo(loss_type={"sigmoid": 1, "sft": 0.5})])
def test_an_objective_without_losses_of_plugins_has_none(registry: Registry, objective: Sft | Dpo) -> None:
    assert bound_pair_losses(objective, "unable", registry) == {}


@pytest.mark.parametrize(
    ("objective", "problem"),
    [
        (
            Dpo(loss_type="able/margn", beta=3),
            "loss_type: .* has no pair loss 'able/margn'; did you mean 'able/margin'?",
        ),
        (Dpo(loss_type="absent/margin"), "loss_type: no pair loss 'absent/margin'"),
        (
            Dpo(loss_type="able/margin", loss_settings={"gama": 1}),
            "loss_settings: gama: unknown key; did you mean 'gamma'?",
        ),
        (Dpo(loss_type="able/margin", loss_settings={"gamma": "1"}), "loss_settings: gamma: .*number"),
        (Dpo(loss_type="able/bare", loss_settings={"gamma": 1}), "loss_settings: the loss able/bare has no settings"),
        (Dpo(loss_settings={"gamma": 1}), "loss_settings: loss_type names no loss of a plugin; leave them out"),
        (Dpo(loss_type={"able/margin": 1, "able/bare": 1}, beta=3), "loss_type: .*; name at most one loss of a plugin"),
        (Dpo(loss_type="able/margin"), "beta: 0.1; it must be at least gamma, 0.5"),
    ],
)
def test_a_wrong_loss_is_named_with_its_key(registry: Registry, objective: Dpo, problem: str) -> None:
    with pytest.raises(InputError, match=f"^{problem}"):
        bound_pair_losses(objective, "able", registry)


def test_a_student_that_cannot_train_with_them_is_named_with_those_that_can(registry: Registry) -> None:
    [problem] = pair_loss_problems(Dpo(loss_type="able/margin", beta=3), "unable", registry)
    assert problem == (
        f"loss_type: able/margin; {registry.label('unable')} does not train with losses of plugins; these do: able"
    )


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        (lambda objective, settings: 1 / 0, "failed: ZeroDivisionError"),
        (lambda objective, settings: "beta: wrong", "returned 'beta: wrong'; it must return or yield"),
        (lambda objective, settings: [None], "gave None, which is not of the class str"),
    ],
)
def test_a_check_that_fails_or_gives_something_else_names_the_loss(
    registry: Registry, check: Any, problem: str
) -> None:
    student = Student(True)
    student.info = PluginInfo("", pair_losses={"bare": PairLoss(margin_loss, "", check=check)})
    registry.register(student, "checked")
    with pytest.raises(PluginError, match=f"^pair loss 'checked/bare' of plugin 'checked' .*, check, {problem}"):
        list(pair_loss_problems(Dpo(loss_type="checked/bare"), "able", registry))


@pytest.mark.parametrize(
    ("offered", "problem"),
    [
        ({"a": margin_loss}, r"pair_losses\['a'\] must be a PairLoss, not function"),
        ({"a": PairLoss(7, "")}, r"pair_losses\['a'\]: function must be callable, not 7"),  # type: ignore[arg-type]
        ({"a": PairLoss(margin_loss, "", int)}, r"pair_losses\['a'\]: settings must be an attrs class"),
    ],
)
def test_a_wrong_offer_is_an_error_of_the_plugin(offered: Any, problem: str) -> None:
    student = Student(True)
    student.info = PluginInfo("", pair_losses=offered)
    with pytest.raises(PluginError, match=problem):
        Registry.empty().register(student, "wrong")
