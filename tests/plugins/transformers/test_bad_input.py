"""Bad input that would stop a run after hours is one error before the first step of ``tutelage plan`` and ``run``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chat_templates
import pytest
import yaml
from click.testing import CliRunner, Result

from tutelage.cli import cli
from tutelage.files.jsonl import write_rows
from tutelage.files.trl_format import message, supervised_row
from tutelage.records import Model
from tutelage_transformers.models import loading
from tutelage_transformers.models.counting import count_tokens
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.examples import sft_rows

WORDS = ("apple", "pear", "plum", "cat")
IFT = [{"prompt": f"sort the words {a} {b}", "answer": f"{b} {a}"} for a in WORDS for b in WORDS]
PROMPTS = [{"prompt": f"sort the words please {a} {b}"} for a in WORDS for b in WORDS]
PROMPTS[-1] = {"prompt": "sort these words with commas: plum cat apple"}  # one that the teacher knows
Try = Callable[..., Result]


@pytest.fixture
def attempt(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Try:
    """Plan or run a recipe of two seeds on the base model; keyword arguments replace student, examples and prompts."""
    monkeypatch.chdir(tmp_path)

    def made(
        command: str,
        student: Any = base,
        ift: list[Any] | None = None,
        prompts: list[Any] | None = None,
        **changes: Any,
    ) -> Result:
        for name, rows in (("ift", IFT if ift is None else ift), ("prompts", PROMPTS if prompts is None else prompts)):
            write_rows(tmp_path / f"{name}.jsonl", rows)
        recipe = {
            "name": "bad",
            "seeds": [0, 1],
            "models": {
                "student": {"plugin": "transformers", "model": str(student), "settings": {"threads": 1}},
                "teacher": {"plugin": "tiny"},
            },
            "data": {"ift": {"source": "ift.jsonl"}, "prompts": {"source": "prompts.jsonl", "count": 16}},
            "pipelines": {"teacher-demonstration": None},
            "generation": {"max_new_tokens": 12},
            **changes,
        }
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump(recipe))
        return CliRunner().invoke(cli, [command, "bad.yaml"])

    return made


@pytest.fixture(params=["plan", "run"])
def fails(request: pytest.FixtureRequest, attempt: Try, tmp_path: Path) -> Callable[..., str]:
    """Returns the one error of a command that must run and write nothing."""

    def failing(**changes: Any) -> str:
        result = attempt(request.param, **changes)
        assert result.exit_code == 2, result.output
        assert result.stdout == "" and "Traceback" not in result.stderr
        assert not (tmp_path / "runs").exists()
        return result.stderr

    return failing


def test_a_missing_checkpoint(fails: Callable[..., str]) -> None:
    assert fails(student="/nowhere/M1") == (
        "error: models.student: model /nowhere/M1: there is no such folder; check the path (a hub name is OWNER/NAME)\n"
    )


def test_a_folder_that_is_not_a_checkpoint(fails: Callable[..., str], tmp_path: Path) -> None:
    assert "the folder has no config.json" in fails(student=tmp_path)


def test_a_tokenizer_without_an_end_token(fails: Callable[..., str], make_base: Callable[..., Path]) -> None:
    folder = make_base()
    config = folder / "tokenizer_config.json"
    config.write_text(config.read_text().replace('"eos_token": "<|endoftext|>",', ""))
    assert "it has no end token (eos_token), so no answer could ever end" in fails(student=folder)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (chat_templates.WANTS_SYSTEM, "refuses a conversation of user: First message must be system"),
        (chat_templates.WANTS_PARTS, "loses the user message: the rendered text does not contain the message"),
    ],
)
def test_a_chat_template_that_cannot_show_a_message(
    fails: Callable[..., str], make_base: Callable[..., Path], template: str, problem: str
) -> None:
    folder = make_base(template=template)
    error = fails(student=folder)
    assert error.startswith(f"error: models.student: tokenizer of {folder}: its chat template {problem}")
    assert error.count("\n") == 1


def test_a_chat_template_that_loses_a_turn_of_a_prompt(
    fails: Callable[..., str], make_base: Callable[..., Path]
) -> None:
    turns = [("user", "sort cat"), ("assistant", "cat"), ("user", "please sort dog")]
    chat = {"messages": [{"role": role, "content": text} for role, text in turns]}
    error = fails(student=make_base(template=chat_templates.FIRST_ONLY), prompts=[*PROMPTS[1:], chat])
    assert (
        "its chat template loses the assistant message: the rendered text does not contain the message 'cat'" in error
    )


def test_answers_of_a_model_whose_chat_template_cannot_show_a_message(
    make_base: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_base(template=chat_templates.WANTS_PARTS)
    write_rows(tmp_path / "prompts.jsonl", PROMPTS)
    arguments = [tmp_path / "prompts.jsonl", "--model", f"transformers:{folder}", "--out", tmp_path / "answers.jsonl"]
    result = CliRunner().invoke(cli, ["stage", "generate", *map(str, arguments)])
    assert result.exit_code != 0
    assert "Traceback" not in result.stderr
    assert f"tokenizer of {folder}: its chat template loses the user message" in result.stderr
    assert not (tmp_path / "answers.jsonl").exists()


def test_a_conversation_that_is_too_long_is_named_by_its_first_question(fails: Callable[..., str]) -> None:
    roles = ("system", "user", "assistant", "user")
    texts = ("please sort", "sort dog", "cat " * 110, "sort cow")
    chat = {"messages": [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]}
    error = fails(prompts=[*PROMPTS[1:], chat])
    assert "data.prompts (prompts.jsonl): 1 too long to train on" in error
    assert "it begins 'sort dog'" in error


def test_an_example_longer_than_the_context(fails: Callable[..., str]) -> None:
    error = fails(ift=[*IFT, {"prompt": f"sort {'cat ' * 130}", "answer": "dog"}])
    assert error.startswith("error: data.ift (ift.jsonl): 1 too long to train on: the longest has 135 tokens, and ")
    assert "the maximum is the model's context 128; it begins 'sort cat cat" in error


def test_a_prompt_that_leaves_no_room_for_its_answer(fails: Callable[..., str]) -> None:
    error = fails(prompts=[*PROMPTS[1:], {"prompt": f"sort {'cat ' * 115}"}])
    assert "data.prompts (prompts.jsonl): 1 too long to train on with an answer of generation.max_new_tokens" in error


@pytest.mark.parametrize("empty", ["ift", "prompts"])
def test_an_empty_data_set(fails: Callable[..., str], empty: str) -> None:
    assert fails(**{empty: []}) == f"error: data.{empty}: {empty}.jsonl: empty; at least one row is needed\n"


def test_good_input_is_planned(attempt: Try) -> None:
    assert attempt("plan").exit_code == 0


def test_a_hub_model_that_is_not_downloaded_can_be_planned(attempt: Try) -> None:
    assert attempt("plan", student="nobody/nothing").exit_code == 0
    assert "nobody/nothing" in attempt("run", student="nobody/nothing").stderr


def test_rows_are_counted_as_they_are_trained_on(base: Path, tmp_path: Path) -> None:
    rows = [supervised_row(row["prompt"], row["answer"]) for row in IFT]
    write_rows(tmp_path / "examples.jsonl", rows)
    tokenizer = loading.read(Model("transformers", str(base)), TransformersSettings()).tokenizer
    trained = sft_rows(tmp_path / "examples.jsonl", tokenizer, 128)
    counts = count_tokens(None, str(base), [*rows, {"prompt": message("user", "sort cat")}], download=True)
    assert counts is not None
    assert list(counts.tokens[:-1]) == [len(row["input_ids"]) for row in trained]
    assert counts.tokens[-1] == len(tokenizer("<|user|>sort cat<|assistant|>").input_ids)
    assert counts.context == json.loads((base / "config.json").read_text())["max_position_embeddings"]
