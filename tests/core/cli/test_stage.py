"""``tutelage stage``: one stage on files; the output is complete or not written at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tutelage.cli.stage_files import read_prompts
from tutelage.files.jsonl import read_records, write_rows
from tutelage.plugins import stages
from tutelage.records import Candidate, Demonstration, Judgement, Message, Prompt, Verdict

Invoke = Callable[..., Result]


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write(tmp_path / "prompts.jsonl", {"prompt": "say 1", "note": "kept out"}, {"prompt": "say 2"})


def test_answers_are_generated_and_then_judged(invoke: Invoke, prompts: Path, golden: Path, tmp_path: Path) -> None:
    result = invoke("stage", "generate", prompts, "--model", f"{golden}:M1", "--n", 3, "--out", "out/answers.jsonl")
    assert result.exit_code == 0, result.output
    assert result.stderr == "answers: 6 answered -> out/answers.jsonl\n"
    answers = list(read_records(tmp_path / "out/answers.jsonl", Candidate))
    wanted = sorted(f"{Prompt(text).id}/{index}" for text in ("say 1", "say 2") for index in range(3))
    assert [answer.id for answer in answers] == wanted
    options = ("--prompts", prompts, "--model", "numbers", "--samples", 2, "--out", "judgements.jsonl")
    result = invoke("stage", "judge", "out/answers.jsonl", *options)
    assert result.exit_code == 0, result.output
    judgements = list(read_records(tmp_path / "judgements.jsonl", Judgement))
    assert len(judgements) == 12
    assert {judgement.item_id for judgement in judgements} == set(wanted)


@pytest.mark.parametrize(
    ("name", "stage", "model"),
    [("generate", "generate_candidates", "{golden}:M1"), ("demonstrate", "demonstrate", "numbers")],
)
@pytest.mark.parametrize(("option", "kept"), [((), False), (("--keep-thinking",), True)])
def test_thinking_blocks_are_kept_only_if_asked(
    invoke: Invoke,
    prompts: Path,
    golden: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    stage: str,
    model: str,
    option: tuple[str, ...],
    kept: bool,
) -> None:
    samplings = []
    run = getattr(stages, stage)

    def recorded(*arguments: Any) -> Any:
        samplings.append(arguments[-2])
        return run(*arguments)

    monkeypatch.setattr(stages, stage, recorded)
    options = ("--model", model.format(golden=golden), *option, "--out", "o.jsonl")
    assert invoke("stage", name, prompts, *options).exit_code == 0
    assert [sampling.keep_thinking for sampling in samplings] == [kept]


def test_answers_without_a_text_are_not_judged(invoke: Invoke, prompts: Path, tmp_path: Path) -> None:
    id = Prompt("say 1").id
    rows = [
        {"prompt_id": id, "index": 0, "text": "", "outcome": "refused"},
        {"prompt_id": id, "index": 1, "text": "1"},
    ]
    answers = write(tmp_path / "answers.jsonl", *rows)
    options = ("--prompts", prompts, "--model", "numbers", "--out", "judgements.jsonl")
    assert invoke("stage", "judge", answers, *options).exit_code == 0
    assert [row.item_id for row in read_records(tmp_path / "judgements.jsonl", Judgement)] == [f"{id}/1"]


def test_expected_scores_are_refused_for_a_plugin_that_has_none(invoke: Invoke, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", {"id": "a", "prompt": "say 1", "answer": "1"})
    result = invoke("stage", "judge", rows, "--model", "numbers", "--score", "expected", "--out", "j.jsonl")
    assert result.exit_code == 2
    assert "score: expected; plugin 'numbers'" in result.output
    assert "cannot compute it" in result.output
    assert not (tmp_path / "j.jsonl").exists()


def test_plain_rows_are_judged_compared_and_demonstrated(invoke: Invoke, prompts: Path, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", {"id": "a", "prompt": "say 1", "answer": "1"}, {"prompt": "x", "answer": "y"})
    assert invoke("stage", "judge", rows, "--model", "numbers", "--out", "j.jsonl").exit_code == 0
    judged = {row.item_id: row.score for row in read_records(tmp_path / "j.jsonl", Judgement)}
    assert judged.pop("a") == 5.0
    assert list(judged.values()) == [1.0]
    pairs = write(tmp_path / "pairs.jsonl", {"id": "c", "prompt": "say 1", "first": "2", "second": "1"})
    assert invoke("stage", "evaluate", pairs, "--model", "numbers", "--out", "v.jsonl").exit_code == 0
    assert list(read_records(tmp_path / "v.jsonl", Verdict)) == [Verdict("c", 0.0)]
    assert invoke("stage", "demonstrate", prompts, "--model", "numbers", "--out", "d.jsonl").exit_code == 0
    assert sorted(row.text for row in read_records(tmp_path / "d.jsonl", Demonstration)) == ["1", "2"]


CHAT = [
    {"role": "system", "content": "Numbers only."},
    {"role": "user", "content": "say 4"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "say 5"},
]


@pytest.mark.parametrize("row", [{"messages": CHAT}, {"prompt": CHAT}])
def test_conversations_are_answered_and_judged(
    row: dict[str, Any], invoke: Invoke, golden: Path, tmp_path: Path
) -> None:
    prompts = write(tmp_path / "chats.jsonl", row, {"prompt": "say 6"})
    for command in ("generate", "demonstrate"):
        arguments = (command, prompts, "--model", f"{golden}:M1" if command == "generate" else "numbers")
        assert invoke("stage", *arguments, "--out", f"{command}.jsonl").exit_code == 0
    chat = Prompt.of_messages([Message(one["role"], one["content"]) for one in CHAT])
    demonstrated = {one.prompt_id: one.text for one in read_records(tmp_path / "demonstrate.jsonl", Demonstration)}
    assert demonstrated == {chat.id: "5", Prompt("say 6").id: "6"}
    assert {one.prompt_id for one in read_records(tmp_path / "generate.jsonl", Candidate)} == demonstrated.keys()
    options = ("--model", "numbers", "--prompts", prompts, "--out", "of-answers.jsonl")
    assert invoke("stage", "judge", "generate.jsonl", *options).exit_code == 0
    rows = write(tmp_path / "rows.jsonl", {**row, "answer": "5", "id": "a"}, {**row, "answer": "4", "id": "b"})
    assert invoke("stage", "judge", rows, "--model", "numbers", "--out", "judged.jsonl").exit_code == 0
    judged = {one.item_id: one.score for one in read_records(tmp_path / "judged.jsonl", Judgement)}
    assert judged == {"a": 5.0, "b": 1.0}
    pairs = write(tmp_path / "pairs.jsonl", {**row, "id": "c", "first": "5", "second": "4"})
    assert invoke("stage", "evaluate", pairs, "--model", "numbers", "--out", "v.jsonl").exit_code == 0
    assert list(read_records(tmp_path / "v.jsonl", Verdict)) == [Verdict("c", 1.0)]


def test_the_prompts_of_a_run_keep_their_messages(invoke: Invoke, tmp_path: Path) -> None:
    chat = Prompt.of_messages([Message(one["role"], one["content"]) for one in CHAT], "chats")
    write_rows(tmp_path / "prompts.jsonl", [chat])
    assert read_prompts(tmp_path / "prompts.jsonl") == [chat]


def test_a_conversation_without_a_question_is_named_by_line(invoke: Invoke, tmp_path: Path) -> None:
    prompts = write(tmp_path / "chats.jsonl", {"messages": CHAT}, {"messages": CHAT[:1]})
    result = invoke("stage", "demonstrate", prompts, "--model", "numbers", "--out", "d.jsonl")
    assert result.exit_code == 2
    assert "chats.jsonl, line 2: `messages`: the conversation ends with the system" in result.stderr


def test_a_run_s_own_prompts_keep_their_ids(invoke: Invoke, golden: Path, tmp_path: Path) -> None:
    prompts = golden / "seed-0/M1/samples/prompts.jsonl"
    assert invoke("stage", "demonstrate", prompts, "--model", "numbers", "--out", "d.jsonl").exit_code == 0
    ids = {prompt.id for prompt in read_records(prompts, Prompt)}
    assert {row.prompt_id for row in read_records(tmp_path / "d.jsonl", Demonstration)} == ids


def test_training_gives_a_checkpoint_that_can_be_used(invoke: Invoke, golden: Path, tmp_path: Path) -> None:
    examples = golden / "seed-0/M1/examples.jsonl"
    options = ("--model", "numbers:numbers/novice", "--objective", "sft", "--set", "sft.epochs=1", "--out", "m1")
    result = invoke("stage", "train", examples, *options)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "m1/weights.json").read_text()) == {"skill": 0.5}
    rows = [json.loads(line) for line in (tmp_path / "m1.metrics.jsonl").read_text().splitlines()]
    assert rows[0] == {"step": 0, "loss": 1.0}
    pairs = golden / "seed-0/self-reward/M2/preferences.jsonl"
    options = ("--model", "numbers:m1", "--reference", f"{golden}:M1", "--objective", "dpo", "--set", "dpo.lora.r=4")
    assert invoke("stage", "train", pairs, *options, "--out", "m2").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith((".", "m"))) == [
        "m1",
        "m1.metrics.jsonl",
        "m2",
        "m2.metrics.jsonl",
    ]


def test_imported_instructions_train_by_sft_and_imported_pairs_by_dpo(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path / "chats.jsonl", {"q": "say 1", "a": "1"}, {"q": "say 2", "a": "2"})
    columns = ("--prompt", "q", "--answer", "a", "--id", "q")
    assert invoke("data", "import", "ift", "chats.jsonl", "ift.jsonl", *columns).exit_code == 0
    options = ("--model", "numbers:numbers/novice", "--objective", "sft", "--out", "m1")
    result = invoke("stage", "train", "ift.jsonl", *options)
    assert (result.exit_code, result.stderr) == (0, "sft: 2 logged steps -> m1\n")
    write(tmp_path / "ranked.jsonl", {"prompt": "say 1", "chosen": "1", "rejected": "one"})
    assert invoke("data", "import", "preferences", "ranked.jsonl", "pairs.jsonl").exit_code == 0
    options = ("--model", "numbers:m1", "--objective", "dpo", "--out", "m2")
    result = invoke("stage", "train", "pairs.jsonl", *options)
    assert (result.exit_code, result.stderr) == (0, "dpo: 1 logged steps -> m2\n")
    assert json.loads((tmp_path / "m2/weights.json").read_text())["skill"] > 0.5
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


TEACHING: dict[str, tuple[str, dict[str, Any], str]] = {
    "an empty answer": ("sft", {"prompt": "say 1", "answer": " "}, "`answer` must be a text that is not empty"),
    "a score": ("sft", {"prompt": "say 1", "answer": "1", "score": 2}, "a judging example (it has a score)"),
    "equal sides": ("dpo", {"chosen": [{"content": "1"}], "rejected": [{"content": "1"}]}, "are the same"),
    "equal texts": ("dpo", {"prompt": "say 1", "chosen": "1", "rejected": "1"}, "are the same"),
}


@pytest.mark.parametrize("what", TEACHING)
def test_a_row_that_teaches_the_wrong_thing_is_named_with_its_line(invoke: Invoke, tmp_path: Path, what: str) -> None:
    objective, row, message = TEACHING[what]
    good = {"prompt": "say 1", "answer": "1"}
    path = write(tmp_path / "rows.jsonl", good, row)
    result = invoke("stage", "train", path, "--model", "numbers", "--objective", objective, "--out", "m1")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {path}, line 2: ")
    assert message in result.stderr
    assert [one.name for one in tmp_path.iterdir() if "m1" in one.name] == []


def test_a_training_that_fails_leaves_nothing(invoke: Invoke, tmp_path: Path) -> None:
    broken = write(tmp_path / "examples.jsonl", {"prompt": "no conversation"})
    options = ("--model", "numbers:numbers/novice", "--objective", "dpo", "--out", "m1")
    result = invoke("stage", "train", broken, *options)
    assert result.exit_code == 6
    assert [path.name for path in tmp_path.iterdir() if "m1" in path.name] == []


def test_nothing_is_overwritten(invoke: Invoke, prompts: Path, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("mine")
    result = invoke("stage", "demonstrate", prompts, "--model", "numbers", "--out", "out.jsonl")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: out.jsonl: already exists; choose another path with --out\n",
    )
    assert (tmp_path / "out.jsonl").read_text() == "mine"


WRONG_FILES: dict[str, tuple[dict[str, Any], str]] = {
    "judge": ({"prompt": "say 1"}, "rows.jsonl, line 1: `answer` must be a text that is not empty"),
    "evaluate": ({"prompt": "say 1", "first": "1", "second": ""}, "rows.jsonl, line 1: `second` must be a text"),
    "generate": ({"question": "say 1"}, "rows.jsonl, line 1: `prompt` must be a text that is not empty"),
    "demonstrate": ({"text": 3, "id": "a"}, "rows.jsonl, line 1: `text` must be a text that is not empty"),
}


@pytest.mark.parametrize("stage", WRONG_FILES)
def test_a_wrong_row_is_named_with_its_line(invoke: Invoke, tmp_path: Path, stage: str) -> None:
    row, message = WRONG_FILES[stage]
    result = invoke("stage", stage, write(tmp_path / "rows.jsonl", row), "--model", "numbers", "--out", "out.jsonl")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_an_empty_file_and_a_repeated_prompt_are_errors(invoke: Invoke, tmp_path: Path) -> None:
    options = ("--model", "numbers", "--out", "out.jsonl")
    result = invoke("stage", "demonstrate", write(tmp_path / "rows.jsonl"), *options)
    assert (result.exit_code, result.stderr) == (
        2,
        f"error: {tmp_path}/rows.jsonl: empty; at least one row is required\n",
    )
    twice = write(tmp_path / "rows.jsonl", {"prompt": "say 1"}, {"prompt": "say 1"})
    result = invoke("stage", "demonstrate", twice, *options)
    assert result.exit_code == 2
    assert "occurs twice in one call; ids must be unique" in result.stderr
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("model", "code", "message"),
    [
        ("numbres", 3, "plugin 'numbres' is not installed; did you mean 'numbers'?"),
        ("runs/none:M1", 2, "runs/none:M1: neither a run (runs/none contains no recipe.yaml) nor PLUGIN[:NAME]"),
        ("Qwen/Qwen2.5-0.5B", 2, "nor PLUGIN[:NAME]; did you mean transformers:Qwen/Qwen2.5-0.5B?"),
        ("gpt-4o", 3, "plugin 'gpt-4o' is not installed; did you mean openai:gpt-4o?"),
        ("numbers:numbers/expert", 2, "has no model 'numbers/expert'; did you mean 'numbers/novice'?"),
    ],
)
def test_a_model_that_cannot_be_found_is_named(
    invoke: Invoke, prompts: Path, model: str, code: int, message: str
) -> None:
    result = invoke("stage", "generate", prompts, "--model", model, "--out", "out.jsonl")
    assert result.exit_code == code
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("generate", "--set", "speed=3"), "this plugin has no settings, but got speed"),
        (("generate", "--set", "dpo.beta=3"), "--set dpo.beta=3: this setting belongs to `tutelage stage train`"),
        (
            ("train", "--objective", "sft", "--set", "dpo.beta=3"),
            "--set dpo.beta=3: does not apply, the objective is sft",
        ),
        (("train", "--objective", "dpo", "--set", "dpo.seed=3"), "--set dpo.seed: the seed is set by --seed; leave"),
        (("train", "--objective", "dpo", "--set", "dpo.bta=3"), "--set dpo: bta: unknown key; did you mean 'beta'?"),
        (("train", "--objective", "dpo", "--set", "dpo.beta=1", "--set", "dpo.beta.x=1"), "'beta' already has a value"),
        (("judge", "--rubric", "additve"), "no rubric 'additve'; did you mean 'additive'?"),
    ],
)
def test_a_wrong_setting_is_named(invoke: Invoke, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    rows = write(tmp_path / "rows.jsonl", {"prompt": "say 1", "answer": "1"})
    stage, *options = arguments
    result = invoke("stage", stage, rows, "--model", "numbers", *options, "--out", "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_answer_to_a_prompt_that_is_not_in_the_file_is_an_error(
    invoke: Invoke, prompts: Path, tmp_path: Path
) -> None:
    answers = write(tmp_path / "answers.jsonl", {"prompt_id": "unknown", "index": 0, "text": "1"})
    result = invoke("stage", "judge", answers, "--prompts", prompts, "--model", "numbers", "--out", "out")
    assert result.exit_code == 2
    assert "candidate unknown/0 has prompt_id unknown, which is not in" in result.stderr
