"""Answers of a server: one request for each sample, many at once, each with a typed outcome."""

from __future__ import annotations

import atexit
import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, Generic, TypeVar

from attrs import field, frozen

from tutelage import Context, Message, Model, Outcome, Reply, Sampling
from tutelage.services.pool import Pool, Stopped
from tutelage_vllm.server import Rejected, RequestError, Server
from tutelage_vllm.settings import VllmSettings, command_of
from tutelage_vllm.weights import Weights, weights_of

T = TypeVar("T")

_ATTEMPTS = 3
_TOKEN_IDS = 2**31
"""Every token id is smaller. Other numbers in a reply are not token ids, and then the text of the server is used."""
_WAIT_SECONDS = 1.0
"""Time before another attempt."""


@frozen
class Sample(Generic[T]):
    """One answer to ask for."""

    about: T
    messages: Sequence[Message]
    index: int
    """Which of the samples of one prompt, from 0."""


@frozen
class Answered(Generic[T]):
    """A sample with its answer."""

    about: T
    index: int
    reply: Reply
    """Its ``output_tokens`` is the number of tokens without the stop token."""


@frozen(eq=False)
class _Loaded:
    """The one server that is kept, with its weights."""

    key: object
    model: Model
    weights: Weights
    server: Server
    _lock: threading.Lock = field(factory=threading.Lock, init=False)


_kept: list[_Loaded] = []


def answers(model: Model, samples: Iterable[Sample[T]], sampling: Sampling, context: Context) -> Iterator[Answered[T]]:
    """Yield the answer to each sample, in any order, by the server of the model, which is started if it does not run.

    Stops early if the user cancels. Raises ``StageError`` with the last lines of its log if the server cannot be
    started or ends, and ``InputError`` if the model or its chat template cannot be used.
    """
    settings = context.settings or VllmSettings()
    remaining = iter(samples)
    first = list(islice(remaining, 1))
    if not first:
        return  # without starting the server
    loaded = _load(model, settings, context)
    if loaded is None:
        return
    work = partial(_answer, loaded, settings, sampling)
    pool: Pool[Sample[T], Answered[T]] = Pool(work, settings.requests_at_once)
    yield from pool.run(chain(first, remaining), context.cancelled)


def release(model: Model) -> None:
    """Stop the server if it has this model."""
    if any(loaded.model.name == model.name for loaded in _kept):
        release_all()


def release_all() -> None:
    """Stop the server that runs, if any."""
    while _kept:
        _kept.pop().server.stop()


atexit.register(release_all)


def _load(model: Model, settings: VllmSettings, context: Context) -> _Loaded | None:
    """Return the server of a model; None if the user cancels while it starts. A server of another model is stopped."""
    key = (model.name, settings)
    if _kept and _kept[-1].key == key and _kept[-1].server.process.poll() is None:
        return _kept[-1]
    release_all()
    weights = weights_of(model)
    command = partial(command_of, settings, weights.folder)
    server = Server.start(model.name, command, settings.start_seconds, context.cancelled)
    if server is None:
        return None
    _kept.append(_Loaded(key, model, weights, server))
    return _kept[-1]


def _answer(
    loaded: _Loaded, settings: VllmSettings, sampling: Sampling, sample: Sample[T], stopped: threading.Event
) -> Answered[T]:
    with loaded._lock:  # the tokenizer is not safe in several threads
        prompt, ids = loaded.weights.prompt(sample.messages)
    room = min(loaded.weights.context, loaded.server.context or loaded.weights.context) - len(ids)
    if not ids or room < 1:
        detail = "the prompt leaves no room for an answer in the model's context"
        return Answered(sample.about, sample.index, Reply("", Outcome.FAILED, detail, len(ids), 0))
    limit = min(sampling.max_new_tokens, room)
    body = _body(loaded.weights, ids, limit, sampling, _seed(sampling.seed, prompt, sample.index))
    reply = _ask(loaded.server, body, settings.request_seconds, stopped)
    if isinstance(reply, str):
        return Answered(sample.about, sample.index, Reply("", Outcome.FAILED, reply))
    with loaded._lock:
        text, outcome, detail, tokens = _read(loaded.weights, reply, limit)
    text = loaded.weights.answer(prompt, text) if outcome.has_text else ""
    return Answered(sample.about, sample.index, Reply(text, outcome, detail, len(ids), tokens))


def _body(weights: Weights, ids: list[int], limit: int, sampling: Sampling, seed: int) -> dict[str, Any]:
    """The request. Every parameter that a checkpoint's generation settings could change is given."""
    is_greedy = sampling.temperature == 0
    return {
        "prompt": ids,
        "max_tokens": limit,
        "temperature": sampling.temperature,
        "top_p": 1.0 if is_greedy else sampling.top_p,
        "top_k": -1 if is_greedy or sampling.top_k is None else sampling.top_k,
        "min_p": 0.0 if is_greedy else sampling.min_p,
        "repetition_penalty": 1.0,
        "stop_token_ids": list(weights.stop_tokens),
        "skip_special_tokens": not weights.hidden,
        "return_token_ids": True,
        **({} if is_greedy else {"seed": seed}),
    }


def _seed(seed: int, prompt: str, index: int) -> int:
    """The seed of one sample. It depends on the prompt, so that a run that continues asks for the same answers."""
    digest = hashlib.sha256(f"{seed}\x1f{index}\x1f{prompt}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _ask(server: Server, body: Mapping[str, Any], seconds: float, stopped: threading.Event) -> Mapping[str, Any] | str:
    """Return the reply, or why there is none. Raises ``StageError`` if the server has ended."""
    problem = ""
    for _ in range(_ATTEMPTS):
        try:
            return server.complete(body, seconds)
        except Rejected as error:
            return f"the server rejected the request: {error}"
        except RequestError as error:
            problem = str(error)
        server.check()
        if stopped.wait(_WAIT_SECONDS):
            raise Stopped
    return f"the server did not answer ({_ATTEMPTS} attempts): {problem}"


def _read(weights: Weights, reply: Mapping[str, Any], limit: int) -> tuple[str, Outcome, str, int | None]:
    """Return the text of a completion, its outcome, the reason unless it is complete, and its number of tokens.

    If the server returns the tokens, as vLLM does, they are decoded here. Otherwise its text and its count are used.
    """
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else {}
    text, finish = choice.get("text"), choice.get("finish_reason")
    usage = reply.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    tokens = count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None
    ids = choice.get("token_ids")
    if isinstance(ids, list) and all(type(one) is int and 0 <= one < _TOKEN_IDS for one in ids):
        kept = weights.without_end(ids)
        text, tokens = weights.decode(kept), len(kept)
    elif finish == "stop" and tokens:
        tokens -= 1  # the stop token
    if not isinstance(text, str):
        return "", Outcome.FAILED, "the reply of the server has no text", tokens
    if finish == "stop":
        return text, Outcome.ANSWERED, "", tokens
    if finish == "length":
        return text, Outcome.CUT, f"reached the limit of {limit} new tokens", tokens
    return "", Outcome.FAILED, f"the server ended the answer with {finish!r}", tokens
