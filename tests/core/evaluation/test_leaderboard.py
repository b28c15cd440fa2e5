"""Published annotations are recognised; renamed, shortened and shuffled ones give no length-controlled win rate."""

import random
from pathlib import Path

import pytest
from attrs import evolve

from tutelage.evaluation.alpaca_eval import Annotation
from tutelage.evaluation.leaderboard import DIGESTS, LEAST_AGREEMENT, LeaderboardRow, agreement, digest
from tutelage.evaluation.length_control import ANNOTATOR, BASELINE, LengthTables, Weights, from_published_weights
from tutelage.results.alpaca_eval_files import read_annotations, read_tables

DATA = Path(__file__).parents[4] / "shared" / "data" / "alpaca_eval"
MODELS = ("alpaca-7b", "phi-2")

needs_the_published_annotations = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"the published annotations are not at {DATA}"
)


def published(model: str) -> list[Annotation]:
    return read_annotations(DATA / model / "weighted_alpaca_eval_gpt4_turbo.json")


def shuffled(rows: list[Annotation], seed: int) -> list[Annotation]:
    """The same instructions and outputs with the preferences of others."""
    preferences = [row.preference for row in rows]
    random.Random(seed).shuffle(preferences)
    return [evolve(row, preference=preference) for row, preference in zip(rows, preferences, strict=True)]


@pytest.fixture
def no_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digests of no model are known, as for most models of the leaderboard."""
    monkeypatch.setattr("tutelage.evaluation.leaderboard.DIGESTS", {})


@needs_the_published_annotations
@pytest.mark.parametrize("model", MODELS)
def test_published_annotations_have_their_digest_in_any_order(model: str) -> None:
    rows = published(model)
    assert digest(rows) == digest(rows[::-1]) == DIGESTS[model]


@needs_the_published_annotations
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("attack", ["renamed", "shortened", "one preference", "one output", "shuffled"])
def test_changed_annotations_of_a_model_with_a_digest_have_no_figure(model: str, attack: str) -> None:
    """Renamed, shortened and shuffled annotations printed a figure of the leaderboard."""
    rows = published(model)
    (other,) = set(MODELS) - {model}
    changed = {
        "renamed": [evolve(row, generator_2=other) for row in rows],
        "shortened": rows[:-1],
        "one preference": [evolve(rows[0], preference=1.25), *rows[1:]],
        "one output": [evolve(rows[0], output_2="another"), *rows[1:]],
        "shuffled": shuffled(rows, 0),
    }[attack]
    made = from_published_weights(changed, read_tables(DATA))
    assert made.win_rate is None
    assert made.note == (
        f"these are not the published annotations of {changed[0].generator_2!r}: their digest is another one"
    )


@needs_the_published_annotations
@pytest.mark.usefixtures("no_digests")
@pytest.mark.parametrize("model", MODELS)
def test_without_a_digest_annotations_are_recognised_by_the_published_results(model: str) -> None:
    rows, tables = published(model), read_tables(DATA)
    assert from_published_weights(rows, tables).note == "from the published weights"
    (other,) = set(MODELS) - {model}
    notes = {
        "renamed": from_published_weights([evolve(row, generator_2=other) for row in rows], tables).note,
        "shortened": from_published_weights(rows[:-1], tables).note,
        "another preference": from_published_weights([evolve(rows[0], preference=1.25), *rows[1:]], tables).note,
    }
    assert ": n_total is " in notes["renamed"] and ": n_total is " in notes["shortened"]
    assert ": win_rate is " in notes["another preference"]
    unknown = from_published_weights(rows, LengthTables(tables.difficulty, tables.weights))
    assert unknown.win_rate is None and "put leaderboard.csv beside the tables, or install alpaca_eval" in unknown.note


@needs_the_published_annotations
@pytest.mark.usefixtures("no_digests")
@pytest.mark.parametrize("model", MODELS)
def test_without_a_digest_shuffled_preferences_are_recognised_by_the_weights(model: str) -> None:
    """Shuffled preferences keep the win rate, its standard error and all counts."""
    rows, tables = published(model), read_tables(DATA)
    found = [from_published_weights(shuffled(rows, seed), tables) for seed in range(20)]
    assert {made.note for made in found} == {
        f"these are not the published annotations of {model!r}: the preferences belong to other instructions"
    }


def test_the_agreement_is_the_standard_score_of_the_correlation() -> None:
    rows = [Annotation(str(number), "a", "b", 1.0 + number / 4) for number in range(5)]
    assert agreement(rows, [0.0, 1.0, 2.0, 3.0, 4.0]) == pytest.approx(2.0)  # correlation 1, square root of 5 - 1
    assert agreement(rows, [4.0, 3.0, 2.0, 1.0, 0.0]) == pytest.approx(-2.0)
    without = [*rows, Annotation("unparsed", "a", "b", None)]
    assert agreement(without, [0.0, 1.0, 2.0, 3.0, 4.0, 99.0]) == pytest.approx(2.0)


def test_equal_preferences_belong_to_any_instruction() -> None:
    """The baseline against itself: each preference is a draw and each weight is 0."""
    rows = [Annotation(str(number), "a" * number, "b", 1.5, BASELINE, BASELINE, ANNOTATOR) for number in range(1, 5)]
    tables = LengthTables([0.0] * 4, {BASELINE: Weights(0.0, 0.0, 0.0)}, {BASELINE: LeaderboardRow(50.0, 0.0, 4)})
    assert agreement(rows, [0.0] * 4) > LEAST_AGREEMENT
    assert from_published_weights(rows, tables).win_rate == 50.0
