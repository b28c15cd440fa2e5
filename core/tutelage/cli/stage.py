"""``tutelage stage``: run one stage on files, without a recipe."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, get_args

import click
from attrs import evolve, frozen

from tutelage.cli.lazy_group import CommandGroup
from tutelage.cli.models import find_model, nested, split_run
from tutelage.cli.options import (
    PATH,
    Command,
    load_plugin_files,
    plugin_file_option,
    plugin_options,
    rubric_option,
    settings_option,
)
from tutelage.cli.output import print_status
from tutelage.cli.progress import item_bar
from tutelage.cli.stage_files import (
    check_is_new,
    read_comparisons,
    read_items,
    read_prompts,
    training_file,
    write_results,
)
from tutelage.cli.stopping import stop_on_interrupt
from tutelage.context import Context
from tutelage.errors import InputError, Interrupted, StageError
from tutelage.files.disk_errors import writing
from tutelage.files.jsonl import write_rows
from tutelage.files.settings import structure
from tutelage.objectives import OBJECTIVES, Objective
from tutelage.planning.model_checks import check_prompts
from tutelage.planning.roles import find_rubric
from tutelage.plugins import stages
from tutelage.plugins.registry import Registry
from tutelage.records import Model, Sampling, Scores
from tutelage.results.wording import training_words
from tutelage.runs.durable import Result
from tutelage.runs.failures import unless_all_failed
from tutelage.runs.store import Store
from tutelage.services.caller import Caller

_OBJECTIVE_PREFIXES = (*(f"{name}." for name in OBJECTIVES), "objectives.")


@click.group("stage", cls=CommandGroup)
def command() -> None:
    """Run one stage on files, without a recipe.

    Files are JSON lines. --model is a model of a run (runs/demo:M2/self-reward) or of a plugin
    (transformers:microsoft/phi-2).
    """


@frozen
class StageOptions:
    """The options that all stages but training share."""

    registry: Registry
    model: Model
    sampling: Sampling
    out: Path


def model_options(command: Command) -> Command:
    """Add the options for a model and its plugin's settings.

    The command receives ``model``, ``out``, ``registry`` and ``objective_settings``: the ``--set`` texts that belong to
    an objective (``dpo.beta=0.2``).
    """

    @wraps(command)
    def with_model(
        model: str,
        run_seed: int | None,
        settings: tuple[str, ...],
        out: Path,
        plugin_files: tuple[str, ...],
        registry: Registry,
        **options: Any,
    ) -> Any:
        check_is_new(out)
        load_plugin_files(registry, plugin_files, split_run(model)[0])
        objective_settings = [text for text in settings if text.startswith(_OBJECTIVE_PREFIXES)]
        plugin_settings = [text for text in settings if text not in objective_settings]
        found = find_model(model, registry, run_seed, plugin_settings)
        return command(model=found, objective_settings=objective_settings, out=out, registry=registry, **options)

    decorated = plugin_file_option(plugin_options(with_model))
    decorated = settings_option("Override a setting of the model's plugin; repeatable.")(decorated)
    help = "Seed of the run that --model names [default: its first seed]."
    decorated = click.option("--run-seed", type=int, help=help)(decorated)
    decorated = click.option("--out", type=PATH, required=True, help="New file or folder for the output.")(decorated)
    return click.option("--model", metavar="MODEL", required=True, help="RUN:MODEL or PLUGIN[:NAME].")(decorated)


def sampling_options(temperature: float, top_p: float) -> Callable[[Command], Command]:
    """Add the model options and the sampling options, with these defaults. The command receives ``StageOptions``."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_sampling(
            registry: Registry, model: Model, objective_settings: list[str], out: Path, **others: Any
        ) -> Any:
            if objective_settings:
                raise InputError(f"--set {objective_settings[0]}: this setting belongs to `tutelage stage train`")
            sampling = Sampling(**{name: others.pop(name) for name in _SAMPLING})
            return command(options=StageOptions(registry, model, sampling, out), **others)

        decorated = model_options(with_sampling)
        for name, (kind, help) in reversed(_SAMPLING.items()):
            default = {"temperature": temperature, "top_p": top_p}.get(name, getattr(Sampling(), name))
            show = default is not None
            option = click.option(
                f"--{name.replace('_', '-')}", type=kind, default=default, show_default=show, help=help
            )
            decorated = option(decorated)
        return decorated

    return decorate


