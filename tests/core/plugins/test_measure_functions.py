"""The form of a measure's function follows from its arguments; a wrong declaration is refused with its plugin."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from attrs import evolve

from tutelage.errors import PluginError
from tutelage.measure import Measure
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.functions import plugin
from tutelage.plugins.measure_functions import declaration_problems, function_of
from tutelage.plugins.registry import Registry


class Countable:
    """An object that is called like a function."""

    def __call__(self, prompt: str, answer: str) -> int:
        return len(answer)


async def later(answer: str) -> int:
    return len(answer)


def measure(function: Callable[..., Any], **fields: Any) -> Measure:
    return Measure(function=function, help="Of a test.", **fields)


@pytest.mark.parametrize(
    ("function", "form", "arguments"),
    [
        (lambda answer: 1, "answer", ("answer",)),
        (lambda metadata, prompt: 1, "answer", ("metadata", "prompt")),
        (Countable(), "answer", ("prompt", "answer")),
        (partial(lambda answer, loose: 1, loose=True), "answer", ("answer",)),
        (lambda items, settings: [], "items", ("items", "settings")),
        (lambda model: [], "model", ("model",)),
        (lambda context, model, settings: [], "model", ("context", "model", "settings")),
    ],
)
def test_the_form_of_a_function_follows_from_the_arguments_that_it_names(
    function: Callable[..., Any], form: str, arguments: tuple[str, ...]
) -> None:
    found = function_of(measure(function))
    assert (found.form, found.arguments) == (form, arguments)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (7, "function must be callable, not 7"),
        (later, "an async function is never awaited"),
        (len, "there is no argument 'obj'; known: answer, context, items"),
        (lambda answr: 1, "there is no argument 'answr'; did you mean 'answer'"),
        (lambda settings: 1, "function names settings; it must name some of prompt, answer"),
        (lambda: 1, "function names no argument"),
        (lambda items, answer: 1, "function names items, answer; it must name some of"),
        (lambda answer, context: 1, "function: context is never passed together with answer"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused(function: Any, problem: str) -> None:
    with pytest.raises(PluginError) as caught:
        function_of(measure(function))
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"over": "logits"}, "over must be one of answers, sampled, judgements, training, checkpoint, not 'logits'"),
        ({"over": "checkpoint"}, "over is 'checkpoint', and its function names answer"),
        ({"over": "judgements"}, "a function of one answer measures answers or sampled; use items"),
        ({"better": "more"}, "better must be one of higher, lower, neither, not 'more'"),
        ({"lowest": 1, "highest": 0}, "lowest is 1, and highest 0; lowest must be less"),
        ({"unit": None}, "unit must be a text, not None"),
        ({"check": "items"}, "check must be callable, not 'items'"),
        ({"files": 3}, "files must be callable, not 3"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(fields: dict[str, Any], problem: str) -> None:
    declared = measure(lambda answer: 1)
    assert list(declaration_problems(declared)) == []
    [found] = declaration_problems(evolve(declared, **fields))
    assert problem in found


def test_a_function_of_a_model_measures_checkpoints_only() -> None:
    [problem] = declaration_problems(measure(lambda model: []))
    assert "over is 'answers', and its function names model" in problem


@pytest.mark.parametrize(
    ("offered", "problem"),
    [
        ({"long": len}, "measures['long'] must be a Measure, not builtin_function_or_method"),
        ({"long": measure(lambda answer: 1, over="all")}, "measures['long']: over must be one of"),
        ({"long": measure(lambda answer: 1, settings=dict)}, "measures['long']: settings must be an attrs class"),
    ],
)
def test_a_plugin_with_a_wrong_measure_is_not_registered(offered: dict[str, Any], problem: str) -> None:
    with pytest.raises(PluginError) as caught:
        Registry.empty().register(plugin(info=PluginInfo("Wrong.", measures=offered)), "wrong")
    assert problem in str(caught.value)


def test_plain_functions_are_measures_of_a_plugin_in_a_notebook() -> None:
    def words(answer: str) -> int:
        """Number of words.

        Separated by whitespace.
        """
        return len(answer.split())

    registry = Registry.empty()
    share = measure(lambda answer: answer.isupper(), lowest=0, highest=1)
    registry.register(plugin("Mine.", measures={"words": words, "upper": lambda answer: 1, "share": share}), "mine")
    found = {name: registry.get("measures", f"mine/{name}") for name in ("words", "upper", "share")}
    assert [one.help for one in found.values()] == ["Number of words.", "upper", "Of a test."]
    assert found["share"] is share
    assert (found["words"].over, found["words"].better) == ("answers", "neither")
