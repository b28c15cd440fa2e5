"""Plugins from plain functions: of one prompt or answer, or with the arguments of a hook."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

from attrs import evolve

from tutelage import hookspecs
from tutelage.errors import PluginError, nearest
from tutelage.hookspecs import hookimpl
from tutelage.measure import Measure
from tutelage.plugin_info import PluginInfo
from tutelage.records import Candidate, Comparison, Demonstration, JudgeItem, Judgement, Outcome, Prompt, Verdict

Function = Callable[..., Any]


NEVER_AWAITED = "an async function is never awaited; make it a plain function"


def is_async(function: object) -> bool:
    """Whether a function is an ``async def``, whose call only returns a coroutine or an asynchronous generator."""
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def plugin(
    help: str = "",
    *,
    info: PluginInfo | None = None,
    measures: Mapping[str, Measure | Function] | None = None,
    **functions: Function,
) -> ModuleType:
    """Return a plugin made from functions, for ``Registry.register``, notebooks and ``--plugin FILE.py``.

    The name of each function is that of a hook. A function has either the arguments of the hook, as in
    ``tutelage.hookspecs``, or is called once per item with the arguments that it names:

    - ``judge(prompt, answer, messages, metadata)`` returns a score, or (score, reason), or None if there is no score;
    - ``demonstrate(prompt, messages, metadata)`` returns the text of the answer, or None if there is none;
    - ``generate_candidates(prompt, messages, metadata, index)`` returns the text of the candidate with this number;
    - ``evaluate(prompt, first, second, metadata)`` returns the probability that the first answer is better, or None.

    ``info`` is the description of the plugin; without it, the plugin has only ``help``. ``measures`` are added to it; a
    plain function is a ``Measure`` of the greedy answers, and the first line of its docstring is the help. Example::

        registry.register(tutelage.plugin(judge=lambda answer: -len(answer)), "short")

    Raises ``PluginError`` if a function has another name than a hook, or an argument that is never passed.
    """
    made = ModuleType(_MADE, help)
    for name, function in functions.items():
        setattr(made, name, hookimpl(_hook(name, function)))
    if measures:
        info = info or PluginInfo(help)
        info = evolve(info, measures={**info.measures, **{key: _measure(key, one) for key, one in measures.items()}})
    if info is not None:
        made.describe = hookimpl(lambda: info)  # type: ignore[attr-defined]
    return made


def _measure(name: str, given: Measure | Function) -> Measure:
    if isinstance(given, Measure):
        return given
    help = "" if getattr(given, "__name__", "<lambda>") == "<lambda>" else (inspect.getdoc(given) or "")
    return Measure(function=given, help=help.partition("\n")[0] or name, better="neither")


def of_namespace(names: Mapping[str, Any], help: str = "") -> ModuleType:
    """Return the plugin of a namespace, such as the one of a notebook: its functions that have the name of a hook.

    Functions that were imported from ``tutelage``, such as ``tutelage.judge``, are not a part of it. Without functions
    with such a name, it is the one result of ``plugin`` in the namespace.
    """
    own = {name: value for name, value in names.items() if getattr(value, "__module__", "") != _OF_STAGES}
    hooks = {name: value for name, value in own.items() if name in _HOOKS and callable(value)}
    describe = hooks.pop("describe", None)
    if not hooks and describe is None:
        made = [value for value in names.values() if isinstance(value, ModuleType) and value.__name__ == _MADE]
        if len(made) == 1:
            return made[0]
        raise PluginError(f"it has no function with the name of a hook: {', '.join(_HOOKS)}")
    return plugin(help, info=describe() if describe else None, **hooks)


_MADE = "plugin_of_functions"
"""Name of the modules that ``plugin`` makes."""
_HOOKS = ("describe", *hookspecs.STAGES, "release")
_OF_STAGES = "tutelage.plugins.stages"
"""The module of the functions that call the stages, which have the names of hooks, too."""


def _hook(name: str, function: Function) -> Function:
    if name not in _HOOKS:
        raise PluginError(f"there is no hook {name!r}{nearest(name, _HOOKS)}")
    if is_async(function):
        raise PluginError(f"{name}: {NEVER_AWAITED}")
    given = list(inspect.signature(function).parameters)
    of_hook = list(inspect.signature(getattr(hookspecs, name)).parameters)
    if set(given) <= set(of_hook) and (given or name not in _BY_ITEM):
        return function
    if name not in _BY_ITEM:
        wrong = next(argument for argument in given if argument not in of_hook)
        raise PluginError(f"{name}: there is no argument {wrong!r}{nearest(wrong, of_hook)}")
    arguments, by_item = _BY_ITEM[name]
    for argument in given:
        if argument not in arguments:
            hint = nearest(argument, [*arguments, *of_hook])
            wrong = f"there is no argument {argument!r}{hint if 'did you mean' in hint else ''}"
            if argument in of_hook:
                wrong = f"the argument {argument!r} of the hook is mixed with those of a function of one item"
            raise PluginError(
                f"{name}: {wrong}; a function of one item has some of {', '.join(arguments)}, and a hook some of "
                f"{', '.join(of_hook)}"
            )

    def call(values: Mapping[str, Any]) -> Any:
        return function(**{argument: values[argument] for argument in given})

    return by_item(call)


Call = Callable[[Mapping[str, Any]], Any]


def _judge(call: Call) -> Function:
    def judge(items: Iterable[JudgeItem], samples: int) -> Iterator[Judgement]:
        for item in items:
            for sample in range(samples):
                found = call(
                    {
                        "prompt": item.prompt,
                        "answer": item.answer,
                        "messages": item.turns,
                        "metadata": item.metadata,
                    }
                )
                score, reason = found if isinstance(found, tuple) and len(found) == 2 else (found, "")
                if score is None:
                    detail = "the function returned no score"
                    yield Judgement(item.id, sample, None, Outcome.UNPARSED, reason, detail=detail)
                else:
                    yield Judgement(item.id, sample, _number(score, found), reason=reason)

    return judge


def _demonstrate(call: Call) -> Function:
    def demonstrate(prompts: Iterable[Prompt]) -> Iterator[Demonstration]:
        for prompt in prompts:
            text = call(_of_prompt(prompt))
            yield Demonstration(prompt.id, *_answer(text))

    return demonstrate


def _generate_candidates(call: Call) -> Function:
    def generate_candidates(prompts: Iterable[Prompt], n: int) -> Iterator[Candidate]:
        for prompt in prompts:
            for index in range(n):
                text = call({**_of_prompt(prompt), "index": index})
                yield Candidate(prompt.id, index, *_answer(text))

    return generate_candidates


def _evaluate(call: Call) -> Function:
    def evaluate(comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        for one in comparisons:
            values = {"prompt": one.prompt, "first": one.first, "second": one.second, "metadata": one.metadata}
            found = call(values)
            if found is None:
                yield Verdict(one.id, None, Outcome.UNPARSED, detail="the function returned no preference")
            else:
                yield Verdict(one.id, _number(found, found))

    return evaluate


def _number(value: Any, returned: object) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"the function returned {returned!r}, which is no number") from None


def _of_prompt(prompt: Prompt) -> dict[str, Any]:
    return {"prompt": prompt.text, "messages": prompt.turns, "metadata": prompt.metadata}


def _answer(text: str | None) -> tuple[str, Outcome, str]:
    if text is None:
        return "", Outcome.FAILED, "the function returned no answer"
    return text, Outcome.ANSWERED, ""


_BY_ITEM: dict[str, tuple[tuple[str, ...], Callable[[Call], Function]]] = {
    "judge": (("prompt", "answer", "messages", "metadata"), _judge),
    "demonstrate": (("prompt", "messages", "metadata"), _demonstrate),
    "generate_candidates": (("prompt", "messages", "metadata", "index"), _generate_candidates),
    "evaluate": (("prompt", "first", "second", "metadata"), _evaluate),
}
"""The arguments of a function of one item, and how it becomes the hook."""
