import json
from pathlib import Path
from typing import Any

import pytest

from tutelage.data.sets import Sets, load_examples, load_preferences, load_prompts, load_rated, load_seed_prompts
from tutelage.errors import InputError, PluginError
from tutelage.examples import Example, Preference, RatedExample
from tutelage.files.jsonl import dump
from tutelage.plugin_info import NamedSet
from tutelage.preferences.judging import ADDITIVE_RUBRIC
from tutelage.records import Message, Prompt, Rubric, conversation_text

NOTHING = Sets(lambda name: None, lambda name: None, lambda name: None)


def file_of(tmp_path: Path, rows: list[dict[str, Any]]) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_file_of_prompts_is_drawn_by_seed_and_never_gives_one_twice(tmp_path: Path) -> None:
    path = file_of(tmp_path, [{"prompt": f"task {n}"} for n in range(20)] + [{"prompt": "task 3"}])
    first = load_prompts(NOTHING, path, 20, seed=1)
    assert sorted(prompt.text for prompt in first) == sorted(f"task {n}" for n in range(20))
    assert {prompt.source for prompt in first} == {path}
    assert first == load_prompts(NOTHING, path, 20, seed=1) != load_prompts(NOTHING, path, 20, seed=2)


def test_a_set_of_a_plugin_that_is_not_installed_is_not_reported_as_a_missing_file_alone() -> None:
    """`ifeval/train: cannot be read (No such file or directory)` did not say that a plugin was missing."""
    with pytest.raises(
        InputError, match=r"^absent/words: not found; no file has this path, and no plugin 'absent' is installed"
    ):
        load_prompts(NOTHING, "absent/words", 3, seed=0)
    for path in ("data/words.jsonl", "./words", "words", "my/data/words"):
        with pytest.raises(InputError, match="cannot be read"):
            load_prompts(NOTHING, path, 3, seed=0)


def test_too_few_rows_are_an_error_and_not_a_smaller_run(tmp_path: Path) -> None:
    path = file_of(tmp_path, [{"prompt": "a"}, {"prompt": "b"}])
    with pytest.raises(InputError, match="3 different rows are needed, but there are only 2; lower the count"):
        load_prompts(NOTHING, path, 3, seed=0)


def test_a_row_that_lacks_something_is_named_by_line(tmp_path: Path) -> None:
    path = file_of(tmp_path, [{"prompt": "a", "answer": "b"}, {"prompt": "c"}])
    with pytest.raises(InputError, match="line 2: `answer` must be a text that is not empty"):
        load_examples(NOTHING, path, None, seed=0)


def test_a_score_that_is_no_number_is_named_by_line(tmp_path: Path) -> None:
    path = file_of(tmp_path, [{"prompt": "a", "answer": "b", "score": "4"}])
    with pytest.raises(InputError, match="line 1: `score` must be a number"):
        load_rated(NOTHING, path, None, seed=0)


@pytest.mark.parametrize("score", [-1, 5.5, 9])
def test_a_score_outside_the_scale_of_the_rubric_is_named_by_line(tmp_path: Path, score: float) -> None:
    rows = [{"prompt": "a", "answer": "b", "score": each} for each in (0, 5, score)]
    path = file_of(tmp_path, rows)
    assert len(load_rated(NOTHING, path, 1, seed=0)) == 1
    message = rf"line 3: the score {score:g} is outside the scale 0-5 of the rubric 'additive'; "
    with pytest.raises(InputError, match=message):
        load_rated(NOTHING, path, 1, 0, ADDITIVE_RUBRIC)


def test_a_score_of_a_plugins_set_is_compared_with_the_scale_of_the_rubric() -> None:
    examples = NamedSet(lambda count, seed: [RatedExample("a", "b", float(n)) for n in range(count)])
    sets = Sets(lambda name: None, lambda name: None, lambda name: examples)
    rubric = Rubric("tenths", lowest=1.0, highest=10.0)
    with pytest.raises(InputError, match=r"a/b, example 1: the score 0 is outside the scale 1-10.*--to-scale 1-10"):
        load_rated(sets, "a/b", 3, 0, rubric)


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty"):
        load_prompts(NOTHING, file_of(tmp_path, []), None, seed=0)


