"""Head-to-head over files: both orders asked once, and summarised from the stored verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import echoing_world
import pytest

from tutelage.context import Context
from tutelage.errors import InputError
from tutelage.evaluation.intervals import NOTHING
from tutelage.plugins.registry import Registry
from tutelage.preferences.judging import PAIRWISE_RUBRIC
from tutelage.records import Model, Sampling, content_id
from tutelage.results.verdict_files import Answers, compare, is_verdicts, read_answers, read_verdicts
from tutelage.runs.durable import DurableStage

VERDICT = {"prompt_id": "p", "first": "a", "second": "b", "preference": 1.0, "first_words": 2, "second_words": 1}
OTHER = {**VERDICT, "first": "b", "second": "a", "preference": 0.0, "first_words": 1, "second_words": 2}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(*rows: Any, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def registry() -> Registry:
    registry = Registry.empty()
    registry.register(echoing_world, "numbers")
    return registry


def model(name: str, *texts: str) -> Answers:
    prompts = {content_id(f"say {number}"): f"say {number}" for number in range(len(texts))}
    return Answers(name, prompts, {(0, id): text for id, text in zip(prompts, texts, strict=True)})


def ask(registry: Registry, folder: Path, *models: Answers) -> Any:
    evaluator = Model("numbers")
    return compare(DurableStage(registry, evaluator, Context()), PAIRWISE_RUBRIC, Sampling(0.0), list(models), folder)


def test_stored_verdicts_are_summarised_without_other_files(write: Any) -> None:
    path = write(VERDICT, OTHER)
    assert is_verdicts(path)
    made = read_verdicts(path).head_to_head()
    (pair,) = made.pairs
    assert (pair.left, pair.right, pair.wins, pair.n) == ("a", "b", 1, 1)
    assert (made.winner_words.value, made.longer_wins.value) == (2.0, 1.0)


def test_without_lengths_there_are_no_length_metrics(write: Any) -> None:
    rows = [{key: value for key, value in row.items() if not key.endswith("words")} for row in (VERDICT, OTHER)]
    made = read_verdicts(write(*rows)).head_to_head()
    assert made.pairs[0].wins == 1
    assert {made.winner_words, made.loser_words, made.longer_wins} == {NOTHING}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "empty; at least one row is needed"),
        ([{**VERDICT, "preference": "a"}], "line 1: `preference` must be a number from 0 to 1"),
        ([{key: value for key, value in VERDICT.items() if key != "preference"}], "line 1: `preference` must be"),
        ([{**VERDICT, "prompt_id": None}], "line 1: `prompt_id` must be a text"),
        ([{**VERDICT, "seed": 0.5}], "line 1: `seed` must be a whole number"),
        ([VERDICT], "the other order of its two answers is missing; give both orders"),
        ([VERDICT, VERDICT, OTHER], "verdict .* occurs twice"),
        (
            [{**VERDICT, "preference": float("nan")}, OTHER],
            r"line 1: not a number of JSON \(use null for no value\): NaN",
        ),
        ([{**VERDICT, "preference": 1.5}, OTHER], "preference 1.5 is not between 0 and 1"),
    ],
)
def test_verdicts_that_do_not_fit_are_an_error(write: Any, rows: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_verdicts(write(*rows)).head_to_head()


def test_answers_are_read_from_outputs_and_from_plain_rows(write: Any) -> None:
    found = read_answers(write({"instruction": "say 1", "output": "1", "generator": "me"}))
    id = content_id("say 1")
    assert found == Answers("me", {id: "say 1"}, {(0, id): "1"})
    assert read_answers(write({"prompt": "say 1", "answer": "1"}, name="mine.jsonl")).model == "mine"
    with pytest.raises(InputError, match="line 2: the prompt 'say 1' is answered twice"):
        read_answers(write(*[{"prompt": "say 1", "answer": "1"}] * 2))
    with pytest.raises(InputError, match=r"answers of several models \(a, b\)"):
        read_answers(write(*({"prompt": name, "answer": "1", "model": name} for name in "ab")))


def test_both_orders_are_asked_and_kept_so_that_a_second_call_asks_nothing(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = model("right", "0", "1", "2"), model("wrong", "7", "1", "8"), model("other", "0", "9", "9")
    first = ask(registry, tmp_path, *models)
    before = (tmp_path / "verdicts.jsonl").read_bytes()
    assert len(first.verdicts) == 3 * 3 * 2
    monkeypatch.setattr("tutelage.plugins.stages.evaluate", None)  # any further call fails
    second = ask(registry, tmp_path, *models)
    assert (tmp_path / "verdicts.jsonl").read_bytes() == before
    assert second.head_to_head() == first.head_to_head()
    stored = read_verdicts(tmp_path / "verdicts.jsonl").head_to_head()
    assert stored.position_bias == first.head_to_head().position_bias
    assert {strength.model for strength in stored.ranking} == {"right", "wrong", "other"}
    tie = next(judged for judged in first.verdicts if judged.detail)
    assert (tie.preference, tie.detail) == (0.5, "equal answers, not asked")


def test_prompts_that_not_every_model_answered_are_counted(registry: Registry, tmp_path: Path) -> None:
    compared = ask(registry, tmp_path, model("a", "0", "1"), model("b", "1"))
    assert (len(compared.verdicts), compared.unmatched) == (2, 1)
    assert ask(registry, tmp_path / "other", model("a", "0"), model("b", "1", "1", "2")).unmatched == 2


def test_a_verdict_has_the_lengths_of_the_answers_in_the_order_of_its_comparison(
    registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    verdicts = ask(registry, tmp_path / "run", model("a", "0 0 0"), model("b", "1")).verdicts
    assert {(judged.first, judged.first_words, judged.second_words) for judged in verdicts} == {
        ("a", 3, 1),
        ("b", 1, 3),
    }


def test_models_of_one_name_or_without_a_common_prompt_are_an_error(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"two of the models have the same name \(a, a\)"):
        ask(registry, tmp_path, model("a", "0"), model("a", "1"))
    other = Answers("b", {"x": "x"}, {(0, "x"): "1"})
    with pytest.raises(InputError, match="a and b answered no prompt in common"):
        ask(registry, tmp_path, model("a", "0"), other)
