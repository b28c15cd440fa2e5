"""Every pair rule on published candidates and scores, compared with an independent computation."""

import json
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from known import known

from tutelage.preferences.pairing import RULES, Pairing, PairOptions, pair
from tutelage.records import Candidate, Demonstration, Prompt

UNPARSED = -1
Published = tuple[list[dict[str, Any]], dict[str, dict[str, float]]]
"""The rows of responses, and the scores by prompt and number of the response."""


@pytest.fixture(scope="module")
def published(request: pytest.FixtureRequest) -> Published:
    folder = request.config.rootpath.parent / "shared" / "data" / "seed_paper"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist: the published data for this test is not part of the project")
    responses, scored = (
        [json.loads(line) for line in (folder / name).read_text().splitlines()]
        for name in ("responses.jsonl", "m1_scores.jsonl")
    )
    scores = {row["prompt_id"]: {k: v["score"] for k, v in row["completion"].items()} for row in scored}
    return [row for row in responses if row["prompt_id"] in scores], scores


def pairing_of(
    published: Published, rule: str, demonstrations: dict[str, Demonstration] | None = None, **options: Any
) -> Pairing:
    responses, scores = published
    prompts = {row["prompt_id"]: Prompt(row["prompt"], id=row["prompt_id"]) for row in responses}
    candidates = [
        Candidate(row["prompt_id"], int(k), text) for row in responses for k, text in row["completion"].items()
    ]
    return pair(
        RULES[rule],
        prompts,
        candidates,
        {f"{p}/{k}": None if s == UNPARSED else float(s) for p, each in scores.items() for k, s in each.items()},
        demonstrations,
        PairOptions(**options),
    )


def groups(published: Published) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Yield each prompt id with its (text, score) pairs; empty texts and unparsed scores are left out."""
    responses, scores = published
    for row in responses:
        answers = [(text.strip(), scores[row["prompt_id"]][k]) for k, text in row["completion"].items()]
        yield row["prompt_id"], [(text, score) for text, score in answers if text and score != UNPARSED]


def expected_ordered(published: Published) -> set[tuple[str, ...]]:
    return {
        (id, a[0], b[0]) if a[1] > b[1] else (id, b[0], a[0])
        for id, answers in groups(published)
        for a, b in combinations(answers, 2)
        if a[0] != b[0] and a[1] != b[1]
    }


def as_texts(pairing: Pairing) -> set[tuple[str, ...]]:
    return {(pair.prompt_id, pair.chosen.strip(), pair.rejected.strip()) for pair in pairing.preferences}


def demonstrations_for(published: Published) -> dict[str, Demonstration]:
    return {row["prompt_id"]: Demonstration(row["prompt_id"], "The teacher's own words.") for row in published[0]}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_no_rule_gives_a_pair_that_is_equal_tied_empty_or_unparsed(published: Published, rule: str) -> None:
    _, scores = published
    pairing = pairing_of(published, rule, demonstrations_for(published))
    assert pairing.preferences
    for one in pairing.preferences:
        assert one.chosen.strip() != one.rejected.strip()
        assert one.chosen.strip()
        assert one.rejected.strip()
        assert one.score_chosen is None or one.score_rejected is None or one.score_chosen > one.score_rejected
        for id, score in ((one.chosen_id, one.score_chosen), (one.rejected_id, one.score_rejected)):
            if score is not None:
                assert score == scores[one.prompt_id][id.rpartition("/")[2]] >= 0


def test_best_against_worst_gives_one_pair_where_scores_and_texts_differ(published: Published) -> None:
    extremes = [(answers, [s for _, s in answers]) for _, answers in groups(published) if len(answers) > 1]
    untied = [(answers, values) for answers, values in extremes if max(values) > min(values)]
    pairing = pairing_of(published, "best-worst")
    assert len(pairing.preferences) == len(untied)
    assert pairing.dropped["tied"] + pairing.dropped.get("same text", 0) == len(extremes) - len(untied)
    assert sum(known(p.score_chosen) - known(p.score_rejected) for p in pairing.preferences) == sum(
        max(values) - min(values) for _, values in untied
    )


@pytest.mark.parametrize("margin", [2, 3])
def test_a_minimum_margin_keeps_the_wider_pairs_alone(published: Published, margin: float) -> None:
    wide = sum(
        max(s for _, s in answers) - min(s for _, s in answers) >= margin for _, answers in groups(published) if answers
    )
    assert len(pairing_of(published, "best-worst", margin=margin).preferences) == wide


def test_all_ordered_pairs_are_all_of_them(published: Published) -> None:
    assert as_texts(pairing_of(published, "all-ordered")) == expected_ordered(published)


def test_length_controlled_pairs_choose_the_shortest_nearly_best_answer(published: Published) -> None:
    responses, scores = published
    words = {
        (row["prompt_id"], k): (len(text.split()), scores[row["prompt_id"]][k])
        for row in responses
        for k, text in row["completion"].items()
        if text.strip() and scores[row["prompt_id"]][k] != UNPARSED
    }
    pairing = pairing_of(published, "length-controlled", near_best=1.0)
    assert len(pairing.preferences) > 50
    for one in pairing.preferences:
        own = {k: value for (id, k), value in words.items() if id == one.prompt_id}
        best = max(score for _, score in own.values())
        assert len(one.chosen.split()) == min(length for length, score in own.values() if score >= best - 1)
        assert one.score_rejected == min(score for _, score in own.values())


def test_pairs_of_similar_length_are_of_similar_length(published: Published) -> None:
    def similar(a: str, b: str) -> bool:
        return max(len(a.split()), len(b.split())) <= 1.25 * min(len(a.split()), len(b.split()))

    with_one = {id for id, chosen, rejected in expected_ordered(published) if similar(chosen, rejected)}
    assert with_one
    pairing = pairing_of(published, "similar-length")
    assert {pair.prompt_id for pair in pairing.preferences} == with_one
    assert all(similar(pair.chosen, pair.rejected) for pair in pairing.preferences)


def test_a_demonstration_is_chosen_on_every_prompt_with_an_own_answer(published: Published) -> None:
    responses, _ = published
    shown = demonstrations_for(published)
    own = pairing_of(published, "demonstration-vs-own", shown)
    assert {p.prompt_id for p in own.preferences} == {
        row["prompt_id"] for row in responses if any(text.strip() for text in row["completion"].values())
    }
    assert {p.chosen for p in own.preferences} == {"The teacher's own words."}
    worst = pairing_of(published, "demonstration-vs-worst", shown)
    lowest = {id: min(s for _, s in answers) for id, answers in groups(published) if answers}
    assert {p.prompt_id: p.score_rejected for p in worst.preferences} == lowest


def test_random_pairs_are_given_wherever_two_texts_differ(published: Published) -> None:
    responses, _ = published
    different = {r["prompt_id"] for r in responses if len({t.strip() for t in r["completion"].values()} - {""}) > 1}
    assert {p.prompt_id for p in pairing_of(published, "random-pairs").preferences} == different
