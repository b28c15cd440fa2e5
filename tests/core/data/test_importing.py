import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from known import known

from tutelage.data.importing import EQUAL_SIDES, Columns, Imported, ScoreMapping, import_rows
from tutelage.data.preference_formats import FORMATS, write_table
from tutelage.data.sets import load_examples, load_rated
from tutelage.data.tables import read_table
from tutelage.errors import InputError
from tutelage.examples import Example, Preference
from tutelage.files.trl_format import preference_of, read_preferences
from tutelage.records import Message, Prompt, conversation_text

CHAT = (
    Message("system", "Be brief."),
    Message("user", "Say hello."),
    Message("assistant", "Hello."),
    Message("user", "Once more."),
)
PAIRS = [
    Preference("p1", "Say hello.", "Hello!", "Go away.", "p1/0", "p1/1", 4.0, 1.5),
    Preference("p2", "Name a\nriver, 你好.", "The Nile.", "The Moon.", "p2/d", "p2/2", None, None),
    Preference("p3", conversation_text(CHAT), "Again.", "No.", "p3/0", "p3/1", None, None, messages=CHAT),
]


def imported(kind: str, path: Path | str, **columns: str) -> Imported:
    return import_rows(kind, read_table(str(path)), Columns(**columns))


def file_of(tmp_path: Path, text: str | bytes, name: str = "rows.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def lines(*rows: Mapping[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("name", ["mine.csv", "mine.v2.csv", "2026.11.mine.CSV"])
def test_the_last_ending_of_a_name_is_the_format(name: str, tmp_path: Path) -> None:
    rows = list(read_table(str(file_of(tmp_path, "prompt\nhello\n", name))))
    assert [row.values for row in rows] == [{"prompt": "hello"}]
    with pytest.raises(InputError, match="unknown file extension"):
        read_table(str(file_of(tmp_path, "prompt\nhello\n", "mine.gz")))


def test_instruction_columns_get_the_names_that_a_recipe_reads(tmp_path: Path) -> None:
    path = file_of(tmp_path, 'question;reply\n"Say; hello";Hello!\nName a river;"The\nNile"\n', "mine.csv")
    found = import_rows("ift", read_table(str(path), separator=";"), Columns(prompt="question", answer="reply"))
    assert not found.faults
    assert found.rows == [
        {"prompt": "Say; hello", "answer": "Hello!"},
        {"prompt": "Name a river", "answer": "The\nNile"},
    ]


SYSTEM = {"role": "system", "content": "Be kind."}
ASK, ANSWER = {"role": "user", "content": "Say hello."}, {"role": "assistant", "content": "Hello!"}
MORE, AGAIN = {"role": "user", "content": "Again."}, {"role": "assistant", "content": "Hello again!"}
SHAREGPT = [{"from": "human", "value": "Say hello."}, {"from": "gpt", "value": "Hello!"}]


@pytest.mark.parametrize(
    ("kind", "row", "messages", "expected"),
    [
        ("ift", {"chat": [ASK, ANSWER]}, "chat", {"prompt": "Say hello.", "answer": "Hello!"}),
        ("ift", {"chat": SHAREGPT}, "chat", {"prompt": "Say hello.", "answer": "Hello!"}),
        ("ift", {"chat": [SYSTEM, ASK, ANSWER]}, "chat", {"messages": [SYSTEM, ASK], "answer": "Hello!"}),
        (
            "ift",
            {"chat": [ASK, ANSWER, MORE, AGAIN]},
            "chat",
            {"messages": [ASK, ANSWER, MORE], "answer": "Hello again!"},
        ),
        ("ift", {"prompt": [SYSTEM, ASK], "answer": [ANSWER]}, None, {"messages": [SYSTEM, ASK], "answer": "Hello!"}),
        ("ift", {"prompt": "Say hello.", "answer": [ASK, ANSWER]}, None, {"prompt": "Say hello.", "answer": "Hello!"}),
        (
            "eft",
            {"chat": [SYSTEM, ASK, ANSWER], "score": 4},
            "chat",
            {"messages": [SYSTEM, ASK], "answer": "Hello!", "score": 4.0, "reason": ""},
        ),
        ("prompts", {"chat": [ASK]}, "chat", {"prompt": "Say hello."}),
        ("prompts", {"chat": [SYSTEM, ASK, ANSWER, MORE]}, "chat", {"messages": [SYSTEM, ASK, ANSWER, MORE]}),
        ("prompts", {"chat": [SYSTEM, ASK, ANSWER]}, "chat", {"messages": [SYSTEM, ASK]}),
        ("prompts", {"prompt": [ASK]}, None, {"prompt": "Say hello."}),
    ],
)
def test_a_conversation_is_imported_with_all_its_messages(
    tmp_path: Path, kind: str, row: dict[str, Any], messages: str | None, expected: dict[str, Any]
) -> None:
    found = import_rows(kind, read_table(str(file_of(tmp_path, lines(row)))), Columns(messages=messages))
    assert (found.faults, found.rows) == ([], [expected])


@pytest.mark.parametrize("kind", ["ift", "prompts"])
@pytest.mark.parametrize(
    "chat",
    [
        [ANSWER, ASK, ANSWER],
        [ASK, MORE, ANSWER],
        [ASK, SYSTEM, ANSWER],
        [ASK, ANSWER, AGAIN],
        [SYSTEM],
        [],
        "Say hello.",
        json.dumps([ASK, ANSWER]),
        None,
        [ASK, {"role": "assistant", "content": ""}],
    ],
)
def test_a_row_that_is_no_conversation_is_a_fault_and_not_a_wrong_pair(tmp_path: Path, kind: str, chat: Any) -> None:
    found = imported(kind, file_of(tmp_path, lines({"chat": chat})), messages="chat")
    assert found.rows == []
    (fault,) = found.faults
    assert fault.place.endswith("rows.jsonl, line 1")
    assert fault.reason.startswith("chat is not a conversation that can be used: ")


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "Say hello.", "chosen": [ASK, ANSWER], "rejected": [ASK, AGAIN]}, [ASK]),
        ({"prompt": "Say hello. ", "chosen": [SYSTEM, ASK, ANSWER], "rejected": [SYSTEM, ASK, AGAIN]}, [SYSTEM, ASK]),
        ({"prompt": [SYSTEM, ASK], "chosen": [ANSWER], "rejected": "Go away."}, [SYSTEM, ASK]),
        ({"prompt": [ASK, ANSWER, MORE], "chosen": [ASK, ANSWER, MORE, AGAIN], "rejected": "No."}, [ASK, ANSWER, MORE]),
        ({"prompt": "Say hello.", "chosen": SHAREGPT, "rejected": [{"from": "GPT", "value": "Go away."}]}, [ASK]),
    ],
)
def test_the_sides_of_a_preference_may_hold_the_conversation_of_the_prompt(
    tmp_path: Path, row: dict[str, Any], prompt: list[dict[str, str]]
) -> None:
    found = imported("preferences", file_of(tmp_path, lines(row)))
    assert found.faults == []
    (pair,) = found.rows
    assert pair["prompt"] == prompt
    assert [len(pair[side]) for side in ("chosen", "rejected")] == [1, 1]
    assert preference_of(pair).turns == tuple(Message(**message) for message in prompt)
    assert pair["prompt_id"] == Prompt.of_messages(preference_of(pair).turns).id


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"prompt": "Say hello.", "chosen": [ASK, ANSWER], "rejected": [MORE, AGAIN]},
            "rejected belongs to another conversation: its messages before the answer differ",
        ),
        (
            {"prompt": "Something else.", "chosen": [ASK, ANSWER], "rejected": [ASK, AGAIN]},
            "chosen belongs to another conversation: prompt is none of its messages",
        ),
        (
            {"prompt": [ASK], "chosen": [SYSTEM, ASK, ANSWER], "rejected": [SYSTEM, ASK, AGAIN]},
            "chosen belongs to another conversation: its messages before the answer differ",
        ),
        (
            {"prompt": [ASK], "chosen": "Hello!", "rejected": [ASK, ANSWER, MORE, AGAIN]},
            "rejected belongs to another conversation: its messages before the answer differ",
        ),
        ({"prompt": "a", "chosen": [ASK], "rejected": "c"}, "chosen is not an answer: its only message is the user's"),
        (
            {"prompt": "a", "chosen": "b", "rejected": [ANSWER, MORE, AGAIN]},
            "rejected is not a conversation that can be used: the conversation begins with the assistant; "
            "expected [system,] user, assistant, user, assistant, ...",
        ),
        (
            {"prompt": "a", "chosen": [], "rejected": "c"},
            "chosen is not a conversation that can be used: the conversation is empty",
        ),
    ],
)
def test_sides_of_other_conversations_are_a_fault(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    found = imported("preferences", file_of(tmp_path, lines(row)))
    assert found.rows == []
    assert [fault.reason for fault in found.faults] == [reason]


def test_the_messages_of_a_preference_are_its_prompt_and_end_with_the_user(tmp_path: Path) -> None:
    rows = [{"chat": chat, "chosen": "Hello!", "rejected": "No."} for chat in ([SYSTEM, ASK], [ASK, ANSWER])]
    found = imported("preferences", file_of(tmp_path, lines(*rows)), messages="chat")
    assert [row["prompt"] for row in found.rows] == [[SYSTEM, ASK]]
    (fault,) = found.faults
    assert fault.reason.endswith("the conversation ends with the assistant; the last message must be the user's")


def test_scores_are_mapped_linearly_and_one_outside_their_scale_is_a_fault(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "answer": "b", "score": score} for score in (1, 10, 5.5, 0, 11)]
    mapping = ScoreMapping((1.0, 10.0), (0.0, 5.0))
    found = import_rows("eft", read_table(str(file_of(tmp_path, lines(*rows)))), Columns(), mapping)
    assert [row["score"] for row in found.rows] == [0.0, 5.0, 2.5]
    assert [fault.reason for fault in found.faults] == [
        "the score is outside the scale 1 to 10: 0",
        "the score is outside the scale 1 to 10: 11",
    ]
    assert ScoreMapping((-1.0, 1.0), (1.0, 5.0)).mapped(0.5) == 4.0


