"""One typed function a stage: pick the plugin, give it its settings, call its hook, check what comes back.

Each function checks the binding and the settings at once, and then streams: the plugin works as its results are drawn,
and is told (its generator is closed) when nobody draws any more. All of them raise

- ``PluginError`` where the model's plugin cannot serve the stage, or a result breaks the hook's promise,
- ``InputError`` where the model's settings, or the questions, are wrong,
- ``StageError`` where the plugin's code raised; the original is its ``__cause__``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from tutelage.context import Context
from tutelage.errors import InputError, PluginError
from tutelage.files.disk_errors import writing
from tutelage.plugin.registry import Registry
from tutelage.plugin.stage_checks import Questions, ResultT, blaming, check_result
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

_END = object()


def generate_candidates(
    registry: Registry,
    model: Model,
    prompts: Iterable[Prompt],
    n: int,
    sampling: Sampling,
    context: Context | None = None,
) -> Iterator[Candidate]:
    """Let a model answer each prompt ``n`` times; one candidate for each prompt and index, in any order."""
    bound = _bind(registry, model, "generate_candidates", context)
    questions = Questions(prompts, _positive("n", n))
    return _stream(bound, Candidate, questions, None, {"prompts": questions, "n": n, "sampling": sampling})


def judge(
    registry: Registry,
    model: Model,
    items: Iterable[JudgeItem],
    rubric: Rubric,
    samples: int,
    sampling: Sampling,
    context: Context | None = None,
) -> Iterator[Judgement]:
    """Let a judge score each item ``samples`` times on the rubric's scale; one judgement a sample, in any order."""
    bound = _bind(registry, model, "judge", context)
    questions = Questions(items, _positive("samples", samples))
    arguments = {"items": questions, "rubric": rubric, "samples": samples, "sampling": sampling}
    return _stream(bound, Judgement, questions, rubric, arguments)


def demonstrate(
    registry: Registry, model: Model, prompts: Iterable[Prompt], sampling: Sampling, context: Context | None = None
) -> Iterator[Demonstration]:
    """Let a teacher answer each prompt once, in any order."""
    bound = _bind(registry, model, "demonstrate", context)
    questions = Questions(prompts)
    return _stream(bound, Demonstration, questions, None, {"prompts": questions, "sampling": sampling})


def evaluate(
    registry: Registry,
    model: Model,
    comparisons: Iterable[Comparison],
    rubric: Rubric,
    sampling: Sampling,
    context: Context | None = None,
) -> Iterator[Verdict]:
    """Let an evaluator say how probable it is that the first answer is the better one; one verdict a comparison."""
    bound = _bind(registry, model, "evaluate", context)
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
    """Train a model on a file of examples; the checkpoint is in the folder ``output``, which must be empty before.

    ``examples`` is JSON lines in TRL's conversational format (see the hook). Returns the trained model.
    """
    bound = _bind(registry, model, "train_step", context)
    if not examples.is_file():
        raise InputError(f"{examples}: no such file of training examples")
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    if any(output.iterdir()):
        raise InputError(f"{output}: the folder for the checkpoint is not empty")
    with blaming(bound.who):
        trained = bound.call(reference=reference, objective=objective, examples=examples, output=output)
    if not isinstance(trained, Model):
        raise PluginError(f"{bound.who} returned {trained!r}, not the trained Model")
    if Path(trained.name).resolve() != output.resolve():
        raise PluginError(f"{bound.who} returned a model named {trained.name!r}; it must be {str(output)!r}")
    if not any(output.iterdir()):
        raise PluginError(f"{bound.who} returned, but wrote no checkpoint into {output}")
    return trained


def release(registry: Registry, model: Model) -> None:
    """Let a model's plugin free the memory that the model holds; a plugin without the hook holds none."""
    if "release" not in registry.hooks(model.plugin):
        return
    call = registry.caller(model.plugin, "release")
    with blaming(_who(registry, model.plugin, "release")):
        call(model=model)


@frozen
class _Bound:
    """One plugin's hook, with the model and the context that it is called with."""

    call: Callable[..., Any]
    who: str
    """For messages: the hook, its plugin, and who wraps it."""
    context: Context


def _bind(registry: Registry, model: Model, hook: str, context: Context | None) -> _Bound:
    caller = registry.caller(model.plugin, hook)
    where = f"settings of {model.id or 'the model'} for {registry.label(model.plugin)}"
    bound = evolve(context or Context(), settings=registry.settings(model.plugin, model.settings, where))

    def call(**arguments: Any) -> Any:
        return caller(model=model, context=bound, **arguments)

    return _Bound(call, _who(registry, model.plugin, hook), bound)


def _who(registry: Registry, plugin: str, hook: str) -> str:
    wrappers = ", ".join(repr(name) for name in registry.wrappers(hook))
    return f"hook {hook!r} of {registry.label(plugin)}" + (f", wrapped by {wrappers}," if wrappers else "")


def _positive(name: str, number: int) -> int:
    if number < 1:
        raise InputError(f"{name} must be at least 1, not {number}")
    return number


def _stream(
    bound: _Bound,
    kind: type[ResultT],
    questions: Questions[Any],
    rubric: Rubric | None,
    arguments: Mapping[str, Any],
) -> Iterator[ResultT]:
    """Call the hook and pass on its results, each checked; at the end, check that none is missing."""
    with blaming(bound.who, questions):
        results = bound.call(**arguments)
    if not isinstance(results, Iterable):
        raise PluginError(f"{bound.who} returned {results!r}; it must yield its results")
    iterator = iter(results)
    try:
        while True:
            with blaming(bound.who, questions):
                result = next(iterator, _END)
            if result is _END:
                break
            checked = check_result(result, kind, rubric, bound.who)
            if problem := questions.answered(checked):
                raise PluginError(f"{bound.who} {problem}")
            yield checked
    finally:
        if close := getattr(iterator, "close", None):
            with blaming(bound.who, questions):
                close()
    if not bound.context.cancelled() and (problem := questions.missing()):
        raise PluginError(f"{bound.who} {problem}")
