"""Choosing the next token of every sequence: greedy, or nucleus sampling with random numbers of the sequence's own.

Each sequence has its own uniform numbers. So the tokens that are sampled for it do not depend on the other sequences of
its batch. The kernel of the paged engine draws from the same nucleus, but assigns the numbers to its tokens in another
order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from tutelage.records import Sampling

NOT_FINITE = -2
"""In place of a token: the logits were NaN or infinite, so that no token can be chosen. It ends the sequence."""

_SORTED_WHOLE = 16_384
"""Vocabularies up to this size are sorted whole."""
_CANDIDATES = (256, 8192)
"""Numbers of most probable tokens of a larger vocabulary that are sorted first; the first is nearly always enough."""
_ROUNDING = 1e-9
"""Bound on the error of a sum of probabilities in float64, generously."""
_ROUNDING_OF_ALL = 1e-5
"""Bound on the relative error of the sum of all probabilities in float32, generously. That sum is much faster."""


def uniforms(seed: int, prompt: str, sample: int, steps: int) -> Any:
    """Return the random numbers of one sequence: (steps,) float64 in [0, 1).

    They depend on seed, prompt and number of the sample alone. Fewer steps give a prefix of the same numbers.
    """
    import torch

    name = f"{seed}\x1f{sample}\x1f{prompt}"
    generator = torch.Generator()
    generator.manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True))
    return torch.rand(steps, dtype=torch.float64, generator=generator)


def device_of_sampling(device: Any) -> Any:
    """Return where tokens of a model on ``device`` are sampled: there, or on the CPU if it has no float64 (Apple's)."""
    import torch

    return torch.device("cpu") if device.type == "mps" else device


def mask_beyond(logits: Any, count: int) -> Any:
    """Return ``logits`` (sequences, vocabulary) with minus infinity for all tokens less probable than the first
    ``count``.
    """
    last = logits.topk(min(count, logits.shape[-1]), dim=-1).values[:, -1:]
    return logits.masked_fill(logits < last, float("-inf"))


def mark_not_finite(tokens: Any, logits: Any) -> Any:
    """Return ``tokens`` (sequences,) with ``NOT_FINITE`` for each sequence that has no finite highest logit.

    A logit of minus infinity, which masks a token, is allowed. The device is not waited for.
    """
    import torch

    return torch.where(logits.amax(-1).isfinite(), tokens, NOT_FINITE)


def probabilities_of(logits: Any, tokens: Sequence[int]) -> list[tuple[float, ...] | None]:
    """Return the probabilities of ``tokens``, given ``logits`` (sequences, vocabulary), for each sequence.

    It is None for a sequence without a finite highest logit. The softmax is computed in float32.
    """
    import torch

    finite = logits.amax(-1).isfinite().tolist()
    chosen = torch.tensor(list(tokens), device=logits.device)
    rows = torch.softmax(logits.float(), -1)[:, chosen].tolist()
    return [tuple(row) if is_finite else None for row, is_finite in zip(rows, finite, strict=True)]


def sample_tokens(logits: Any, sampling: Sampling, uniform: Any) -> Any:
    """Return the next token ids (sequences,), given ``logits`` (sequences, vocabulary) and ``uniform`` (sequences,).

    Temperature 0 is greedy. Otherwise the token is sampled from the nucleus: of the ``top_k`` most probable tokens, the
    most probable ones whose share of the probability sums to ``top_p`` or just above (Holtzman et al., 2020, section
    3.1), without those less probable than ``min_p`` times the most probable one. Of equally probable tokens, the one
    with the lower id comes first. The uniform number selects the token whose interval of the cumulative probability
    contains it.
    """
    import torch

    if sampling.temperature == 0:
        return logits.argmax(-1)
    scaled = logits.float()
    if sampling.temperature != 1:
        scaled = scaled / sampling.temperature
    probabilities = torch.softmax(scaled, -1)
    is_large = probabilities.shape[-1] > _SORTED_WHOLE
    return _sampled(probabilities, sampling, uniform, _CANDIDATES if is_large else ())


def _sampled(probabilities: Any, sampling: Sampling, uniform: Any, candidates: Sequence[int]) -> Any:
    """Return the sampled tokens. Sequences that a number of candidates does not decide get the next number, or all."""
    if not candidates:
        return _of_all(probabilities, sampling, uniform)
    count = max(candidates[0], (sampling.top_k or 0) + 1)
    if count > probabilities.shape[-1] // 2:
        return _of_all(probabilities, sampling, uniform)
    tokens, is_decided = _of_candidates(probabilities, sampling, uniform, count)
    if not is_decided.all():
        rows = (~is_decided).nonzero().squeeze(-1)
        tokens[rows] = _sampled(probabilities[rows], sampling, uniform[rows], candidates[1:])
    return tokens


def _of_all(probabilities: Any, sampling: Sampling, uniform: Any) -> Any:
    """Return the sampled tokens, by sorting the whole vocabulary of each sequence."""
    import torch

    ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    cumulative = ordered.double().cumsum(-1)
    inside = _inside(ordered, cumulative, sampling)
    total = torch.where(inside, cumulative, 0.0).amax(-1)
    position = (cumulative <= (uniform * total)[:, None]).sum(-1, keepdim=True)
    last = (inside.sum(-1, keepdim=True) - 1).clamp(min=0)  # none is inside if the logits are NaN
    return tokens.gather(-1, torch.minimum(position, last)).squeeze(-1)


def _of_candidates(probabilities: Any, sampling: Sampling, uniform: Any, count: int) -> tuple[Any, Any]:
    """Return the tokens that ``_of_all`` samples, and for which sequences this is certain from ``count`` candidates.

    The candidates are the most probable tokens. Those that are more probable than the last candidate are in the order
    of ``_of_all``. If one of them is outside of the nucleus, the nucleus is known. Otherwise its probability is known
    within bounds, and the token is certain if both bounds select the same one.
    """
    import torch

    candidates = probabilities.topk(count, dim=-1, sorted=False).indices.sort(-1).values  # equal ones in order of ids
    ordered, order = probabilities.gather(-1, candidates).sort(dim=-1, descending=True, stable=True)
    tokens = candidates.gather(-1, order)
    cumulative = ordered.double().cumsum(-1)
    is_known = ordered > ordered[:, -1:]
    known = is_known.sum(-1, keepdim=True)
    inside = _inside(ordered, cumulative, sampling)
    is_whole = (is_known & ~_inside(ordered, cumulative, sampling, _ROUNDING)).any(-1, keepdim=True)
    nucleus = torch.where(inside, cumulative, 0.0).amax(-1, keepdim=True)

    last_known = (known - 1).clamp(min=0)
    everything = probabilities.sum(-1, keepdim=True).double()
    limit = _limit(cumulative, sampling)
    if sampling.top_k is None and sampling.min_p == 0:
        low = (everything * (1 - _ROUNDING_OF_ALL)).clamp(max=limit)
    else:
        low = cumulative.gather(-1, last_known)
    longest = limit + ordered.gather(-1, last_known).double()
    high = torch.minimum(everything * (1 + _ROUNDING_OF_ALL), longest)
    low, high = torch.where(is_whole, nucleus, low - _ROUNDING), torch.where(is_whole, nucleus, high + _ROUNDING)
    first, second = ((cumulative <= uniform[:, None] * bound).sum(-1, keepdim=True) for bound in (low, high))
    is_decided = is_whole | ((first == second) & (second < known))
    last = torch.where(is_whole, inside.sum(-1, keepdim=True) - 1, last_known).clamp(min=0)
    return tokens.gather(-1, torch.minimum(first, last)).squeeze(-1), is_decided.squeeze(-1)


def _inside(ordered: Any, cumulative: Any, sampling: Sampling, tolerance: float = 0.0) -> Any:
    """Return which of the tokens, given by descending probability, are in the nucleus; (sequences, tokens).

    A token that exceeds ``top_p`` by less than ``tolerance`` counts as inside.
    """
    import torch

    inside = cumulative - ordered < _limit(cumulative, sampling) + tolerance
    if sampling.top_k is not None:
        inside &= torch.arange(ordered.shape[-1], device=ordered.device) < sampling.top_k
    if sampling.min_p > 0:
        inside &= ordered >= sampling.min_p * ordered[:, :1]
    return inside


def _limit(cumulative: Any, sampling: Sampling) -> Any:
    """Return the probability that the nucleus has to reach: ``top_p``, or its share of the first ``top_k`` tokens."""
    if sampling.top_k is None:
        return sampling.top_p
    last = min(sampling.top_k, cumulative.shape[-1]) - 1
    return sampling.top_p * cumulative[:, last : last + 1]
