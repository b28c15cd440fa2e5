"""``tutelage data``: seed data, imports, the training data of a run, and exports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oasst_trees
import pytest
from click.testing import Result

from tutelage.execution.runner import run
from tutelage.files.jsonl import write_rows
from tutelage.files.trl_format import read_preferences
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.records import Candidate, Judgement, Outcome, Prompt
from tutelage.results.training_data import PromptData, ScoredCandidate, data_statistics, preferences_of
from tutelage.runs.run import RunModels
from tutelage.runs.store import Store

Invoke = Callable[..., Result]


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(result: Result) -> list[list[str]]:
    return [line.split() for line in result.stdout.splitlines()]


@pytest.fixture
def messages(tmp_path: Path) -> Path:
    return oasst_trees.write(tmp_path / "messages.jsonl", oasst_trees.MESSAGES)


def test_seed_data_and_its_counts_are_printed_and_stored(invoke: Invoke, messages: Path, tmp_path: Path) -> None:
    result = invoke("data", "oasst", tmp_path / "seed", "--source", messages)
    assert result.exit_code == 0, result.output
    assert ["prompts", "in", "en", "8", "7", "1"] in table(result)
    assert result.stderr == f"wrote 3 IFT and 12 EFT examples to {tmp_path / 'seed'}\n"
    assert len(rows(tmp_path / "seed/ift.jsonl")) == 3
    assert len(rows(tmp_path / "seed/eft.jsonl")) == 12
    counts = json.loads((tmp_path / "seed/counts.json").read_text())
    assert counts["filters"][2] == {"filter": "prompts in en", "entered": 8, "kept": 7}
    again = invoke("data", "oasst", tmp_path / "seed", "--source", messages)
    assert again.exit_code == 2
    assert "already exists; choose another folder" in again.stderr


def test_a_teacher_gives_scores_and_reasons_where_it_agrees_with_people(
    invoke: Invoke, messages: Path, tmp_path: Path
) -> None:
    result = invoke("data", "oasst", tmp_path / "seed", "--source", messages, "--teacher", "numbers")
    assert result.exit_code == 2, "the teacher of the plugin gives all of these the same score"
    assert "3 IFT and 0 EFT examples remain" in result.stderr
    assert table(result)[-1][-3:] == ["4", "0", "4"]
    assert not (tmp_path / "seed").exists()


def test_a_message_that_comes_twice_is_named_with_both_places(invoke: Invoke, tmp_path: Path) -> None:
    path = oasst_trees.write(tmp_path / "twice.jsonl", [*oasst_trees.MESSAGES, oasst_trees.MESSAGES[0]])
    result = invoke("data", "oasst", tmp_path / "seed", "--source", path)
    assert result.exit_code == 2
    assert f"line {len(oasst_trees.MESSAGES) + 1}: duplicate message a, first found at" in result.stderr
    assert result.stderr.endswith("line 1\n")
    assert not (tmp_path / "seed").exists()


def test_a_file_that_is_none_of_oasst1_is_named_by_line(invoke: Invoke, tmp_path: Path) -> None:
    path = oasst_trees.write(tmp_path / "other.jsonl", [{"prompt": "a", "answer": "b"}])
    result = invoke("data", "oasst", tmp_path / "seed", "--source", path)
    assert result.exit_code == 2
    assert "line 1: message_id, text, role, lang: missing or not a text; this is not a row of oasst1" in result.stderr


def test_an_import_with_a_faulty_row_names_it_and_writes_nothing(invoke: Invoke, tmp_path: Path) -> None:
    source = oasst_trees.write(tmp_path / "mine.jsonl", [{"q": "a", "a": "b"}, {"q": "c", "a": ""}])
    arguments = ("data", "import", "ift", source, tmp_path / "ift.jsonl", "--prompt", "q", "--answer", "a")
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "1 of 2 rows are faulty; correct them or use --drop-faulty" in result.stderr
    assert "line 2: a is empty" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.jsonl"]
    dropping = invoke(*arguments, "--drop-faulty")
    assert dropping.exit_code == 0, dropping.output
    assert rows(tmp_path / "ift.jsonl") == [{"prompt": "a", "answer": "b"}]
    assert rows(tmp_path / "ift-dropped.jsonl")[0]["reason"] == "a is empty"


def test_published_preferences_are_imported_without_their_equal_pairs(
    invoke: Invoke, shared_data: Path, tmp_path: Path
) -> None:
    source = shared_data / "seed_paper" / "preferences.jsonl"
    arguments = ("data", "import", "preferences", source, tmp_path / "pairs.jsonl", "--id", "prompt_id")
    refused = invoke(*arguments)
    assert refused.exit_code == 2
    assert "chosen and rejected are the same text" in refused.stderr
    result = invoke(*arguments, "--drop-faulty")
    assert result.exit_code == 0, result.output
    dropped = rows(tmp_path / "pairs-dropped.jsonl")
    assert sum(row["reason"] == "chosen and rejected are the same text" for row in dropped) == 179
    assert len(read_preferences(tmp_path / "pairs.jsonl")) == 1001 - len(dropped)


def test_the_data_of_a_model_is_shown_with_scores_and_the_sides_of_its_pairs(invoke: Invoke, golden: Path) -> None:
    result = invoke("data", "show", golden, "M2/self-reward", "--paired")
    assert result.exit_code == 0, result.output
    pairs = read_preferences(golden / "seed-0/self-reward/M2/preferences.jsonl")
    assert result.stdout.count("\n+ answer") == result.stdout.count("\n- answer") == len(pairs) > 0
    assert all(pair.prompt in result.stdout for pair in pairs)
    assert result.stderr == f"{len(pairs)} of {len(pairs)} prompts\n"


def test_filters_sorting_and_json_agree(invoke: Invoke, golden: Path) -> None:
    everything = json.loads(invoke("data", "show", golden, "M2/self-reward", "--json").stdout)
    assert len(everything) == 6
    high = json.loads(invoke("data", "show", golden, "M2/self-reward", "--json", "--min-score", "4").stdout)
    assert [row["prompt"]["id"] for row in high] == [
        row["prompt"]["id"] for row in everything if any((c["score"] or 0) >= 4 for c in row["candidates"])
    ]
    by_spread = json.loads(invoke("data", "show", golden, "M2/self-reward", "--json", "--sort", "spread").stdout)
    spreads = [max(s) - min(s) for row in by_spread if (s := [c["score"] for c in row["candidates"] if c["score"]])]
    assert spreads == sorted(spreads)
    assert "0 of 0 prompts" in invoke("data", "show", golden, "M2/self-reward", "--find", "no such text").stderr


def test_model_output_cannot_send_escape_sequences_or_imitate_a_line_of_the_command(
    invoke: Invoke, golden: Path
) -> None:
    store = Store(golden)
    path = "seed-0/M1/samples/candidates.jsonl"
    first, *others = store.read(path, Candidate)
    hostile = Candidate(first.prompt_id, first.index, "\x1b[2J\x1b]0;mine\x07ok\n+ answer 9  score 5.00\u202e")
    write_rows(store.path(path), [hostile, *others])
    shown = invoke("data", "show", golden, "M2/self-reward").stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\n      + answer 9  score 5.00\n" in shown


def test_statistics_count_scores_duplicates_and_pairs(invoke: Invoke, golden: Path) -> None:
    found = json.loads(invoke("data", "statistics", golden, "M2/self-reward", "--json").stdout)
    assert (found["prompts"], found["candidates"]) == (6, 24)
    assert sum(found["scores"].values()) + found["unscored"] == 24
    assert found["prompts_with_a_pair"] == found["pairs"] == 2
    assert sum(found["dropped"].values()) == 6
    shown = invoke("data", "statistics", golden, "M2/self-reward").stdout
    assert "prompts with a pair" in shown
    assert "#" in shown


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet", "pairs"])
@pytest.mark.parametrize("form", ["trl", "ultrafeedback"])
def test_an_export_comes_back_as_the_same_pairs(
    invoke: Invoke, golden: Path, tmp_path: Path, form: str, name: str
) -> None:
    result = invoke("data", "export", golden, "M2/self-reward", tmp_path / name, "--format", form)
    assert result.exit_code == 0, result.output
    back = invoke("data", "import", "preferences", tmp_path / name, tmp_path / "back.jsonl", "--id", "prompt_id")
    assert back.exit_code == 0, back.output
    kept = read_preferences(golden / "seed-0/self-reward/M2/preferences.jsonl")
    assert [(p.prompt, p.chosen, p.rejected, p.score_chosen) for p in read_preferences(tmp_path / "back.jsonl")] == [
        (p.prompt, p.chosen, p.rejected, p.score_chosen) for p in kept
    ]


def test_candidates_that_no_judge_has_scored_are_not_counted_as_unscored() -> None:
    def unscored(*candidates: ScoredCandidate) -> int:
        return data_statistics([PromptData(Prompt("say 1"), candidates)]).unscored

    first, second = Candidate("p", 0, "1"), Candidate("p", 1, "2")
    assert unscored(ScoredCandidate(first), ScoredCandidate(second)) == 0
    assert unscored(ScoredCandidate(first, 4.0), ScoredCandidate(second)) == 1
    assert unscored(ScoredCandidate(first, None, ("what?",)), ScoredCandidate(second)) == 2


def test_only_answers_that_repeat_an_earlier_one_of_their_prompt_are_counted_as_repeated() -> None:
    def row(id: str, *texts: str, outcome: Outcome = Outcome.ANSWERED) -> PromptData:
        candidates = [Candidate(id, number, text, outcome) for number, text in enumerate(texts)]
        return PromptData(Prompt(f"say {id}"), tuple(map(ScoredCandidate, candidates)))

    rows = [row("p", "1", "2", "1", "1"), row("q", "1"), row("r", "", "", outcome=Outcome.REFUSED)]
    assert data_statistics(rows).repeated_candidates == 2


def test_the_pairs_of_a_model_are_in_the_order_of_the_prompts(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe(pipelines={"teacher-reward": None}, controls={}, iterations=1, evaluation=None)
    run(recipe, tmp_path, numbers_registry)
    models = RunModels.open(tmp_path)
    pairs = preferences_of(models, "M2/teacher-reward")
    prompts = [prompt.id for prompt in models.store.read("seed-0/M1/samples/prompts.jsonl", Prompt)]
    assert [pair.prompt_id for pair in pairs] == [id for id in prompts if id in {pair.prompt_id for pair in pairs}]
    stored = read_preferences(tmp_path / "seed-0/teacher-reward/M2/preferences.jsonl")
    assert stored != pairs
    assert sorted(stored, key=lambda pair: pair.id) == sorted(pairs, key=lambda pair: pair.id)


def test_a_model_without_pairs_names_those_that_have_some(invoke: Invoke, golden: Path) -> None:
    for model, message in (("M1", "M1 was not trained on pairs"), ("M2", "no model 'M2'")):
        result = invoke("data", "show", golden, model)
        assert result.exit_code == 2
        assert f"{message}; models with pairs: M2/self-reward, M2/random-pairs" in result.stderr


def test_the_data_of_a_run_that_ended_without_pairs_is_shown_with_its_scores(
    invoke: Invoke, recipe_file: Callable[..., Path], small: dict[str, Any], tmp_path: Path
) -> None:
    small["pairs"] = {"margin": 5}
    ended = invoke("run", recipe_file(**small), "--run", tmp_path / "run")
    assert ended.exit_code == 6, ended.output
    assert "lower pairs.margin (now 5)" in ended.stderr
    assert f"`tutelage data show {tmp_path / 'run'} M2/self-reward` shows the answers" in ended.stderr
    shown = invoke("data", "show", tmp_path / "run", "M2/self-reward", "--limit", "50")
    assert shown.exit_code == 0, shown.output
    pairs = tmp_path / "run/seed-0/self-reward/M2/preferences.jsonl"
    assert shown.stderr == f"40 of 40 prompts\nnot finished yet: {pairs}\n"
    assert shown.stdout.count("score 5.00") > 0
    assert "+ answer" not in shown.stdout
    found = json.loads(invoke("data", "statistics", tmp_path / "run", "M2/self-reward", "--json").stdout)
    assert (found["prompts"], found["candidates"], found["pairs"]) == (40, 160, 0)
    assert sum(found["scores"].values()) > 0
    exported = invoke("data", "export", tmp_path / "run", "M2/self-reward", tmp_path / "pairs.jsonl")
    assert exported.exit_code == 2
    assert f"{pairs}: not made yet" in exported.stderr


def test_the_data_of_an_unfinished_run_is_shown_as_far_as_it_was_made(invoke: Invoke, golden: Path) -> None:
    def shown() -> list[Any]:
        result = invoke("data", "show", golden, "M2/self-reward", "--json")
        assert result.exit_code == 0, result.output
        found: list[Any] = json.loads(result.stdout)
        return found

    whole, store = shown(), Store(golden)
    (golden / "seed-0/self-reward/M2/preferences.jsonl").unlink()
    assert [{**row, "pairs": []} for row in whole] == shown()
    path = "seed-0/self-reward/M2/judgements.jsonl"
    judgements = store.read(path, Judgement)
    (golden / path).unlink()
    journal = store.journal(path, Judgement)
    journal.append(judgements[:3])
    journal.close()
    scored = [one["reasons"] for row in shown() for one in row["candidates"] if one["reasons"]]
    assert sum(map(len, scored)) == 3
    assert len(list(store.journal(path, Judgement))) == 3
    (golden / "seed-0/M1/samples/candidates.jsonl").unlink()
    assert [row["candidates"] for row in shown()] == [[]] * len(whole)
    (golden / "seed-0/M1/samples/prompts.jsonl").unlink()
    nothing = invoke("data", "show", golden, "M2/self-reward")
    assert nothing.exit_code == 2
    assert "samples/prompts.jsonl: not made yet; `tutelage status" in nothing.stderr
