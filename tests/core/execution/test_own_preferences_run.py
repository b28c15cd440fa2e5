"""A run trains on preference pairs of the user, and its results, data and cards show them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import echoing_world
import pytest
from known import known
from recipes import numbers_recipe

from tutelage.cli.results import result_tables
from tutelage.errors import InputError
from tutelage.examples import Preference
from tutelage.execution.runner import run
from tutelage.exporting.card import Published, whole_card
from tutelage.files.trl_format import preference_row, read_preferences
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values
from tutelage.recipe.schema import Recipe
from tutelage.results.summary import Summary, read_summary
from tutelage.results.training_data import data_statistics, pair_counts, preferences_of, read_training_data
from tutelage.runs.run import RunModels
from tutelage.runs.status import run_status
from tutelage.runs.store import Store

Make = Callable[..., Recipe]
PAIRS = "seed-0/own-preferences/M2/preferences.jsonl"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_pairs(folder: Path) -> Path:
    """Twenty pairs with ids of the user; the prompt of the first one is an evaluation prompt."""
    pairs = [Preference("mine-0", "say 5007", "5007", "no", "mine-0/0", "mine-0/1")]
    for number in range(1, 20):
        id = f"mine-{number}"
        pairs.append(Preference(id, f"say {number}", f"{number}", f"{number} or so", f"{id}/0", f"{id}/1", 4.0, 2.0))
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(preference_row(pair)) + "\n" for pair in pairs))
    return path


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    return write_pairs(tmp_path)


def recipe_of_pairs_alone(pairs_file: Path) -> Recipe:
    """A recipe that trains on the user's pairs alone; all 1,000 held-out prompts are evaluation prompts."""
    values: dict[str, Any] = {
        "data": {"preferences": {"source": str(pairs_file), "count": 20}},
        "pipelines": {"own-preferences": None},
        "controls": {"sft-on-chosen": {"mirrors": "own-preferences"}},
        "iterations": 1,
        "evaluation": {
            "prompts": {"source": "numbers/held-out", "count": 1000},
            "sampled": 2,
            "agreement_prompts": 20,
            "rubric": "numbers/numbers",
        },
    }
    return from_values(numbers_recipe(**values))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the user's pairs alone; the file of pairs is beside it. No test changes them."""
    registry = Registry.empty()
    registry.register(echoing_world, "numbers")
    folder = tmp_path_factory.mktemp("own-preferences")
    assert run(recipe_of_pairs_alone(write_pairs(folder)), folder / "run", registry)
    return folder / "run"


@pytest.fixture
def summary(finished: Path) -> Summary:
    return read_summary(finished / "summary.json")


def test_plain_dpo_on_given_pairs_improves_the_base_model(summary: Summary) -> None:
    assert [model.id for model in summary.models] == ["M0", "M2/own-preferences", "M2/sft-on-chosen"]
    score = {model.id: known(model.metrics["gold_score"].value) for model in summary.models}
    assert score["M0"] < score["M2/own-preferences"]
    assert {(one.left, one.right) for one in summary.differences} == {
        ("M2/own-preferences", "M0"),
        ("M2/sft-on-chosen", "M0"),
        ("M2/own-preferences", "M2/sft-on-chosen"),
    }


def test_a_pair_with_an_evaluation_prompt_is_dropped_counted_and_listed(finished: Path) -> None:
    store = Store(finished)
    assert store.finished_steps()[PAIRS].counts == {"pairs": 19, "holds an evaluation prompt": 1}
    [dropped] = rows(store.path("seed-0/own-preferences/M2/preferences-dropped.jsonl"))
    assert (dropped["text"], dropped["like"], dropped["source"]) == ("say 5007", "say 5007", "numbers/held-out")
    assert "say 5007" not in {pair.prompt for pair in read_preferences(store.path(PAIRS))}


