"""Tokenizers are read once for all checkpoints that have the same files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_models import QWEN2, fast_tokenizer, gpt2_tokenizer, sentencepiece_tokenizer, split_by

from tutelage.errors import InputError
from tutelage_transformers.models import tokenizers
from tutelage_transformers.models.tokenizers import keep_saved, read_tokenizer

SAVED: dict[str, Callable[[], Any]] = {
    "GemmaTokenizer": sentencepiece_tokenizer,
    "LlamaTokenizer": sentencepiece_tokenizer,
    "GPT2Tokenizer": gpt2_tokenizer,
    "Qwen2Tokenizer": lambda: split_by(QWEN2, False),
}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEXT = "sort the words cat dog. <b> x  y\n\n é"


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizers, "_kept", {})


def test_a_checkpoint_with_the_same_files_has_the_same_tokenizer_under_its_own_name(base: Path, tmp_path: Path) -> None:
    """Reading Gemma's took two to three seconds for each of 13 changes of the model in a run of three minutes."""
    first = read_tokenizer(str(base), local_only=True)
    copy = shutil.copytree(base, tmp_path / "M2")
    again = read_tokenizer(str(copy), local_only=True)
    assert again is first
    assert again.name_or_path == str(copy)


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"])
def test_a_change_of_any_file_is_read(base: Path, tmp_path: Path, file: str) -> None:
    first = read_tokenizer(str(base), local_only=True)
    copy = shutil.copytree(base, tmp_path / "M2")
    first.save_pretrained(copy)  # with its chat template
    before = read_tokenizer(str(copy), local_only=True)
    text = (copy / file).read_text(encoding="utf-8")
    if file == "chat_template.jinja":
        changed = "Begin: " + text
    else:
        changed = text.replace("please", "kindly") if "please" in text else text.replace("{", "{ ", 1)
    (copy / file).write_text(changed, encoding="utf-8")
    after = read_tokenizer(str(copy), local_only=True)
    assert after is not before
    assert ("kindly" in after.get_vocab()) is ("kindly" in changed)
    assert after.chat_template.startswith("Begin: ") is (file == "chat_template.jinja")


def test_few_tokenizers_are_kept(base: Path, tmp_path: Path) -> None:
    for number in range(4):
        copy = shutil.copytree(base, tmp_path / str(number))
        (copy / "tokens.txt").write_text(str(number), encoding="utf-8")
        read_tokenizer(str(copy), local_only=True)
    assert len(tokenizers._kept) == tokenizers._MOST_KEPT


def test_a_kept_tokenizer_is_saved_as_one_that_was_read(base: Path, tmp_path: Path) -> None:
    for name in ("read", "kept"):
        tokenizer = read_tokenizer(str(base), local_only=True)
        tokenizer.padding_side = "left"
        tokenizer.save_pretrained(tmp_path / name)
    saved = [{file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("read", "kept")]
    assert saved[0] == saved[1] != {}


@pytest.mark.parametrize("kind", SAVED)
def test_a_saved_tokenizer_is_kept_and_equals_the_one_that_would_be_read(base: Path, tmp_path: Path, kind: str) -> None:
    start = shutil.copytree(base, tmp_path / "start")
    fast_tokenizer(SAVED[kind]()).save_pretrained(start)
    settings = json.loads((start / "tokenizer_config.json").read_text(encoding="utf-8"))
    (start / "tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": kind}), encoding="utf-8")
    saved = read_tokenizer(str(start), local_only=True)
    saved.padding_side = "left"
    saved.save_pretrained(tmp_path / "M1")
    keep_saved(saved, tmp_path / "M1")
    assert read_tokenizer(str(tmp_path / "M1"), local_only=True) is saved

    tokenizers._kept.clear()
    read = read_tokenizer(str(tmp_path / "M1"), local_only=True)
    assert type(read) is type(saved) and type(read).__name__ == kind
    assert read(TEXT).input_ids == saved(TEXT).input_ids
    assert read.chat_template == saved.chat_template
    assert read.special_tokens_map == saved.special_tokens_map
    files = []
    for name, one in (("of-saved", saved), ("of-read", read)):
        one.padding_side = "left"
        one.save_pretrained(tmp_path / name)
        files.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert files[0] == files[1] != {}


