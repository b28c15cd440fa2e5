"""Tokenizers, each with its chat template and pad token. Those of the last models are kept."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from tutelage.errors import InputError
from tutelage.files.digests import file_digest, value_digest
from tutelage_transformers.models.chat import check_template, ensure_chat
from tutelage_transformers.models.finding import folder_of
from tutelage_transformers.models.garbage_collection import without_garbage_collection

_GENERIC_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")
_TOKENIZED = "The first 12 words, read in order: a score (of 5) isn't 7.\n\n  Don't sort them!"
_WORDS = "read the first words and sort them in this order"
_SMALL_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "additional_chat_templates/*")
_MOST_KEPT = 2
"""Number of tokenizers that are kept: those of a student and of another model on this machine."""

_kept: dict[str, Any] = {}
"""By the digest of its files; the last one that was used is at the end."""


def read_tokenizer(name: str, local_only: bool) -> Any:
    """Return the tokenizer of a model with its chat template and pad token.

    All checkpoints of a run have the same tokenizer. A large vocabulary takes seconds to read, so that one whose files
    have the content of one before is not read again: the same object is returned, with ``name`` as its name. Raises
    ``InputError`` if its files cannot be read, if it has no vocabulary or no end token, or if its template fails or
    loses messages.
    """
    folder = folder_of(name)
    if folder is None:
        return _read(name, local_only)
    key = value_digest(small_files(folder))
    tokenizer = _kept.get(key) or _read(name, local_only)
    tokenizer.name_or_path = name
    _keep(tokenizer, key)
    return tokenizer


def keep_saved(tokenizer: Any, folder: Path) -> None:
    """Keep a tokenizer that was saved in ``folder``, with the other files of its model, so that it is not read again.

    A tokenizer of a generic class, or without a fast backend, is read again: transformers may take another class for
    its files.
    """
    if getattr(tokenizer, "is_fast", False) and type(tokenizer).__name__ not in _GENERIC_TOKENIZERS:
        _keep(tokenizer, value_digest(small_files(folder)))


def _keep(tokenizer: Any, key: str) -> None:
    _kept.pop(key, None)
    _kept[key] = tokenizer
    while len(_kept) > _MOST_KEPT:
        del _kept[next(iter(_kept))]


def small_files(folder: Path) -> dict[str, str]:
    """Return the digests of the files of a model other than its weights: tokenizer, chat templates, configurations."""
    files = {file for kind in _SMALL_FILES for file in folder.glob(kind) if file.is_file()}
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in sorted(files)}


def _read(name: str, local_only: bool) -> Any:
    from huggingface_hub.errors import StrictDataclassError
    from transformers.models.auto.tokenization_auto import AutoTokenizer

    try:
        with without_garbage_collection():
            tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=local_only, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, StrictDataclassError):  # they say what is wrong
        raise
    except Exception as error:  # the library tokenizers raises no class of its own
        raise InputError(
            f"tokenizer of {name}: it cannot be read ({type(error).__name__}: {error}); copy its files again, install "
            "other versions of tokenizers and transformers, or correct tokenizer_class in its tokenizer_config.json "
            "(PreTrainedTokenizerFast reads tokenizer.json as it is)"
        ) from error
    tokenizer = _as_stored(tokenizer, name, local_only)
    _check_longer_tokens(tokenizer, name)
    for source in ("local_files_only", "is_local"):  # transformers would save these with the tokenizer
        tokenizer.init_kwargs.pop(source, None)
    if not tokenizer(_TOKENIZED).input_ids:  # transformers makes one without a vocabulary if its files are missing
        raise InputError(
            f"tokenizer of {name}: it has no vocabulary, so every text has no tokens; copy the files of the tokenizer "
            "(tokenizer.json, tokenizer_config.json) to the model"
        )
    ensure_chat(tokenizer)
    check_template(tokenizer)
    return tokenizer


def _as_stored(tokenizer: Any, name: str, local_only: bool) -> Any:
    """Return the tokenizer of ``tokenizer.json`` if its configuration names no class and ``tokenizer`` reads otherwise.

    transformers 5 then takes the class of the model's type (Qwen2Tokenizer for each model of the type qwen2), which
    replaces parts of the stored tokenizer. A tokenizer of another kind could lose every word.
    """
    from transformers.models.auto.tokenization_auto import get_tokenizer_config
    from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

    named = get_tokenizer_config(name, local_files_only=local_only).get("tokenizer_class")
    if named not in _GENERIC_TOKENIZERS or type(tokenizer) is PreTrainedTokenizerFast:
        return tokenizer
    stored = PreTrainedTokenizerFast.from_pretrained(name, local_files_only=local_only)
    return tokenizer if stored(_TOKENIZED).input_ids == tokenizer(_TOKENIZED).input_ids else stored


def _check_longer_tokens(tokenizer: Any, name: str) -> None:
    """Raise ``InputError`` if each character is a token, but not for the tokenizer that ``tokenizer.json`` describes.

    A class of transformers takes the vocabulary of the file, and leaves out what joins characters, if the file has
    another kind of tokenizer than the class (Unigram and BPE).
    """
    from huggingface_hub import try_to_load_from_cache
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or _longest(backend) > 1:
        return
    folder = Path(name)
    file = folder / "tokenizer.json" if folder.is_dir() else try_to_load_from_cache(name, "tokenizer.json")
    if isinstance(file, str | Path) and Path(file).is_file() and _longest(Tokenizer.from_file(str(file))) > 1:
        raise InputError(
            f"tokenizer of {name}: as a {type(tokenizer).__name__} of transformers {version('transformers')}, it makes "
            "a token of each character, but its tokenizer.json also makes longer ones; install another version of "
            "transformers, or correct tokenizer_class in its tokenizer_config.json (PreTrainedTokenizerFast reads the "
            "file as it is)"
        )


def _longest(backend: Any) -> int:
    """The number of characters of the longest token of some words, without spaces: some offsets do not include them."""
    offsets = backend.encode(_WORDS, add_special_tokens=False).offsets
    return max((len(_WORDS[start:end].strip()) for start, end in offsets), default=0)
