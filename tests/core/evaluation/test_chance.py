import numpy as np
import pytest
from known import known
from scipy import stats

from tutelage.errors import InputError
from tutelage.evaluation.agreement import Rating, agreement
from tutelage.evaluation.chance import JUDGES, METRICS, chance


def rated(scores: list[float | None], words: list[int] | None = None, answers: int = 4, seed: int = 0) -> list[Rating]:
    lengths: list[int | None] = [*words] if words else [None] * len(scores)
    return [
        Rating(f"{number}", f"p{number // answers}", score, seed, words=length)
        for number, (score, length) in enumerate(zip(scores, lengths, strict=True))
    ]


def test_the_judges_reach_what_agreement_measures_for_their_scores() -> None:
    generator = np.random.default_rng(0)
    gold = rated(generator.integers(0, 6, 200).astype(float).tolist())
    words = generator.integers(1, 30, 200).tolist()
    found = chance(rated(generator.integers(0, 6, 200).astype(float).tolist(), words), gold)
    assert tuple(found) == JUDGES
    measured = agreement(rated([float(count) for count in words]), gold, highest=30.0)
    assert found["length"] == {name: getattr(measured, name).value for name in METRICS}
    assert found["constant"] == {"pairwise_accuracy": 0.0, "spearman": None, "spearman_within": None}


def test_the_random_judge_has_the_mean_of_shuffled_scores() -> None:
    generator = np.random.default_rng(1)
    scores = generator.choice([1.0, 3.0, 5.0], size=200, p=[0.6, 0.3, 0.1])
    gold = rated(generator.integers(0, 6, 200).astype(float).tolist())
    shuffled = [agreement(rated(generator.permutation(scores).tolist()), gold) for _ in range(60)]
    found = chance(rated(scores.tolist()), gold)["random"]
    for name in METRICS:
        assert found[name] == pytest.approx(np.mean([known(getattr(one, name).value) for one in shuffled]), abs=0.03)


def test_only_answers_that_judge_and_gold_have_scored_count() -> None:
    judge, gold = rated([1, 2, None, 4], [9, 1, 1, 5]), rated([5, 1, 2, None])
    found = chance(judge, gold)
    assert found["length"]["pairwise_accuracy"] == 1.0
    assert found["length"]["spearman"] == pytest.approx(stats.spearmanr([9, 1], [5, 1]).statistic)


def test_lengths_that_are_not_known_are_no_figure_and_nothing_scored_is_none() -> None:
    assert chance(rated([1.0, 2.0]), rated([2.0, 1.0]))["length"] == dict.fromkeys(METRICS)
    assert chance(rated([None]), rated([1.0])) == chance([], []) == {}


def test_a_judge_with_one_score_has_no_random_correlation() -> None:
    found = chance(rated([3.0] * 8, list(range(8))), rated([1.0, 2.0] * 4))
    assert found["random"] == {"pairwise_accuracy": 0.0, "spearman": None, "spearman_within": None}


def test_an_answer_of_two_prompts_is_an_error() -> None:
    with pytest.raises(InputError, match="item 0: prompt p0 for the judge, q for the gold"):
        chance(rated([1.0]), [Rating("0", "q", 1.0)])
