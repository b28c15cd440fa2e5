import random
from itertools import permutations

import numpy as np
import pytest
from attrs import evolve
from known import known
from tests.prove import coverage

from tutelage.errors import InputError
from tutelage.evaluation.bradley_terry import fit, rank
from tutelage.evaluation.contests import Contest
from tutelage.evaluation.head_to_head import HeadToHead, head_to_head
from tutelage.evaluation.intervals import DEFAULT, Clusters, Floats, Metric
from tutelage.evaluation.variation import Variation, jackknifed
from tutelage.records import Outcome, Verdict

Asked = tuple[list[Contest], list[Verdict]]


def bout(prompt: str, left_first: float | None, right_first: float | None, seed: int = 0) -> Asked:
    """``left`` against ``right``: both orders, each with the preference for its first answer."""
    contests = [
        Contest(f"{seed}{prompt}:1", prompt, "left", "right", 2, 5, seed),
        Contest(f"{seed}{prompt}:2", prompt, "right", "left", 5, 2, seed),
    ]
    return contests, [Verdict(contests[0].comparison_id, left_first), Verdict(contests[1].comparison_id, right_first)]


def together(*asked: Asked) -> Asked:
    return [contest for contests, _ in asked for contest in contests], [v for _, verdicts in asked for v in verdicts]


def simulated(
    models: int, prompts: int, seed: int, bias: float = 0.0, skills: list[float] | None = None, unparsed: float = 0.0
) -> Asked:
    """Contests and verdicts of an evaluator that prefers the first answer with the true probability plus ``bias``."""
    generator = np.random.default_rng(seed)
    skills = skills or [0.0] * models
    names = [f"model-{number:02}" for number in range(models)]
    contests, verdicts = [], []
    for prompt in range(prompts):
        for first, second in permutations(range(models), 2):
            contest = Contest(f"{prompt}/{first}/{second}", f"p{prompt:04}", names[first], names[second], 3, 4)
            chance = 1 / (1 + np.exp(skills[second] - skills[first])) + bias
            preference = None if generator.random() < unparsed else float(generator.random() < chance)
            contests.append(contest)
            verdicts.append(Verdict(contest.comparison_id, preference))
    return contests, verdicts


def test_a_win_takes_both_orders_and_a_disagreement_is_a_tie() -> None:
    made = head_to_head(
        *together(
            bout("win", 1, 0),
            bout("loss", 0, 1),
            bout("first twice", 1, 1),
            bout("second twice", 0, 0),
            bout("neither", 0.5, 0.5),
            bout("one order only", 1, 0.5),
            bout("by probability", 0.51, 0.2),
            bout("unparsed", None, 0),
            bout("unparsed too", 1, None),
        )
    )
    (result,) = made.pairs
    assert (result.left, result.right) == ("left", "right")
    assert (result.wins, result.ties, result.losses, result.unparsed, result.n) == (2, 4, 1, 2, 9)
    assert result.win_rate.value == pytest.approx(4 / 7)
    assert result.win_rate.n == 7
    shares = (result.win_share, result.tie_share, result.loss_share)
    assert [share.value for share in shares] == pytest.approx([2 / 7, 4 / 7, 1 / 7])
    # the orders disagree only if both have a preference: an order without one is no disagreement
    assert made.inconsistent.value == pytest.approx(2 / 7)
    assert made.inconsistent.n == 7


def test_a_comparison_without_a_verdict_is_unparsed() -> None:
    contests, verdicts = bout("a", 1, 0)
    (result,) = head_to_head(contests, verdicts[:1]).pairs
    assert (result.wins, result.unparsed, result.n, result.win_rate.n) == (0, 1, 1, 0)
    assert result.win_rate.value is None


def test_the_given_order_of_models_says_who_is_left_and_flipping_reverses_it() -> None:
    asked = together(bout("a", 1, 0), bout("b", 1, 0), bout("c", 0, 1), bout("d", 1, 1))
    (result,) = head_to_head(*asked).pairs
    (reverse,) = head_to_head(*asked, models=["right", "left"]).pairs
    assert (reverse.left, reverse.wins, reverse.losses) == ("right", 1, 2)
    assert result.flipped() == reverse
    assert result.flipped().flipped() == result


def test_the_order_of_the_rows_changes_nothing() -> None:
    contests, verdicts = simulated(3, 20, seed=0, unparsed=0.1)
    generator = random.Random(0)
    shuffled = generator.sample(contests, len(contests)), generator.sample(verdicts, len(verdicts))
    assert head_to_head(*shuffled) == head_to_head(contests, verdicts)


def test_a_planted_position_bias_is_reported_and_leaves_the_win_rate_unbiased() -> None:
    skills = [0.5, 0.0]
    truth = 1 / (1 + np.exp(-0.5))
    made = head_to_head(*simulated(2, 3000, seed=3, bias=0.2, skills=skills))
    assert made.position_bias.value == pytest.approx(0.2, abs=0.03)
    assert known(made.position_bias.low) <= 0.2 <= known(made.position_bias.high)
    win_rate = made.pairs[0].win_rate
    assert win_rate.value == pytest.approx(truth, abs=0.02)
    assert known(win_rate.low) <= truth <= known(win_rate.high)


