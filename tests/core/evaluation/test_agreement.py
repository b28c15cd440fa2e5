import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known import known
from scipy import stats

from tutelage.errors import InputError
from tutelage.evaluation.agreement import Agreement, Rating, agreement, ratings
from tutelage.evaluation.intervals import NOTHING, Bootstrap
from tutelage.evaluation.published import published_ratings
from tutelage.files.jsonl import read_rows
from tutelage.preferences.judging import average
from tutelage.records import Judgement

SEED_PAPER = Path(__file__).parents[4] / "shared" / "data" / "seed_paper"
FEW = Bootstrap(resamples=50)

needs_the_published_scores = pytest.mark.skipif(
    not SEED_PAPER.is_dir(), reason=f"the published score files are not at {SEED_PAPER}"
)


def published(name: str) -> list[Rating]:
    return published_ratings(read_rows(SEED_PAPER / name), name)


def rows(*groups: Sequence[float | None]) -> list[Rating]:
    return [Rating(f"{p}/{i}", str(p), score) for p, group in enumerate(groups) for i, score in enumerate(group)]


def values(made: Agreement) -> dict[str, float | None]:
    names = ("pairwise_accuracy", "five_best", "exact_match", "spearman", "kendall_tau")
    return {name: getattr(made, name).value for name in names}


@needs_the_published_scores
def test_the_published_figures_are_reproduced() -> None:
    made = agreement(published("m1_scores.jsonl"), published("gpt4_scores.jsonl"), as_published=True)
    assert {name: round(known(value), 4) for name, value in values(made).items()} == {
        "pairwise_accuracy": 0.3825,
        "five_best": 0.5711,
        "exact_match": 0.03,
        "spearman": 0.1030,
        "kendall_tau": 0.0898,
    }
    assert (made.pairwise_accuracy.n, made.five_best.n, made.exact_match.n, made.spearman.n) == (800, 401, 200, 800)


@needs_the_published_scores
def test_the_corrected_figures_match_an_independent_computation() -> None:
    judge, gold = published("m1_scores.jsonl"), published("gpt4_scores.jsonl")
    made = agreement(judge, gold)
    by_id = {rating.id: rating.score for rating in gold}
    groups: dict[str, list[tuple[float, float]]] = {}
    for rating in judge:
        gold_score = by_id[rating.id]
        if rating.score is not None and gold_score is not None:
            groups.setdefault(rating.prompt_id, []).append((rating.score, gold_score))
    pairs = [(a, b) for g in groups.values() for i, a in enumerate(g) for b in g[i + 1 :] if a[1] != b[1]]
    right = [np.sign(a[0] - b[0]) == np.sign(a[1] - b[1]) for a, b in pairs]
    fives = [own[1] == max(score for _, score in g) for g in groups.values() for own in g if own[0] == 5]
    ranks = [[stats.rankdata(side) for side in zip(*g, strict=True)] for g in groups.values()]
    exact = [np.array_equal(own, reference) for own, reference in ranks]
    pooled = np.array([item for g in groups.values() for item in g])
    within = [np.array(g) for g in groups.values()]
    within = [g for g in within if len(set(g[:, 0])) > 1 and len(set(g[:, 1])) > 1]
    expected = {
        "pairwise_accuracy": np.mean(right),
        "five_best": np.mean(fives),
        "exact_match": np.mean(exact),
        "spearman": stats.spearmanr(*pooled.T).statistic,
        "kendall_tau": stats.kendalltau(*pooled.T).statistic,
    }
    assert values(made) == pytest.approx(expected, abs=1e-9)
    assert made.spearman_within.value == pytest.approx(np.mean([stats.spearmanr(*g.T).statistic for g in within]))
    assert made.kendall_within.value == pytest.approx(np.mean([stats.kendalltau(*g.T).statistic for g in within]))
    assert (round(known(made.pairwise_accuracy.value), 3), made.pairwise_accuracy.n) == (0.344, 575)
    assert (made.five_best.value, made.five_best.n) == (0.645, 400)
    assert (made.items, made.unmatched, made.parsed.value) == (798, 0, 0.99875)


@needs_the_published_scores
def test_shuffling_the_rows_changes_nothing_unless_they_are_joined_by_position() -> None:
    judge, gold = published("m1_scores.jsonl"), published("gpt4_scores.jsonl")
    shuffled = random.Random(0).sample(judge, len(judge))
    assert agreement(shuffled, gold) == agreement(judge, gold)
    assert agreement(shuffled, gold, as_published=True) != agreement(judge, gold, as_published=True)


