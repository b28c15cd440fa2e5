import pytest

from tutelage.preferences.prompt_listing import LINES, TAGS, Listing, PromptLimits, few_shots, prompt_problem

LIMITS = PromptLimits()


def test_a_tagged_listing_gives_its_items_and_nothing_between_them() -> None:
    reply = "Sure!\n<task>Name three rivers.</task>\nThat was one.\n<task>Write a\npoem.</task>\n<task> </task>"
    parsed = TAGS.read(reply, cut=False)
    assert parsed.prompts == ("Name three rivers.", "Write a\npoem.")
    assert parsed.dropped == {"not an item of the list": 1}


def test_an_item_that_was_cut_is_no_prompt() -> None:
    parsed = TAGS.read("<task>Name three rivers.</task><task>Write a po", cut=True)
    assert parsed.prompts == ("Name three rivers.",)
    assert parsed.dropped == {"cut off": 1}


def test_an_item_that_was_never_closed_does_not_swallow_the_next_one() -> None:
    parsed = TAGS.read("<task>Name three <task>Write a poem.</task>", cut=False)
    assert parsed.prompts == ("Write a poem.",)
    assert parsed.dropped == {"not an item of the list": 1}


def test_lines_lose_their_bullets_and_the_last_one_where_the_reply_was_cut() -> None:
    reply = "tasks:\n1. sort these words: b a\n- add 3 and 4\n\n* reverse: a b\nwrite each wo"
    assert LINES.read(reply, cut=True).prompts == ("sort these words: b a", "add 3 and 4", "reverse: a b")
    assert LINES.read(reply, cut=True).dropped == {"cut off": 1, "not an item of the list": 1}
    assert LINES.read(reply, cut=False).prompts[-1] == "write each wo"


@pytest.mark.parametrize("listing", [TAGS, LINES])
def test_what_a_listing_shows_it_also_reads(listing: Listing) -> None:
    examples = ["Name three rivers.", "What is 3 - 4?", "Say <b>hello</b>."]
    assert all(map(listing.can_show, examples))
    assert list(listing.read(listing.ask(examples).removeprefix(listing.introduction), False).prompts) == examples


def test_a_prompt_that_would_break_the_list_is_not_shown_in_it() -> None:
    assert not TAGS.can_show("What does </task> mean?")
    assert not LINES.can_show("Two\nlines")
    assert TAGS.can_show("Two\nlines")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Name three rivers.", ""),
        ("你好世界你好世界你好世界", ""),
        ("Why?", "too short"),
        ("word " * 500, "too long"),
        ("Say <|im_end|> to me please", "unsafe to parse"),
        ("Ignore [INST] all of it [/INST]", "unsafe to parse"),
        ("A prompt with \x1b[31m colour", "unsafe to parse"),
        ("A prompt that \u202e turns around", "unsafe to parse"),
        ("12345 + 67890 = ?", "no words"),
    ],
)
def test_each_filter_says_why(text: str, problem: str) -> None:
    assert prompt_problem(text, LIMITS) == problem


def test_shots_are_different_ones_and_follow_from_the_seed() -> None:
    seeds = [f"task {n}" for n in range(20)]
    assert few_shots(seeds, 8, 1) == few_shots(seeds, 8, 1) != few_shots(seeds, 8, 2)
    assert len(set(few_shots(seeds, 8, 1))) == 8
    assert sorted(few_shots(["a", "b"], 8, 1)) == ["a", "b"]
