"""The weights of a model on this machine: the folder, its tokenizer and template, its stop tokens and its context.

The texts and tokens of conversations are made by the plugin ``transformers``, with the chat template that it trains
with. The server only receives token ids, so that its own template is never used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from attrs import frozen

from tutelage import InputError, Message, Model
from tutelage.files.jsonl import read_json
from tutelage.files.trl_format import message_rows
from tutelage.preferences.thinking import is_mark, opened_block
from tutelage_transformers.generation.engine import text_decoder
from tutelage_transformers.models.chat import encode, prompt_text
from tutelage_transformers.models.finding import explain_read_errors, folder_of, is_local
from tutelage_transformers.models.tokenizers import read_tokenizer

_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")


@frozen(eq=False)
class Weights:
    """A folder of weights with what the requests need of it."""

    folder: Path
    tokenizer: Any
    stop_tokens: tuple[int, ...]
    """Every token that ends an answer: the tokenizer's end token and those of the generation settings."""
    context: int
    """Number of positions of the model."""
    hidden: tuple[str, ...]
    """Special tokens to remove from a text of the server. Empty if the server removes all of them, because no mark of
    a thinking block is a special token."""

    def prompt(self, messages: Sequence[Message]) -> tuple[str, list[int]]:
        """Return a templated conversation up to the opening of the answer, as text and as token ids.

        Raises ``InputError`` if the template cannot render it.
        """
        text = prompt_text(self.tokenizer, message_rows(messages))
        return text, encode(self.tokenizer, [text])[0]

    def without_end(self, ids: Sequence[int]) -> list[int]:
        """Return the tokens of an answer without the token that ended it."""
        return list(ids[:-1] if ids and ids[-1] in self.stop_tokens else ids)

    def decode(self, ids: list[int]) -> str:
        """Return the text of the tokens of an answer, as the plugin ``transformers`` decodes them."""
        return self._decoder([ids])[0]

    @cached_property
    def _decoder(self) -> Callable[[Sequence[list[int]]], list[str]]:
        return text_decoder(self.tokenizer)

    def answer(self, prompt: str, text: str) -> str:
        """Return the text of an answer as the plugin ``transformers`` gives it, from tokens or from a server."""
        for token in self.hidden:
            text = text.replace(token, "")
        mark = opened_block(prompt)
        return f"{mark}\n{text.strip()}" if mark else text.strip()


def weights_of(model: Model) -> Weights:
    """Return the weights of a model: a folder or a hub name, which is downloaded if it is not on this machine.

    Raises ``InputError`` if the model does not exist, or its tokenizer or chat template cannot be used.
    """
    folder = _folder(model.name)
    with explain_read_errors(str(folder)):
        tokenizer = read_tokenizer(str(folder), local_only=True)
    special = [added.content for added in tokenizer.added_tokens_decoder.values() if added.special]
    has_marks = any(map(is_mark, special))
    return Weights(
        folder=folder,
        tokenizer=tokenizer,
        stop_tokens=tuple(sorted({tokenizer.eos_token_id, *_named_ends(folder)})),
        context=_context(folder),
        hidden=tuple(text for text in special if not is_mark(text)) if has_marks else (),
    )


def _folder(name: str) -> Path:
    if not name:
        raise InputError("plugin vllm: the model has no name; set models.student.model to a folder or a hub name")
    name = str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name
    if is_local(name, local_files_only=False) and (found := folder_of(name)) is not None:
        return found.resolve()
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=list(_FILES)))


def _named_ends(folder: Path) -> Iterator[int]:
    """The end tokens of generation_config.json, or of config.json if that file does not exist."""
    own = folder / "generation_config.json"
    named = read_json(own if own.is_file() else folder / "config.json").get("eos_token_id")
    yield from (one for one in (named if isinstance(named, list) else [named]) if isinstance(one, int))


def _context(folder: Path) -> int:
    config = read_json(folder / "config.json")
    text_config = config.get("text_config")
    named = {**(text_config if isinstance(text_config, dict) else {}), **config}.get("max_position_embeddings")
    return named if isinstance(named, int) and named > 0 else 2**31