def test_what_was_imported_is_what_a_recipe_loads(tmp_path: Path) -> None:
    from tutelage.data.sets import Sets
    from tutelage.files.jsonl import write_rows

    source = file_of(tmp_path, "id,q,a,points,why\n1,Say hello.,Hello!,4.5,short\n", "mine.csv")
    names = {"prompt": "q", "answer": "a", "score": "points", "reason": "why", "id": "id"}
    found = imported("eft", source, **names)
    write_rows(tmp_path / "eft.jsonl", found.rows)
    nothing = Sets(lambda name: None, lambda name: None, lambda name: None)
    (rated,) = load_rated(nothing, str(tmp_path / "eft.jsonl"), None, 0)
    assert (rated.score, rated.reason) == (4.5, "short")
    assert load_examples(nothing, str(tmp_path / "eft.jsonl"), None, 0)[0].answer == "Hello!"


def test_an_imported_conversation_is_loaded_with_all_its_messages(tmp_path: Path) -> None:
    from tutelage.data.sets import Sets, load_prompts
    from tutelage.files.jsonl import write_rows

    nothing = Sets(lambda name: None, lambda name: None, lambda name: None)
    chat = [SYSTEM, ASK, ANSWER, MORE, AGAIN]
    source = file_of(tmp_path, lines({"chat": chat}))
    turns = tuple(Message(one["role"], one["content"]) for one in chat[:-1])
    write_rows(tmp_path / "ift.jsonl", imported("ift", source, messages="chat").rows)
    asked = Prompt.of_messages(turns)
    (example,) = load_examples(nothing, str(tmp_path / "ift.jsonl"), None, 0)
    assert example == Example(asked.text, "Hello again!", messages=turns)
    write_rows(tmp_path / "prompts.jsonl", imported("prompts", source, messages="chat").rows)
    (prompt,) = load_prompts(nothing, str(tmp_path / "prompts.jsonl"), None, 0)
    assert (prompt.id, prompt.turns) == (asked.id, turns)


