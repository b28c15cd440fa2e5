"""One typed function per stage: it selects the plugin, makes its settings, calls its hook and checks the results.

Each function checks the plugin and the settings immediately and returns an iterator of results. The plugin works while
the caller iterates. If the caller stops early, the plugin's generator is closed. All functions raise

- ``PluginError`` if the model's plugin does not implement the stage, or a result violates the hook's specification,
- ``InputError`` if the model's settings or the questions are wrong,
- ``StageError`` if the plugin's code raised an exception, which is its ``__cause__``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from attrs import evolve, frozen

from tutelage.context import Context
from tutelage.errors import InputError, PluginError, StageError
from tutelage.files.disk_errors import writing
from tutelage.objectives import Objective
from tutelage.plugins.files import as_stored
from tutelage.plugins.helpers import hook_label, settings_of, wrapper_settings
from tutelage.plugins.objectives import check_trainable
from tutelage.plugins.pair_losses import bound_pair_losses
from tutelage.plugins.registry import Registry
from tutelage.plugins.stage_checks import (
    Questions,
    ResultT,
    check_result,
    plugin_errors,
    sampling_problems,
    score_problems,
)
from tutelage.preferences.thinking import settled, without_thinking
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

AnswerT = TypeVar("AnswerT", Candidate, Demonstration)

_END = object()


def generate_candidates(
    registry: Registry,
    model: Model,
    prompts: Iterable[Prompt],
    n: int,
    sampling: Sampling,
    context: Context | None = None,
) -> Iterator[Candidate]:
    """Let a model answer each prompt ``n`` times. Yields one candidate per prompt and index, in any order.

    Thinking blocks are removed unless ``sampling.keep_thinking`` is set, also from the texts of ``context.partial``.
    """
    if context is not None and context.partial is not None and not sampling.keep_thinking:
        context = evolve(context, partial=_without_thinking_so_far(context.partial))
    bound = _bind(registry, model, "generate_candidates", context, sampling)
    questions = Questions(prompts, _positive("n", n))
    arguments = {"prompts": questions, "n": n, "sampling": sampling}
    return _stream(bound, Candidate, questions, None, arguments, _unchanged if sampling.keep_thinking else _candidate)


def judge(
    registry: Registry,
    model: Model,
    items: Iterable[JudgeItem],
    rubric: Rubric,
    samples: int,
    sampling: Sampling,
    context: Context | None = None,
    score: Scores = "parsed",
) -> Iterator[Judgement]:
    """Let a judge score each item ``samples`` times on the rubric's scale. Yields the judgements in any order.

    With ``score`` ``expected``, each score is the expectation over the probabilities of the rubric's scores. Raises
    ``InputError`` if the plugin does not know it, if the rubric has no such scores, or if ``samples`` is not 1.
    """
    bound = _bind(registry, model, "judge", context, sampling)
    if problems := list(score_problems(registry, model.plugin, score, rubric, samples)):
        raise InputError("\n".join(problems))
    questions = Questions(items, _positive("samples", samples))
    arguments = {"items": questions, "rubric": rubric, "samples": samples, "sampling": sampling, "score": score}
    return _stream(bound, Judgement, questions, rubric, arguments)


def demonstrate(
    registry: Registry, model: Model, prompts: Iterable[Prompt], sampling: Sampling, context: Context | None = None
) -> Iterator[Demonstration]:
    """Let a teacher answer each prompt once. Yields one demonstration per prompt, in any order.

    Thinking blocks are removed unless ``sampling.keep_thinking`` is set.
    """
    bound = _bind(registry, model, "demonstrate", context, sampling)
    questions = Questions(prompts)
    arguments = {"prompts": questions, "sampling": sampling}
    return _stream(bound, Demonstration, questions, None, arguments, _unchanged if sampling.keep_thinking else _answer)


def evaluate(
    registry: Registry,
    model: Model,
    comparisons: Iterable[Comparison],
    rubric: Rubric,
    sampling: Sampling,
    context: Context | None = None,
) -> Iterator[Verdict]:
    """Let an evaluator estimate the probability that the first answer is better. Yields one verdict per comparison."""
    bound = _bind(registry, model, "evaluate", context, sampling)
    questions = Questions(comparisons)
    arguments = {"comparisons": questions, "rubric": rubric, "sampling": sampling}
    return _stream(bound, Verdict, questions, rubric, arguments)


def train_step(
    registry: Registry,
    model: Model,
    reference: Model | None,
    objective: Objective,
    examples: Path,
    output: Path,
    context: Context | None = None,
) -> Model:
    """Train a model on a file of examples and write the checkpoint to the folder ``output``.

    ``examples`` is a file of JSON lines in TRL's conversational format (see the hook). ``output`` is created if it does
    not exist, and must be empty. Returns the trained model. Raises ``InputError`` if the file does not exist or the
    folder is not empty, ``PluginError`` if the plugin returns no model of that name or writes no checkpoint, and
    ``StageError``, which stops the training, if the plugin logs a metric that is NaN or infinite.
    """
    check_trainable(objective, model.plugin, registry)
    losses = bound_pair_losses(objective, model.plugin, registry)
    context = evolve(context or Context(), pair_losses=losses, plugin_files=as_stored(registry.files))
    bound = _bind(registry, model, "train_step", _with_checked_log(context, model.plugin))
    if not examples.is_file():
        raise InputError(f"{examples}: no such file of training examples")
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    if any(output.iterdir()):
        raise InputError(f"{output}: the folder for the checkpoint is not empty")
    with plugin_errors(bound.label, modules=bound.modules):
        trained = bound.call(reference=reference, objective=objective, examples=examples, output=output)
    if not isinstance(trained, Model):
        raise PluginError(
            f"{bound.label} returned {trained!r}, not the trained Model; "
            "it must `return attrs.evolve(model, name=str(output))`"
        )
    if Path(trained.name).resolve() != output.resolve():
        raise PluginError(f"{bound.label} returned a model named {trained.name!r}; the name must be {str(output)!r}")
    if not any(output.iterdir()):
        raise PluginError(f"{bound.label} returned, but wrote no checkpoint to {output}")
    return trained


def _with_checked_log(context: Context, plugin: str) -> Context:
    """Return a context that raises for a row of metrics that is not finite: no artifact may contain it."""

    def log(row: Mapping[str, Any]) -> None:
        bad = [f"{name} is {value}" for name, value in row.items() if isinstance(value, float) and not isfinite(value)]
        if bad:
            raise StageError(
                f"training by the plugin {plugin!r} was stopped at step {row.get('step', '?')}: {', '.join(bad)}. No "
                "checkpoint was written. Lower the learning rate, set a wider type of the weights, or look at the "
                "examples"
            )
        context.log(row)

    return evolve(context, log=log)


def release(registry: Registry, model: Model) -> None:
    """Let a model's plugin free the memory of the model. Does nothing if the plugin does not implement the hook."""
    if "release" not in registry.hooks(model.plugin):
        return
    call = registry.caller(model.plugin, "release", model)
    with plugin_errors(hook_label(registry, model, "release"), modules=_modules(registry, model, "release")):
        call(model=model)