def test_equal_models_have_an_even_win_rate_in_their_interval() -> None:
    even = [head_to_head(*simulated(2, 200, seed=seed)).pairs[0].win_rate for seed in range(20)]
    assert sum(known(rate.low) <= 0.5 <= known(rate.high) for rate in even) >= 17


def test_an_evaluator_that_always_prefers_the_first_gives_only_ties() -> None:
    made = head_to_head(*together(*(bout(str(number), 1, 1) for number in range(50))))
    assert (made.pairs[0].ties, made.pairs[0].win_rate.value) == (50, 0.5)
    assert (made.inconsistent.value, made.position_bias.value) == (1.0, 0.5)
    assert made.winner_words.value is None


def test_the_lengths_of_winners_and_losers_are_reported_separately() -> None:
    made = head_to_head(*together(bout("a", 1, 0), bout("b", 0, 1), bout("c", 0, 1), bout("d", 1, 1)))
    assert (made.winner_words.value, made.loser_words.value) == (4.0, 3.0)
    assert made.longer_wins.value == pytest.approx(2 / 3)
    assert made.longer_wins.n == 3


def test_answers_of_equal_length_are_no_case_of_a_longer_answer_that_won() -> None:
    def equally_long(asked: Asked) -> Asked:
        return [evolve(contest, first_words=4, second_words=4) for contest in asked[0]], asked[1]

    even, longer, shorter = equally_long(bout("a", 1, 0)), bout("b", 0, 1), bout("c", 1, 0)
    made = head_to_head(*together(even, longer, shorter))
    assert (made.longer_wins.value, made.longer_wins.n) == (0.5, 2)
    assert made.winner_words.value == pytest.approx((4 + 5 + 2) / 3)
    assert head_to_head(*even).longer_wins.value is None


def ranked(made: HeadToHead) -> list[str]:
    return [strength.model for strength in made.ranking]


def test_the_ranking_recovers_planted_strengths() -> None:
    skills = [1.0, -1.0, 0.0, 0.5, -0.5]
    made = head_to_head(*simulated(5, 2000, seed=4, skills=skills))
    assert ranked(made) == ["model-00", "model-03", "model-02", "model-04", "model-01"]
    values = [known(strength.strength.value) for strength in made.ranking]
    assert sum(values) == pytest.approx(0.0, abs=1e-6)
    # A disagreement of the orders is a tie; counting it as half a win for each is unbiased.
    assert values == pytest.approx([1.0, 0.5, 0.0, -0.5, -1.0], abs=0.05)


def test_a_model_that_won_every_time_has_a_finite_strength() -> None:
    made = head_to_head(*together(*(bout(str(number), 1, 0) for number in range(100))))
    assert ranked(made) == ["left", "right"]
    assert 2 < known(made.ranking[0].strength.value) < 10


def test_models_that_never_met_are_not_ranked() -> None:
    contests, verdicts = bout("a", 1, 0)
    others = [
        Contest("x", "a", "third", "fourth", 1, 1),
        Contest("y", "a", "fourth", "third", 1, 1),
    ]
    made = head_to_head([*contests, *others], [*verdicts, Verdict("x", 1), Verdict("y", 0)])
    assert len(made.pairs) == 2
    assert made.ranking == ()


@pytest.mark.parametrize("middle", [0, 1, 2])
def test_models_that_met_through_a_third_one_are_ranked_whatever_its_position(middle: int) -> None:
    names = ["a", "b", "c"]
    asked = []
    for number, other in enumerate(names):
        if number != middle:
            contests, verdicts = bout(f"p{number}", 1, 0)
            sides = {"left": names[middle], "right": other}
            asked.append(
                (
                    [evolve(one, first=sides[one.first], second=sides[one.second]) for one in contests],
                    verdicts,
                )
            )
    assert ranked(head_to_head(*together(*asked)))[0] == names[middle]
    assert len(ranked(head_to_head(*together(*asked)))) == 3


def test_nothing_compared_is_an_empty_result() -> None:
    made = head_to_head([], [])
    assert (made.pairs, made.ranking, made.position_bias.value) == ((), (), None)


def test_seeds_are_kept_apart() -> None:
    (result,) = head_to_head(*together(bout("a", 1, 0, seed=0), bout("a", 1, 0, seed=1))).pairs
    assert (result.wins, result.n) == (2, 2)