@pytest.mark.parametrize("form", sorted(FORMATS))
@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet", "pairs"])
def test_preferences_survive_every_format_and_file(tmp_path: Path, form: str, name: str) -> None:
    write_table(tmp_path / name, [FORMATS[form](pair) for pair in PAIRS])
    found = imported("preferences", tmp_path / name, id="prompt_id")
    assert not found.faults
    sides = [(p.prompt_id, p.turns, p.chosen, p.rejected, p.score_chosen, p.score_rejected) for p in PAIRS]
    back = [preference_of(row) for row in found.rows]
    assert [(p.prompt_id, p.turns, p.chosen, p.rejected, p.score_chosen, p.score_rejected) for p in back] == sides


@pytest.mark.parametrize("form", sorted(FORMATS))
@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet"])
def test_weights_survive_every_format_where_the_first_pair_has_none(tmp_path: Path, form: str, name: str) -> None:
    labelled = [PAIRS[0], evolve(PAIRS[1], weight=0.25, probability=0.75)]
    write_table(tmp_path / name, [FORMATS[form](pair) for pair in labelled])
    back = [preference_of(row) for row in imported("preferences", tmp_path / name, id="prompt_id").rows]
    assert [(p.weight, p.probability) for p in back] == [(1, 1), (0.25, 0.75)]