def test_a_plugins_set_is_asked_for_the_count_and_the_seed() -> None:
    asked = []

    def load(count: int, seed: int) -> list[str]:
        asked.append((count, seed))
        return [f"task {n}" for n in range(count)]

    sets = Sets(lambda name: NamedSet(load) if name == "a/b" else None, lambda name: None, lambda name: None)
    assert load_prompts(sets, "a/b", 3, seed=7) == [Prompt(f"task {n}", "a/b") for n in range(3)]
    assert asked == [(3, 7)]


def test_a_set_without_an_end_is_never_asked_for_all_of_it() -> None:
    endless = NamedSet(lambda count, seed: [f"task {n}" for n in range(count)])
    sets = Sets(lambda name: endless, lambda name: None, lambda name: None)
    with pytest.raises(InputError, match="the size of this set is not known; set `count`"):
        load_prompts(sets, "a/b", None, seed=0)
    assert load_seed_prompts(sets, "a/b", 3, seed=0) == ["task 0", "task 1", "task 2"]


def test_seed_prompts_are_all_there_are_or_as_many_as_are_wanted(tmp_path: Path) -> None:
    path = file_of(tmp_path, [{"prompt": f"task {n % 5}"} for n in range(20)])
    assert len(load_seed_prompts(NOTHING, path, 100, seed=0)) == 5
    assert len(load_seed_prompts(NOTHING, path, 3, seed=0)) == 3


CHAT = (
    Message("system", "Be brief."),
    Message("user", "Name a fruit."),
    Message("assistant", "Apple."),
    Message("user", "Another one?"),
)
ROWS = [{"role": message.role, "content": message.content} for message in CHAT]
ANSWER = {"role": "assistant", "content": "Pear."}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": ROWS},
        {"prompt": ROWS},
        {"messages": [*ROWS, ANSWER]},
        {"messages": ROWS, "prompt": conversation_text(CHAT)},
        {"messages": ROWS, "prompt": ROWS},
        {"messages": [{"from": m.role.replace("user", "human"), "value": m.content} for m in CHAT]},
    ],
)
def test_a_prompt_with_several_turns_is_read_whole_in_every_form(row: dict[str, Any], tmp_path: Path) -> None:
    path = file_of(tmp_path, [row])
    assert load_prompts(NOTHING, path, None, seed=0) == [Prompt.of_messages(CHAT, path)]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": ROWS, "answer": "Pear."},
        {"messages": [*ROWS, ANSWER]},
        {"messages": [*ROWS, ANSWER], "answer": "Pear."},
        {"prompt": ROWS, "answer": "Pear."},
        json.loads(dump(Example(conversation_text(CHAT), "Pear.", CHAT))),
    ],
)
def test_an_example_with_several_turns_is_read_whole_in_every_form(row: dict[str, Any], tmp_path: Path) -> None:
    [example] = load_examples(NOTHING, file_of(tmp_path, [row]), None, seed=0)
    assert example == Example(conversation_text(CHAT), "Pear.", CHAT)
    [rated] = load_rated(NOTHING, file_of(tmp_path, [{**row, "score": 4}]), None, seed=0)
    assert rated == RatedExample(conversation_text(CHAT), "Pear.", 4.0, "", CHAT)


def test_a_conversation_of_one_turn_is_the_example_of_its_text(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}]
    assert load_examples(NOTHING, file_of(tmp_path, rows), None, seed=0) == [Example("hi", "hello")]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"messages": [ANSWER, ROWS[1]]}, "`messages`: the conversation begins with the assistant"),
        ({"messages": [ROWS[1], ROWS[3]]}, "`messages`: message 2 is the user's"),
        ({"messages": [ROWS[0]]}, "`messages`: the conversation ends with the system"),
        ({"messages": [{"role": "tool", "content": "4"}]}, "`messages`: message 1 has the unknown role"),
        ({"prompt": [*ROWS, ANSWER]}, "`prompt`: the conversation ends with the assistant"),
        ({"prompt": []}, "`prompt`: the conversation is empty"),
        ({"prompt": "Another one?", "messages": ROWS}, "`prompt` and `messages` are different conversations"),
        ({"prompt": "hi", "messages": [ROWS[0], {"role": "user", "content": "hi"}]}, "different conversations"),
        ({"messages": "hi"}, "`prompt` must be a text that is not empty"),
    ],
)
def test_a_conversation_that_cannot_be_used_is_named_by_line(row: dict[str, Any], problem: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, [{"prompt": "hi"}, row])
    with pytest.raises(InputError, match=f"rows.jsonl, line 2: .*{problem}"):
        load_prompts(NOTHING, path, None, seed=0)


