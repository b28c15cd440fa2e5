"""The packed answers are small, and unpack to what was packed."""

from __future__ import annotations

import base64
import gzip
import json
import random
from functools import cache
from typing import Any

from attrs import evolve

from tutelage.report.answers import JudgedSample, ShownAnswer, ShownAnswers, ShownPrompt
from tutelage.report.packing import LONGEST, REASONS, ROOM, Packed, pack

SYLLABLES = [a + b + c for a in "bdfklmnprst" for b in "aeiou" for c in ("", "n", "st", "rk")]


@cache
def pool() -> str:
    """A text of 48,400 words, which compresses less than prose."""
    syllables = random.Random(0).choices(SYLLABLES, k=400_000)
    return " ".join(map("".join, zip(syllables[::2], syllables[1::2], strict=True)))


def english(seed: int, length: int) -> str:
    """A part of the pool. Parts that overlap are too far from each other for gzip to use it."""
    start = seed * 7919 % (len(pool()) - length)
    return pool()[start : start + length]


def answers(prompts: int, models: int, length: int, reason: int = 0) -> ShownAnswers:
    made = iter(range(10**9))

    def answer() -> ShownAnswer:
        return ShownAnswer(english(next(made), length), "answered", "", 3.0, english(next(made), reason), "answered")

    names = tuple(f"M{number}" for number in range(models))
    rows = tuple(ShownPrompt(f"{n:016x}", 0, english(-n, 80), tuple(answer() for _ in names)) for n in range(prompts))
    return ShownAnswers(names, (), rows, {0: names})


def unpacked(packed: Packed) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(packed.text)))


def test_800_prompts_answered_by_10_models_with_600_characters_have_room() -> None:
    packed = pack(answers(800, 10, 600, reason=60))
    assert len(packed.text) <= ROOM and packed.reasons >= 60


def test_hostile_texts_unpack_as_they_were() -> None:
    text = "</script><script>alert(1)</script>\u202e\x00\x1b[31m\ud800 \U0001f600 \u2028"
    [row] = answers(1, 1, 10).prompts
    [answer] = row.answers
    assert answer is not None
    changed = evolve(row, text=text, answers=(evolve(answer, text=text, reason=text),))
    packed = pack(ShownAnswers(("M0",), (), (changed,)))
    assert packed.text.isascii() and "<" not in packed.text
    [[_, _, prompt, _, [[shown, _, _, _, reason, *_]], *_]] = unpacked(packed)["rows"]
    assert prompt == shown == reason == text


def test_a_long_answer_is_cut_and_its_length_is_kept() -> None:
    [row] = answers(1, 1, 10).prompts
    [answer] = row.answers
    assert answer is not None
    changed = evolve(row, answers=(evolve(answer, text="x" * 1_000_000),))
    [found] = unpacked(pack(ShownAnswers(("M0",), (), (changed,))))["rows"][0][4]
    assert found[0] == "x" * LONGEST and found[-1] == 1_000_000


def test_reasons_are_cut_before_the_page_becomes_too_large() -> None:
    long = answers(50, 4, 60, reason=2000)
    packed = pack(long, room=50_000)
    assert len(packed.text) <= 50_000 and packed.reasons in REASONS[1:] and packed.has_judged
    reason = unpacked(packed)["rows"][0][4][0][4]
    assert reason == english(1, 2000)[: packed.reasons] + "…" * bool(packed.reasons)


def test_sampled_answers_are_left_out_last() -> None:
    few = answers(10, 1, 600)
    samples = tuple(JudgedSample(index, english(index, 10_000), 1.0, 1.0) for index in range(4))
    packed = pack(evolve(few, prompts=tuple(evolve(row, judged=(samples,)) for row in few.prompts)), room=1000)
    assert packed.reasons == 0 and not packed.has_judged
    assert unpacked(packed)["rows"][0][6] == []


def test_more_answers_than_there_is_room_for_take_at_most_twice_their_gzipped_size() -> None:
    many = answers(50, 4, 2000, reason=300)
    texts = "\n".join(answer.text for row in many.prompts for answer in row.answers if answer)
    packed = pack(many, room=1000)
    assert 1000 < len(packed.text) <= 2 * len(gzip.compress(texts.encode()))
