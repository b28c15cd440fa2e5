"""Every hook of tutelage, in one place.

A plugin implements the hooks that it can serve and registers under the entry-point group ``tutelage``::

    # pyproject.toml
    [project.entry-points.tutelage]
    shouty = "tutelage_shouty"

    # tutelage_shouty.py
    from tutelage import Candidate, PluginInfo, hookimpl

    @hookimpl
    def describe():
        return PluginInfo(help="Answers every prompt in capitals.")

    @hookimpl
    def generate_candidates(prompts, n):
        for prompt in prompts:
            for index in range(n):
                yield Candidate(prompt.id, index, prompt.text.upper())

The five stages take lazy iterables and yield their results as they come, in any order; each result is kept at once.
An implementation names only the arguments that it needs, without defaults (one with a default is refused: whether
pluggy passes it depends on its version). A recipe binds each role (student, teacher, judge, evaluator) to one plugin,
and only that one is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pluggy

from tutelage.context import Context
from tutelage.plugin_info import PluginInfo
from tutelage.records import (
    Candidate,
    Comparison,
    Demonstration,
    JudgeItem,
    Judgement,
    Model,
    Objective,
    Prompt,
    Rubric,
    Sampling,
    Verdict,
)

ENTRY_POINT_GROUP = "tutelage"

hookspec = pluggy.HookspecMarker("tutelage")
hookimpl = pluggy.HookimplMarker("tutelage")

STAGES = ("generate_candidates", "judge", "demonstrate", "train_step", "evaluate")


@hookspec
def describe() -> PluginInfo:  # type: ignore[empty-body]
    """Say what this plugin is: one line of help, its settings, the environment it needs, what else it offers.

    Called plugin by plugin, at start-up: import nothing heavy.
    """


@hookspec(firstresult=True)
def generate_candidates(  # type: ignore[empty-body]
    model: Model, prompts: Iterable[Prompt], n: int, sampling: Sampling, context: Context
) -> Iterator[Candidate]:
    """Answer each prompt ``n`` times (the student's own samples, and the answers that are evaluated).

    Yield exactly one candidate for each prompt and each index 0 to n - 1. The text is the answer alone, without the
    prompt and without end or pad tokens. An answer that reached ``sampling.max_new_tokens`` has ``Outcome.CUT``.
    The same arguments, ``sampling.seed`` included, give the same texts on the same machine.
    """


@hookspec(firstresult=True)
def judge(  # type: ignore[empty-body]
    model: Model, items: Iterable[JudgeItem], rubric: Rubric, samples: int, sampling: Sampling, context: Context
) -> Iterator[Judgement]:
    """Score each item ``samples`` times on the rubric's scale.

    Yield one judgement for each item and each sample 0 to samples - 1; core averages them. Judges that read text
    render the question with ``tutelage.render`` and read the reply with ``tutelage.parse_score``; a classifier or a
    rule needs neither. A reply without a score has ``score=None`` and ``Outcome.UNPARSED``.
    """


@hookspec(firstresult=True)
def demonstrate(  # type: ignore[empty-body]
    model: Model, prompts: Iterable[Prompt], sampling: Sampling, context: Context
) -> Iterator[Demonstration]:
    """Answer each prompt once, as the teacher whose answers the student should come to prefer."""


@hookspec(firstresult=True)
def train_step(  # type: ignore[empty-body]
    model: Model, reference: Model | None, objective: Objective, examples: Path, output: Path, context: Context
) -> Model:
    """Train ``model`` on a file of examples and write the whole checkpoint into ``output``.

    ``examples`` is JSON lines in TRL's conversational format: ``prompt`` and ``completion`` for an ``Sft`` objective,
    ``prompt``, ``chosen`` and ``rejected`` for ``Dpo``, each a list of messages. ``reference`` is the policy that DPO
    stays near, None for SFT. ``output`` is an empty temporary folder, and the only place to write: the runner renames
    it when the hook has returned. The checkpoint is complete by itself: merged weights, tokenizer with its chat
    template and a pad token that is not its end token. Metrics go to ``context.log``, step by step. Return the model
    whose ``name`` is ``output``.
    """


@hookspec(firstresult=True)
def evaluate(  # type: ignore[empty-body]
    model: Model, comparisons: Iterable[Comparison], rubric: Rubric, sampling: Sampling, context: Context
) -> Iterator[Verdict]:
    """Say for each comparison how probable it is that its first answer is the better one.

    One verdict a comparison, in the order in which the two answers stand; core asks for both orders and makes ties
    of disagreements. A reply without a verdict has ``preference=None`` and ``Outcome.UNPARSED``.
    """


@hookspec
def release(model: Model) -> None:
    """Free the memory that this model holds. Called plugin by plugin when the model changes and before training."""
