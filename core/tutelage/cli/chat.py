"""``tutelage chat``: send prompts to a model and print its answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress

import click
from attrs import evolve, frozen

from tutelage.cli.models import find_model, split_run
from tutelage.cli.options import load_plugin_files, plugin_file_option, plugin_options, seed_option
from tutelage.cli.output import print_line, print_status
from tutelage.cli.streaming import StreamedAnswer
from tutelage.context import Context
from tutelage.errors import InputError
from tutelage.planning.roles import find_rubric
from tutelage.plugins import stages
from tutelage.plugins.registry import Registry
from tutelage.preferences.judging import average
from tutelage.recipe.schema import Generation, Judging
from tutelage.records import JudgeItem, Model, Outcome, Prompt, Sampling
from tutelage.runs.run import RunModels
from tutelage.runs.store import is_run

INTERACTIVE = "Press Ctrl-D to quit."

LOADING = "loading the model; the first answer takes longer"


@click.command("chat")
@click.argument("name", metavar="MODEL")
@click.argument("prompt", required=False)
@seed_option
@click.option("--judge", is_flag=True, help="Also print the model's score of its own answer, as in self-reward.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Sampling temperature; 0 is greedy.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    help="Maximum length of an answer in tokens [default: as in the recipe of the run, otherwise 256].",
)
@plugin_file_option
@plugin_options
def command(
    name: str,
    prompt: str | None,
    seed: int | None,
    judge: bool,
    temperature: float,
    max_new_tokens: int | None,
    plugin_files: tuple[str, ...],
    registry: Registry,
) -> None:
    """Send prompts to a model.

    MODEL is a run, such as runs/demo, or one of its models, such as runs/demo:M2/self-reward [default: the last model
    of the first pipeline], or the model of a plugin, such as transformers:microsoft/phi-2. Without PROMPT, each line of
    stdin is one prompt. The model sees one prompt at a time; there is no conversation history. On a terminal, an answer
    of a model on this machine is shown while it is generated.
    """
    folder, _ = split_run(name)
    load_plugin_files(registry, plugin_files, folder, needs_all=False)
    recipe = RunModels.open(folder, seed).recipe if is_run(folder) else None
    model = find_model(name, registry, seed)
    generation, judging = (recipe.generation, recipe.judging) if recipe else (Generation(), Judging())
    length = max_new_tokens or generation.max_new_tokens
    sampling = evolve(generation.sampling(), temperature=temperature, max_new_tokens=length)
    session = ChatSession(registry, model, sampling, judging, judge)
    prompts = iter([prompt] if prompt is not None else _prompts(model.id))
    for number, text in enumerate(prompts):
        if not number and sys.stderr.isatty() and "endpoint" not in registry.hooks(model.plugin):
            print_status(LOADING)
        session.answer(text)


@frozen
class ChatSession:
    """A model and how it is sampled."""

    registry: Registry
    model: Model
    sampling: Sampling
    judging: Judging
    with_score: bool
    """Whether the model also scores its own answers."""

    def answer(self, text: str) -> None:
        """Print the answer to one prompt on stdout; print an outcome other than "answered" and the score on stderr.

        On a terminal, the answer is printed while it is generated if the plugin reports it.

        Raises ``InputError`` if the prompt is empty.
        """
        if not text.strip():
            raise InputError("the prompt is empty")
        answer = StreamedAnswer()
        context = Context(partial=answer.show if sys.stdout.isatty() else None)
        with answer:
            [candidate] = stages.generate_candidates(
                self.registry, self.model, [Prompt(text)], 1, self.sampling, context
            )
            answer.finish(candidate.text)
        if candidate.outcome is not Outcome.ANSWERED:
            print_status(f"({candidate.outcome}{f': {candidate.detail}' if candidate.detail else ''})")
        if self.with_score and candidate.text.strip():
            print_status(self.own_score(text, candidate.text))

    def own_score(self, prompt: str, answer: str) -> str:
        """Return the model's score of its own answer as text; as its recipe sets it."""
        judging = self.judging
        rubric = find_rubric(judging.rubric, self.registry)
        item = JudgeItem("answer", prompt, answer)
        sampling = evolve(judging.sampling(judging.score), seed=self.sampling.seed)
        judgements = stages.judge(
            self.registry, self.model, [item], rubric, judging.samples, sampling, Context(), judging.score
        )
        score = average(judgements)["answer"]
        coverage = f"{score.parsed} of {score.asked} judgements could be parsed"
        return f"(no own score: {coverage})" if score.score is None else f"(own score {score.score:.2f}: {coverage})"


def _prompts(model: str) -> Iterator[str]:
    """The non-empty lines of stdin; on a terminal, with a prompt sign, line editing and a history of the lines."""
    if not sys.stdin.isatty():
        yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        return
    with suppress(ImportError):  # Windows has no readline
        import readline  # noqa: F401  # `input` then edits lines with the arrow keys
    print_status(f"{model}. {INTERACTIVE}")
    while True:
        try:
            line = input("> ")
        except EOFError:
            print_line()
            return
        if line.strip():
            yield line