def test_a_weight_out_of_range_is_a_fault_of_its_row(tmp_path: Path) -> None:
    row = {"prompt": "Say hello.", "chosen": "Hello!", "rejected": "No.", "weight": -2}
    (fault,) = imported("preferences", file_of(tmp_path, lines(row))).faults
    assert fault.reason == "`weight` must be a finite number of at least 0, not -2.0"


def test_an_export_for_trl_is_what_a_run_keeps(tmp_path: Path) -> None:
    write_table(tmp_path / "pairs.jsonl", [FORMATS["trl"](pair) for pair in PAIRS])
    assert read_preferences(tmp_path / "pairs.jsonl") == PAIRS


def test_ultrafeedback_has_the_columns_of_the_published_data_set() -> None:
    row = FORMATS["ultrafeedback"](PAIRS[0])
    assert list(row) == ["prompt", "prompt_id", "chosen", "rejected", "messages", "score_chosen", "score_rejected"]
    assert (
        row["messages"]
        == row["chosen"]
        == [
            {"role": "user", "content": "Say hello."},
            {"role": "assistant", "content": "Hello!"},
        ]
    )


def test_nothing_is_overwritten_and_other_endings_are_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "pairs.jsonl", [])
    with pytest.raises(InputError, match="already exists; choose another path"):
        write_table(tmp_path / "pairs.jsonl", [])
    with pytest.raises(
        InputError, match=r"expected the extension \.jsonl or \.parquet, or none for a `datasets` folder"
    ):
        write_table(tmp_path / "pairs.xlsx", [])


def test_the_equal_pairs_of_published_preferences_are_found_and_named(shared_data: Path) -> None:
    path = shared_data / "seed_paper" / "preferences.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    equal = {row["prompt_id"] for row in rows if row["chosen"] == row["rejected"]}
    found = imported("preferences", path, id="prompt_id")
    named = {fault.id for fault in found.faults if fault.reason == EQUAL_SIDES}
    assert len(equal) == 179
    assert named == equal
    assert len(found.rows) + len(found.faults) == 1001
    assert found.rows
    for row in found.rows:
        pair = preference_of(row)
        assert pair.chosen.strip() != pair.rejected.strip() != ""
        assert known(pair.score_chosen) > known(pair.score_rejected)


