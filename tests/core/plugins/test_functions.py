"""Plain functions are plugins: of one item, or with the arguments of a hook."""

from types import SimpleNamespace

import pytest

import tutelage
from tutelage.context import Context
from tutelage.errors import PluginError, StageError
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.functions import of_namespace, plugin
from tutelage.plugins.registry import Registry
from tutelage.records import Comparison, JudgeItem, Message, Model, Outcome, Prompt, Rubric, Sampling

ITEMS = [
    JudgeItem("a", "say 1", "1", metadata={"answer": "1"}),
    JudgeItem("b", "say 2", "no", metadata={"answer": "2"}),
]
PROMPTS = [Prompt("say 1", metadata={"answer": "1"}), Prompt("say 2", metadata={"answer": "2"})]


def registry_of(**functions: object) -> Registry:
    registry = Registry.empty()
    registry.register(plugin(**functions), "mine")  # type: ignore[arg-type]
    return registry


def judge(registry: Registry, samples: int = 1) -> list[tutelage.Judgement]:
    return list(tutelage.judge(registry, Model("mine"), ITEMS, Rubric("r"), samples, Sampling(), Context()))


def test_a_function_of_one_answer_is_a_judge() -> None:
    found = judge(registry_of(judge=lambda answer, metadata: float(answer == metadata["answer"])), samples=2)
    assert [(one.id, one.score) for one in found] == [("a#0", 1.0), ("a#1", 1.0), ("b#0", 0.0), ("b#1", 0.0)]


def test_a_judge_may_give_a_reason_or_no_score() -> None:
    first, second = judge(registry_of(judge=lambda answer: (3, "right") if answer == "1" else None))
    assert (first.score, first.reason, first.outcome) == (3.0, "right", Outcome.ANSWERED)
    assert (second.score, second.outcome, second.detail) == (None, Outcome.UNPARSED, "the function returned no score")


def test_functions_of_one_prompt_demonstrate_and_generate() -> None:
    registry = registry_of(
        demonstrate=lambda metadata: metadata["answer"] if metadata["answer"] == "1" else None,
        generate_candidates=lambda prompt, index: f"{prompt}, {index}",
    )
    shown = list(tutelage.demonstrate(registry, Model("mine"), PROMPTS, Sampling(), Context()))
    assert [(one.text, one.outcome) for one in shown] == [("1", Outcome.ANSWERED), ("", Outcome.FAILED)]
    found = tutelage.generate_candidates(registry, Model("mine"), PROMPTS, 2, Sampling(), Context())
    assert [one.text for one in found] == ["say 1, 0", "say 1, 1", "say 2, 0", "say 2, 1"]


def test_a_function_of_two_answers_is_an_evaluator() -> None:
    registry = registry_of(evaluate=lambda first, second: len(first) > len(second))
    comparisons = [Comparison("c", "p", "long", "s"), Comparison("d", "p", "s", "long")]
    found = tutelage.evaluate(registry, Model("mine"), comparisons, Rubric("r"), Sampling(), Context())
    assert [one.preference for one in found] == [1.0, 0.0]


def test_a_function_with_the_arguments_of_a_hook_is_the_hook() -> None:
    def hook(items, samples):  # type: ignore[no-untyped-def]
        for item in items:
            for sample in range(samples):
                yield tutelage.Judgement(item.id, sample, 2.0)

    assert [one.score for one in judge(registry_of(judge=hook))] == [2.0, 2.0]


def test_the_error_of_a_function_names_the_plugin() -> None:
    with pytest.raises(StageError, match=r"plugin 'mine'.*ZeroDivisionError"):
        judge(registry_of(judge=lambda answer: 1 / 0))


async def later(answer: str) -> float:
    return 0.0


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("jugde", len, "there is no hook 'jugde'; did you mean 'judge'?"),
        ("judge", lambda anwser: 0.0, "judge: there is no argument 'anwser'; did you mean 'answer'?"),
        ("judge", later, "judge: an async function is never awaited; make it a plain function"),
        ("train_step", lambda data: None, "train_step: there is no argument 'data'"),
    ],
)
def test_a_function_that_could_not_be_called_is_refused(name: str, function: object, message: str) -> None:
    with pytest.raises(PluginError) as raised:
        plugin(**{name: function})  # type: ignore[arg-type]
    assert str(raised.value).startswith(message)


def test_a_namespace_is_a_plugin_of_its_functions_with_names_of_hooks() -> None:
    def describe() -> PluginInfo:
        return PluginInfo("Counts.", aliases=("counter",))

    registry = Registry.empty()
    registry.register({"judge": lambda answer: len(answer), "describe": describe, "helper": 3}, "mine")
    registry.register(SimpleNamespace(demonstrate=lambda prompt: prompt), "other")
    assert [one.score for one in judge(registry)] == [1.0, 2.0]
    assert (registry.name_of("counter"), registry.info("mine").help) == ("mine", "Counts.")
    assert registry.hooks("other") == ("demonstrate",)


def test_a_namespace_without_a_hook_is_refused() -> None:
    with pytest.raises(PluginError, match="no function with the name of a hook: describe, generate_candidates, judge"):
        of_namespace({"jugde": len})


def test_a_judge_of_one_answer_gets_the_messages_of_the_prompt() -> None:
    talk = Prompt.of_messages([Message("user", "one"), Message("assistant", "two"), Message("user", "three")])
    items = [JudgeItem("a", "say 1", "1"), JudgeItem("b", talk.text, "1", messages=talk.messages)]
    registry = registry_of(judge=lambda messages: float(len(messages)))
    found = tutelage.judge(registry, Model("mine"), items, Rubric("r"), 1, Sampling(), Context())
    assert [one.score for one in found] == [1.0, 3.0]
