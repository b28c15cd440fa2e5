"""Labelled answers of scored candidates and of preference pairs."""

from __future__ import annotations

import pytest
from attrs import evolve

from tutelage.errors import InputError
from tutelage.examples import LabelledAnswer, Preference
from tutelage.files.trl_format import labelled_of, labelled_row
from tutelage.preferences.labelling import REPEATED, label, label_counts, unpaired
from tutelage.preferences.pairing import UNSCORED
from tutelage.records import Candidate, Message, Outcome, Prompt

PROMPT = Prompt("say 1", id="p")
PROMPTS = {"p": PROMPT}


def candidates(*texts: str) -> list[Candidate]:
    return [Candidate("p", index, text) for index, text in enumerate(texts)]


def test_an_answer_is_desirable_from_the_threshold_on() -> None:
    scores = {"p/0": 2.0, "p/1": 3.0, "p/2": 2.999}
    found = label(PROMPTS, candidates("a", "b", "c"), scores, threshold=3.0)
    assert [(one.answer, one.desirable, one.score) for one in found.answers] == [
        ("a", False, 2.0),
        ("b", True, 3.0),
        ("c", False, 2.999),
    ]
    assert found.counts == {"labelled answers": 3, "desirable": 1, "undesirable": 2}


def test_answers_that_cannot_be_labelled_are_dropped_and_counted_by_reason() -> None:
    answers = [
        *candidates("a", "b", " a"),
        Candidate("p", 3, "cut", Outcome.CUT),
        Candidate("p", 4, "", Outcome.REFUSED),
        Candidate("p", 5, " "),
    ]
    found = label(PROMPTS, answers, {"p/0": 1.0, "p/2": 5.0, "p/3": 5.0}, threshold=3.0)
    assert [one.answer_id for one in found.answers] == ["p/0"]
    dropped = {"answer cut": 1, "answer empty": 1, "answer refused": 1, REPEATED: 1, UNSCORED: 1}
    assert found.dropped == dropped
    assert list(found.counts)[:3] == ["labelled answers", "desirable", "undesirable"]
    kept = label(PROMPTS, answers, {"p/3": 5.0}, threshold=3.0, keep_cut=True)
    assert [(one.answer_id, one.desirable) for one in kept.answers] == [("p/3", True)]


def test_an_answer_to_an_unknown_prompt_is_an_error() -> None:
    with pytest.raises(InputError, match="answers prompt q, which is not among the prompts"):
        label(PROMPTS, [Candidate("q", 0, "a")], {}, threshold=3.0)


def test_both_answers_of_a_pair_are_labelled_and_none_occurs_twice_with_one_label() -> None:
    pairs = [
        Preference("p", "say 1", "a", "b", "1", "2", 5.0, 3.0),
        Preference("p", "say 1", "a", "c", "1", "3", 5.0, 1.0),
        Preference("p", "say 1", "b", "c", "2", "3", 3.0, 1.0),
    ]
    found = unpaired(pairs)
    assert [(one.answer_id, one.desirable, one.score) for one in found] == [
        ("1", True, 5.0),
        ("2", False, 3.0),
        ("3", False, 1.0),
        ("2", True, 3.0),
    ]
    assert label_counts(found) == {"labelled answers": 4, "desirable": 2, "undesirable": 2}


def test_a_labelled_answer_is_read_back_from_its_row() -> None:
    messages = (Message("system", "Be brief."), Message("user", "say 1"))
    text = "System: Be brief.\n\nUser: say 1"
    for one in (
        LabelledAnswer("p", "say 1", "1", True, "p/0", 4.0),
        LabelledAnswer("p", text, "2", False, "p/1", messages=messages),
    ):
        assert labelled_of(labelled_row(one)) == one
    with pytest.raises(ValueError, match="the label must be true or false, not 'yes'"):
        labelled_of({**labelled_row(one), "label": "yes"})


def test_answers_of_different_prompts_with_the_same_ids_are_kept() -> None:
    pairs = [Preference(id, f"say {id}", "yes", "no", "chosen", "rejected") for id in ("1", "2", "3")]
    assert [one.prompt_id for one in unpaired(pairs)] == ["1", "1", "2", "2", "3", "3"]
    texts = [Preference("1", "say 1", answer, "no", "chosen", "rejected") for answer in ("a", "b")]
    assert [one.answer for one in unpaired(texts) if one.desirable] == ["a", "b"]


@pytest.mark.parametrize(("key", "value"), [("weight", 0.5), ("probability", 0.8), ("weight", 2.0)])
def test_pairs_with_weights_or_soft_labels_are_refused_because_they_would_be_lost(key: str, value: float) -> None:
    plain = Preference("p", "say 1", "a", "b", "1", "2")
    with pytest.raises(InputError, match=f"1 of 2 pairs have another {key} than 1, which labelled answers do not have"):
        unpaired([plain, evolve(plain, **{key: value})])  # type: ignore[arg-type]
