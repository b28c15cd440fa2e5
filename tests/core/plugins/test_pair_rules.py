"""The pair rules of plugins are called guarded: a rule that fails or invents an answer is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import evolve

from tutelage.errors import InputError, PluginError, StageError
from tutelage.hookspecs import hookimpl
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.pair_rules import guarded_rule
from tutelage.plugins.registry import Registry
from tutelage.preferences.pairing import RULES, Group, PairOptions, ProposedPair, ScoredAnswer
from tutelage.records import Prompt

ANSWERS = (ScoredAnswer("p/0", "blue", 5.0), ScoredAnswer("p/1", "red", 1.0))
GROUP = Group(Prompt("Name a colour.", id="p"), ANSWERS, ScoredAnswer("p/demonstration", "green"))


def raises(group: Group, options: PairOptions) -> Iterator[Any]:
    yield group.answers[2], group.answers[0]


def refuses(group: Group, options: PairOptions) -> Iterator[Any]:
    raise InputError("set pairs.margin above 0")


def invents(group: Group, options: PairOptions) -> Iterator[Any]:
    yield group.answers[0], ScoredAnswer("p/7", "pink", 0.0)


def rewrites(group: Group, options: PairOptions) -> Iterator[Any]:
    yield group.answers[0], evolve(group.answers[1], text="red, or so")


class Offering:
    """A plugin with rules that are wrong, and one that is right."""

    @hookimpl
    def describe(self) -> PluginInfo:
        rules: dict[str, Callable[..., Any]] = {
            "raises": raises,
            "refuses": refuses,
            "nothing": lambda group, options: None,
            "text": lambda group, options: "no pair",
            "number": lambda group, options: [7],
            "one-side": lambda group, options: [(group.answers[0],)],
            "invents": invents,
            "rewrites": rewrites,
            "weighted": lambda group, options: [ProposedPair(group.answers[0], group.answers[1], weight=0.5)],
            "weighted-invented": lambda group, options: [ProposedPair(group.answers[0], ScoredAnswer("p/7", "pink"))],
            "unscored": lambda group, options: [(evolve(group.answers[1], score=None), group.demonstration), "one"],
        }
        return PluginInfo("Rules.", pair_rules=rules)


@pytest.fixture
def registry() -> Registry:
    registry = Registry.empty()
    registry.register(Offering(), "mine")
    return registry


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("raises", StageError, "failed: IndexError: tuple index out of range"),
        ("nothing", PluginError, "returned None; it must yield pairs, or reasons as texts"),
        ("text", PluginError, "returned 'no pair'; it must yield pairs, or reasons as texts"),
        ("number", PluginError, r"proposed 7; a proposal is a tuple \(chosen, rejected\) of answers"),
        ("one-side", PluginError, r"proposed \(ScoredAnswer\(.*; a proposal is a tuple"),
        ("invents", PluginError, r"proposed 'pink' \(p/7\), which is no answer to the prompt; use the answers of"),
        ("rewrites", PluginError, r"proposed 'red, or so' \(p/1\), which is another text than that of the answer"),
    ],
)
def test_an_error_of_a_rule_names_the_rule_the_plugin_and_the_prompt(
    registry: Registry, name: str, error: type[Exception], message: str
) -> None:
    label = rf"^pair rule 'mine/{name}' of plugin 'mine' \(registered manually\), for the prompt p, {message}"
    with pytest.raises(error, match=label):
        guarded_rule(registry, f"mine/{name}")(GROUP, PairOptions())


def test_an_error_for_the_user_is_passed_on_unchanged(registry: Registry) -> None:
    with pytest.raises(InputError, match=r"^set pairs\.margin above 0$"):
        guarded_rule(registry, "mine/refuses")(GROUP, PairOptions())


def test_reasons_and_answers_with_or_without_their_scores_are_proposals(registry: Registry) -> None:
    proposals = list(guarded_rule(registry, "mine/unscored")(GROUP, PairOptions()))
    assert proposals == [(evolve(ANSWERS[1], score=None), GROUP.demonstration), "one"]


@pytest.mark.parametrize("name", sorted(RULES))
def test_the_built_in_rules_propose_what_they_are_given(registry: Registry, name: str) -> None:
    assert list(guarded_rule(registry, name)(GROUP, PairOptions())) == list(RULES[name](GROUP, PairOptions()))


def test_a_rule_may_propose_a_pair_with_a_weight(registry: Registry) -> None:
    """A ProposedPair was refused after sampling and judging were paid for, although the trial before the run passed."""
    rule = guarded_rule(registry, "mine/weighted")
    [proposal] = rule(GROUP, PairOptions())
    assert isinstance(proposal, ProposedPair) and proposal.weight == 0.5
    with pytest.raises(PluginError, match=r"proposed 'pink' \(p/7\), which is no answer to the prompt"):
        guarded_rule(registry, "mine/weighted-invented")(GROUP, PairOptions())
