from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import InputError
from tutelage.preferences.pairing import (
    RULES,
    UNSCORED,
    Group,
    Pairing,
    PairOptions,
    Proposal,
    ProposedPair,
    ScoredAnswer,
    pair,
    unused_options,
)
from tutelage.records import Candidate, Demonstration, Message, Outcome, Prompt

PROMPT = Prompt("sort pear fig")
PROMPTS = {PROMPT.id: PROMPT}


def candidates(*texts: str, outcome: Outcome = Outcome.ANSWERED) -> list[Candidate]:
    return [Candidate(PROMPT.id, index, text, outcome) for index, text in enumerate(texts)]


def scores(*values: float | None) -> dict[str, float | None]:
    return {f"{PROMPT.id}/{index}": value for index, value in enumerate(values)}


def demonstration(text: str, outcome: Outcome = Outcome.ANSWERED) -> dict[str, Demonstration]:
    return {PROMPT.id: Demonstration(PROMPT.id, text, outcome)}


def texts(pairing: Pairing) -> set[tuple[str, str]]:
    return {(p.chosen, p.rejected) for p in pairing.preferences}


def test_the_best_answer_is_preferred_to_the_worst() -> None:
    pairing = pair(RULES["best-worst"], PROMPTS, candidates("a", "b", "c", "d"), scores(3, 5, 1, None))
    (preference,) = pairing.preferences
    assert (preference.chosen, preference.rejected) == ("b", "c")
    assert (preference.score_chosen, preference.score_rejected) == (5, 1)
    assert (preference.prompt, preference.chosen_id) == (PROMPT.text, f"{PROMPT.id}/1")
    assert pairing.dropped == {}


def test_a_tied_pair_is_never_a_preference() -> None:
    assert pair(RULES["best-worst"], PROMPTS, candidates("a", "b"), scores(3, 3)) == Pairing((), {"tied": 1})


def test_two_equal_texts_are_never_a_preference() -> None:
    pairing = pair(RULES["best-worst"], PROMPTS, candidates("a", " a\n"), scores(3, 1))
    assert pairing == Pairing((), {"same text": 1})


def test_a_margin_below_the_minimum_is_no_preference() -> None:
    rows, given_scores = candidates("a", "b"), scores(3.0, 2.5)
    assert pair(RULES["best-worst"], PROMPTS, rows, given_scores, options=PairOptions(margin=0.6)).dropped == {
        "margin too small": 1
    }
    assert len(pair(RULES["best-worst"], PROMPTS, rows, given_scores, options=PairOptions(margin=0.5)).preferences) == 1


@pytest.mark.parametrize("rule", ["best-worst", "all-ordered"])
def test_an_unscored_answer_is_never_compared_by_score(rule: str) -> None:
    pairing = pair(RULES[rule], PROMPTS, candidates("a", "b"), scores(3, None))
    assert pairing == Pairing((), {"fewer than two scored answers": 1})


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.CUT, Outcome.UNPARSED, Outcome.FAILED])
def test_an_answer_that_is_not_whole_is_no_side_and_is_counted(outcome: Outcome) -> None:
    rows = [*candidates("a", "b"), Candidate(PROMPT.id, 2, "c", outcome), Candidate(PROMPT.id, 3, " ")]
    pairing = pair(RULES["best-worst"], PROMPTS, rows, scores(3, 2, 0, 5))
    assert texts(pairing) == {("a", "b")}
    assert pairing.dropped == {f"answer {outcome}": 1, "answer empty": 1}


def test_cut_answers_are_sides_where_the_recipe_says_so() -> None:
    rows = candidates("a", "b", outcome=Outcome.CUT)
    assert texts(pair(RULES["best-worst"], PROMPTS, rows, scores(3, 2), options=PairOptions(keep_cut=True))) == {
        ("a", "b")
    }


def test_which_of_several_best_is_chosen_depends_on_the_seed_and_not_on_the_order() -> None:
    rows, given_scores = candidates("a", "b", "c", "d"), scores(5, 5, 5, 1)
    for seed in range(5):
        options = PairOptions(seed=seed)
        forward = pair(RULES["best-worst"], PROMPTS, rows, given_scores, options=options)
        assert forward == pair(RULES["best-worst"], PROMPTS, rows[::-1], given_scores, options=options)
    chosen = {
        p.chosen
        for seed in range(30)
        for p in pair(RULES["best-worst"], PROMPTS, rows, given_scores, options=PairOptions(seed=seed)).preferences
    }
    assert chosen == {"a", "b", "c"}


def many(count: int) -> tuple[dict[str, Prompt], list[Candidate]]:
    prompts = {prompt.id: prompt for prompt in (Prompt(f"prompt {number}") for number in range(count))}
    return prompts, [Candidate(prompt_id, index, "abcc"[index]) for prompt_id in prompts for index in range(4)]


