"""tutelage: align a small language model from its own judgement or from a stronger teacher.

Everything public is here, and is imported when it is first asked for: ``import tutelage`` costs next to nothing. The
command line is in ``tutelage.cli``, the statistics are in ``tutelage.evaluation``, and what a plugin author tests with
is in ``tutelage.testing``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tutelage.calling import (
        Budget,
        Caller,
        CallError,
        Endpoint,
        Limits,
        Permanent,
        Refused,
        Reply,
        Request,
        Tally,
        Transient,
        Unusable,
        retry_after,
    )
    from tutelage.checks import checked_plan, find_rubric
    from tutelage.context import Context
    from tutelage.errors import (
        BudgetError,
        InputError,
        Interrupted,
        PluginError,
        RunLockedError,
        StageError,
        TutelageError,
    )
    from tutelage.evaluation.intervals import Metric
    from tutelage.hookspecs import hookimpl
    from tutelage.judging import (
        ADDITIVE_RUBRIC,
        PAIRWISE_RUBRIC,
        AveragedScore,
        ParsedPreference,
        ParsedScore,
        average,
        parse_preference,
        parse_score,
        render,
        render_comparison,
        reply,
    )
    from tutelage.pairing import Pairing, PairOptions, PairRule, pair
    from tutelage.plugin_info import (
        Conversion,
        EnvironmentVariable,
        Finding,
        NamedModel,
        NamedSet,
        PluginInfo,
        TokenCounts,
    )
    from tutelage.plugin_status import PluginStatus
    from tutelage.prices import Price
    from tutelage.recipe import Recipe
    from tutelage.recipe_files import find as find_recipe
    from tutelage.recipe_files import load as load_recipe
    from tutelage.records import (
        Candidate,
        Comparison,
        Demonstration,
        Dpo,
        Example,
        JudgeItem,
        Judgement,
        Lora,
        Model,
        Objective,
        Outcome,
        Preference,
        Prompt,
        RatedExample,
        Rubric,
        Sampling,
        Sft,
        Verdict,
        content_id,
    )
    from tutelage.registry import Registry
    from tutelage.reporter import Reporter
    from tutelage.run_models import RunModels
    from tutelage.runner import run
    from tutelage.stages import demonstrate, evaluate, generate_candidates, judge, release, train_step
    from tutelage.status import RunStatus, run_status
    from tutelage.steps import Plan, Step
    from tutelage.store import Store, open_run
    from tutelage.summary import (
        AgreementResult,
        ComparisonResult,
        Difference,
        ModelResult,
        Summary,
        TrainingResult,
        read_summary,
    )

_MODULES = {
    "tutelage.calling": (
        "Budget CallError Caller Endpoint Limits Permanent Refused Reply Request Tally Transient Unusable retry_after"
    ),
    "tutelage.checks": "checked_plan find_rubric",
    "tutelage.context": "Context",
    "tutelage.errors": "BudgetError InputError Interrupted PluginError RunLockedError StageError TutelageError",
    "tutelage.evaluation.intervals": "Metric",
    "tutelage.hookspecs": "hookimpl",
    "tutelage.judging": (
        "ADDITIVE_RUBRIC PAIRWISE_RUBRIC AveragedScore ParsedPreference ParsedScore average parse_preference "
        "parse_score render render_comparison reply"
    ),
    "tutelage.pairing": "PairOptions PairRule Pairing pair",
    "tutelage.plugin_info": "Conversion EnvironmentVariable Finding NamedModel NamedSet PluginInfo TokenCounts",
    "tutelage.plugin_status": "PluginStatus",
    "tutelage.prices": "Price",
    "tutelage.recipe": "Recipe",
    "tutelage.records": (
        "Candidate Comparison Demonstration Dpo Example JudgeItem Judgement Lora Model Objective Outcome "
        "Preference Prompt RatedExample Rubric Sampling Sft Verdict content_id"
    ),
    "tutelage.registry": "Registry",
    "tutelage.reporter": "Reporter",
    "tutelage.run_models": "RunModels",
    "tutelage.runner": "run",
    "tutelage.stages": "demonstrate evaluate generate_candidates judge release train_step",
    "tutelage.status": "RunStatus run_status",
    "tutelage.steps": "Plan Step",
    "tutelage.store": "Store open_run",
    "tutelage.summary": "AgreementResult ComparisonResult Difference ModelResult Summary TrainingResult read_summary",
}
_PLACES = {name: (module, name) for module, names in _MODULES.items() for name in names.split()} | {
    "find_recipe": ("tutelage.recipe_files", "find"),
    "load_recipe": ("tutelage.recipe_files", "load"),
}
"""Where each public name is defined. A test holds it to what the type checker reads above."""

__all__ = [
    "ADDITIVE_RUBRIC",
    "PAIRWISE_RUBRIC",
    "AgreementResult",
    "AveragedScore",
    "Budget",
    "BudgetError",
    "CallError",
    "Caller",
    "Candidate",
    "Comparison",
    "ComparisonResult",
    "Context",
    "Conversion",
    "Demonstration",
    "Difference",
    "Dpo",
    "Endpoint",
    "EnvironmentVariable",
    "Example",
    "Finding",
    "InputError",
    "Interrupted",
    "JudgeItem",
    "Judgement",
    "Limits",
    "Lora",
    "Metric",
    "Model",
    "ModelResult",
    "NamedModel",
    "NamedSet",
    "Objective",
    "Outcome",
    "PairOptions",
    "PairRule",
    "Pairing",
    "ParsedPreference",
    "ParsedScore",
    "Permanent",
    "Plan",
    "PluginError",
    "PluginInfo",
    "PluginStatus",
    "Preference",
    "Price",
    "Prompt",
    "RatedExample",
    "Recipe",
    "Refused",
    "Registry",
    "Reply",
    "Reporter",
    "Request",
    "Rubric",
    "RunLockedError",
    "RunModels",
    "RunStatus",
    "Sampling",
    "Sft",
    "StageError",
    "Step",
    "Store",
    "Summary",
    "Tally",
    "TokenCounts",
    "TrainingResult",
    "Transient",
    "TutelageError",
    "Unusable",
    "Verdict",
    "average",
    "checked_plan",
    "content_id",
    "demonstrate",
    "evaluate",
    "find_recipe",
    "find_rubric",
    "generate_candidates",
    "hookimpl",
    "judge",
    "load_recipe",
    "open_run",
    "pair",
    "parse_preference",
    "parse_score",
    "read_summary",
    "release",
    "render",
    "render_comparison",
    "reply",
    "retry_after",
    "run",
    "run_status",
    "train_step",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