@pytest.mark.parametrize(
    ("contests", "verdicts", "message"),
    [
        ([], [Verdict("x", 1)], "verdict x belongs to no comparison"),
        (bout("a", 1, 0)[0][:1], [], "the other order of its two answers is missing; give both orders"),
        (bout("a", 1, 0)[0] * 2, [], "another comparison has the same models, prompt, seed and order"),
        (bout("a", 1, 0)[0], [Verdict("0a:1", 1), Verdict("0a:1", 1)], "verdict 0a:1 occurs twice"),
        (bout("a", 1, 0)[0], [Verdict("0a:1", 1.5)], "not between 0 and 1"),
        (bout("a", 1, 0)[0], [Verdict("0a:1", float("nan"))], "not between 0 and 1"),
        ([Contest("x", "a", "left", "left", 1, 1)], [], "compared with itself"),
    ],
)
def test_verdicts_that_do_not_fit_are_an_error(contests: list[Contest], verdicts: list[Verdict], message: str) -> None:
    with pytest.raises(InputError, match=message):
        head_to_head(contests, verdicts)


def test_a_verdict_without_preference_is_unparsed_whatever_its_outcome() -> None:
    contests, verdicts = bout("a", 1, 0)
    refused = [verdicts[0], Verdict(verdicts[1].comparison_id, None, Outcome.REFUSED)]
    assert head_to_head(contests, refused).pairs[0].unparsed == 1


def strengths(made: HeadToHead) -> dict[str, Metric]:
    return {one.model: one.strength for one in made.ranking}


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_strength_of_a_model_that_won_every_time_has_an_interval_that_narrows_with_the_prompts(seeds: int) -> None:
    lows = []
    for prompts in (1, 10, 100):
        bouts = (bout(str(number), 1, 0, seed) for number in range(prompts) for seed in range(seeds))
        found = strengths(head_to_head(*together(*bouts)))
        left, right = found["left"], found["right"]
        assert known(left.low) < known(left.value) < known(left.high)
        assert (known(right.low), known(right.high)) == pytest.approx((-known(left.high), -known(left.low)))
        lows.append(known(left.low))
    assert lows[0] < 0 < lows[1] < lows[2]  # one win is no evidence, ten are


def test_one_verdict_says_little_about_strengths_and_win_rate() -> None:
    made = head_to_head(*bout("a", 1, 0))
    assert known(strengths(made)["left"].low) < 0
    assert known(made.pairs[0].win_rate.low) < 0.5 < known(made.pairs[0].win_rate.high)


@pytest.mark.parametrize("preference", [0.5, 1.0, 0.0])
def test_ties_only_give_a_win_rate_and_a_position_bias_with_a_width(preference: float) -> None:
    made = head_to_head(*together(*(bout(str(number), preference, preference) for number in range(40))))
    rate, bias = made.pairs[0].win_rate, made.position_bias
    assert (rate.value, bias.value) == (0.5, preference - 0.5)
    assert known(rate.low) < 0.5 < known(rate.high)
    assert 0 < known(bias.high) - known(bias.low) < 0.2
    assert -0.5 <= known(bias.low) <= known(bias.value) <= known(bias.high) <= 0.5
    assert made.pairs[0].flipped().win_rate == rate
    assert known(strengths(made)["left"].low) < 0 < known(strengths(made)["left"].high)


def test_lengths_that_are_all_equal_have_no_interval() -> None:
    made = head_to_head(*together(*(bout(str(number), 1, 0) for number in range(10))))
    assert made.winner_words == Metric(2.0, None, None, 10, "it is the same on all prompts")


def test_the_strength_of_a_model_varies_with_the_prompts_on_which_it_was_compared_only() -> None:
    """The third model was compared with seed 0 only: its interval is that of one seed of 3 prompts."""
    clusters = Clusters.of((seed, f"p{prompt}") for seed in range(3) for prompt in range(3))
    wins = np.zeros((9, 2, 2))  # of the first model against the second, and against the third
    wins[:, 0] = [[1, 0], [0, 1], [1, 0], [0, 1], [1, 0], [1, 0], [1, 0], [0, 1], [0, 1]]
    wins[:3, 1] = [[1, 0], [1, 0], [0, 1]]

    def fitted(wins: Floats) -> Floats:
        tables = np.zeros((len(wins), 3, 3))
        (tables[:, 0, 1], tables[:, 1, 0]), (tables[:, 0, 2], tables[:, 2, 0]) = wins.transpose(1, 2, 0)
        return fit(tables)

    total = wins.sum(axis=0)
    influence = jackknifed(fitted(total[None])[0], fitted(total - wins))
    compared = np.repeat([[True, True, True], [True, True, False], [True, True, False]], 3, axis=0)
    half_width = Variation.of(influence, compared, clusters.seeds, clusters.prompts).half_widths(0.05)[2]
    (third,) = (one.strength for one in rank("abc", wins, clusters, [(0, 1), (0, 2)], DEFAULT) if one.model == "c")
    assert known(third.value) - known(third.low) == pytest.approx(half_width)


def test_a_ranking_of_few_verdicts_covers_the_truth() -> None:
    for case, row in coverage.strengths(40, prompts=(1, 6), chances=(0.9,)).items():
        assert min(found["after"] for found in row.values()) >= 0.86, case  # 95%, less three standard errors
        assert min(found["before"] for found in row.values()) < 0.7, case
