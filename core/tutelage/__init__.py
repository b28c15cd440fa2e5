"""tutelage: align a small language model from its own judgement or from a stronger teacher.

This module contains all public names. Each name is imported at its first use, so that ``import tutelage`` is fast. The
command line is in ``tutelage.cli``, the statistics are in ``tutelage.evaluation``, and the test kit for plugin authors
is in ``tutelage.testing``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from tutelage.examples import Example, LabelledAnswer, Preference, RatedExample
    from tutelage.execution.reporter import Reporter
    from tutelage.execution.runner import run
    from tutelage.files.jsonl import write_rows
    from tutelage.files.trl_format import preference_row, supervised_row
    from tutelage.hookspecs import hookimpl
    from tutelage.measure import Measure, MeasuredPrompt, MeasureInfo, Measurement
    from tutelage.objectives import AnswerBatch, Dpo, Lora, Objective, PairBatch, PairLoss, Sft
    from tutelage.pipeline import Pipeline
    from tutelage.pipeline_steps import (
        MIRRORED_PAIRS,
        MIRRORED_TRAINING,
        ChosenStep,
        CombineStep,
        CompareStep,
        DemonstrateStep,
        DisputedStep,
        GivenStep,
        JoinStep,
        JudgeStep,
        LabelStep,
        PairStep,
        SampleStep,
        TrainStep,
        TransformStep,
    )
    from tutelage.planning.checks import checked_plan
    from tutelage.planning.roles import find_rubric
    from tutelage.planning.steps import Plan, Step
    from tutelage.plugin_info import (
        Conversion,
        EnvironmentVariable,
        Finding,
        NamedModel,
        NamedSet,
        Package,
        PluginInfo,
        Preparation,
        RunNeeds,
        TokenCounts,
    )
    from tutelage.plugins.discovery import PluginStatus
    from tutelage.plugins.functions import plugin
    from tutelage.plugins.registry import Registry
    from tutelage.plugins.stages import demonstrate, evaluate, generate_candidates, judge, release, train_step
    from tutelage.preferences.expected_scores import expected_judgement, score_replies
    from tutelage.preferences.judging import (
        ADDITIVE_RUBRIC,
        FENCED_ANSWER,
        PAIRWISE_RUBRIC,
        AveragedScore,
        average,
        render,
        render_comparison,
        reply,
    )
    from tutelage.preferences.pairing import Pairing, PairOptions, PairRule, ProposedPair, pair
    from tutelage.preferences.replies import judgement_from_reply, verdict_from_reply
    from tutelage.preferences.score_parsing import ParsedScore, parse_score
    from tutelage.preferences.verdict_parsing import ParsedPreference, parse_preference
    from tutelage.recipe.loading import find_recipe, load_recipe
    from tutelage.recipe.schema import Recipe
    from tutelage.records import (
        Candidate,
        Comparison,
        Demonstration,
        JudgeItem,
        Judgement,
        Message,
        Model,
        Outcome,
        Prompt,
        Rubric,
        Sampling,
        Verdict,
        content_id,
    )
    from tutelage.results.summary import (
        AgreementResult,
        ComparisonResult,
        Difference,
        ModelResult,
        Summary,
        TrainingResult,
        VariantResult,
        read_summary,
    )
    from tutelage.runs.changes import Changes, StepChange
    from tutelage.runs.run import RunModels
    from tutelage.runs.status import RunStatus, run_status
    from tutelage.runs.store import Store, open_run
    from tutelage.services.budget import Budget
    from tutelage.services.caller import Caller, Tally
    from tutelage.services.prices import Price
    from tutelage.services.problems import CallError, Permanent, Refused, Transient, Unreadable, Unusable, retry_after
    from tutelage.services.requests import Endpoint, Limits, Reply, Request

_MODULES = {
    "context": "Context",
    "errors": "BudgetError InputError Interrupted PluginError RunLockedError StageError TutelageError",
    "evaluation.intervals": "Metric",
    "examples": "Example LabelledAnswer Preference RatedExample",
    "execution.reporter": "Reporter",
    "execution.runner": "run",
    "files.jsonl": "write_rows",
    "files.trl_format": "preference_row supervised_row",
    "hookspecs": "hookimpl",
    "measure": "Measure MeasuredPrompt MeasureInfo Measurement",
    "objectives": "AnswerBatch Dpo Lora Objective PairBatch PairLoss Sft",
    "pipeline": "Pipeline",
    "pipeline_steps": (
        "MIRRORED_PAIRS MIRRORED_TRAINING ChosenStep CombineStep CompareStep DemonstrateStep DisputedStep GivenStep "
        "JoinStep JudgeStep LabelStep PairStep SampleStep TrainStep TransformStep"
    ),
    "planning.checks": "checked_plan",
    "planning.roles": "find_rubric",
    "planning.steps": "Plan Step",
    "plugins.discovery": "PluginStatus",
    "plugins.functions": "plugin",
    "plugins.registry": "Registry",
    "plugins.stages": "demonstrate evaluate generate_candidates judge release train_step",
    "plugin_info": "Conversion EnvironmentVariable Finding NamedModel NamedSet Package PluginInfo Preparation RunNeeds "
    "TokenCounts",
    "preferences.expected_scores": "expected_judgement score_replies",
    "preferences.judging": (
        "ADDITIVE_RUBRIC FENCED_ANSWER PAIRWISE_RUBRIC AveragedScore average render render_comparison reply"
    ),
    "preferences.pairing": "PairOptions PairRule Pairing ProposedPair pair",
    "preferences.replies": "judgement_from_reply verdict_from_reply",
    "preferences.score_parsing": "ParsedScore parse_score",
    "preferences.verdict_parsing": "ParsedPreference parse_preference",
    "recipe.loading": "find_recipe load_recipe",
    "recipe.schema": "Recipe",
    "records": (
        "Candidate Comparison Demonstration JudgeItem Judgement Message Model Outcome Prompt Rubric Sampling Verdict "
        "content_id"
    ),
    "results.summary": (
        "AgreementResult ComparisonResult Difference ModelResult Summary TrainingResult VariantResult read_summary"
    ),
    "runs.changes": "Changes StepChange",
    "runs.run": "RunModels",
    "runs.status": "RunStatus run_status",
    "runs.store": "Store open_run",
    "services.budget": "Budget",
    "services.caller": "Caller Tally",
    "services.prices": "Price",
    "services.problems": "CallError Permanent Refused Transient Unreadable Unusable retry_after",
    "services.requests": "Endpoint Limits Reply Request",
}
_PLACES = {name: f"tutelage.{module}" for module, names in _MODULES.items() for name in names.split()}
"""The module that defines each public name. A test compares it with the imports for the type checker above."""

__all__ = [
    "ADDITIVE_RUBRIC",
    "FENCED_ANSWER",
    "MIRRORED_PAIRS",
    "MIRRORED_TRAINING",
    "PAIRWISE_RUBRIC",
    "AgreementResult",
    "AnswerBatch",
    "AveragedScore",
    "Budget",
    "BudgetError",
    "CallError",
    "Caller",
    "Candidate",
    "Changes",
    "ChosenStep",
    "CombineStep",
    "CompareStep",
    "Comparison",
    "ComparisonResult",
    "Context",
    "Conversion",
    "DemonstrateStep",
    "Demonstration",
    "Difference",
    "DisputedStep",
    "Dpo",
    "Endpoint",
    "EnvironmentVariable",
    "Example",
    "Finding",
    "GivenStep",
    "InputError",
    "Interrupted",
    "JoinStep",
    "JudgeItem",
    "JudgeStep",
    "Judgement",
    "LabelStep",
    "LabelledAnswer",
    "Limits",
    "Lora",
    "Measure",
    "MeasureInfo",
    "MeasuredPrompt",
    "Measurement",
    "Message",
    "Metric",
    "Model",
    "ModelResult",
    "NamedModel",
    "NamedSet",
    "Objective",
    "Outcome",
    "Package",
    "PairBatch",
    "PairLoss",
    "PairOptions",
    "PairRule",
    "PairStep",
    "Pairing",
    "ParsedPreference",
    "ParsedScore",
    "Permanent",
    "Pipeline",
    "Plan",
    "PluginError",
    "PluginInfo",
    "PluginStatus",
    "Preference",
    "Preparation",
    "Price",
    "Prompt",
    "ProposedPair",
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
    "RunNeeds",
    "RunStatus",
    "SampleStep",
    "Sampling",
    "Sft",
    "StageError",
    "Step",
    "StepChange",
    "Store",
    "Summary",
    "Tally",
    "TokenCounts",
    "TrainStep",
    "TrainingResult",
    "TransformStep",
    "Transient",
    "TutelageError",
    "Unreadable",
    "Unusable",
    "VariantResult",
    "Verdict",
    "average",
    "checked_plan",
    "content_id",
    "demonstrate",
    "evaluate",
    "expected_judgement",
    "find_recipe",
    "find_rubric",
    "generate_candidates",
    "hookimpl",
    "judge",
    "judgement_from_reply",
    "load_recipe",
    "open_run",
    "pair",
    "parse_preference",
    "parse_score",
    "plugin",
    "preference_row",
    "read_summary",
    "release",
    "render",
    "render_comparison",
    "reply",
    "retry_after",
    "run",
    "run_status",
    "score_replies",
    "supervised_row",
    "train_step",
    "verdict_from_reply",
    "write_rows",
]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    if isinstance(value, type):
        importlib.import_module("tutelage.files.field_help").show_field_help(value)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
