"""Choosing the next token of every sequence: greedy, or nucleus sampling with random numbers of the sequence's own.

Each sequence has its own uniform numbers. So the tokens that are sampled for it depend neither on the other sequences
of its batch nor on the device.
"""

from __future__ import annotations

import hashlib
from typing import Any

from tutelage.records import Sampling

NOT_FINITE = -2
"""In place of a token: the logits were NaN or infinite, so that no token can be chosen. It ends the sequence."""


def uniforms(seed: int, prompt: str, sample: int, steps: int) -> Any:
    """Return the random numbers of one sequence: (steps,) float64 in [0, 1).

    They depend on seed, prompt and number of the sample alone. Fewer steps give a prefix of the same numbers.
    """
    import torch

    name = f"{seed}\x1f{sample}\x1f{prompt}"
    generator = torch.Generator()
    generator.manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True))
    return torch.rand(steps, dtype=torch.float64, generator=generator)


def mark_not_finite(tokens: Any, logits: Any) -> Any:
    """Return ``tokens`` (sequences,) with ``NOT_FINITE`` for each sequence that has no finite highest logit.

    A logit of minus infinity, which masks a token, is allowed. The device is not waited for.
    """
    import torch

    return torch.where(logits.amax(-1).isfinite(), tokens, NOT_FINITE)


def sample_tokens(logits: Any, sampling: Sampling, uniform: Any) -> Any:
    """Return the next token ids (sequences,), given ``logits`` (sequences, vocabulary) and ``uniform`` (sequences,).

    Temperature 0 is greedy. Otherwise the token is sampled from the nucleus: the most probable tokens whose
    probabilities sum to ``top_p`` or just above (Holtzman et al., 2020, section 3.1). The uniform number selects the
    token whose interval of the cumulative probability contains it.
    """
    import torch

    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits.float() / sampling.temperature, -1)
    ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    cumulative = ordered.double().cumsum(-1)
    inside = cumulative - ordered < sampling.top_p
    total = torch.where(inside, cumulative, 0.0).amax(-1)
    position = (cumulative <= (uniform * total)[:, None]).sum(-1, keepdim=True)
    last = (inside.sum(-1, keepdim=True) - 1).clamp(min=0)  # none is inside if the logits are NaN
    return tokens.gather(-1, torch.minimum(position, last)).squeeze(-1)