SCORES = st.none() | st.sampled_from([0.0, 1.0, 2.5, 4.5, 5.0])
GROUPS = st.lists(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=4), min_size=1, max_size=6)


@settings(max_examples=60)
@given(GROUPS)
def test_the_pooled_correlations_are_scipys_in_the_data_and_in_every_resample(
    groups: list[list[tuple[float | None, float | None]]],
) -> None:
    judge, gold = (rows(*([item[side] for item in group] for group in groups)) for side in (0, 1))
    made = agreement(judge, gold, bootstrap=FEW)
    both = np.array([item for group in groups for item in group if None not in item], float).reshape(-1, 2)
    for metric, reference in ((made.spearman, stats.spearmanr), (made.kendall_tau, stats.kendalltau)):
        if len(both) < 2 or min(len(set(both[:, 0])), len(set(both[:, 1]))) < 2:
            assert metric == NOTHING
        else:
            assert metric.value == pytest.approx(reference(*both.T).statistic, abs=1e-9)


def test_a_resampled_correlation_is_the_one_of_the_repeated_items() -> None:
    from tutelage.evaluation.correlations import Cells, kendall_tau, spearman

    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 6, size=(2, 40)).astype(float)
    times = generator.integers(0, 4, size=40)
    cells = Cells.of(first, second)
    counts = np.bincount(cells.of_item, weights=times).astype(float)[None]
    repeated = np.repeat(first, times), np.repeat(second, times)
    assert spearman(counts, cells)[0] == pytest.approx(stats.spearmanr(*repeated).statistic)
    assert kendall_tau(counts, cells)[0] == pytest.approx(stats.kendalltau(*repeated).statistic)


def test_continuous_scores_of_many_items_are_correlated_in_blocks() -> None:
    generator = np.random.default_rng(1)
    gold = generator.random((375, 4)) * 5
    judge = np.clip(gold + generator.normal(size=gold.shape), 0, 5)
    made = agreement(rows(*judge.tolist()), rows(*gold.tolist()), bootstrap=FEW)
    assert made.kendall_tau.value == pytest.approx(stats.kendalltau(judge.ravel(), gold.ravel()).statistic)


def test_a_judges_tie_is_wrong_and_a_gold_tie_is_no_pair() -> None:
    made = agreement(rows([3, 3, 1]), rows([5, 4, 4]))
    assert (made.pairwise_accuracy.value, made.pairwise_accuracy.n) == (0.5, 2)


def test_an_averaged_score_is_a_five_where_it_rounds_to_it_and_a_tie_for_the_top_is_top() -> None:
    made = agreement(rows([5.0, 4.5, 4.4], [4.75, 1.0]), rows([3.0, 3.0, 2.0], [2.0, 4.0]))
    assert made.five_best.value == pytest.approx(2 / 3)
    assert made.five_best.n == 3


def test_an_exact_match_is_the_same_order_with_the_same_ties() -> None:
    made = agreement(rows([1, 2, 2], [1, 2, 3], [1], [0, 5]), rows([3, 4, 4], [1, 2, 2], [1], [1, None]))
    assert (made.exact_match.value, made.exact_match.n) == (0.5, 2)


def test_prompts_with_two_answers_are_ranked_and_those_with_one_are_not() -> None:
    made = agreement(rows([1, 2], [2, 1], [1]), rows([3, 4], [3, 4], [1]))
    assert (made.exact_match.value, made.exact_match.n) == (0.5, 2)
    assert (made.pairwise_accuracy.value, made.pairwise_accuracy.n) == (0.5, 2)
    assert (made.unique_best.value, made.unique_best.n) == (1.0, 2)


def test_an_answer_that_the_gold_did_not_score_is_no_item_of_any_measure() -> None:
    scored = agreement(rows([1, 5], [2, 3, 5]), rows([3, 4], [3, 4, 2]))
    more = agreement(rows([1, 5, 5], [2, 3, 5, 1]), rows([3, 4, None], [3, 4, 2, None]))
    assert more.items == scored.items == 5
    for name in ("pairwise_accuracy", "five_best", "exact_match", "spearman", "kendall_tau", "spearman_within"):
        assert getattr(more, name) == getattr(scored, name), name


