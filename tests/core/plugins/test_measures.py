"""The measures of plugins are called guarded: an error names the measure, its plugin, the model and the prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from attrs import frozen

from tutelage.context import Context
from tutelage.errors import InputError, PluginError, StageError
from tutelage.measure import Measure, MeasuredPrompt, Measurement
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.functions import plugin
from tutelage.plugins.measures import BoundMeasure, bound_measure
from tutelage.plugins.registry import Registry
from tutelage.records import Candidate, Message, Model, Prompt

LABEL = "measure 'mine/own' of plugin 'mine' (registered manually), for M1"


@frozen
class Settings:
    """Settings of a measure."""

    factor: int = 2
    """A number."""


def prompt(id: str, *answers: str, without_text: int = 0) -> MeasuredPrompt:
    found = tuple(Candidate(id, number, text) for number, text in enumerate(answers))
    question = Prompt(f"say {id}", id=id, metadata={"wanted": "b"})
    return MeasuredPrompt(prompt=question, answers=found, without_text=without_text)


PROMPTS = [prompt("p", "a"), prompt("q", "bb"), prompt("r", "c c")]


def bound(function: Callable[..., Any], given: dict[str, Any] | None = None, **fields: Any) -> BoundMeasure:
    registry = Registry.empty()
    measure = Measure(function=function, help="Of a test.", **fields)
    registry.register(plugin(info=PluginInfo("Mine.", measures={"own": measure})), "mine")
    return bound_measure(registry, "mine/own", given or {}, "evaluation.measures.own.settings")


def values(function: Callable[..., Any], prompts: list[MeasuredPrompt] = PROMPTS, **fields: Any) -> list[float | None]:
    return [one.value for one in bound(function, **fields).of_prompts("M1", prompts)]


def test_a_function_of_one_answer_gets_what_it_names() -> None:
    assert values(lambda answer: len(answer)) == [1, 2, 3]
    assert values(lambda prompt, metadata: metadata["wanted"] in prompt) == [0, 0, 0]
    assert values(lambda messages: messages == (Message("user", "say p"),)) == [1, 0, 0]
    assert values(lambda answer: numpy.float32(0.5) if answer == "a" else None) == [0.5, None, None]


def test_a_function_of_all_prompts_may_return_or_yield_its_values() -> None:
    def yielded(items: Iterable[MeasuredPrompt]) -> Iterator[int]:
        for item in items:
            yield len(item.answers[0].text)

    assert values(yielded) == [1, 2, 3]
    assert values(lambda items: [len(item.prompt.id) for item in items]) == [1, 1, 1]
    assert values(lambda items: numpy.arange(len(list(items)))) == [0, 1, 2]


def test_the_value_of_a_prompt_is_the_mean_over_the_units_of_its_answers() -> None:
    def counted(answer: str) -> Measurement:
        words = answer.split()
        if not words:
            return Measurement(None, 2, detail="no word")
        return Measurement(sum(word == "b" for word in words) / len(words), len(words), unmeasured=1)

    [found] = bound(counted, over="sampled").of_prompts("M1", [prompt("p", "b", "b c c", "", without_text=1)])
    assert found == Measurement(0.5, 4, unmeasured=5, detail="no word", prompt_id="p")


def test_a_prompt_without_an_answer_is_not_measured_and_the_function_does_not_get_it() -> None:
    prompts = [prompt("p", "a"), prompt("q", without_text=3), prompt("r", "c")]
    seen: list[str] = []

    def looking(items: Iterable[MeasuredPrompt]) -> list[int]:
        seen.extend(item.prompt.id for item in items)
        return [1] * len(seen)

    found = bound(looking).of_prompts("M1", prompts)
    assert seen == ["p", "r"]
    assert found[1] == Measurement(None, 3, detail="no answer has text", prompt_id="q")
    assert [one.prompt_id for one in found] == ["p", "q", "r"]


def failing(items: Iterable[MeasuredPrompt]) -> Iterator[float]:
    for item in items:
        yield 1 / (len(item.answers[0].text) - 2)


def failing_late(items: Iterable[MeasuredPrompt]) -> Iterator[float]:
    for item in list(items):
        yield 1 / (len(item.answers[0].text) - 2)


def leaves(items: Iterable[MeasuredPrompt]) -> list[float]:
    raise SystemExit("no such model")


def refuses(items: Iterable[MeasuredPrompt]) -> list[float]:
    raise InputError("set factor to 1")


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda answer: 1 / (len(answer) - 2), StageError, ", for the prompt q, failed: ZeroDivisionError: "),
        (failing, StageError, ", for the prompt q, failed: ZeroDivisionError: "),
        (failing_late, StageError, ", for the prompt q, failed: ZeroDivisionError: "),
        (lambda items: [1 / (len(one.answers[0].text) - 3) for one in items], StageError, "for the prompt r, failed"),
        (leaves, StageError, ", failed: SystemExit: no such model"),
        (lambda items: [1, 2], PluginError, ", gave 2 values for 3 prompts; it must give one each"),
        (lambda items: [1, 2], PluginError, "the first prompt without a value is r"),
        (lambda items: [1, 2, 3, 4], PluginError, ", gave more values than the 3 prompts; it must give one each"),
        (lambda items: None, PluginError, ", returned None; it must return or yield one value per prompt"),
        (lambda items: "abc", PluginError, ", returned 'abc'; it must"),
        (lambda items: {"p": 1}, PluginError, ", returned {'p': 1}; it must"),
        (lambda items: [1, "2", 3], PluginError, "for the prompt q, gave '2'; a value is a number"),
        (lambda items: [1, 2, math.nan], PluginError, ", for the prompt r, gave nan; a value is a finite number"),
        (lambda answer: Measurement(math.inf), PluginError, ", for the prompt p, gave inf; a value is a finite"),
        (lambda answer: answer, PluginError, ", for the prompt p, gave 'a'; a value is a number"),
        (lambda answer: 2 * len(answer), PluginError, "for the prompt r, gave 6; the measure has values from no limit"),
        (lambda items: [Measurement(0, prompt_id="q")], PluginError, "for the prompt p, gave a value of 'q'; values"),
    ],
)
def test_an_error_names_the_measure_the_plugin_the_model_and_the_prompt(
    function: Callable[..., Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        bound(function, highest=4).of_prompts("M1", PROMPTS)
    assert str(caught.value).startswith(LABEL) and message in str(caught.value)


def test_an_error_for_the_user_is_passed_on_unchanged() -> None:
    with pytest.raises(InputError, match=r"^set factor to 1$"):
        values(refuses)


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf, "2", True])
def test_a_weight_is_a_finite_number_of_at_least_0(weight: Any) -> None:
    with pytest.raises(StageError, match="for the prompt p, failed: ValueError: `weight` must be a finite number of"):
        values(lambda answer: Measurement(1, weight))


def of_checkpoint(function: Callable[..., Any], **fields: Any) -> list[Measurement]:
    advanced: list[int] = []
    context = Context(scratch=Path("scratch"), advance=advanced.append)
    found = bound(function, over="checkpoint", **fields).of_checkpoint(Model("student", "folder", id="M1"), context)
    assert sum(advanced) == len(found)
    return found


def test_a_measure_of_a_checkpoint_names_its_own_items() -> None:
    def loaded(model: Model, context: Context) -> list[Measurement]:
        return [Measurement(len(model.name), prompt_id=context.scratch.name), Measurement(None, prompt_id="b")]

    assert [(one.id, one.value) for one in of_checkpoint(loaded)] == [("scratch", 6), ("b", None)]


def breaks(model: Model) -> Iterator[Measurement]:
    yield Measurement(1, prompt_id="a")
    raise OSError("the folder has no weights")


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (breaks, StageError, ", after 1 values (the last of a), failed: OSError: the folder has no weights"),
        (lambda model: [], PluginError, ", gave no value"),
        (lambda model: [0.5], PluginError, ", after 0 values, gave 0.5; it must give Measurements with a prompt_id"),
        (lambda model: [Measurement(1)], PluginError, "it must give Measurements with a prompt_id"),
        (lambda model: [Measurement(1, prompt_id="a")] * 2, PluginError, ", gave two values of 'a'"),
        (lambda model: [Measurement(math.nan, prompt_id="a")], PluginError, ", for 'a', gave nan; a value is"),
    ],
)
def test_an_error_at_a_checkpoint_names_the_measure_the_plugin_and_the_model(
    function: Callable[..., Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        of_checkpoint(function)
    assert str(caught.value).startswith(LABEL) and message in str(caught.value)


def test_settings_are_given_to_the_function_and_to_its_check_and_files(tmp_path: Path) -> None:
    def scaled(answer: str, settings: Settings) -> int:
        return settings.factor * len(answer)

    def check(settings: Settings) -> Iterator[str]:
        if settings.factor > 3:
            yield f"factor: {settings.factor}; it must be at most 3"

    one = bound(scaled, {"factor": 5}, settings=Settings, check=check, files=lambda settings: [tmp_path])
    assert [found.value for found in one.of_prompts("M1", PROMPTS)] == [5, 10, 15]
    assert one.problems() == ["factor: 5; it must be at most 3"]
    assert one.files() == [tmp_path]
    assert values(scaled, settings=Settings) == [2, 4, 6]
    with pytest.raises(InputError, match=r"^evaluation\.measures\.own\.settings: factr: unknown key"):
        bound(scaled, {"factr": 5}, settings=Settings)
    with pytest.raises(InputError, match="the measure mine/own has no settings, but got factor; leave them out"):
        bound(len_of, {"factor": 5})


def len_of(answer: str) -> int:
    return len(answer)


def test_a_check_that_fails_or_gives_something_else_names_the_measure() -> None:
    def breaks(settings: None) -> list[str]:
        raise KeyError("factor")

    with pytest.raises(PluginError, match=r"^measure 'mine/own' of .*, check, failed: KeyError: 'factor'"):
        bound(len_of, check=breaks).problems()
    with pytest.raises(
        PluginError, match=r", check, returned 'factor'; it must return or yield objects of the class str"
    ):
        bound(len_of, check=lambda settings: "factor").problems()
    with pytest.raises(PluginError, match=r", files, gave 'data.json', which is not of the class Path"):
        bound(len_of, files=lambda settings: ["data.json"]).files()
    assert bound(len_of, check=lambda settings: None).problems() == []
