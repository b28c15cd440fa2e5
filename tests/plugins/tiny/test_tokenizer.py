"""The tokenizer and the included weights: decoding restores the text, and both have the same vocabulary."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tutelage.preferences import judging
from tutelage.records import JudgeItem
from tutelage_tiny import WEIGHTS
from tutelage_tiny.mistakes import Carelessness, write_answer
from tutelage_tiny.pretrain import Pretraining, pretrain
from tutelage_tiny.rubric import ADDITIVE, grade
from tutelage_tiny.text import Mix, document
from tutelage_tiny.tokenizer import SPARE, build, vocabulary
from tutelage_tiny.world import draw_task


@pytest.fixture(scope="module")
def shipped() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(WEIGHTS)


def test_the_shipped_tokenizer_is_the_one_that_the_code_builds(shipped: Any) -> None:
    assert shipped.get_vocab() == build().get_vocab() == {token: id for id, token in enumerate(vocabulary())}


def test_it_has_no_template_and_no_pad_token_as_a_base_model_has_none(shipped: Any) -> None:
    assert shipped.chat_template is None
    assert shipped.pad_token is None
    assert set(SPARE) <= shipped.get_added_vocab().keys()


def test_prompts_answers_and_judgements_survive_the_round_trip(shipped: Any) -> None:
    generator = random.Random(0)
    for _ in range(500):
        task = draw_task(generator)
        answer = write_answer(task, Carelessness(), generator)
        question = judging.render(ADDITIVE, JudgeItem("", task.text, answer))
        for text in (task.text, answer, question, judging.reply(grade(task, answer).score, grade(task, answer).reason)):
            assert shipped.decode(shipped.encode(text)) == text


def test_any_sequence_of_tokens_is_restored_from_its_text(shipped: Any) -> None:
    generator = random.Random(0)
    ordinary = range(2 + len(SPARE), len(shipped))
    for _ in range(500):
        tokens = generator.choices(ordinary, k=12)
        text = shipped.decode(tokens, skip_special_tokens=True)
        assert shipped.encode(text) == tokens
        assert shipped.decode(shipped.encode(text)) == text


def test_the_text_of_the_world_has_no_unknown_token(shipped: Any) -> None:
    generator = random.Random(0)
    for _ in range(500):
        assert shipped.unk_token_id not in shipped.encode(document(Mix(), generator))


def test_a_word_of_another_world_is_unknown(shipped: Any) -> None:
    assert shipped.encode("spaceship") == [shipped.unk_token_id]


def test_pretraining_makes_the_same_weights_from_the_same_seed(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    small = Pretraining(documents=400, chunk=200, epochs=1, rows_per_step=16, hidden_size=16, layers=1, heads=2)
    for name in ("once", "again"):
        pretrain(tmp_path / name, small)
    once, again = (load_file(tmp_path / name / "model.safetensors") for name in ("once", "again"))
    assert once
    assert once.keys() == again.keys()
    assert all(once[key].equal(again[key]) for key in once)
