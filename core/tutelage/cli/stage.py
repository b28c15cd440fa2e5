"""``tutelage stage``: one stage over files, without a recipe."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from tutelage.cli.models import find_model, nested
from tutelage.cli.options import Command, plugin_options
from tutelage.cli.output import tell
from tutelage.cli.stage_files import check_is_new, read_comparisons, read_items, read_prompts, write_results
from tutelage.context import Context
from tutelage.errors import InputError
from tutelage.files.jsonl import write_rows
from tutelage.files.settings import structure
from tutelage.planning.roles import find_rubric
from tutelage.plugin import stages
from tutelage.plugin.registry import Registry
from tutelage.records import Dpo, Model, Objective, Sampling, Sft
from tutelage.runs.store import Store

PATH = click.Path(path_type=Path)
OBJECTIVES: Mapping[str, type[Objective]] = {"sft": Sft, "dpo": Dpo}
OBJECTIVE_KEYS = tuple(f"{name}." for name in OBJECTIVES)


@click.group("stage")
def command() -> None:
    """Run one stage over files.

    Files are JSON lines. A model is a run's (runs/demo:M2/self-reward) or a plugin's (transformers:microsoft/phi-2).
    """


@frozen
class Asked:
    """What the options of a stage say."""

    registry: Registry
    model: Model
    sampling: Sampling
    out: Path


def model_options(command: Command) -> Command:
    """Add what names a model and sets its plugin; the command gets ``model``, ``out``, ``registry`` and ``learning``.

    ``learning`` are those of the ``--set`` that belong to an objective (``dpo.beta=0.2``).
    """

    @wraps(command)
    def with_model(
        model: str, run_seed: int | None, overrides: tuple[str, ...], out: Path, registry: Registry, **options: Any
    ) -> Any:
        check_is_new(out)
        learning = [text for text in overrides if text.startswith(OBJECTIVE_KEYS)]
        settings = [text for text in overrides if text not in learning]
        found = find_model(model, registry, run_seed, settings)
        return command(model=found, learning=learning, out=out, registry=registry, **options)

    decorated = plugin_options(with_model)
    help = "Set one of the plugin's settings; repeatable."
    decorated = click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help=help)(decorated)
    decorated = click.option("--run-seed", type=int, help="Of the run's models [default: its first seed].")(decorated)
    decorated = click.option("--out", type=PATH, required=True, help="Where to write; never overwritten.")(decorated)
    return click.option("--model", metavar="MODEL", required=True, help="RUN:MODEL or PLUGIN[:NAME].")(decorated)


def sampling_options(temperature: float, top_p: float) -> Callable[[Command], Command]:
    """Add the model and how it samples, with these defaults; the command gets all of it as ``asked``."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_sampling(
            registry: Registry,
            model: Model,
            learning: list[str],
            out: Path,
            temperature: float,
            top_p: float,
            max_new_tokens: int,
            seed: int,
            **options: Any,
        ) -> Any:
            if learning:
                raise InputError(f"--set {learning[0]}: belongs to `tutelage stage train`")
            sampling = Sampling(temperature, top_p, max_new_tokens, seed)
            return command(asked=Asked(registry, model, sampling, out), **options)

        decorated = model_options(with_sampling)
        for option in (
            click.option("--seed", type=int, default=0, show_default=True, help="Of the sampling."),
            click.option("--max-new-tokens", type=click.IntRange(min=1), default=256, show_default=True),
            click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=top_p, show_default=True),
            click.option("--temperature", type=click.FloatRange(min=0), default=temperature, show_default=True),
        ):
            decorated = option(decorated)
        return decorated

    return decorate


@command.command("generate")
@click.argument("prompts", type=PATH)
@click.option("--n", type=click.IntRange(min=1), default=4, show_default=True, help="Answers a prompt.")
@sampling_options(temperature=0.7, top_p=0.9)
def generate(prompts: Path, n: int, asked: Asked) -> None:
    """Answer each prompt N times.

    PROMPTS has rows with `prompt`, or is a prompts.jsonl of a run.
    """
    questions = read_prompts(prompts)
    results = stages.generate_candidates(asked.registry, asked.model, questions, n, asked.sampling, Context())
    write_results(asked.out, results, len(questions) * n, "answers")


