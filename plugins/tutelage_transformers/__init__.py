"""The student: any causal language model on transformers, TRL and PEFT, with Phi-2 as the default.

This module only implements the hooks. The work is done by the packages below, which are imported when a hook is called
and import torch inside functions. So loading the plugin costs nothing. Each package imports only those below it:

    training    SFT, DPO and KTO by TRL's own trainers, on packed batches, in one process or several
    generation  candidates, demonstrations and judgements, by one engine on a GPU and another elsewhere
    processes   what all child processes share
    models      models on disk and in memory: found, loaded, templated, quantised, saved, exported
    attention   attention over packed sequences, and fused activations
    devices     the device of a model, and how several processes share work
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.context import Context, Tracking
from tutelage.hookspecs import hookimpl
from tutelage.objectives import Objective
from tutelage.plugin_info import (
    Conversion,
    EnvironmentVariable,
    Finding,
    NamedModel,
    PluginInfo,
    RunNeeds,
    TokenCounts,
)
from tutelage.records import (
    Candidate,
    Comparison,
    Demonstration,
    JudgeItem,
    Judgement,
    Model,
    Prompt,
    Rubric,
    Sampling,
    Scores,
    Verdict,
)
from tutelage_transformers.settings import DEFAULT_MODEL, NEUTRAL_SETTINGS, TransformersSettings
from tutelage_transformers.training.objectives import KTO, Kto
from tutelage_transformers.training.published_losses import LOSSES


@hookimpl
def describe() -> PluginInfo:
    """Return the plugin's description: its alias, its settings, and its named models."""
    from tutelage_transformers.models.gemma import gemma_270m

    return PluginInfo(
        help="A causal language model on this machine (default: Phi-2): samples, judges, learns by SFT, DPO and KTO.",
        aliases=("phi2",),
        settings=TransformersSettings,
        neutral_settings=NEUTRAL_SETTINGS,
        sampling=("top_k", "min_p"),
        scores=("expected",),
        environment=(
            EnvironmentVariable("HF_HOME", "Where downloaded weights are kept.", required=False),
            EnvironmentVariable("HF_TOKEN", "A hub token, for models that ask for one.", required=False),
        ),
        models={
            "phi-2": NamedModel(DEFAULT_MODEL, "2.7 billion parameters, a base model."),
            "gemma-3-270m": gemma_270m(),
        },
        pair_losses=LOSSES,
        trains_pair_losses=True,
        objectives={KTO: Kto},
        trains=("sft", "dpo", f"transformers/{KTO}"),
        trains_losses=("preferences", "labelled", "examples"),
    )


@hookimpl(specname="devices")  # a function of that name would be replaced by the package `devices`
def device_count(settings: TransformersSettings | None) -> int:
    """Return the number of devices that share answers and judgements."""
    from tutelage_transformers.devices import parallel

    return len(parallel.device_names(settings or TransformersSettings()))


@hookimpl
def requests_at_once(settings: TransformersSettings | None) -> int | None:
    """Return the number of sequences that run at once on GPUs."""
    from tutelage_transformers.generation import memory

    return memory.sequences_at_once(settings or TransformersSettings())


@hookimpl
def check(settings: TransformersSettings | None, name: str) -> Iterator[Finding]:
    """Check libraries, device and model for ``tutelage doctor``."""
    from tutelage_transformers import checking

    return checking.check(settings, name)


@hookimpl
def check_run(settings: TransformersSettings | None, name: str, needs: RunNeeds) -> Iterator[Finding]:
    """Check the model's files, its chat template, memory and disk space for a run."""
    from tutelage_transformers import checking

    return checking.check_run(settings, name, needs)


@hookimpl
def check_objective(settings: TransformersSettings | None, objective: Objective) -> Iterator[str]:
    """Check whether TRL's trainers can train with an objective."""
    from tutelage_transformers import checking

    return checking.check_objective(settings, objective)


@hookimpl
def check_report_to(names: Sequence[str]) -> Iterator[str]:
    """Yield a problem for each tracker that transformers does not know, or that is not installed."""
    from tutelage_transformers.training import tracking

    return tracking.problems(names)


@hookimpl
def report(tracking: Tracking, metrics: Mapping[str, float], step: int) -> None:
    """Add metrics of a finished step to the trackers."""
    from tutelage_transformers.training import tracking as trackers

    trackers.report(tracking, metrics, step)


@hookimpl
def count_tokens(
    settings: TransformersSettings | None, name: str, rows: Sequence[Mapping[str, Any]], download: bool
) -> TokenCounts | None:
    """Count the tokens of rows, with the model's tokenizer and chat template."""
    from tutelage_transformers.models import counting

    return counting.count_tokens(settings, name, rows, download)


@hookimpl
def convert(checkpoint: Path, output: Path, conversion: Conversion) -> None:
    """Convert a checkpoint to another data type or format."""
    from tutelage_transformers.models import converting

    converting.convert(checkpoint, output, conversion)


@hookimpl
def generate_candidates(
    model: Model, prompts: Iterable[Prompt], n: int, sampling: Sampling, context: Context
) -> Iterator[Candidate]:
    """Answer each prompt ``n`` times."""
    from tutelage_transformers.generation import answering

    return answering.candidates(model, prompts, n, sampling, context)


@hookimpl
def demonstrate(
    model: Model, prompts: Iterable[Prompt], sampling: Sampling, context: Context
) -> Iterator[Demonstration]:
    """Answer each prompt once: a local model can be the teacher, too."""
    from tutelage_transformers.generation import answering

    return answering.demonstrations(model, prompts, sampling, context)


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
    """Score answers by the model's completion of the rubric's prompt, the probabilities of its scores, or a reward."""
    from tutelage_transformers.generation import judging, rewarding

    if rewarding.is_reward_model(model, context):
        return rewarding.judgements(model, items, rubric, samples, context)
    if score == "expected":
        return judging.expected_judgements(model, items, rubric, context)
    return judging.judgements(model, items, rubric, samples, sampling, context)


@hookimpl
def evaluate(
    model: Model, comparisons: Iterable[Comparison], rubric: Rubric, sampling: Sampling, context: Context
) -> Iterator[Verdict]:
    """Compare two answers by the model's completion of a pairwise rubric's prompt, or by their rewards."""
    from tutelage_transformers.generation import judging, rewarding

    if rewarding.is_reward_model(model, context):
        return rewarding.verdicts(model, comparisons, context)
    return judging.verdicts(model, comparisons, rubric, sampling, context)


@hookimpl
def train_step(
    model: Model, reference: Model | None, objective: Objective, examples: Path, output: Path, context: Context
) -> Model:
    """Train with TRL's trainers and write a checkpoint that is complete by itself."""
    from tutelage_transformers.training import step

    return step.train(model, reference, objective, examples, output, context)


@hookimpl
def release(model: Model) -> None:
    """Free the memory of this model, if it is the one that is loaded."""
    from tutelage_transformers.generation import dispatch

    dispatch.release(model)
