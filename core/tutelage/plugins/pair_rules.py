"""Guarded calls of the pair rules that plugins offer: an error names the rule, its plugin and the prompt."""

from __future__ import annotations

from collections.abc import Iterable

from tutelage.errors import PluginError
from tutelage.plugins import built_in
from tutelage.plugins.registry import Registry
from tutelage.plugins.stage_checks import plugin_errors
from tutelage.preferences.pairing import Group, PairOptions, PairRule, Proposal, ProposedPair, ScoredAnswer


def guarded_rule(registry: Registry, name: str) -> PairRule:
    """Return a pair rule that core or a plugin offers. Its proposals are checked.

    The returned rule raises ``StageError`` if the rule raises an exception, and ``PluginError`` if it does not return
    proposals, or proposes a text that is not one of the answers and the demonstration that it was given.
    """
    rule = registry.get("pair_rules", name)
    plugin, slash, _ = name.partition("/")
    label = f"pair rule {name!r} of {registry.label(plugin if slash else built_in.NAME)}"

    def guarded(group: Group, options: PairOptions) -> list[Proposal]:
        of_prompt = f"{label}, for the prompt {group.prompt.id},"
        with plugin_errors(of_prompt):
            found = rule(group, options)
            if isinstance(found, str) or not isinstance(found, Iterable):
                raise PluginError(f"{of_prompt} returned {found!r}; it must yield pairs, or reasons as texts")
            proposals = list(found)
        given = {(one.id, one.text) for one in (*group.answers, group.demonstration) if one is not None}
        for proposal in proposals:
            if problem := _problem(proposal, given):
                raise PluginError(f"{of_prompt} {problem}")
        return proposals

    return guarded


def _problem(proposal: object, given: set[tuple[str, str]]) -> str:
    """What is wrong with a proposal; empty if it is a reason, or a pair of answers that the rule was given."""
    if isinstance(proposal, str):
        return ""
    if isinstance(proposal, ProposedPair):
        proposal = (proposal.chosen, proposal.rejected)
    if not isinstance(proposal, tuple) or len(proposal) != 2 or not all(isinstance(x, ScoredAnswer) for x in proposal):
        return (
            f"proposed {proposal!r}; a proposal is a tuple (chosen, rejected) of answers, a ProposedPair, or the "
            "reason for none"
        )
    for side in proposal:
        if (side.id, side.text) not in given:
            known = any(side.id == id for id, _ in given)
            changed = "which is another text than that of the answer" if known else "which is no answer to the prompt"
            return f"proposed {side.text[:60]!r} ({side.id}), {changed}; use the answers of the group"
    return ""