def test_random_pairs_prefer_no_score_no_position_and_no_frequent_text() -> None:
    prompts, rows = many(1500)
    pairing = pair(RULES["random-pairs"], prompts, rows, {row.id: float(row.index) for row in rows})
    assert len(pairing.preferences) == 1500
    assert all(p.score_chosen is None and p.score_rejected is None for p in pairing.preferences)
    for text in "abc":
        chosen = sum(p.chosen == text for p in pairing.preferences)
        rejected = sum(p.rejected == text for p in pairing.preferences)
        assert chosen == pytest.approx(500, abs=80)
        assert rejected == pytest.approx(500, abs=80)


def test_random_pairs_need_no_scores() -> None:
    assert len(pair(RULES["random-pairs"], PROMPTS, candidates("a", "b")).preferences) == 1
    assert pair(RULES["random-pairs"], PROMPTS, candidates("a", "a")).dropped == {"fewer than two different answers": 1}


def test_a_demonstration_is_preferred_to_an_own_answer_drawn_by_seed() -> None:
    rejected = set()
    for seed in range(30):
        pairing = pair(
            RULES["demonstration-vs-own"],
            PROMPTS,
            candidates("a", "b", "c"),
            demonstrations=demonstration("right"),
            options=PairOptions(seed=seed),
        )
        (preference,) = pairing.preferences
        assert (preference.chosen, preference.chosen_id) == ("right", f"{PROMPT.id}/demonstration")
        rejected.add(preference.rejected)
    assert rejected == {"a", "b", "c"}


def test_a_demonstration_is_preferred_to_the_worst_own_answer() -> None:
    rows, given_scores = candidates("a", "b"), scores(4, 1)
    pairing = pair(RULES["demonstration-vs-worst"], PROMPTS, rows, given_scores, demonstration("right"))
    assert texts(pairing) == {("right", "b")}


@pytest.mark.parametrize("rule", ["demonstration-vs-own", "demonstration-vs-worst"])
def test_a_missing_or_refused_demonstration_is_counted(rule: str) -> None:
    rows, given_scores = candidates("a"), scores(1)
    assert pair(RULES[rule], PROMPTS, rows, given_scores) == Pairing((), {"no demonstration": 1})
    refused = pair(RULES[rule], PROMPTS, rows, given_scores, demonstration("no", Outcome.REFUSED))
    assert refused == Pairing((), {"demonstration refused": 1, "no demonstration": 1})


def test_an_own_answer_equal_to_the_demonstration_is_no_pair() -> None:
    pairing = pair(RULES["demonstration-vs-own"], PROMPTS, candidates("a"), demonstrations=demonstration("a "))
    assert pairing == Pairing((), {"same text": 1})


def test_all_ordered_pairs_leave_out_the_ties() -> None:
    pairing = pair(RULES["all-ordered"], PROMPTS, candidates("a", "b", "c"), scores(1, 2, 2))
    assert texts(pairing) == {("b", "a"), ("c", "a")}
    assert pairing.dropped == {"tied": 1}


def test_length_control_takes_the_shortest_of_the_answers_that_are_nearly_the_best() -> None:
    rows = candidates("one two three four five", "six seven", "eight", "nine")
    assert texts(pair(RULES["length-controlled"], PROMPTS, rows, scores(5, 4.5, 4, 0))) == {("six seven", "nine")}
    exact = pair(RULES["length-controlled"], PROMPTS, rows, scores(5, 4.5, 4, 0), options=PairOptions(near_best=0))
    assert texts(exact) == {("one two three four five", "nine")}
    tied = pair(RULES["length-controlled"], PROMPTS, rows[:2], scores(5, 4.5))
    assert tied.dropped == {"same text": 1}


def test_length_control_takes_the_better_of_two_answers_of_equal_length() -> None:
    rows = candidates("one two", "three four", "five six", "nine")
    for best in range(3):
        given_scores = scores(*(4.9 if index == best else 4.8 for index in range(3)), 0)
        pairing = pair(RULES["length-controlled"], PROMPTS, rows, given_scores)
        assert texts(pairing) == {(rows[best].text, "nine")}
    drawn = {
        texts(pair(RULES["length-controlled"], PROMPTS, rows, scores(5, 5, 5, 0), options=PairOptions(seed=seed))).pop()
        for seed in range(30)
    }
    assert drawn == {(row.text, "nine") for row in rows[:3]}


def test_length_control_needs_two_scored_answers() -> None:
    pairing = pair(RULES["length-controlled"], PROMPTS, candidates("a", "b"), scores(5, None))
    assert pairing == Pairing((), {"fewer than two scored answers": 1})


