"""A tutelage plugin that spreads the sampling, judging and scoring of another plugin over a Ray cluster.

Each actor runs the other plugin with a copy of the model. Training is done by the other plugin in the process of the
run; the actors are ended before it, and load the new checkpoint after it. This module only has the hooks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from attrs import evolve

from tutelage import (
    Candidate,
    Comparison,
    Context,
    Demonstration,
    Finding,
    JudgeItem,
    Judgement,
    Model,
    PluginInfo,
    Prompt,
    Rubric,
    RunNeeds,
    Sampling,
    TokenCounts,
    Verdict,
    hookimpl,
)
from tutelage.objectives import ExampleKind, Objective
from tutelage.records import Scores
from tutelage_ray.settings import NEUTRAL_SETTINGS, RaySettings, registry, settings_of, worker_model


@hookimpl
def describe() -> PluginInfo:
    """Describe the plugin. What a model can do is checked with the plugin that runs it on the actors."""
    return PluginInfo(
        help="Spreads the sampling, judging and scoring of another plugin over a Ray cluster.",
        settings=RaySettings,
        neutral_settings=NEUTRAL_SETTINGS,
        sampling=("top_k", "min_p"),
        scores=("expected",),
        trains_pair_losses=True,
        trains=("sft", "dpo", "transformers/kto"),
        trains_losses=get_args(ExampleKind),
    )


@hookimpl
def devices(settings: RaySettings | None) -> int:
    """Return the number of actors: as many chunks of the run are computed at once.

    The main thread calls this before the work and connects to the cluster here; several chunks are asked in other
    threads, which cannot restore the signal handler that Ray replaces.
    """
    from tutelage_ray.cluster import connect

    settings = settings or RaySettings()
    connect(settings.address)
    return settings.actors


@hookimpl
def check(settings: RaySettings | None, name: str) -> Iterator[Finding]:
    """Check Ray, the cluster and the plugin on the actors."""
    from tutelage_ray import checking

    return checking.check(settings, name)


@hookimpl
def check_run(settings: RaySettings | None, name: str, needs: RunNeeds) -> Iterator[Finding]:
    """Check the cluster, and the model for the plugin on the actors."""
    from tutelage_ray import checking

    return checking.check_run(settings, name, needs)


@hookimpl
def check_objective(settings: RaySettings | None, objective: Objective) -> Iterator[str]:
    """Check whether the plugin that runs the model can train it with an objective."""
    from tutelage_ray import checking

    return checking.check_objective(settings, objective)


@hookimpl
def count_tokens(
    settings: RaySettings | None, name: str, rows: Sequence[Mapping[str, Any]], download: bool
) -> TokenCounts | None:
    """Count tokens by the plugin that runs the model."""
    from tutelage.plugins import helpers

    model = worker_model(Model("ray", name), settings or RaySettings())
    plugins = registry(model.plugin)
    if not helpers.implements(plugins, model.plugin, "count_tokens"):
        return None
    return helpers.count_tokens(plugins, model, rows, download)


@hookimpl
def generate_candidates(
    model: Model, prompts: Iterable[Prompt], n: int, sampling: Sampling, context: Context
) -> Iterator[Candidate]:
    """Answer each prompt ``n`` times."""
    from tutelage_ray.answering import results

    return results("generate_candidates", model, prompts, sampling, context, n=n)


@hookimpl
def demonstrate(
    model: Model, prompts: Iterable[Prompt], sampling: Sampling, context: Context
) -> Iterator[Demonstration]:
    """Answer each prompt once."""
    from tutelage_ray.answering import results

    return results("demonstrate", model, prompts, sampling, context)


@hookimpl
def judge(
    model: Model,
    items: Iterable[JudgeItem],
    rubric: Rubric,
    samples: int,
    sampling: Sampling,
    score: Scores,
    context: Context,
) -> Iterator[Judgement]:
    """Score answers, by a language model or a reward model."""
    from tutelage_ray.answering import results

    return results("judge", model, items, sampling, context, rubric=rubric, samples=samples, score=score)


@hookimpl
def evaluate(
    model: Model, comparisons: Iterable[Comparison], rubric: Rubric, sampling: Sampling, context: Context
) -> Iterator[Verdict]:
    """Compare two answers to each prompt."""
    from tutelage_ray.answering import results

    return results("evaluate", model, comparisons, sampling, context, rubric=rubric)


@hookimpl
def train_step(
    model: Model, reference: Model | None, objective: Objective, examples: Path, output: Path, context: Context
) -> Model:
    """Train by the plugin that runs the model, in this process."""
    from tutelage.plugins import stages

    settings = context.settings or RaySettings()
    start, compared = worker_model(model, settings), reference and worker_model(reference, settings)
    trained = stages.train_step(registry(start.plugin), start, compared, objective, examples, output, context)
    return evolve(model, name=trained.name)


@hookimpl
def release(model: Model) -> None:
    """End the actors that hold this model, and free it in this process."""
    from tutelage.plugins import stages
    from tutelage_ray import answering

    settings = settings_of(model)
    answering.release(model, settings)
    trained = worker_model(model, settings)
    stages.release(registry(trained.plugin), trained)
