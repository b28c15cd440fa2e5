"""The hooks of tutelage: the functions that a plugin can implement.

A plugin is a module, or an object, that implements at least one hook. It is registered under the entry-point group
``tutelage``::

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

Hooks beside the stages describe a plugin's models: see ``tutelage.helper_specs``. All of them are optional.

Five of the hooks are stages: ``generate_candidates``, ``judge``, ``demonstrate``, ``train_step`` and ``evaluate``. A
recipe binds each role (student, teacher, judge, evaluator) to one plugin. A stage is called on the plugin of the role
and on no other plugin. The rules for all stages are:

- **Arguments.** An implementation names only the arguments that it uses. An argument with a default value is an error
  when the plugin is loaded, because pluggy may not pass it.
- **firstresult.** The stages are declared with ``firstresult=True``: pluggy stops at the first implementation whose
  result is not None. Only the bound plugin's implementation is in the call, so its result is the result. If it is a
  generator function, its body starts when tutelage reads the first result, after the wrappers have returned.
- **Wrappers.** A plugin can wrap hooks of other plugins: ``@hookimpl(wrapper=True)`` on a function that yields once,
  gets the result as the value of ``yield``, and returns it or another result. It wraps the roles that the recipe or
  ``PluginInfo.wrapped_roles`` names, and gets its own settings by ``context.wrapper_settings(Settings)``.
- **Inputs.** ``prompts``, ``items`` and ``comparisons`` are lazy iterators that can be read once. Ids are unique
  within a call.
- **Results.** Yield results one at a time, in any order. tutelage joins them to the inputs by id. A missing or
  duplicate result, an unknown id, a result of the wrong type, or a number out of range raises ``PluginError``.
- **Conversations.** A prompt may have a system message and several turns. ``prompt.turns`` has the messages to send to
  a model; ``prompt.text`` is their transcript, or the text of a single user message.
- **Inputs without a usable answer.** Yield a result for them too. Its ``outcome`` is ``REFUSED``, ``UNPARSED`` or
  ``FAILED`` and its ``detail`` gives the reason. Do not raise an exception for a single refused or failed input.
- **Exceptions.** A ``TutelageError`` is passed on unchanged. Any other exception becomes a ``StageError`` that names
  the hook and the plugin, with the original as its ``__cause__``. Results that were stored before the exception are
  kept.
- **Interruption.** The generator is closed when tutelage reads no more results. ``context.cancelled()`` is true once
  the user has asked to stop: the plugin may then return early, and missing results are not an error.
- **Repeatability.** The same arguments, including ``sampling.seed``, give the same results on the same machine.
  Services (``PluginInfo.item_by_item``) are exempt: each of their answers is stored as soon as it arrives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pluggy

from tutelage.context import Context
from tutelage.objectives import Objective
from tutelage.plugin_info import PluginInfo
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

ENTRY_POINT_GROUP = "tutelage"

hookspec = pluggy.HookspecMarker("tutelage")
hookimpl = pluggy.HookimplMarker("tutelage")
"""Marks a function of a plugin as the implementation of the hook with its name. ``@hookimpl(wrapper=True)`` marks one
that runs around the hook of other plugins."""

STAGES = ("generate_candidates", "judge", "demonstrate", "train_step", "evaluate")


@hookspec
def describe() -> PluginInfo:  # type: ignore[empty-body]
    """Describe the plugin: its help text, its settings, the environment variables it reads, and what it offers.

    Called once for each plugin, when the plugin is loaded; not ``firstresult``. This happens at the start of every
    command that uses plugins, so the entry module must not import anything heavy (torch, transformers, an SDK).

    Returns a ``PluginInfo``. A plugin without this hook has the first line of its docstring as its help text, and no
    settings.

    A ``NamedModel`` or ``NamedSet`` whose files are not part of the plugin has a ``Preparation``: pinned packages of
    the package index, their licence, and a function that makes the files. ``tutelage recipes prepare`` uses it, and
    adds a hidden list of the files. A run does not start while one of them is missing or shorter than it was made.

    If the hook raises an exception, or returns another type or an invalid description, the plugin is not loaded.
    ``tutelage plugins`` shows the error; a recipe that uses the plugin fails with ``PluginError``.

    ::

        from tutelage import NamedModel, PluginInfo, hookimpl

        @hookimpl
        def describe():
            return PluginInfo(help="Answers in capitals.", models={"small": NamedModel("shouty-small")})
    """


@hookspec(firstresult=True)
def generate_candidates(  # type: ignore[empty-body]
    model: Model, prompts: Iterable[Prompt], n: int, sampling: Sampling, context: Context
) -> Iterator[Candidate]:
    """Generate ``n`` answers to each prompt.

    Called to sample the student's candidates, to let a model write new prompts (self-instruct, ``n`` = 1), and to
    answer the evaluation prompts (greedy and sampled).

    Arguments:

    - ``model``: the model to run: a plugin's model, or a checkpoint of the run.
    - ``prompts``: the prompts to answer.
    - ``n``: number of answers per prompt, at least 1.
    - ``sampling``: temperature, top-p, maximum number of new tokens, and seed.
    - ``context``: the plugin's settings, the API caller, a scratch folder, progress and cancellation.

    Yields exactly one ``Candidate`` per prompt and index (0 to n - 1). ``text`` is the completion only, without the
    prompt and without end or pad tokens. A completion that reached ``sampling.max_new_tokens`` has ``Outcome.CUT``.

    If ``context.partial`` is not None, there is one prompt, ``n`` is 1, and the plugin may call it with the text so far
    while it generates. The text of the candidate must start with every text that it was called with.
    ::

        from tutelage import Candidate, hookimpl

        @hookimpl
        def generate_candidates(prompts, n):
            for prompt in prompts:
                for index in range(n):
                    yield Candidate(prompt.id, index, prompt.text.upper())
    """


@hookspec(firstresult=True)
def judge(  # type: ignore[empty-body]
    model: Model,
    items: Iterable[JudgeItem],
    rubric: Rubric,
    samples: int,
    sampling: Sampling,
    score: Scores,
    context: Context,
) -> Iterator[Judgement]:
    """Score each item ``samples`` times on the scale of the rubric.

    Called to score candidates for preference pairs, to compute the gold scores of the evaluator, and to measure how
    well a model's own judging agrees with the gold scores. In self-reward the judge is the student itself.

    Arguments:

    - ``model``: the model that judges.
    - ``items``: the answers to score, each with its prompt and the metadata of the prompt.
    - ``rubric``: the scale, and the judge prompt for judges that read text.
    - ``samples``: number of judgements per item, at least 1. tutelage averages their scores.
    - ``sampling``: temperature, top-p, maximum number of new tokens, and seed.
    - ``score``: ``parsed``, or ``expected`` for a plugin that has it in ``PluginInfo.scores``: the score is the
      expectation over the probabilities of the rubric's whole-number scores as the next token after
      ``rubric.score_prefix``, at temperature 1 (``tutelage.expected_judgement``). ``samples`` is then 1, and
      ``sampling`` has no effect.
    - ``context``: the plugin's settings, the API caller, a scratch folder, progress and cancellation.

    Yields one ``Judgement`` per item and sample (0 to samples - 1). A judge that reads text renders its prompt with
    ``tutelage.render`` and parses the reply with ``tutelage.parse_score``. A classifier or a rule needs neither.
    ``score`` is between ``rubric.lowest`` and ``rubric.highest``, or None. A reply from which no score can be parsed
    has ``score=None`` and ``Outcome.UNPARSED``.

    ::

        from tutelage import Judgement, hookimpl

        @hookimpl
        def judge(items, rubric, samples):
            for item in items:
                score = rubric.highest if item.answer.isupper() else rubric.lowest
                for sample in range(samples):
                    yield Judgement(item.id, sample, score, reason="Only capitals are good.")
    """


@hookspec(firstresult=True)
def demonstrate(  # type: ignore[empty-body]
    model: Model, prompts: Iterable[Prompt], sampling: Sampling, context: Context
) -> Iterator[Demonstration]:
    """Answer each prompt once, as the teacher. The answer becomes the chosen side of a preference pair.

    Called by pipelines that train on a teacher's answers (teacher-demonstration), once per iteration.

    Arguments:

    - ``model``: the teacher.
    - ``prompts``: the prompts to answer.
    - ``sampling``: temperature, top-p, maximum number of new tokens, and seed.
    - ``context``: the plugin's settings, the API caller, a scratch folder, progress and cancellation.

    Yields exactly one ``Demonstration`` per prompt. ``text`` is the completion only.

    ::

        from tutelage import Demonstration, hookimpl

        @hookimpl
        def demonstrate(prompts):
            for prompt in prompts:
                yield Demonstration(prompt.id, prompt.text.upper())
    """


@hookspec(firstresult=True)
def train_step(  # type: ignore[empty-body]
    model: Model, reference: Model | None, objective: Objective, examples: Path, output: Path, context: Context
) -> Model:
    """Train ``model`` on a file of examples and write a complete checkpoint to ``output``.

    Called once per model that is trained: SFT for M1, the objective of the pipeline for the later models, by default
    DPO, and SFT for the control sft-on-chosen. Unlike the other stages, it returns its result and does not yield.

    Arguments:

    - ``model``: the model at which training starts.
    - ``reference``: the reference policy; None for an objective without ``has_reference``, such as SFT.
    - ``objective``: the hyperparameters: an ``Sft`` or ``Dpo`` record, or the objective of a plugin. It is one that
      ``PluginInfo.trains`` names, or has a ``loss`` of what ``PluginInfo.trains_losses`` names.
    - ``examples``: a JSON-lines file in TRL's conversational format. Each row has ``prompt`` and ``completion`` if the
      objective trains on examples, also ``label`` (true or false) for labelled answers; or ``prompt``, ``chosen`` and
      ``rejected`` for preferences. Each of the others is a list of messages. A pair may also have ``weight`` and
      ``probability``, see ``Preference``; refuse them if you do not support them.
    - ``output``: an empty temporary folder. The runner renames it after the hook has returned. Write nowhere else,
      except to ``context.scratch``.
    - ``context``: as for the other stages. Report the total number of optimizer steps with ``context.expect``, finished
      steps with ``context.advance``, and the metrics of each step with ``context.log``.

    Returns the trained ``Model``; its ``name`` is ``output``. The checkpoint can be loaded without other files: merged
    weights, and the tokenizer with its chat template and a pad token that differs from the end token.

    Raise ``InputError`` for an objective or examples that the plugin cannot train on. If ``context.cancelled()`` is
    true, stop and raise an exception: an incomplete checkpoint must not be returned. ``context.log`` raises
    ``StageError`` for a metric that is NaN or infinite; do not catch it. tutelage raises ``PluginError`` if the result
    is not a ``Model`` named ``output``, or if ``output`` is empty.

    ::

        import json

        from attrs import evolve

        from tutelage import hookimpl

        @hookimpl
        def train_step(model, examples, output, context):
            rows = [json.loads(line) for line in examples.read_text().splitlines()]
            context.expect(len(rows))
            for step, _ in enumerate(rows, 1):
                context.log({"step": step, "loss": 1 / step})
                context.advance(1)
            (output / "weights.json").write_text(json.dumps({"rows": len(rows)}))
            return evolve(model, name=str(output))
    """


@hookspec(firstresult=True)
def evaluate(  # type: ignore[empty-body]
    model: Model, comparisons: Iterable[Comparison], rubric: Rubric, sampling: Sampling, context: Context
) -> Iterator[Verdict]:
    """Compare two answers to a prompt: estimate the probability that the first one is better.

    Called for head-to-head comparisons of models. tutelage asks for both orders of each pair of answers, as two
    comparisons, and counts a disagreement as a tie. A plugin must judge each comparison in the given order only.

    Arguments:

    - ``model``: the evaluator.
    - ``comparisons``: the pairs of answers, each with its prompt and the metadata of the prompt.
    - ``rubric``: the comparison prompt, for evaluators that read text.
    - ``sampling``: temperature, top-p, maximum number of new tokens, and seed.
    - ``context``: the plugin's settings, the API caller, a scratch folder, progress and cancellation.

    Yields one ``Verdict`` per comparison. ``preference`` is between 0 and 1: 1 if the first answer is better, 0 if the
    second is, 0.5 if neither is. A reply from which no verdict can be parsed has ``preference=None`` and
    ``Outcome.UNPARSED``.

    ::

        from tutelage import Verdict, hookimpl

        @hookimpl
        def evaluate(comparisons):
            for one in comparisons:
                first, second = one.first.isupper(), one.second.isupper()
                yield Verdict(one.id, 0.5 + 0.5 * (first - second))
    """


@hookspec
def release(model: Model) -> None:
    """Free the memory that ``model`` holds.

    Called on the model's plugin before another student model is used, before each training, and at the end of a run,
    also of one that fails; not ``firstresult``. If the recipe has a generator (``models.student.generator``), also
    between the student's models and those of other roles, because two plugins share the device.
    A plugin that holds nothing in memory does not need this hook. The hook must accept a model that is not loaded.

    Arguments:

    - ``model``: the model to free, as it was passed to the stages.

    Returns nothing. An exception stops the run with ``StageError``.

    ::

        from tutelage import hookimpl

        _LOADED = {}

        @hookimpl
        def release(model):
            _LOADED.pop(model.name, None)
    """
