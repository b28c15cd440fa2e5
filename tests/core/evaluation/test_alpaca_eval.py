import csv
import math
from pathlib import Path
from typing import Any

import pytest
from known import known

from tutelage.errors import InputError
from tutelage.evaluation.alpaca_eval import Annotation, win_rates
from tutelage.evaluation.length_control import LengthControlled, LengthTables, Weights, from_published_weights
from tutelage.results.alpaca_eval_files import read_annotations, read_outputs, read_tables

DATA = Path(__file__).parents[4] / "shared" / "data" / "alpaca_eval"
MODELS = ("phi-2", "alpaca-7b")

needs_the_published_annotations = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"the published annotations are not at {DATA}"
)


def published(model: str) -> list[Annotation]:
    return read_annotations(DATA / model / "weighted_alpaca_eval_gpt4_turbo.json")


def leaderboard(model: str) -> dict[str, float]:
    with (DATA / "leaderboard.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row[""] == model)
    return {key: float(value) for key, value in row.items() if key not in ("", "mode") and value}


def annotations(*preferences: float | None) -> list[Annotation]:
    return [Annotation(f"do {number}", "a", "b", value) for number, value in enumerate(preferences)]


@needs_the_published_annotations
@pytest.mark.parametrize("model", MODELS)
def test_the_leaderboards_figures_are_reproduced(model: str) -> None:
    made, stated = win_rates(published(model)), leaderboard(model)
    for key in ("win_rate", "standard_error", "discrete_win_rate"):
        assert getattr(made, key) == pytest.approx(stated[key], abs=1e-9), key
    for key in ("n_wins", "n_wins_base", "n_draws", "n_total"):
        assert getattr(made, key) == stated[key], key
    assert made.unparsed == 0
    assert known(made.low) < known(made.win_rate) < known(made.high)


@needs_the_published_annotations
@pytest.mark.parametrize("model", MODELS)
def test_the_leaderboards_length_controlled_win_rate_follows_from_the_two_tables(model: str) -> None:
    made = from_published_weights(published(model), read_tables(DATA))
    assert made.win_rate == pytest.approx(leaderboard(model)["length_controlled_winrate"], abs=1e-6)
    assert made.by_instruction is None


@needs_the_published_annotations
def test_each_instruction_with_its_own_difficulty_differs_where_rows_are_missing() -> None:
    number = {row.instruction: n for n, row in enumerate(read_outputs(DATA / "gpt4_1106_preview/model_outputs.json"))}
    tables = read_tables(DATA)
    found = {}
    for model in MODELS:
        rows = published(model)
        found[model] = from_published_weights(rows, tables, [number[row.instruction] for row in rows])
    assert found["alpaca-7b"].by_instruction == pytest.approx(found["alpaca-7b"].win_rate)
    assert found["phi-2"].by_instruction == pytest.approx(4.387917, abs=1e-6)
    assert found["phi-2"].win_rate == pytest.approx(4.398682, abs=1e-6)


@needs_the_published_annotations
def test_published_weights_give_no_win_rate_for_other_annotations() -> None:
    tables, rows = read_tables(DATA), published("phi-2")

    def note(**changes: object) -> str:
        made = from_published_weights([_changed(row, **changes) for row in rows], tables)
        assert made.win_rate is None
        return made.note

    assert "no model 'my-phi'" in note(generator_2="my-phi")
    assert "for the annotator weighted_alpaca_eval_gpt4_turbo" in note(annotator="a local judge")
    assert "not the published annotations of 'phi-2'" in note(preference=1.5)
    assert from_published_weights([], tables) == LengthControlled(note="there are no annotations")


def test_more_annotations_than_difficulties_have_no_figure() -> None:
    rows = [_changed(row, annotator="weighted_alpaca_eval_gpt4_turbo") for row in annotations(1.0, 1.0)]
    rows = [_changed(row, generator_1="gpt4_1106_preview", generator_2="m") for row in rows]
    made = from_published_weights(rows, LengthTables([0.0], {"m": Weights(0.0, 0.0, 0.0)}))
    assert (made.win_rate, made.note) == (None, "2 annotations, and the table of difficulties has 1 rows")


def test_win_rates_of_a_few_preferences_match_a_manual_computation() -> None:
    made = win_rates(annotations(1.0, 2.0, 1.5, 1.25, None))
    assert made.win_rate == pytest.approx(100 * (0 + 1 + 0.5 + 0.25) / 4)
    assert made.discrete_win_rate == pytest.approx(100 * (1 + 0.5) / 4)
    deviations = [value - 0.4375 for value in (0, 1, 0.5, 0.25)]
    assert made.standard_error == pytest.approx(100 * math.sqrt(sum(d * d for d in deviations) / 3 / 4))
    assert (made.n_wins, made.n_draws, made.n_wins_base, made.n_total, made.unparsed) == (1, 1, 2, 4, 1)
    assert win_rates(annotations(0.0)).win_rate == 50.0


def test_the_win_rate_does_not_depend_on_the_order_of_the_rows() -> None:
    rows = annotations(1.0, 2.0, 1.5, 1.25, 1.9)
    assert win_rates(rows) == win_rates(rows[::-1])


def test_nothing_parsed_is_no_figure() -> None:
    made = win_rates(annotations(None, None))
    assert (made.win_rate, made.low, made.standard_error, made.discrete_win_rate) == (None,) * 4
    assert (made.n_total, made.unparsed) == (0, 2)
    assert win_rates([]).win_rate is None
    assert win_rates(annotations(2.0)).standard_error is None


@pytest.mark.parametrize("wrong", [0.5, 2.5, -1.0, float("inf")])
def test_a_preference_off_the_scale_is_an_error(wrong: float) -> None:
    with pytest.raises(InputError, match="is not between 1 and 2"):
        win_rates(annotations(1.0, wrong))


def test_annotations_of_several_models_or_of_one_instruction_twice_are_an_error() -> None:
    with pytest.raises(InputError, match="is annotated twice; give one annotation per instruction"):
        win_rates(annotations(1.0) * 2)
    one, other = annotations(1.0, 1.0)
    with pytest.raises(InputError, match="generator_2 differs between the annotations: a, b"):
        win_rates([_changed(one, generator_2="a"), _changed(other, generator_2="b")])


@needs_the_published_annotations
@pytest.mark.parametrize("model", MODELS)
def test_the_library_computes_the_same(model: str) -> None:
    pytest.importorskip("alpaca_eval", reason="needs the extra alpacaeval", exc_type=ImportError)
    from attrs import asdict

    from tutelage.alpaca_eval.library import importing

    with importing():
        from alpaca_eval.metrics import get_winrate
    rows = published(model)
    rows += [_changed(rows[0], instruction="no reply", preference=None)]
    made, theirs = win_rates(rows), get_winrate([asdict(row) for row in rows])
    assert {"win_rate", "standard_error", "n_total"} <= theirs.keys()
    for key, value in theirs.items():
        assert getattr(made, key) == pytest.approx(value, abs=1e-9), key


def _changed(annotation: Annotation, **changes: Any) -> Annotation:
    from attrs import evolve

    return evolve(annotation, **changes)