_SAMPLING: dict[str, tuple[Any, str]] = {
    "temperature": (click.FloatRange(min=0), "Sampling temperature; 0 is greedy."),
    "top_p": (click.FloatRange(0, 1, min_open=True), "Nucleus sampling threshold."),
    "top_k": (click.IntRange(min=1), "Number of most probable tokens to sample from; default all."),
    "min_p": (
        click.FloatRange(0, 1),
        "Minimum probability of a token, as a share of that of the most probable one.",
    ),
    "max_new_tokens": (click.IntRange(min=1), "Maximum length of a reply in tokens."),
    "seed": (int, "Seed of the sampling."),
}
"""The options of a ``Sampling``, in the order of the help: type and help text. The defaults are those of the record."""

keep_thinking_option = click.option(
    "--keep-thinking", is_flag=True, help="Keep thinking blocks (<think>) in the answers; by default they are removed."
)


@command.command("generate")
@click.argument("prompts", type=PATH)
@click.option("--n", type=click.IntRange(min=1), default=4, show_default=True, help="Answers per prompt.")
@keep_thinking_option
@sampling_options(temperature=0.7, top_p=0.9)
def generate(prompts: Path, n: int, keep_thinking: bool, options: StageOptions) -> None:
    """Generate N answers to each prompt.

    PROMPTS has rows with `prompt`, or is a prompts.jsonl of a run.
    """
    rows = read_prompts(prompts)
    sampling = evolve(options.sampling, keep_thinking=keep_thinking)
    results = stages.generate_candidates(options.registry, options.model, rows, n, sampling, _context())
    _write(options, results, len(rows) * n, "answers")


@command.command("judge")
@click.argument("answers", type=PATH)
@click.option("--prompts", type=PATH, help="File with the prompts, if ANSWERS is an output of `stage generate`.")
@rubric_option("additive")
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Judgements per answer.")
@click.option(
    "--score",
    type=click.Choice(get_args(Scores)),
    default="parsed",
    show_default=True,
    help="Parse the score from the reply, or compute its expectation from one forward pass.",
)
@sampling_options(temperature=0.0, top_p=1.0)
def judge(answers: Path, prompts: Path | None, rubric: str, samples: int, score: Scores, options: StageOptions) -> None:
    """Score answers.

    ANSWERS has rows with `prompt`, `answer` and optionally `id`, or is a candidates.jsonl, which requires --prompts.
    """
    items = read_items(answers, prompts)
    check_prompts(options.registry, options.model, (item.prompt for item in items))
    found = find_rubric(rubric, options.registry)
    results = stages.judge(options.registry, options.model, items, found, samples, options.sampling, _context(), score)
    _write(options, results, len(items) * samples, "judgements")


@command.command("demonstrate")
@click.argument("prompts", type=PATH)
@keep_thinking_option
@sampling_options(temperature=0.7, top_p=0.9)
def demonstrate(prompts: Path, keep_thinking: bool, options: StageOptions) -> None:
    """Write one demonstration for each prompt, as a teacher does.

    PROMPTS has rows with `prompt`, or is a prompts.jsonl of a run.
    """
    rows = read_prompts(prompts)
    check_prompts(options.registry, options.model, (row.text for row in rows))
    sampling = evolve(options.sampling, keep_thinking=keep_thinking)
    results = stages.demonstrate(options.registry, options.model, rows, sampling, _context())
    _write(options, results, len(rows), "demonstrations")