def test_the_pairs_keep_the_ids_of_the_user(finished: Path) -> None:
    given = {pair.id: pair for pair in read_preferences(finished.parent / "pairs.jsonl")}
    kept = read_preferences(finished / PAIRS)
    assert len(kept) == 19
    assert all(given[pair.id] == pair for pair in kept)
    assert preferences_of(RunModels.open(finished), "M2/own-preferences") == kept


def test_the_gain_is_shown_over_the_base_model_if_there_is_no_m1(summary: Summary) -> None:
    _, gains, _ = result_tables(summary)
    assert gains.title == "Gain over M0"
    assert [row[0] for row in gains.rows] == ["M2/own-preferences", "M2/sft-on-chosen"]


def test_the_given_pairs_are_shown_as_two_answers_with_their_sides(finished: Path) -> None:
    models = RunModels.open(finished)
    data = read_training_data(models, "M2/own-preferences")
    assert len(data) == 19
    for row in data:
        [pair] = row.pairs
        assert [scored.candidate.id for scored in row.candidates] == [pair.chosen_id, pair.rejected_id]
        assert [(scored.candidate.text, scored.score) for scored in row.candidates] == [
            (pair.chosen, 4.0),
            (pair.rejected, 2.0),
        ]
    found = data_statistics(data, pair_counts(models, "M2/own-preferences"))
    assert (found.prompts, found.candidates, found.pairs, found.margin) == (19, 38, 19, 2.0)


def test_the_card_and_the_status_know_the_pairs(finished: Path) -> None:
    models = RunModels.open(finished)
    text = whole_card(models, models.planned("M2/own-preferences"), Published("me/mine"))
    assert "aligned by `own-preferences` (DPO on the pairs of `data.preferences`, without sampling or judging)" in text
    assert "| M2/own-preferences | M0 | DPO, reference M0 | 19 pairs | 19 |" in text
    assert f"| preferences | 19 pairs (1 holds an evaluation prompt) | {PAIRS} |" in text
    assert all(step.state == "done" for step in run_status(finished).steps)
    assert models.last() == "M2/own-preferences"


def test_the_users_pairs_and_those_of_the_round_are_trained_on_together(
    tmp_path: Path, make_recipe: Make, numbers_registry: Registry, pairs_file: Path
) -> None:
    data = {
        "ift": {"source": "numbers/ift", "count": 8},
        "prompts": {"source": "numbers/train", "count": 40},
        "preferences": {"source": str(pairs_file), "count": 20, "join": ["self-reward"]},
    }
    pipelines, controls = {"self-reward": None}, {"random-pairs": {"mirrors": "self-reward"}}
    recipe = make_recipe(data=data, pipelines=pipelines, controls=controls, iterations=1)
    assert run(recipe, tmp_path / "run", numbers_registry)
    store = Store(tmp_path / "run")
    for name in ("self-reward", "random-pairs"):
        own_round = read_preferences(store.path(f"seed-0/{name}/M2/preferences.jsonl"))
        joined = read_preferences(store.path(f"seed-0/{name}/M2/preferences-joined.jsonl"))
        given = read_preferences(store.path("seed-0/own-preferences.jsonl"))
        assert joined == [*given, *own_round]
        assert len(given) >= 19 and own_round
        trained = store.finished_steps()[f"seed-0/{name}/M2/checkpoint"].counts
        assert trained == {"steps": len(joined)}


def test_a_row_that_became_wrong_stops_before_the_first_step(
    tmp_path: Path, numbers_registry: Registry, pairs_file: Path
) -> None:
    with pairs_file.open("a") as file:
        file.write(json.dumps({"prompt": [], "chosen": [], "rejected": []}) + "\n")
    with pytest.raises(InputError, match=r"pairs\.jsonl, line 21: `prompt` must be a list of messages"):
        run(recipe_of_pairs_alone(pairs_file), tmp_path / "run", numbers_registry)
    assert not (tmp_path / "run").exists()
