"""A row of the user's preference data is read, or its problem is named."""

from typing import Any

import pytest

from tutelage.data.preference_rows import parse_preference
from tutelage.examples import Preference
from tutelage.files.trl_format import preference_row
from tutelage.records import Message, Prompt, content_id


def said(role: str, *texts: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for text in texts]


ROW: dict[str, Any] = {
    "prompt": said("user", "Say hello."),
    "chosen": said("assistant", "Hello!"),
    "rejected": said("assistant", "What?"),
}


def test_a_row_of_a_run_or_of_an_import_comes_back_as_the_same_pair() -> None:
    for scores in ((4.5, 1.0), (None, None)):
        preference = Preference("p", "Say hello.", "Hello!", "What?", "p/0", "p/1", *scores)
        assert parse_preference(preference_row(preference)) == preference


def test_a_pair_over_several_turns_is_read_whole() -> None:
    prompt = said("system", "Be kind.") + said("user", "Hi.") + said("assistant", "Hi.") + ROW["prompt"]
    preference = parse_preference({**ROW, "prompt": prompt})
    assert preference.turns == tuple(Message(one["role"], one["content"]) for one in prompt)
    assert preference.prompt_id == Prompt.of_messages(preference.turns).id
    assert preference_row(preference)["prompt"] == prompt


def test_a_row_without_ids_gets_them_from_its_texts() -> None:
    preference = parse_preference({**ROW, "language": "en"})
    id = content_id("Say hello.")
    assert (preference.prompt_id, preference.score_chosen) == (id, None)
    assert preference.chosen_id == f"{id}/{content_id('Hello!')}"


def test_an_id_may_be_a_number() -> None:
    assert parse_preference({**ROW, "prompt_id": 0}).prompt_id == "0"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rejected": said("assistant", " Hello!\n")}, "chosen and rejected are the same text"),
        ({"chosen": said("assistant", "  ")}, "`chosen` is empty"),
        ({"prompt": said("user", "")}, "`prompt`: message 1 (user) is empty"),
        ({"prompt": "Say hello."}, "`prompt` must be a list of messages"),
        ({"chosen": ["Hello!"]}, "`chosen` must be a list of messages"),
        ({"chosen": []}, "`chosen` must be a list of messages"),
        ({"rejected": None}, "`rejected` must be a list of messages"),
        ({"rejected": [{"role": "assistant", "content": None}]}, "`rejected` must be a list of messages"),
        ({"chosen": said("user", "Say hello.") + ROW["chosen"]}, "its roles are: user, assistant"),
        ({"prompt": said("assistant", "Hi.")}, "`prompt`: the conversation begins with the assistant"),
        (
            {"prompt": said("user", "Hi.", "Say hello.")},
            "`prompt`: message 2 is the user's, as is the message before it",
        ),
        ({"prompt": ROW["prompt"] + ROW["chosen"]}, "`prompt`: the conversation ends with the assistant"),
        ({"score_chosen": 1.0, "score_rejected": 4.0}, "chosen scored 1, which is not higher than the 4 of rejected"),
        ({"score_chosen": 3, "score_rejected": 3}, "chosen scored 3, which is not higher than the 3 of rejected"),
        ({"score_chosen": "5"}, "`score_chosen` must be a finite number or null"),
        ({"score_rejected": float("nan")}, "`score_rejected` must be a finite number or null"),
        ({"score_chosen": 10**400}, "`score_chosen` must be a finite number or null"),
        ({"score_rejected": True}, "`score_rejected` must be a finite number or null"),
    ],
)
def test_a_row_that_cannot_be_trained_on_says_why(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_preference({**ROW, **changes})
    assert message in str(caught.value)


def test_a_row_of_another_form_names_the_command_that_converts_it() -> None:
    with pytest.raises(ValueError, match="`tutelage data import preferences` converts other formats"):
        parse_preference({"prompt": "Say hello.", "chosen": "Hello!", "rejected": "What?"})


def test_weight_and_soft_label_are_read_and_checked() -> None:
    preference = parse_preference({**ROW, "weight": 2, "probability": 0.5})
    assert (preference.weight, preference.probability) == (2, 0.5)
    assert parse_preference({**ROW, "weight": None}).weight == 1
    with pytest.raises(ValueError, match=r"`probability` must be a number from 0.5 to 1, not 0.2"):
        parse_preference({**ROW, "probability": 0.2})