@command.command("evaluate")
@click.argument("comparisons", type=PATH)
@rubric_option("pairwise")
@sampling_options(temperature=0.0, top_p=1.0)
def evaluate(comparisons: Path, rubric: str, options: StageOptions) -> None:
    """Compare two answers to each prompt.

    COMPARISONS has rows with `prompt`, `first`, `second` and optionally `id`. Each row is judged once, in the given
    order. For win rates, use `tutelage evaluate head-to-head`, which judges both orders.
    """
    rows = read_comparisons(comparisons)
    check_prompts(options.registry, options.model, (row.prompt for row in rows))
    found = find_rubric(rubric, options.registry)
    results = stages.evaluate(options.registry, options.model, rows, found, options.sampling, _context())
    _write(options, results, len(rows), "verdicts")


def _write(options: StageOptions, results: Iterable[Result], expected: int, unit: str) -> None:
    answered = unless_all_failed(results, options.registry, options.model)
    write_results(options.out, answered, expected, unit)


@command.command("train")
@click.argument("examples", type=PATH)
@click.option(
    "--objective",
    metavar="NAME",
    required=True,
    help="Training objective: sft, dpo, or one of a plugin (transformers/kto).",
)
@click.option("--reference", metavar="MODEL", help="Reference model of the objective [default: --model].")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the training.")
@model_options
def train(
    examples: Path,
    objective: str,
    reference: str | None,
    seed: int,
    objective_settings: list[str],
    model: Model,
    out: Path,
    registry: Registry,
) -> None:
    """Train a model by SFT, DPO or an objective of a plugin.

    EXAMPLES is an output of `tutelage data import ift` (for sft) or `preferences` (for dpo), or any other file in TRL's
    conversational format, like examples.jsonl and preferences.jsonl of a run. Labelled answers have `prompt`,
    `completion` and `label`. --out is the folder of the checkpoint; the metrics are written to OUT.metrics.jsonl next
    to it. The objective's settings have the keys of a recipe: --set sft.epochs=2, --set dpo.beta=0.2, --set
    objectives.transformers/kto.beta=0.2.
    """
    settings = _objective(objective, objective_settings, seed, registry)
    reference_model = find_model(reference, registry) if reference else model if settings.has_reference else None
    metrics = out.with_name(f"{out.name}.metrics.jsonl")
    check_is_new(metrics)
    rows: list[Mapping[str, Any]] = []
    store = Store(out.parent)
    folder = store.fresh_folder(out.name)
    scratch = out.with_name(f".{out.name}.scratch")  # kept if training is killed: a plugin may resume from it
    with writing(scratch):
        scratch.mkdir(exist_ok=True)
    try:
        with (
            training_file(examples, settings.examples, out) as file,
            stop_on_interrupt(lambda: 1) as asked,
            item_bar("steps", 0, lambda: training_words(rows[-1]) if rows else "") as bar,
        ):

            def expect(total: int) -> None:
                bar.length = total

            context = Context(scratch=scratch, log=rows.append, advance=bar.update, expect=expect, cancelled=asked)
            try:
                stages.train_step(registry, model, reference_model, settings, file, folder, context)
            except StageError as error:
                if asked():
                    raise Interrupted(str(error)) from error
                raise
        write_rows(metrics, rows)
        store.rename(folder, out.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not any(scratch.iterdir()):
            scratch.rmdir()
    print_status(f"{objective}: {len(rows):,} logged steps -> {out}")


def _objective(name: str, overrides: list[str], seed: int, registry: Registry) -> Objective:
    """The objective with the values of ``--set``. Raises ``InputError`` for a key of another objective."""
    cls = registry.get("objectives", name)
    section = name if name in OBJECTIVES else f"objectives.{name}"
    for text in overrides:
        if not text.startswith(f"{section}."):
            raise InputError(f"--set {text}: does not apply, the objective is {name}")
    values = nested([text.removeprefix(f"{section}.") for text in overrides])
    if "seed" in values:
        raise InputError(f"--set {section}.seed: the seed is set by --seed; leave this key out")
    return structure(cls, {**values, "seed": seed}, f"--set {section}")


def _context() -> Context:
    """The context of a stage, with lines about the progress of batches."""
    return Context(caller=Caller(note=print_status))
