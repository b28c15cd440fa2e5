"""A trial of a model's small files before a run: the tokenizer, its chat template, the configurations.

The trial imports transformers and reads the tokenizer. Its result depends on the files and the versions of the
libraries alone, so it is kept in the user's cache, and a second ``plan`` or ``run`` needs neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tutelage.errors import InputError, TutelageError
from tutelage.files.user_cache import cached
from tutelage_transformers.models import rewards, support
from tutelage_transformers.models.chat import answer_text, check_opens_no_block, encode, prompt_text, reply_tokens
from tutelage_transformers.models.finding import explain_read_errors
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.models.tokenizers import read_tokenizer, small_files

_LIBRARIES = ("tutelage", "transformers", "tokenizers", "jinja2")
_QUESTION = {"role": "user", "content": "Which words does the template keep?"}
_SYSTEM = {"role": "system", "content": "Keep every word."}
_ANSWER = {"role": "assistant", "content": "All of them."}
_NEXT = {"role": "user", "content": "And after that?"}


def fingerprint(location: str, folder: Path) -> dict[str, Any]:
    """Return what the trial, and the number of tokens of a text, depend on: files and libraries."""
    return {
        "location": location,
        "files": small_files(folder),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def problems(
    location: str,
    folder: Path | None,
    local_only: bool,
    system: bool,
    several_turns: bool,
    replies: Sequence[Sequence[str]] = (),
    is_reward: bool = False,
) -> list[str]:
    """Return the problems of the model at ``location``; ``folder`` has its files, if they are on this machine.

    ``system`` and ``several_turns``: whether such conversations are used. ``replies``: the replies of each rubric whose
    probabilities are needed. ``is_reward``: whether it is a classifier, which completes nothing.
    """

    def compute() -> list[str]:
        with quiet():
            return list(_problems(location, local_only, system, several_turns, replies, is_reward))

    if folder is None:
        return compute()
    inputs = {**fingerprint(location, folder), "system": system, "several_turns": several_turns}
    if replies:
        inputs["replies"] = [list(one) for one in replies]
    if is_reward:
        inputs["is_reward"] = True
    found: list[str] = cached("model-trial", inputs, compute)
    return found


def _problems(
    location: str,
    local_only: bool,
    system: bool,
    several_turns: bool,
    replies: Sequence[Sequence[str]],
    is_reward: bool,
) -> Iterator[str]:
    tokenizer = None
    try:
        with explain_read_errors(location):
            tokenizer = read_tokenizer(location, local_only)
    except TutelageError as error:
        yield str(error)
    if tokenizer is not None:
        yield from conversation_problems(tokenizer, system, several_turns)
        yield from reply_problems(tokenizer, replies)
    yield from _config_problems(location, local_only, is_reward)


def conversation_problems(tokenizer: Any, system: bool, several_turns: bool) -> Iterator[str]:
    """Yield what a chat template does wrong in training or sampling, with each kind of conversation that is used."""
    conversations = [[_QUESTION]]
    if system:
        conversations.append([_SYSTEM, _QUESTION])
    if several_turns:
        conversations.append([_QUESTION, _ANSWER, _NEXT])
    checks: list[Callable[[], None]] = [lambda one=one: _check_conversation(tokenizer, one) for one in conversations]  # type: ignore[misc]
    checks.append(lambda: _check_tokens(tokenizer))
    found: dict[str, None] = {}
    for check in checks:
        try:
            check()
        except InputError as error:
            found[str(error)] = None
    yield from found


def reply_problems(tokenizer: Any, replies: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield why the model's next token cannot tell the replies of a rubric apart."""
    checks: list[Callable[[], object]] = [lambda one=one: reply_tokens(tokenizer, one) for one in replies]  # type: ignore[misc]
    if replies:
        checks.append(lambda: check_opens_no_block(tokenizer, prompt_text(tokenizer, [_QUESTION])))
    for check in checks:
        try:
            check()
        except InputError as error:
            yield str(error)


def _check_conversation(tokenizer: Any, prompt: list[dict[str, str]]) -> None:
    """Raise ``InputError`` if a message is lost, the prompt is no prefix of the training text, or the answer is cut."""
    begin = prompt_text(tokenizer, prompt)
    text = answer_text(tokenizer, prompt, begin, [_ANSWER])
    end = str(tokenizer.eos_token)
    if -1 < text.rfind(end) < text.find(_ANSWER["content"]):
        raise InputError(
            f"tokenizer of {tokenizer.name_or_path}: its chat template writes the end token {end!r} before the answer "
            "and not after it, so a turn could not end; write it after the answer (chat_template.jinja, or "
            "chat_template in tokenizer_config.json)"
        )


def _check_tokens(tokenizer: Any) -> None:
    """Raise ``InputError`` if the end token is not one token, or if there is no pad token beside it."""
    end = str(tokenizer.eos_token)
    [ids] = encode(tokenizer, [end])
    if list(ids) != [tokenizer.eos_token_id]:
        raise InputError(
            f"tokenizer of {tokenizer.name_or_path}: its end token {end!r} is read as {len(ids)} other tokens, so no "
            "answer could ever end; add it to the special tokens (added_tokens in tokenizer.json)"
        )
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        raise InputError(
            f"tokenizer of {tokenizer.name_or_path}: no pad token can be added beside the end token {end!r}; "
            "set pad_token in its tokenizer_config.json"
        )


def _config_problems(location: str, local_only: bool, is_reward: bool) -> Iterator[str]:
    from transformers.generation.configuration_utils import GenerationConfig
    from transformers.models.auto.configuration_auto import AutoConfig

    try:
        with explain_read_errors(location):
            config = AutoConfig.from_pretrained(location, local_files_only=local_only, trust_remote_code=False)
    except TutelageError as error:
        yield str(error)
        return
    if is_reward:
        if reason := rewards.problem(config):
            yield f"model {location}: {reason}"
        return
    if unsupported := support.unsupported_reason(config):
        yield f"model {location}: {unsupported}"
    try:
        generation = GenerationConfig.from_pretrained(location, local_files_only=local_only)
    except OSError:
        generation = GenerationConfig.from_model_config(config)
    except Exception as error:
        yield f"model {location}: its generation_config.json cannot be read: {error}; correct or delete it"
        return
    if problem := generation_problem(generation):
        yield f"model {location}: {problem}"


def generation_problem(settings: Any) -> str | None:
    """Return why a ``transformers.GenerationConfig`` could not be saved with a checkpoint, or None if it could."""
    try:
        settings.validate(strict=True)
    except Exception as error:
        return (
            f"its generation_config.json could not be saved with a checkpoint: {_reasons(str(error))}; remove these "
            "keys, or set do_sample to true"
        )
    return None


def _reasons(text: str) -> str:
    """The reasons of transformers' error on one line."""
    reasons = [line.removeprefix("- ") for line in text.splitlines() if line.startswith("- ")]
    return " ".join((" ".join(reasons) or text).split())