def test_two_answers_to_a_conversation_are_named_by_line(tmp_path: Path) -> None:
    path = file_of(tmp_path, [{"messages": [*ROWS, ANSWER], "answer": "Plum."}])
    with pytest.raises(InputError, match="line 1: `answer` differs from the last message of `messages`"):
        load_examples(NOTHING, path, None, seed=0)


def test_conversations_that_differ_in_an_earlier_turn_are_two_prompts(tmp_path: Path) -> None:
    other = [*ROWS[:2], {"role": "assistant", "content": "Plum."}, ROWS[3]]
    path = file_of(tmp_path, [{"messages": ROWS}, {"messages": other}, {"prompt": ROWS}])
    assert len(load_prompts(NOTHING, path, 2, seed=0)) == 2
    with pytest.raises(InputError, match="only 2"):
        load_prompts(NOTHING, path, 3, seed=0)


def test_a_plugin_may_offer_conversations() -> None:
    offered = NamedSet(lambda count, seed: [Prompt.of_messages(CHAT)][:count])
    sets = Sets(lambda name: offered, lambda name: None, lambda name: None)
    assert load_prompts(sets, "a/b", 1, seed=0) == [Prompt.of_messages(CHAT, "a/b")]


def test_of_a_conversation_the_first_question_is_shown_as_a_seed_prompt(tmp_path: Path) -> None:
    path = file_of(tmp_path, [{"messages": ROWS}])
    assert load_seed_prompts(NOTHING, path, 5, seed=0) == ["Name a fruit."]


def pair(number: int) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": f"task {number}"}],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
    }


def test_a_file_of_preferences_is_drawn_by_seed_and_never_gives_a_pair_twice(tmp_path: Path) -> None:
    path = file_of(tmp_path, [*(pair(n) for n in range(20)), pair(3)])
    first = load_preferences(NOTHING, path, 20, seed=1)
    assert sorted(one.prompt for one in first) == sorted(f"task {n}" for n in range(20))
    assert first == load_preferences(NOTHING, path, 20, seed=1) != load_preferences(NOTHING, path, 20, seed=2)
    with pytest.raises(InputError, match="21 different rows are needed, but there are only 20; lower the count"):
        load_preferences(NOTHING, path, 21, seed=1)


def test_a_pair_that_teaches_nothing_is_named_by_its_line(tmp_path: Path) -> None:
    path = file_of(tmp_path, [pair(1), {**pair(2), "rejected": pair(2)["chosen"]}])
    with pytest.raises(InputError, match="line 2: chosen and rejected are the same text"):
        load_preferences(NOTHING, path, None, seed=0)


def test_a_pair_of_a_plugin_that_teaches_nothing_is_named_by_its_number() -> None:
    pairs = [Preference("a", "task", "good", "bad", "a/0", "a/1"), Preference("b", "task", "good", " ", "b/0", "b/1")]
    offered = NamedSet(lambda count, seed: pairs[:count])
    sets = Sets(lambda name: None, lambda name: None, lambda name: None, lambda name: offered)
    with pytest.raises(InputError, match="a/b, pair 2: `rejected` is empty"):
        load_preferences(sets, "a/b", 2, seed=0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "mine/set: its plugin returned None for the set, which has no rows"),
        ("a text", "mine/set: its plugin returned 'a text' for the set, which has no rows"),
        ([Example("a", "b")], "mine/set, example 1: its plugin gave Example.*, which is no str or Prompt"),
        (["a", 7], "mine/set, example 2: its plugin gave 7, which is no str or Prompt"),
    ],
)
def test_a_set_of_a_plugin_with_other_rows_than_its_kind_is_named(rows: Any, message: str) -> None:
    named: NamedSet[str | Prompt] = NamedSet(lambda count, seed: rows, size=2)
    sets = Sets(lambda name: named, lambda name: None, lambda name: None)
    with pytest.raises(PluginError, match=message):
        load_prompts(sets, "mine/set", 2, 0)