def test_unparsed_items_are_left_out_and_counted() -> None:
    judge = [Rating("a", "p", 4.0, parsed=2, asked=3), Rating("b", "p", None, parsed=0, asked=3)]
    made = agreement(judge, [Rating("a", "p", 4.0), Rating("c", "p", 1.0)])
    assert (made.items, made.unmatched) == (1, 2)
    assert made.parsed.value == pytest.approx(2 / 6)
    assert made.parsed.n == 6
    assert made.pairwise_accuracy == NOTHING


def test_a_perfect_judge_agrees_in_everything_and_its_intervals_still_have_a_width() -> None:
    gold = rows(*([1.0, 2.0, 4.0, 5.0] for _ in range(50)))
    made = agreement(gold, gold)
    assert set(values(made).values()) == {1.0}
    assert known(made.pairwise_accuracy.low) < 1.0
    assert (made.spearman_within.value, made.kendall_within.value) == (1.0, 1.0)


def test_the_same_answer_under_two_seeds_is_two_items() -> None:
    judge, gold = ([Rating("a", "p", score, seed) for seed, score in enumerate(side)] for side in ([1, 5], [2, 4]))
    made = agreement(judge, gold)
    assert (made.items, made.pairwise_accuracy.n, made.spearman.n) == (2, 0, 2)


def test_ratings_are_made_from_averaged_judgements() -> None:
    averages = average([Judgement("p/0", 0, 4.0), Judgement("p/0", 1, None), Judgement("p/1", 0, None)])
    assert ratings(averages, {"p/0": "p", "p/1": "p", "q/0": "q"}, seed=3) == [
        Rating("p/0", "p", 4.0, 3, parsed=1, asked=2),
        Rating("p/1", "p", None, 3, parsed=0, asked=1),
    ]
    with pytest.raises(InputError, match="p/1 was judged, but its prompt is not known"):
        ratings(averages, {"p/0": "p"})


@pytest.mark.parametrize(
    ("judge", "gold", "message"),
    [
        (rows([1.0]) * 2, rows([1.0]), "judge: item 0/0 occurs twice"),
        (rows([1.0]), rows([1.0]) * 2, "gold: item 0/0 occurs twice"),
        (rows([-1.0]), rows([1.0]), "score -1.0, outside 0 to 5"),
        (rows([1.0]), rows([float("nan")]), "score nan, outside"),
        ([Rating("a", "p", 1.0)], [Rating("a", "q", 1.0)], "prompt p for the judge, q for the gold"),
        ([Rating("a", "p", 1.0, parsed=3, asked=2)], [], "3 parsed replies, but 2 replies"),
    ],
)
def test_ratings_that_do_not_fit_are_an_error(judge: list[Rating], gold: list[Rating], message: str) -> None:
    with pytest.raises(InputError, match=message):
        agreement(judge, gold)


def test_lists_of_different_length_cannot_be_joined_by_position() -> None:
    with pytest.raises(InputError, match="2 items of the judge and 1 of the gold"):
        agreement(rows([1.0, 2.0]), rows([1.0]), as_published=True)


def test_nothing_to_compare_gives_no_values() -> None:
    made = agreement([], [])
    assert made.items == 0
    assert {made.pairwise_accuracy, made.spearman, made.kendall_within, made.parsed} == {NOTHING}


def test_a_best_answer_is_unique_if_no_other_text_has_its_score() -> None:
    answered: dict[str, list[tuple[float | None, str]]] = {
        "alone": [(4.0, "a"), (3.0, "b")],
        "tied": [(4.0, "a"), (4.0, "b")],
        "same text twice": [(4.0, "a"), (4.0, "a"), (3.0, "b")],
        "tied below": [(4.0, "a"), (3.0, "b"), (3.0, "c")],
        "one text": [(4.0, "a"), (4.0, "a")],
        "one score": [(4.0, "a"), (None, "b")],
        "no texts are known": [(4.0, ""), (4.0, "")],
    }
    judge = [
        Rating(f"{prompt}/{index}", prompt, score, text=text)
        for prompt, answers in answered.items()
        for index, (score, text) in enumerate(answers)
    ]
    unique = agreement(judge, []).unique_best
    assert (unique.value, unique.n) == (3 / 5, 5)
