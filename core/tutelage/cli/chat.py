"""``tutelage chat``: ask a model of a run, and see what it answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
from attrs import evolve, frozen

from tutelage.cli.models import split_run
from tutelage.cli.options import plugin_options
from tutelage.cli.output import say, tell
from tutelage.context import Context
from tutelage.errors import InputError
from tutelage.planning.roles import find_rubric
from tutelage.plugin import stages
from tutelage.plugin.registry import Registry
from tutelage.preferences.judging import average
from tutelage.records import JudgeItem, Model, Outcome, Prompt, Sampling
from tutelage.runs.run import RunModels

INTERACTIVE = "Ctrl-D ends."


@click.command("chat")
@click.argument("run", metavar="RUN[:MODEL]")
@click.argument("prompt", required=False)
@click.option("--seed", type=int, help="Take the models of this seed of the run [default: its first].")
@click.option("--judge", is_flag=True, help="Let the model score its own answer, as it does in self-reward.")
@click.option("--temperature", type=click.FloatRange(min=0), default=0.0, show_default=True, help="0 is greedy.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), help="Length of an answer [default: as in the recipe].")
@plugin_options
def command(
    run: str,
    prompt: str | None,
    seed: int | None,
    judge: bool,
    temperature: float,
    max_new_tokens: int | None,
    registry: Registry,
) -> None:
    """Talk to a model of a run.

    MODEL is named as in the run: M1, M2/self-reward; the last one of the first pipeline, if left out. PROMPT is
    answered once; without it, each line of stdin is. The model sees one prompt at a time and remembers none.
    """
    folder, name = split_run(run)
    models = RunModels.open(Path(folder), seed)
    model = models.model(name or models.last(), registry)
    generation = models.recipe.generation
    sampling = Sampling(temperature, generation.top_p, max_new_tokens or generation.max_new_tokens)
    partner = Partner(registry, models, model, sampling, judge)
    for question in [prompt] if prompt is not None else _questions(model.id):
        partner.answer(question)


@frozen
class Partner:
    """The model that answers."""

    registry: Registry
    models: RunModels
    model: Model
    sampling: Sampling
    judges: bool

    def answer(self, text: str) -> None:
        """Answer one prompt on stdout; how the answer ended, and its score, on stderr."""
        if not text.strip():
            raise InputError("the prompt is empty")
        prompt, context = Prompt(text), Context()
        for candidate in stages.generate_candidates(self.registry, self.model, [prompt], 1, self.sampling, context):
            say(candidate.text)
            if candidate.outcome is not Outcome.ANSWERED:
                tell(f"({candidate.outcome}{f': {candidate.detail}' if candidate.detail else ''})")
            if self.judges and candidate.text.strip():
                tell(self.own_score(text, candidate.text))

    def own_score(self, prompt: str, answer: str) -> str:
        """The model's own score of its answer, with the recipe's rubric and samples."""
        judging = self.models.recipe.judging
        rubric = find_rubric(judging.rubric, self.registry)
        item = JudgeItem("answer", prompt, answer)
        sampling = evolve(judging.sampling(), seed=self.sampling.seed)
        judgements = stages.judge(self.registry, self.model, [item], rubric, judging.samples, sampling, Context())
        score = average(judgements)["answer"]
        read = f"{score.parsed} of {score.asked} judgements could be read"
        return f"(no own score: {read})" if score.score is None else f"(own score {score.score:.2f}: {read})"


def _questions(model: str) -> Iterator[str]:
    """Lines of stdin; on a terminal, asked for."""
    if not sys.stdin.isatty():
        yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        return
    tell(f"{model}. {INTERACTIVE}")
    while True:
        try:
            line = input("> ")
        except EOFError:
            say()
            return
        if line.strip():
            yield line
