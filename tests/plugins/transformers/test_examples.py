from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tutelage.errors import InputError
from tutelage.files.jsonl import read_rows
from tutelage.records import Model
from tutelage_transformers.models.loading import LoadedModel, read
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.examples import dpo_rows, sft_rows

GOOD = '{"prompt": [{"role": "user", "content": "cat"}], "completion": [{"role": "assistant", "content": "dog"}]}'


def stock_rows(trainer: Any, config: Any, loaded: LoadedModel, file: Path) -> list[dict[str, Any]]:
    """What TRL itself makes of the file: its own template call, tokenisation and masks."""
    from datasets import load_dataset

    dataset = load_dataset("json", data_files=str(file), split="train")
    bare = trainer.__new__(trainer)
    bare._tokenizer, bare.chat_template, bare.completion_only_loss = loaded.tokenizer, None, True
    arguments = [dataset, loaded.tokenizer, config]
    if "SFT" in trainer.__name__:
        arguments += [False, None]
    with quiet():
        return list(trainer._prepare_dataset(bare, *arguments, "train"))


def test_supervised_rows_are_those_of_trl(loaded: LoadedModel, sft_file: Path, tmp_path: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    with quiet():
        config = SFTConfig(str(tmp_path), bf16=False, use_cpu=True)
    expected = [
        {key: row[key] for key in ("input_ids", "labels")} for row in stock_rows(SFTTrainer, config, loaded, sft_file)
    ]
    assert sft_rows(sft_file, loaded.tokenizer, 100) == expected


def test_preference_rows_are_those_of_trl(loaded: LoadedModel, dpo_file: Path, tmp_path: Path) -> None:
    from trl import DPOConfig, DPOTrainer

    with quiet():
        config = DPOConfig(str(tmp_path), bf16=False, use_cpu=True)
    keys = ("prompt_ids", "chosen_ids", "rejected_ids")
    expected = [{key: row[key] for key in keys} for row in stock_rows(DPOTrainer, config, loaded, dpo_file)]
    assert dpo_rows(dpo_file, loaded.tokenizer, 100) == expected


def test_rows_of_conversations_are_those_of_trl(
    system_base: Path, sft_chats: Path, dpo_chats: Path, tmp_path: Path
) -> None:
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    loaded = read(Model("transformers", str(system_base)), TransformersSettings())
    with quiet():
        sft = SFTConfig(str(tmp_path), bf16=False, use_cpu=True)
        dpo = DPOConfig(str(tmp_path), bf16=False, use_cpu=True)
    for rows, trainer, config, file, keys in (
        (sft_rows, SFTTrainer, sft, sft_chats, ("input_ids", "labels")),
        (dpo_rows, DPOTrainer, dpo, dpo_chats, ("prompt_ids", "chosen_ids", "rejected_ids")),
    ):
        expected = [{key: row[key] for key in keys} for row in stock_rows(trainer, config, loaded, file)]
        assert rows(file, loaded.tokenizer, 120) == expected


def test_the_loss_is_on_the_last_answer_of_a_conversation_alone(system_base: Path, sft_chats: Path) -> None:
    tokenizer = read(Model("transformers", str(system_base)), TransformersSettings()).tokenizer
    completions = [row["completion"][0]["content"] for _, row in read_rows(sft_chats)]
    for row, completion in zip(sft_rows(sft_chats, tokenizer, 120), completions, strict=True):
        learned = [label for label in row["labels"] if label != -100]
        assert tokenizer.decode(learned, skip_special_tokens=True).split() == completion.split()


def test_the_end_token_is_in_the_supervised_loss_and_the_prompt_is_not(loaded: LoadedModel, sft_file: Path) -> None:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    rows = sft_rows(sft_file, loaded.tokenizer, 100)
    batch = DataCollatorForLanguageModeling(pad_token_id=loaded.tokenizer.pad_token_id)(rows)
    end, opening = (loaded.tokenizer.convert_tokens_to_ids(token) for token in ("<|endoftext|>", "<|assistant|>"))
    for ids, labels, attended in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        learned = [int(label) for label in labels if label != -100]
        start = ids.tolist().index(opening) + 1
        assert learned == ids[start:][attended[start:] == 1].tolist()
        assert len(learned) == 3 and learned[-1] == end


def test_the_end_token_is_in_the_preference_loss_and_the_prompt_is_not(loaded: LoadedModel, dpo_file: Path) -> None:
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    rows = dpo_rows(dpo_file, loaded.tokenizer, 100)
    batch = DataCollatorForPreference(pad_token_id=loaded.tokenizer.pad_token_id)(rows)
    answers = [row["chosen_ids"] for row in rows] + [row["rejected_ids"] for row in rows]
    for ids, mask, answer in zip(batch["input_ids"], batch["completion_mask"], answers, strict=True):
        assert ids[mask == 1].tolist() == answer
        assert answer[-1] == loaded.tokenizer.eos_token_id != loaded.tokenizer.pad_token_id


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{not json", r"data.jsonl, line 7: not JSON"),
        ('{"completion": []}', r"data.jsonl, line 7: no 'prompt'"),
        ('{"prompt": "cat", "completion": []}', r"data.jsonl, line 7: 'prompt' is not a list of messages"),
        (
            GOOD.replace('"content": "dog"', '"text": "dog"'),
            r"data.jsonl, line 7: 'completion' is not a list of messages",
        ),
        (GOOD.replace("dog", "dog " * 50), r"data.jsonl, line 7: prompt and completion are 54 tokens, but only 20 fit"),
    ],
)
def test_a_bad_line_is_named(loaded: LoadedModel, tmp_path: Path, line: str, says: str) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join([GOOD] * 6 + [line, GOOD]))
    with pytest.raises(InputError, match=says):
        sft_rows(file, loaded.tokenizer, 20)


def test_a_long_rejected_side_is_named_too(loaded: LoadedModel, dpo_file: Path) -> None:
    with pytest.raises(InputError, match=r"line 3: prompt and rejected are 13 tokens, but only 12 fit"):
        dpo_rows(dpo_file, loaded.tokenizer, 12)


def test_an_empty_file_is_refused(loaded: LoadedModel, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text("\n\n")
    with pytest.raises(InputError, match=r"data.jsonl: no examples"):
        sft_rows(file, loaded.tokenizer, 20)


def test_a_missing_file_is_refused(loaded: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.jsonl: cannot be read"):
        dpo_rows(tmp_path / "none.jsonl", loaded.tokenizer, 20)