def test_a_saved_tokenizer_of_a_generic_class_is_read_again(base: Path, tmp_path: Path) -> None:
    saved = read_tokenizer(str(base), local_only=True)
    assert type(saved).__name__ in tokenizers._GENERIC_TOKENIZERS
    saved.save_pretrained(tmp_path / "M1")
    keep_saved(saved, tmp_path / "M1")
    assert read_tokenizer(str(tmp_path / "M1"), local_only=True) is not saved


def test_a_saved_tokenizer_of_a_class_without_is_fast_is_read_again(base: Path) -> None:
    """transformers' classes for Mistral and others derive from the base class alone, which has no such attribute."""
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    keep_saved(PreTrainedTokenizerBase(), base)
    assert tokenizers._kept == {}


def stored(base: Path, folder: Path, model: Any, kind: str) -> str:
    """Write a copy of ``base`` with another tokenizer, and with the class that its configuration names."""
    from tokenizers import Tokenizer

    shutil.copytree(base, folder)
    Tokenizer(model).save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": kind, "eos_token": "<eos>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return str(folder)


def test_a_class_of_transformers_that_loses_what_joins_characters_is_an_error(base: Path, tmp_path: Path) -> None:
    from tokenizers import models

    unigram = models.Unigram([(text, -1.0) for text in ("<eos>", "<unk>", "the", "words", " ", *LETTERS)], unk_id=1)
    name = stored(base, tmp_path / "lost", unigram, "GemmaTokenizer")
    with pytest.raises(InputError, match=r"as a GemmaTokenizer of transformers [0-9.]+, it makes a token of each char"):
        read_tokenizer(name, local_only=True)
    name = stored(base, tmp_path / "whole", unigram, "PreTrainedTokenizerFast")  # as the message says
    assert "words" in read_tokenizer(name, local_only=True).tokenize("sort the words")


@pytest.mark.parametrize("kind", ["GemmaTokenizer", "PreTrainedTokenizerFast"])
def test_a_tokenizer_that_is_meant_to_read_characters_is_accepted(base: Path, tmp_path: Path, kind: str) -> None:
    from tokenizers import models

    vocabulary = {text: number for number, text in enumerate(("<eos>", "<unk>", " ", "\u2581", *LETTERS))}
    name = stored(base, tmp_path / "letters", models.BPE(vocabulary, [], unk_token="<unk>"), kind)
    assert read_tokenizer(name, local_only=True).tokenize("dog") == ["d", "o", "g"]


def test_a_space_and_a_letter_are_no_longer_token(base: Path, tmp_path: Path) -> None:
    """RobertaTokenizer leaves out the space in the place of a token, which tokenizer.json includes."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {text: number for number, text in enumerate(("<eos>", "<unk>", "\u0120", *LETTERS, "\u0120t"))}
    name = stored(base, tmp_path / "letters", models.BPE(vocabulary, [("\u0120", "t")]), "RobertaTokenizer")
    file = str(Path(name, "tokenizer.json"))
    tokenizer = Tokenizer.from_file(file)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    tokenizer.save(file)
    config = json.loads(Path(name, "config.json").read_text(encoding="utf-8"))
    Path(name, "config.json").write_text(json.dumps(config | {"model_type": "roberta"}), encoding="utf-8")
    assert read_tokenizer(name, local_only=True).tokenize("the t") == ["t", "h", "e", "\u0120t"]


def test_files_that_no_tokenizer_can_be_made_of_are_an_error_with_the_name_of_the_model(
    base: Path, tmp_path: Path
) -> None:
    from tokenizers import models

    unigram = models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0)
    name = stored(base, tmp_path / "unknown", unigram, "PreTrainedTokenizerFast")
    file = Path(name, "tokenizer.json")
    state = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(state | {"pre_tokenizer": {"type": "OfALaterVersion"}}), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"tokenizer of .*unknown: it cannot be read .*; copy its files again, install"
    ):
        read_tokenizer(name, local_only=True)
