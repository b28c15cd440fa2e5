"""Trials before a run: rubrics and pair rules are applied to a made-up item.

A rubric may lack a placeholder, and a pair rule of a plugin may raise an error. Without a trial, both would be found
only after a model was trained and sampled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from tutelage.errors import TutelageError, nearest
from tutelage.preferences.judging import metadata_keys, render, render_comparison, reply
from tutelage.preferences.pairing import INVALID_SIDES, RULES, PairOptions, PairRule, pair
from tutelage.preferences.score_parsing import parse_score
from tutelage.recipe.schema import Recipe
from tutelage.records import Candidate, Comparison, Demonstration, JudgeItem, Prompt, Rubric

_PROMPT = Prompt("Name a colour of the rainbow, and say in one sentence where else it is seen.")
_ANSWER = "Blue: it is the colour of a clear sky."
_OTHER = "Red: it is the colour of a ripe cherry."
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def rubric_problems(rubric: Rubric, is_comparison: bool = False, readers: str = "") -> Iterator[str]:
    """Yield each problem of a rubric: its scale, its template, the score that is read from a reply.

    A rubric without a template is for judges that are programs. ``readers`` names what needs the template: the roles of
    language models, or ``data.eft``.
    """
    has_no_limits = not rubric.template and (rubric.lowest, rubric.highest) == (-math.inf, math.inf)
    if not has_no_limits and not (rubric.is_bounded and rubric.lowest < rubric.highest):
        yield (
            f"the scale of rubric {rubric.name!r} is {rubric.lowest:g} to {rubric.highest:g}; "
            "its highest score must be above its lowest"
        )
        return
    if rubric.tokens is not None and (not all(rubric.tokens) or rubric.tokens[0] == rubric.tokens[1]):
        yield f"rubric {rubric.name!r}: tokens are {rubric.tokens!r}; they must be two different texts"
    if not rubric.template:
        if readers:
            yield f"rubric {rubric.name!r} has no template, and {readers} needs one; use another rubric"
        return
    texts = {"prompt": _PROMPT.text, **({"first": _ANSWER, "second": _OTHER} if is_comparison else {"answer": _ANSWER})}
    if is_comparison:
        rendered = render_comparison(rubric, Comparison("trial", _PROMPT.text, _ANSWER, _OTHER))
    else:
        about = {key: f"A made-up {key}." for key in metadata_keys(rubric)}
        rendered = render(rubric, JudgeItem("trial", _PROMPT.text, _ANSWER, metadata=about))
    lacking = [name for name, text in texts.items() if text not in rendered]
    others = sorted({*_PLACEHOLDER.findall(rubric.template)} - {*texts, "fence"})
    for name in lacking:
        similar = nearest(name, others).replace("did you mean", "it has") if others else ""
        yield f"the template of rubric {rubric.name!r} lacks the placeholder {{{name}}}{similar}; add it"
    if not is_comparison:
        for score in (rubric.lowest, rubric.highest):
            parsed = parse_score(reply(score, "It says so."), rubric)
            if parsed.score != score:
                yield (
                    f"rubric {rubric.name!r}: the reply {reply(score, '')!r} is read as {parsed.score}, not {score:g}; "
                    "use a scale whose limits can be written as plain numbers"
                )


def pair_rule_problems(
    pipeline: str, name: str, rule: PairRule, recipe: Recipe, rubric: Rubric | None, is_demonstrated: bool
) -> Iterator[str]:
    """Yield each problem of the pair rule of a pipeline, as ``KEY: problem`` with a key of ``pairs``.

    ``rule`` is a guarded rule (``plugins.pair_rules``), which raises a ``TutelageError`` for every fault. It gets one
    made-up prompt with ``generation.n`` different answers. If ``rubric`` is given, they have scores from its lowest to
    its highest, or any rising ones if its scale has no limits. A rule of a plugin may find no pair in it; a built-in
    rule always does, unless the recipe gives it no scores, no demonstrations, or options that no pair can fulfil.
    """
    settings = recipe.for_pipeline(pipeline).pairs
    n = recipe.generation.n
    candidates = [Candidate(_PROMPT.id, index, f"Answer number {index}: it is blue.") for index in range(n)]
    scores: dict[str, float | None] = {}
    if rubric is not None:
        lowest, highest = (rubric.lowest, rubric.highest) if rubric.is_bounded else (0.0, settings.margin * n + 1.0)
        step = (highest - lowest) / max(1, n - 1)
        scores = {one.id: lowest + step * one.index for one in candidates[:-1]}
        scores[candidates[-1].id] = highest
    demonstrations = {_PROMPT.id: Demonstration(_PROMPT.id, _ANSWER)} if is_demonstrated else {}
    options = PairOptions(0, settings.margin, settings.near_best, settings.length_ratio, settings.keep_cut)
    try:
        found = pair(rule, {_PROMPT.id: _PROMPT}, candidates, scores, demonstrations, options)
    except TutelageError as error:
        yield f"rule: {name!r} fails on a made-up prompt with {n} answers: {error}"
        return
    reasons = ", ".join(found.dropped)
    if found.preferences or not reasons:
        return
    if set(found.dropped) == {"margin too small"} and rubric is not None:
        yield (
            f"margin: {settings.margin:g}; no two scores on the scale {rubric.lowest:g} to {rubric.highest:g} of "
            f"rubric {rubric.name!r} have this difference, so no pair could be made; lower it"
        )
    elif name in RULES or set(found.dropped) <= INVALID_SIDES:
        yield (
            f"rule: {name!r} would make no pair in the pipeline {pipeline} ({reasons} for a made-up prompt with {n} "
            "different answers); use another rule, or other options of pairs"
        )
