"""IFEval's four accuracies as measures (Zhou et al., 2023, arXiv:2311.07911, section 3).

An instruction that cannot be checked counts in the coverage only. The paper's accuracies have no such instructions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

from tutelage import Measure, Measurement
from tutelage_ifeval.verifying import Result, verify


def of_prompt(prompt: str, answer: str, metadata: Mapping[str, Any], *, loose: bool = False) -> Measurement:
    """Return 1 if the answer follows all instructions of the prompt, otherwise 0.

    The prompt has no value if one of its instructions cannot be checked: whether the others are all followed is another
    and easier question.
    """
    result = result_of(prompt, answer, metadata, loose)
    if result.share is None:
        return Measurement(None, detail=result.detail)
    return Measurement(float(result.share == 1), detail=result.reason)


def of_instructions(prompt: str, answer: str, metadata: Mapping[str, Any], *, loose: bool = False) -> Measurement:
    """Return the share of the instructions of the prompt that the answer follows; each instruction is one unit."""
    result = result_of(prompt, answer, metadata, loose)
    followed = [one.followed for one in result.checked if one.followed is not None]
    unchecked = len(result.checked) - len(followed)
    if not followed:
        return Measurement(None, unchecked or 1, detail=result.detail)
    return Measurement(sum(followed) / len(followed), len(followed), unchecked, result.detail or result.reason)


def result_of(prompt: str, answer: str, metadata: Mapping[str, Any], loose: bool) -> Result:
    """Return the result of one answer. Judgements, comparisons and measures ask for the same answers several times."""
    return _kept_result(prompt, answer, json.dumps(metadata), loose)


@lru_cache(maxsize=1 << 16)
def _kept_result(prompt: str, answer: str, metadata: str, loose: bool) -> Result:
    return verify(prompt, answer, json.loads(metadata), loose)


MEASURES = {
    f"{level}-{'loose' if loose else 'strict'}": Measure(
        function=partial(function, loose=loose),
        help=f"IFEval's {level}-level {'loose' if loose else 'strict'} accuracy: share of {counted}",
        lowest=0,
        highest=1,
    )
    for level, function, counted in (
        ("prompt", of_prompt, "prompts whose instructions are all followed"),
        ("instruction", of_instructions, "instructions that are followed"),
    )
    for loose in (False, True)
}
"""The measures by name: ``prompt-strict``, ``prompt-loose``, ``instruction-strict`` and ``instruction-loose``."""
