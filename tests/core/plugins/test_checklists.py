"""The transforms of the pipeline ``checklist``."""

from __future__ import annotations

from tutelage.plugins.checklists import requests, with_checklists
from tutelage.records import Candidate, Message, Outcome, Prompt

TALK = Prompt.of_messages(
    [Message("user", "Name a fruit."), Message("assistant", "Pear."), Message("user", "Another.")]
)
PROMPTS = [Prompt("Say hello.", metadata={"reference": "hello"}), TALK]


def test_a_request_has_the_whole_prompt_and_an_id_of_its_own() -> None:
    first, second = requests(PROMPTS)
    assert first.text.startswith("Write a checklist for grading answers")
    assert "\nSay hello.\n" in first.text and "User: Name a fruit." in second.text
    assert [first.id, second.id] == [f"{one.id}-checklist" for one in PROMPTS]


def test_a_prompt_keeps_its_id_and_metadata_beside_its_checklist() -> None:
    first, second = requests(PROMPTS)
    written = [Candidate(first.id, 0, "Is it a greeting?\n"), Candidate(second.id, 0, "", Outcome.REFUSED)]
    [found] = with_checklists(PROMPTS, written)
    assert found.id == PROMPTS[0].id
    assert found.metadata == {"reference": "hello", "checklist": "Is it a greeting?"}
    assert list(with_checklists(PROMPTS, [Candidate(first.id, 0, "  ")])) == []
