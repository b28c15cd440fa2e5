"""The lengths of the training data are checked before a run starts, in the tokens of the student."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import critic_world
import pytest
from attrs import evolve

from tutelage.errors import InputError, PluginError
from tutelage.hookspecs import hookimpl
from tutelage.objectives import Dpo
from tutelage.planning.lengths import check_lengths
from tutelage.planning.sources import Sources
from tutelage.plugin_info import PluginInfo, TokenCounts
from tutelage.plugins.registry import Registry
from tutelage.recipe.data_section import Preferences
from tutelage.recipe.schema import PipelineSettings, Recipe

Make = Callable[..., Recipe]


class WordCounter:
    """A student that counts words as tokens."""

    def __init__(self, context: int) -> None:
        self.context = context
        self.asked: list[tuple[Any, str, int, bool]] = []

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo(help="Counts words.")

    @hookimpl
    def count_tokens(self, settings: Any, name: str, rows: Any, download: bool) -> TokenCounts | None:
        self.asked.append((settings, name, len(rows), download))
        if name == "elsewhere" and not download:
            return None
        texts = [" ".join(part[0]["content"] for part in row.values()) for row in rows]
        return TokenCounts(tuple(len(text.split()) for text in texts), self.context)


@pytest.fixture
def counter() -> WordCounter:
    return WordCounter(context=1000)


@pytest.fixture
def registry(numbers_registry: Registry, counter: WordCounter) -> Registry:
    numbers_registry.register(counter, "counter")
    return numbers_registry


@pytest.fixture
def make(make_recipe: Make) -> Make:
    """A recipe whose student counts words as tokens; an IFT example has three, an EFT example has more."""
    teacher = {"plugin": "numbers"}

    def made(student: str = "here", **changes: Any) -> Recipe:
        models = {"student": {"plugin": "counter", "model": student}, "teacher": teacher, "evaluator": teacher}
        return make_recipe(models=models, **changes)

    return made


def test_data_that_fits_passes(make: Make, registry: Registry, counter: WordCounter) -> None:
    check_lengths(Sources(make(), registry))
    assert counter.asked == [(None, "here", 8 + 8 + 2 * 40, True)]


def test_the_examples_of_every_seed_are_counted_once_each(make: Make, registry: Registry, counter: WordCounter) -> None:
    check_lengths(Sources(make(seeds=[0, 1]), registry))
    [(_, _, rows, _)] = counter.asked
    assert 8 + 8 + 2 * 40 < rows <= 8 + 8 + 4 * 40


def test_the_error_for_an_example_longer_than_sft_max_length_quotes_it(make: Make, registry: Registry) -> None:
    with pytest.raises(InputError) as caught:
        check_lengths(Sources(make(sft={"max_length": 4}), registry))
    assert str(caught.value) == (
        "data.eft (numbers/eft): 8 too long to train on: the longest has 8 tokens, and the maximum is "
        "sft.max_length 4; it begins 'Rate 7 to say 7'. Leave them out, raise sft.max_length"
    )


def test_the_models_context_is_a_limit_that_cannot_be_raised(
    make: Make, registry: Registry, counter: WordCounter
) -> None:
    counter.context = 4
    with pytest.raises(InputError, match=r"the maximum is the model's context 4; it begins '[^']+'\. Leave them out$"):
        check_lengths(Sources(make(generation={"max_new_tokens": 1}), registry))


def test_a_prompt_must_leave_room_for_the_longest_answer(make: Make, registry: Registry) -> None:
    recipe = make(pipelines={"self-reward": {"dpo": {"max_length": 257}}}, controls={}, iterations=1)
    with pytest.raises(InputError) as caught:
        check_lengths(Sources(recipe, registry))
    assert str(caught.value).startswith(
        "data.prompts (numbers/train): 40 too long to train on with an answer of generation.max_new_tokens 256: "
        "the longest has 2 tokens, and the maximum is pipelines.self-reward.dpo.max_length 257; it begins 'say "
    )
    assert str(caught.value).endswith("or lower generation.max_new_tokens")


def test_prompts_that_a_model_will_write_are_not_checked(make: Make, registry: Registry, counter: WordCounter) -> None:
    prompts = {"source": "numbers/train", "count": 40, "self_instruct": {}}
    data = {"ift": {"source": "numbers/ift", "count": 8}, "prompts": prompts}
    check_lengths(Sources(make(data=data), registry))
    assert counter.asked[0][2] == 8


def test_without_download_a_student_that_is_not_on_this_machine_is_not_checked(
    make: Make, registry: Registry, counter: WordCounter
) -> None:
    check_lengths(Sources(make("elsewhere", sft={"max_length": 1}), registry), download=False)
    assert counter.asked[0][3] is False


def test_a_plugin_that_does_not_count_tokens_is_not_checked(
    make: Make, make_recipe: Make, registry: Registry, counter: WordCounter
) -> None:
    too_short = {"max_length": 1}
    with pytest.raises(InputError, match=r"the maximum is sft\.max_length 1;"):
        check_lengths(Sources(make(sft=too_short), registry))
    counter.asked.clear()
    check_lengths(Sources(make_recipe(sft=too_short), registry))
    assert counter.asked == []


def test_the_error_for_a_plugin_that_miscounts_names_the_plugin(
    make: Make, registry: Registry, counter: WordCounter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    registry.unregister("counter")
    counter.count_tokens = hookimpl(lambda: TokenCounts((1,), 10))  # type: ignore[assignment,method-assign]
    registry.register(counter, "counter")
    with pytest.raises(PluginError, match=r"hook 'count_tokens' of plugin 'counter' .*must return one number per row"):
        check_lengths(Sources(make(), registry))


PAIRS = {"source": "numbers/pairs", "count": 30}
"""Pairs with a prompt of two words, a chosen answer of one and a rejected answer of three."""


def alone(**changes: Any) -> dict[str, Any]:
    return {"data": {"preferences": PAIRS}, "pipelines": {"own-preferences": None}, "iterations": 1, **changes}


def test_both_sides_of_the_users_pairs_are_measured(make: Make, registry: Registry, counter: WordCounter) -> None:
    check_lengths(Sources(make(**alone(controls={}), dpo={"max_length": 5}), registry))
    assert counter.asked == [(None, "here", 2 * 30, True)]
    with pytest.raises(InputError) as caught:
        check_lengths(Sources(make(**alone(controls={}), dpo={"max_length": 4}), registry))
    assert str(caught.value) == (
        "data.preferences (numbers/pairs): 30 too long to train on: the longest has 5 tokens, and the maximum is "
        "dpo.max_length 4; it begins 'say 129'. Leave them out, raise dpo.max_length"
    )


def test_pairs_that_join_must_fit_the_shortest_training_that_uses_them(make: Make, registry: Registry) -> None:
    data = {
        "ift": {"source": "numbers/ift", "count": 8},
        "prompts": {"source": "numbers/train", "count": 40},
        "preferences": {**PAIRS, "join": ["self-reward"]},
    }
    short = {"dpo": {"max_length": 4}}
    generation = {"max_new_tokens": 1}
    pipelines = {"self-reward": None, "teacher-reward": short}
    check_lengths(Sources(make(data=data, pipelines=pipelines, generation=generation), registry))
    for changes, key in (
        ({"pipelines": {"self-reward": short, "teacher-reward": None}}, "pipelines.self-reward"),
        ({"controls": {"random-pairs": {"mirrors": "self-reward", **short}}}, "controls.random-pairs"),
    ):
        with pytest.raises(InputError, match=rf"data\.preferences .* the maximum is {key}\.dpo\.max_length 4"):
            check_lengths(Sources(make(data=data, generation=generation, **changes), registry))


def test_a_control_that_trains_on_the_chosen_sides_measures_these_alone(make: Make, registry: Registry) -> None:
    def control(max_length: int) -> dict[str, Any]:
        return {"sft-on-chosen": {"mirrors": "own-preferences", "sft": {"max_length": max_length}}}

    check_lengths(Sources(make(**alone(controls=control(3))), registry))
    with pytest.raises(
        InputError, match=r"the longest has 3 tokens, and .* controls\.sft-on-chosen\.sft\.max_length 2"
    ):
        check_lengths(Sources(make(**alone(controls=control(2))), registry))


def test_a_pair_that_decontamination_drops_is_not_measured(
    make: Make, registry: Registry, counter: WordCounter, tmp_path: Path
) -> None:
    def row(prompt: str, rejected: str) -> dict[str, Any]:
        texts = {"prompt": ("user", prompt), "chosen": ("assistant", "1"), "rejected": ("assistant", rejected)}
        return {key: [{"role": role, "content": text}] for key, (role, text) in texts.items()}

    source = tmp_path / "pairs.jsonl"
    held = row("say 5003", "a very long answer")
    source.write_text(json.dumps(held) + "\n" + json.dumps(row("say 1", "2")) + "\n")
    evaluation = {"prompts": {"source": "numbers/held-out", "count": 1000}}
    recipe = make(
        **alone(controls={}, evaluation=evaluation, data={"preferences": {"source": str(source), "count": 2}})
    )
    check_lengths(
        Sources(evolve(recipe, pipelines={"own-preferences": PipelineSettings(dpo=Dpo(max_length=3))}), registry)
    )
    assert counter.asked[0][2] == 2


def test_pairs_that_no_pipeline_of_a_plugin_trains_on_are_not_measured(
    make: Make, registry: Registry, counter: WordCounter
) -> None:
    registry.register(critic_world, "critic")
    recipe = make(pipelines={"critic/revise": None}, controls={})
    check_lengths(Sources(evolve(recipe, data=evolve(recipe.data, preferences=Preferences("numbers/pairs"))), registry))
    assert counter.asked == [(None, "here", 8 + 8 + 2 * 40, True)]
