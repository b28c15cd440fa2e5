import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tutelage.data.similarity import BANDS, ROWS, SeenTexts, Similar, jaccard, letter_groups, normalised


@pytest.mark.parametrize(("similarity", "probability"), [(0.7, 0.92), (0.8, 0.998)])
def test_the_bands_find_near_duplicates_with_the_documented_probability(similarity: float, probability: float) -> None:
    assert 1 - (1 - similarity**ROWS) ** BANDS == pytest.approx(probability, abs=0.003)


def repeats(texts: list[str], threshold: float = 0.7) -> dict[str, Similar]:
    return {text: similar for text, similar in SeenTexts(threshold).admit(texts) if similar}


def test_texts_that_differ_in_case_spaces_and_punctuation_are_exact_duplicates() -> None:
    found = repeats(["Name three rivers!", "name  THREE rivers", "Name three lakes in the north of Sweden."])
    assert list(found) == ["name  THREE rivers"]
    assert found["name  THREE rivers"].similarity == 1


def test_a_lightly_edited_text_is_a_near_duplicate_of_the_first_one() -> None:
    first = "Please explain to me how a bicycle stays upright while it is moving."
    edited = "Please explain to me how a bicycle keeps upright while it is moving."
    similar = repeats([first, edited])[edited]
    assert similar.text == first
    assert 0.7 <= similar.similarity < 1
    assert not repeats([first, edited], threshold=1.0)


def test_different_texts_stay() -> None:
    texts = ["What is the capital of France?", "Write a poem about the sea.", "Sort: 3 1 2", "Why?"]
    assert list(SeenTexts().admit(texts)) == [(text, None) for text in texts]


def test_what_was_remembered_is_found_again_and_what_repeats_is_not_remembered_itself() -> None:
    seen = SeenTexts()
    seen.remember(["Name three rivers in Europe."])
    outcomes = list(seen.admit(["Name three rivers in Europe", "A wholly different question?"]))
    assert [similar.text if similar else None for _, similar in outcomes] == ["Name three rivers in Europe.", None]


def test_texts_are_drawn_as_they_are_needed() -> None:
    def endless() -> Iterator[str]:
        number = 0
        while True:
            yield f"question number {number} of very many, about {number * number}"
            number += 1

    texts = SeenTexts().admit(endless())
    assert next(texts)[0] == "question number 0 of very many, about 0"


@pytest.mark.parametrize("threshold", [0.7, 0.8])
def test_the_duplicates_in_published_prompts_are_those_that_comparing_every_two_finds(
    shared_data: Path, threshold: float
) -> None:
    lines = (shared_data / "seed_paper" / "prompts.jsonl").read_text().splitlines()
    prompts = [json.loads(line)["prompt"] for line in lines]
    kept: list[set[str]] = []
    expected = 0
    for prompt in prompts:
        groups = letter_groups(normalised(prompt))
        if any(jaccard(groups, other) >= threshold for other in kept):
            expected += 1
        else:
            kept.append(groups)
    outcomes = [similar for _, similar in SeenTexts(threshold).admit(prompts) if similar]
    exact = sum(similar.similarity == 1 for similar in outcomes)
    assert exact == len(prompts) - len({normalised(prompt) for prompt in prompts})
    assert 0.9 * expected <= len(outcomes) <= expected