def test_which_of_several_equal_margins_of_similar_length_is_taken_depends_on_the_seed() -> None:
    rows = candidates("a", "b", "c")
    drawn = {
        texts(pair(RULES["similar-length"], PROMPTS, rows, scores(5, 5, 0), options=PairOptions(seed=seed))).pop()
        for seed in range(30)
    }
    assert drawn == {("a", "c"), ("b", "c")}


def test_similar_length_takes_the_widest_margin_of_similar_length() -> None:
    rows = candidates("one two three four five", "one", "six seven eight nine", "two three four five")
    pairing = pair(RULES["similar-length"], PROMPTS, rows, scores(5, 0, 2, 4))
    assert texts(pairing) == {("one two three four five", "six seven eight nine")}
    strict = pair(RULES["similar-length"], PROMPTS, rows[:2], scores(5, 0))
    assert strict.dropped == {"no two scored answers of similar length": 1}


def test_a_third_party_rule_cannot_make_an_invalid_pair() -> None:
    def careless(group: Group, options: PairOptions) -> Iterator[Proposal]:
        low, high = group.answers
        yield low, high
        yield low, low
        yield ScoredAnswer("x", ""), low
        yield high, low
        yield high, low

    pairing = pair(careless, PROMPTS, candidates("a", "b"), scores(1, 2))
    assert texts(pairing) == {("b", "a")}
    assert len(pairing.preferences) == 1
    assert pairing.dropped == {"chosen scored lower than rejected": 1, "empty text": 1, "same text": 1}


def test_a_rule_that_proposes_nothing_is_counted() -> None:
    assert pair(lambda group, options: [], PROMPTS, []).dropped == {"the rule proposed nothing": 1}


def test_a_candidate_of_another_prompt_is_an_error() -> None:
    with pytest.raises(InputError, match="not among the prompts"):
        pair(RULES["best-worst"], PROMPTS, [Candidate("unknown", 0, "a")])


def test_a_candidate_that_is_there_twice_is_an_error() -> None:
    with pytest.raises(InputError, match="occurs twice; give each candidate once"):
        pair(RULES["best-worst"], PROMPTS, candidates("a") * 2)


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["", " ", "a", "a ", "b", "c d"]), st.sampled_from(Outcome), st.none() | st.integers(0, 2)
    ),
    max_size=5,
)


@given(st.sampled_from(sorted(RULES)), ROWS, st.sampled_from(["", "a", "z"]), st.integers(0, 3), st.booleans())
def test_every_preference_of_every_rule_has_two_different_texts_and_no_tie(
    rule: str, rows: list[tuple[str, Outcome, int | None]], taught: str, seed: int, keep_cut: bool
) -> None:
    made = [Candidate(PROMPT.id, index, text, outcome) for index, (text, outcome, _) in enumerate(rows)]
    given_scores = scores(*(score for *_, score in rows))
    options = PairOptions(seed=seed, keep_cut=keep_cut)
    pairing = pair(RULES[rule], PROMPTS, made, given_scores, demonstration(taught), options)
    for preference in pairing.preferences:
        assert preference.chosen.strip() != preference.rejected.strip()
        assert preference.chosen.strip() and preference.rejected.strip()
        if preference.score_chosen is not None and preference.score_rejected is not None:
            assert preference.score_chosen > preference.score_rejected
    assert pairing.preferences or pairing.dropped
    assert pairing == pair(RULES[rule], PROMPTS, made[::-1], given_scores, demonstration(taught), options)


def cause_of(rule: str, rows: list[Candidate], given_scores: dict[str, float | None], **options: bool) -> str:
    """The one cause why the prompt has no pair."""
    pairing = pair(RULES[rule], PROMPTS, rows, given_scores, options=PairOptions(**options))
    assert list(pairing.causes.values()) == [1]
    return next(iter(pairing.causes))


def lost(*outcomes: Outcome) -> list[Candidate]:
    """Answers that cannot be sides of a pair."""
    return [Candidate(PROMPT.id, 10 + index, "x", outcome) for index, outcome in enumerate(outcomes)]


def test_the_cause_is_the_most_frequent_reason_if_too_few_answers_are_usable() -> None:
    unusable = lost(Outcome.FAILED, Outcome.CUT, Outcome.CUT, Outcome.UNPARSED)
    assert cause_of("best-worst", [*candidates("a"), *unusable], scores(3)) == "answer cut"
    assert cause_of("demonstration-vs-own", candidates("a"), {}) == "no demonstration"


