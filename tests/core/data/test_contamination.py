import json
from pathlib import Path

import pytest
from known import known

from tutelage.data.contamination import index

RIVERS = "Name the three longest rivers of Europe and say into which sea each of them flows."
KNOWN = index(
    [
        (RIVERS, "held-out"),
        ("How do I make escargot?", "held-out"),
        ("hello there", "held-out"),
        ("请用中文写一首关于大海的诗", "other"),
    ]
)


@pytest.mark.parametrize(
    "copy",
    [
        RIVERS,
        RIVERS.upper().replace(".", " !"),
        "Name the four longest rivers of Europe and say into which sea each of them flows.",
        "name three longest rivers of Europe, and say into which ocean each of them flows",
        f"You are a helpful assistant. {RIVERS} Answer in one line, please, and do not explain anything else.",
    ],
)
def test_a_copy_is_caught_verbatim_edited_and_inside_a_longer_text(copy: str) -> None:
    found = known(KNOWN.find(copy))
    assert (found.prompt, found.source) == (RIVERS, "held-out")
    assert found.share == 1 if RIVERS in copy else found.share >= 0.6


@pytest.mark.parametrize(
    "text",
    [
        "Name the three longest novels of Russia and say how long it takes to read them.",
        "say hello there to everybody in the room, in the voice of a pirate",
        "",
        "of Europe and",
        "How do I make a simple game of chess in Python?",
    ],
)
def test_a_text_that_shares_words_alone_is_no_copy(text: str) -> None:
    assert KNOWN.find(text) is None


def test_a_prompt_shorter_than_an_n_gram_counts_as_a_whole_text() -> None:
    assert known(KNOWN.find("Hello there!")).share == 1


def test_scripts_without_spaces_are_compared_letter_by_letter() -> None:
    assert known(KNOWN.find("请用中文写一首关于高山和大海的诗")).source == "other"


@pytest.mark.parametrize(("share", "is_found"), [(0.5, True), (0.51, False)])
def test_a_prompt_of_eight_n_grams_is_found_from_the_given_share_on(share: float, is_found: bool) -> None:
    prompts = index([("one two three four five six seven eight nine ten", "held-out")], share=share)
    found = prompts.find("one two three four five six and then something quite different follows")
    assert (found is not None) is is_found
    assert not is_found or known(found).share == 0.5


def test_scripts_with_spaces_are_compared_word_by_word() -> None:
    korean = index([("가나다 라마바 사아자 차카타", "held-out")])
    assert known(korean.find("가나다 라마바 사아자 차카타")).share == 1
    assert korean.find("가 나 다 라 마 바 사 아 자 차 카 타") is None


def test_scattered_n_grams_of_a_long_text_are_no_copy() -> None:
    words = RIVERS.rstrip(".").split()
    filler = " lorem ipsum dolor sit amet " * 20
    scattered = filler.join(" ".join(words[start : start + 3]) for start in range(0, len(words) - 2, 1))
    assert KNOWN.find(scattered) is None


def test_a_short_prompt_is_caught_where_the_whole_text_is_nearly_that_prompt() -> None:
    assert known(KNOWN.find("How do I make an escargot?")).prompt == "How do I make escargot?"
    assert known(KNOWN.find("Please tell me: how do I make escargot? I have snails.")).share == 1


def test_published_prompts_are_found_to_hold_eleven_of_an_evaluation_set_word_for_word(shared_data: Path) -> None:
    lines = (shared_data / "seed_paper" / "prompts.jsonl").read_text().splitlines()
    prompts = [json.loads(line)["prompt"] for line in lines]
    outputs = json.loads((shared_data / "alpaca_eval/phi-2/model_outputs.json").read_text())
    known = index((row["instruction"], "alpaca_eval") for row in outputs)
    found = {prompt: overlap for prompt in prompts if (overlap := known.find(prompt))}
    verbatim = {prompt for prompt, overlap in found.items() if overlap.share == 1}
    assert verbatim >= {prompt for prompt in prompts if prompt in {row["instruction"] for row in outputs}}
    assert len(verbatim) == 11
    assert len(found) < 20, set(found) - verbatim