@pytest.mark.parametrize(
    ("kind", "row", "reason"),
    [
        ("ift", {"prompt": "Say hello.", "answer": "  "}, "answer is empty"),
        ("ift", {"prompt": None, "answer": "Hello!"}, "prompt is missing"),
        ("ift", {"prompt": 3, "answer": "Hello!"}, "prompt is neither a text nor a list of messages"),
        ("ift", {"prompt": "x" * 1_000_001, "answer": "y"}, "prompt is longer than 1,000,000 characters: 1,000,001"),
        ("eft", {"prompt": "a", "answer": "b", "score": "high"}, "score is not a number: 'high'"),
        ("eft", {"prompt": "a", "answer": "b", "score": True}, "score is not a number: 'True'"),
        ("eft", {"prompt": "a", "answer": "b", "score": None}, "score is missing"),
        ("preferences", {"prompt": "a", "chosen": "b", "rejected": "b "}, EQUAL_SIDES),
        ("preferences", {"prompt": "a", "chosen": "b", "rejected": ""}, "rejected is empty"),
        (
            "preferences",
            {"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 1, "score_rejected": 2},
            "chosen scored lower than rejected",
        ),
        (
            "preferences",
            {"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 2, "score_rejected": 2},
            "the two sides are tied",
        ),
        (
            "preferences",
            {"prompt": [{"role": "user", "content": str(n)} for n in range(3)], "chosen": "b", "rejected": "c"},
            "prompt is not a conversation that can be used: message 2 is the user's, as is the message before it; the "
            "assistant's is missing; expected [system,] user, assistant, user, assistant, ...",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_a_fault_with_its_place(
    tmp_path: Path, kind: str, row: dict[str, Any], reason: str
) -> None:
    found = imported(kind, file_of(tmp_path, lines(row)))
    assert not found.rows
    assert [(fault.place.rpartition("/")[2], fault.reason) for fault in found.faults] == [
        ("rows.jsonl, line 1", reason)
    ]


def test_an_id_or_a_prompt_that_comes_twice_names_the_first_place(tmp_path: Path) -> None:
    path = file_of(tmp_path, lines({"id": 7, "prompt": "a"}, {"id": 7, "prompt": "b"}, {"id": 8, "prompt": "a"}))
    found = imported("prompts", path, id="id")
    assert [fault.reason.partition(":")[0] for fault in found.faults] == [
        "the same id as another row",
        "the same prompt as another row",
    ]
    assert all(fault.reason.endswith("rows.jsonl, line 1") for fault in found.faults)
    assert found.reasons() == {"the same id as another row": 1, "the same prompt as another row": 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", lines({"prompt": "a"}).encode() + '{"prompt": "é"}\n'.encode("latin-1"), "line 2: not UTF-8"),
        (
            "a.jsonl",
            lines({"prompt": "a"}) + '{"prompt": "b',
            r"line 2: not JSON.*at the end of the file: is the file incomplete\?",
        ),
        ("a.jsonl", lines({"text": "a"}), "line 1: no column prompt; the row has text"),
        ("a.csv", "prompt;answer\na;b\n", r"one column 'prompt;answer' \(are columns separated by ';'"),
        ("a.csv", "prompt,answer\na,b,c\n", "line 2: 3 cells, but the header has 2"),
        ("a.csv", 'prompt,answer\na,"b\n', "line 2: not CSV"),
        ("a.csv", "prompt,prompt\na,b\n", r"line 1: two columns have the same name \(prompt, prompt\)"),
        ("a.csv", "prompt,answer\na,é\n".encode("latin-1"), "not UTF-8"),
        ("a.parquet", "no parquet", "not a Parquet file, or damaged"),
        ("a.jsonl.gz", b"\x1f\x8b\x08broken", "the file is damaged"),
        ("a.json", "{}", "line 1: no column prompt; the row has no columns"),
        (
            "a.json",
            '{"rows":\n[]}',
            "line 1: not JSON .*; the file must be a list of JSON objects, or have one JSON object per line",
        ),
        ("a.json", "[1]", "row 1: expected one JSON object, found a int"),
        ("a.txt", "a", "unknown file extension"),
    ],
)
def test_a_damaged_or_mistaken_file_is_named_with_the_place(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        imported("prompts", file_of(tmp_path, content, name))


def test_a_line_of_ten_megabytes_is_read_and_its_text_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path, lines({"prompt": "a"}, {"prompt": "x" * 10_000_000}, {"prompt": "b"}))
    found = imported("prompts", path)
    assert len(found.rows) == 2
    assert found.faults[0].place.endswith("line 2")


def test_a_missing_file_says_what_is_expected() -> None:
    with pytest.raises(InputError, match="does not exist; expected a file, a `datasets` folder or hub:OWNER/NAME"):
        imported("prompts", "nowhere.jsonl")


def test_a_folder_of_several_splits_is_asked_for_one_by_name(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    splits = {name: Dataset.from_list([{"prompt": f"of {name}"}]) for name in ("train", "test")}
    DatasetDict(splits).save_to_disk(str(tmp_path / "set"))
    rows = list(read_table(str(tmp_path / "set"), "test"))
    assert [row.values for row in rows] == [{"prompt": "of test"}]
    with pytest.raises(InputError, match="no split 'dev'; splits: test, train"):
        list(read_table(str(tmp_path / "set"), "dev"))


def test_a_data_set_of_the_hub_is_read_by_name_and_one_that_is_not_there_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    file_of(tmp_path / "mine", lines({"prompt": "a"}), "train.jsonl")
    assert [row.values for row in read_table("hub:./mine")] == [{"prompt": "a"}]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"hub:nobody/nothing: cannot be read.*check name, split and network"):
        list(read_table("hub:nobody/nothing"))


def test_a_file_of_a_data_set_of_the_hub_is_read_from_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = tmp_path / "datasets--owner--name"
    commit = "0" * 40
    (stored / "refs").mkdir(parents=True)
    (stored / "refs/v1").write_text(commit)
    (stored / f"snapshots/{commit}/data").mkdir(parents=True)
    file_of(stored / f"snapshots/{commit}/data", lines({"prompt": "a"}), "train.jsonl")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert [row.values for row in read_table("hub:owner/name/data/train.jsonl@v1")] == [{"prompt": "a"}]