@frozen
class _Bound:
    """One plugin's hook, with the model and the context that it is called with."""

    call: Callable[..., Any]
    label: str
    """For messages: the hook, its plugin, and the plugins that wrap it."""
    context: Context
    modules: Mapping[str, str]
    """The modules of the plugin and of those that wrap it, by their names."""


def _bind(
    registry: Registry, model: Model, hook: str, context: Context | None, sampling: Sampling | None = None
) -> _Bound:
    caller = registry.caller(model.plugin, hook, model)
    if sampling is not None and (problems := list(sampling_problems(registry, model.plugin, hook, sampling))):
        raise InputError("\n".join(problems))
    wrappers = {name: wrapper_settings(registry, model, name) for name in registry.wrappers(hook, model)}
    bound = evolve(context or Context(), settings=settings_of(registry, model), wrappers=wrappers)

    def call(**arguments: Any) -> Any:
        return caller(model=model, context=bound, **arguments)

    return _Bound(call, hook_label(registry, model, hook), bound, _modules(registry, model, hook))


def _modules(registry: Registry, model: Model, hook: str) -> dict[str, str]:
    """The modules of a model's plugin and of those that wrap its hook, by their names."""
    return {name: registry.module_of(name) for name in (model.plugin, *registry.wrappers(hook, model))}


def _positive(name: str, number: int) -> int:
    if number < 1:
        raise InputError(f"{name} must be at least 1, not {number}")
    return number


def _unchanged(result: ResultT) -> ResultT:
    return result


def _without_thinking_so_far(partial: Callable[[str], None]) -> Callable[[str], None]:
    return lambda text: partial(settled(text))


def _answer(result: AnswerT) -> AnswerT:
    """An answer without its thinking blocks."""
    text, outcome, detail = without_thinking(result.text, result.outcome, result.detail)
    return result if text == result.text else evolve(result, text=text, outcome=outcome, detail=detail)


def _candidate(result: Candidate) -> Candidate:
    """A candidate without its thinking blocks. If it had any, its length in tokens is unknown."""
    answer = _answer(result)
    return result if answer is result else evolve(answer, tokens=None)


def _stream(
    bound: _Bound,
    kind: type[ResultT],
    questions: Questions[Any],
    rubric: Rubric | None,
    arguments: Mapping[str, Any],
    finish: Callable[[ResultT], ResultT] = _unchanged,
) -> Iterator[ResultT]:
    """Call the hook and yield its results, each checked and then passed through ``finish``.

    At the end, check that no result is missing.
    """
    with plugin_errors(bound.label, questions, bound.modules):
        results = bound.call(**arguments)
    if isinstance(results, Mapping):
        raise PluginError(f"{bound.label} returned a {type(results).__name__}; it must yield its results")
    if not isinstance(results, Iterable):
        wrapped = " (a wrapper must return the result of its yield)" if bound.context.wrappers else ""
        raise PluginError(f"{bound.label} returned {results!r}; it must yield its results{wrapped}")
    iterator = iter(results)
    try:
        while True:
            with plugin_errors(bound.label, questions, bound.modules):
                result = next(iterator, _END)
            if result is _END:
                break
            checked = check_result(result, kind, rubric, bound.label)
            if problem := questions.answered(checked):
                raise PluginError(f"{bound.label} {problem}")
            yield finish(checked)
    finally:
        if close := getattr(iterator, "close", None):
            with plugin_errors(bound.label, questions, bound.modules):
                close()
    if not bound.context.cancelled() and (problem := questions.missing()):
        raise PluginError(f"{bound.label} {problem}")
