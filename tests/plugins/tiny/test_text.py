"""The pretraining text of M0 contains no evaluation prompt, and neither the chat format nor the judge format."""

from __future__ import annotations

import hashlib
import random
import re

from tutelage.preferences import judging
from tutelage.records import JudgeItem
from tutelage_tiny.mistakes import HABITS, Carelessness, write_answer
from tutelage_tiny.rubric import ADDITIVE, score
from tutelage_tiny.text import Mix, document
from tutelage_tiny.world import FAMILIES, draw_task, parse, split_of

DOCUMENTS = [document(Mix(), random.Random(f"test/{number}")) for number in range(3000)]
_STARTS = "|".join(re.escape(family.phrase.split()[0]) for family in FAMILIES.values())
_INSTRUCTION = re.compile(rf"\b(?:{_STARTS}) [a-z0-9 ]+: [a-z0-9 ]+")


def instructions(text: str) -> set[str]:
    """Every instruction of the world in a text, with any text after it."""
    found: set[str] = set()
    for match in _INSTRUCTION.finditer(text):
        words = match[0].split(" ")
        prefixes = (" ".join(words[:end]) for end in range(len(words), 0, -1))
        found.update(prefix for prefix in prefixes if parse(prefix))
    return found


def test_no_document_asks_what_is_asked_in_training_or_in_measuring() -> None:
    for text in DOCUMENTS:
        asked = instructions(text)
        assert asked, text
        assert "text" in {split_of(prompt) for prompt in asked}, text


def test_no_document_is_in_the_chat_format_or_the_judge_format() -> None:
    question = judging.render(ADDITIVE, JudgeItem("", "?", "!")).partition("?")[0]
    for text in DOCUMENTS:
        assert "<|" not in text
        assert question not in text
        assert "score:" not in text


def test_documents_follow_from_their_seed() -> None:
    assert document(Mix(), random.Random("a")) == document(Mix(), random.Random("a"))


def test_the_share_of_wrong_answers_is_the_one_that_is_asked_for() -> None:
    generator = random.Random(0)
    drawn = [draw_task(generator) for _ in range(3000)]
    careful = Carelessness(wrong=0, tempted=0, wrong_style=0)
    assert all(write_answer(task, careful, generator) == task.answer for task in drawn)
    wrong = sum(write_answer(task, Carelessness(), generator) != task.answer for task in drawn)
    assert 0.6 < wrong / len(drawn) < 0.8


def test_a_habit_is_a_mistake_more_often_than_not() -> None:
    generator, mistakes = random.Random(1), 0
    for _ in range(500):
        task = draw_task(generator)
        items = HABITS[task.family](task)
        if items != list(task.right_items):
            mistakes += 1
            assert score(task, task.separator.join(items)) < 5
    assert mistakes > 250
    assert set(HABITS) == set(FAMILIES)


def test_the_text_is_the_one_that_the_shipped_weights_have_read() -> None:
    """If this fails, the code no longer reproduces the weights: repeat pretraining, tuning and the recorded proofs."""
    generator = random.Random("text/0/0")
    read = "\x1e".join(document(Mix(), generator) for _ in range(2000))
    assert hashlib.sha256(read.encode()).hexdigest()[:16] == "f3ff6fbf2ab5ccd4"