def test_the_cause_is_the_missing_score_if_enough_answers_are_usable() -> None:
    assert cause_of("best-worst", [*candidates("a", "b"), *lost(Outcome.CUT)], scores(3, None)) == UNSCORED
    assert cause_of("best-worst", candidates("a", "b", "c"), scores(3, None, None)) == UNSCORED
    assert cause_of("best-worst", candidates("a"), scores(None)) == UNSCORED
    assert cause_of("best-worst", candidates("a"), scores(3)) == "fewer than two scored answers"


def test_the_cause_is_the_rules_own_reason_if_scores_would_not_change_it() -> None:
    assert cause_of("random-pairs", candidates("a", "a"), {}) == "fewer than two different answers"
    far = candidates("one", "one two three")
    assert cause_of("similar-length", far, scores(3, 1)) == "no two scored answers of similar length"


def test_the_cause_is_the_invalid_pair_even_if_other_answers_are_unusable() -> None:
    rows = [*candidates("right"), *lost(Outcome.CUT)]
    pairing = pair(RULES["demonstration-vs-own"], PROMPTS, rows, demonstrations=demonstration("right"))
    assert pairing.causes == {"same text": 1}
    assert cause_of("best-worst", [*candidates("a", "b"), *lost(Outcome.CUT)], scores(3, 3)) == "tied"


def test_a_lost_demonstration_is_the_cause_only_for_a_rule_that_needs_it() -> None:
    rows, cut = [*candidates("a"), *lost(Outcome.FAILED)], demonstration("right", Outcome.CUT)
    assert pair(RULES["demonstration-vs-own"], PROMPTS, rows, demonstrations=cut).causes == {"demonstration cut": 1}
    assert pair(RULES["best-worst"], PROMPTS, rows, scores(3), cut).causes == {"answer failed": 1}


def test_causes_and_preferences_are_counted_for_each_prompt() -> None:
    prompts, rows = many(3)
    first, second, _ = sorted(prompts)
    given_scores = {f"{first}/0": 3.0, f"{first}/1": 1.0, f"{second}/0": 2.0, f"{second}/1": 2.0}
    pairing = pair(RULES["best-worst"], prompts, rows, given_scores)
    assert [preference.prompt_id for preference in pairing.preferences] == [first]
    assert pairing.causes == {"tied": 1, UNSCORED: 1}
    assert pairing.dropped == {"fewer than two scored answers": 1, "tied": 1}


def test_the_options_that_a_built_in_rule_does_not_use_are_known() -> None:
    assert unused_options("length-controlled") == {"length_ratio"}
    assert unused_options("similar-length") == {"near_best"}
    assert unused_options("best-worst") == {"length_ratio", "near_best"}
    assert unused_options("a rule of a plugin") == set()


def test_without_options_every_difference_of_scores_is_a_preference_and_the_seed_is_0() -> None:
    rows, given_scores = candidates("a", "b"), scores(3.001, 3)
    assert texts(pair(RULES["best-worst"], PROMPTS, rows, given_scores)) == {("a", "b")}
    rows, ties = candidates(*"abcdefgh"), scores(*[5] * 7, 0)
    default = pair(RULES["best-worst"], PROMPTS, rows, ties)
    assert default == pair(RULES["best-worst"], PROMPTS, rows, ties, options=PairOptions(seed=0))


def test_a_preference_keeps_the_conversation_of_its_prompt() -> None:
    turns = (Message("user", "sort"), Message("assistant", "what?"), Message("user", "pear fig"))
    prompt = Prompt.of_messages(turns)
    rows = [Candidate(prompt.id, index, text) for index, text in enumerate("ab")]
    (preference,) = pair(RULES["random-pairs"], {prompt.id: prompt}, rows).preferences
    assert preference.messages == turns


def test_a_rule_may_give_a_pair_a_weight_and_a_soft_label() -> None:
    def rule(group: Group, options: PairOptions) -> Iterator[Proposal]:
        first, second, third = group.answers
        yield ProposedPair(first, second, weight=0.5, probability=0.75)
        yield ProposedPair(second, third, weight=2.0)
        yield ProposedPair(third, first)
        yield ProposedPair(first, first, weight=2.0)

    pairing = pair(rule, PROMPTS, candidates("a", "b", "c"))
    labels = {p.chosen: (p.weight, p.probability) for p in pairing.preferences}
    assert labels == {"a": (0.5, 0.75), "b": (2.0, 1.0), "c": (1.0, 1.0)}
    assert pairing.dropped == {"same text": 1}


@pytest.mark.parametrize("labels", [{"weight": -1}, {"weight": float("nan")}, {"probability": 0.4}, {"weight": True}])
def test_a_weight_or_soft_label_out_of_range_is_an_error(labels: dict[str, float]) -> None:
    answer = ScoredAnswer("0", "a")
    with pytest.raises(ValueError, match=f"`{next(iter(labels))}` must be a .*number"):
        ProposedPair(answer, answer, **labels)