@command.command("judge")
@click.argument("answers", type=PATH)
@click.option("--prompts", type=PATH, help="The prompts of ANSWERS, where these are candidates of `stage generate`.")
@click.option("--rubric", default="additive", show_default=True, help="Built in, or offered by a plugin.")
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Judgements an answer.")
@sampling_options(temperature=0.0, top_p=1.0)
def judge(answers: Path, prompts: Path | None, rubric: str, samples: int, asked: Asked) -> None:
    """Score answers.

    ANSWERS has rows with `prompt`, `answer` and perhaps `id`, or is a candidates.jsonl with its --prompts.
    """
    items = read_items(answers, prompts)
    found = find_rubric(rubric, asked.registry)
    results = stages.judge(asked.registry, asked.model, items, found, samples, asked.sampling, Context())
    write_results(asked.out, results, len(items) * samples, "judgements")


@command.command("demonstrate")
@click.argument("prompts", type=PATH)
@sampling_options(temperature=0.7, top_p=0.9)
def demonstrate(prompts: Path, asked: Asked) -> None:
    """Answer each prompt once, as a teacher.

    PROMPTS is as of `stage generate`.
    """
    questions = read_prompts(prompts)
    results = stages.demonstrate(asked.registry, asked.model, questions, asked.sampling, Context())
    write_results(asked.out, results, len(questions), "demonstrations")


@command.command("evaluate")
@click.argument("comparisons", type=PATH)
@click.option("--rubric", default="pairwise", show_default=True, help="Built in, or offered by a plugin.")
@sampling_options(temperature=0.0, top_p=1.0)
def evaluate(comparisons: Path, rubric: str, asked: Asked) -> None:
    """Say which of two answers is the better one.

    COMPARISONS has rows with `prompt`, `first`, `second` and perhaps `id`. Each row is asked in the order in which its
    answers stand; who wants to count wins asks for both orders.
    """
    rows = read_comparisons(comparisons)
    found = find_rubric(rubric, asked.registry)
    results = stages.evaluate(asked.registry, asked.model, rows, found, asked.sampling, Context())
    write_results(asked.out, results, len(rows), "verdicts")


@command.command("train")
@click.argument("examples", type=PATH)
@click.option("--objective", type=click.Choice(list(OBJECTIVES)), required=True, help="What to learn by.")
@click.option("--reference", metavar="MODEL", help="What DPO stays near [default: the model itself].")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the training.")
@model_options
def train(
    examples: Path,
    objective: str,
    reference: str | None,
    seed: int,
    learning: list[str],
    model: Model,
    out: Path,
    registry: Registry,
) -> None:
    """Train a model by SFT or DPO.

    EXAMPLES is in TRL's conversational format, as examples.jsonl and preferences.jsonl of a run are. --out is the
    checkpoint's folder, and its metrics lie beside it in OUT.metrics.jsonl. The objective's fields are set as in a
    recipe: --set sft.epochs=2, --set dpo.beta=0.2.
    """
    goal = _objective(objective, learning, seed)
    anchor = find_model(reference, registry) if reference else model if objective == "dpo" else None
    metrics = out.with_name(f"{out.name}.metrics.jsonl")
    check_is_new(metrics)
    rows: list[Mapping[str, Any]] = []
    store = Store(out.parent)
    folder = store.fresh_folder(out.name)
    scratch = out.with_name(f".{out.name}.scratch")  # a plugin may go on from what a killed training left there
    scratch.mkdir(exist_ok=True)
    try:
        with click.progressbar(length=0, label="steps", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

            def expect(total: int) -> None:
                bar.length = total

            context = Context(scratch=scratch, log=rows.append, advance=bar.update, expect=expect)
            stages.train_step(registry, model, anchor, goal, examples, folder, context)
        write_rows(metrics, rows)
        store.rename(folder, out.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not any(scratch.iterdir()):
            scratch.rmdir()
    tell(f"{objective}: {len(rows):,} logged steps -> {out}")


def _objective(name: str, learning: list[str], seed: int) -> Objective:
    """The objective with what ``--set`` says of it. Raises InputError for a key of the other one."""
    for text in learning:
        if not text.startswith(f"{name}."):
            raise InputError(f"--set {text}: the objective is {name}")
    values = nested([text.removeprefix(f"{name}.") for text in learning])
    return structure(OBJECTIVES[name], {**values, "seed": seed}, f"--set {name}")
