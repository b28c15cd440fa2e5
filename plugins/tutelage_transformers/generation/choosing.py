"""Choosing the next token of every row: greedy, or nucleus sampling with random numbers that belong to the row.

Each row brings its own uniform numbers, so what it samples does not depend on the rows that share its batch, nor on
the device.
"""

from __future__ import annotations

import hashlib
from typing import Any

from tutelage.records import Sampling


def uniforms(seed: int, prompt: str, sample: int, steps: int) -> Any:
    """Numbers in [0, 1) of one row, (steps,) float64, which follow from seed, prompt and number of the sample alone.

    Fewer steps give the beginning of what more would give.
    """
    import torch

    name = f"{seed}\x1f{sample}\x1f{prompt}"
    generator = torch.Generator()
    generator.manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True))
    return torch.rand(steps, dtype=torch.float64, generator=generator)


def choose(logits: Any, sampling: Sampling, uniform: Any) -> Any:
    """The next token of each row: ``logits`` (rows, vocabulary) and ``uniform`` (rows,) give ids (rows,).

    Temperature 0 is greedy. Otherwise the nucleus: the most probable tokens whose probabilities sum to ``top_p`` or
    just above (Holtzman et al., 2020, section 3.1), and among them the one into whose share of the cumulative
    probability the row's uniform number falls.
    """
    import torch

    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits.float() / sampling.temperature, -1)
    ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    cumulative = ordered.double().cumsum(-1)
    inside = cumulative - ordered < sampling.top_p
    total = torch.where(inside, cumulative, 0.0).amax(-1)
    place = (cumulative <= (uniform * total)[:, None]).sum(-1, keepdim=True)
    last = inside.sum(-1, keepdim=True) - 1
    return tokens.gather(-1, torch.minimum(place, last)).squeeze(-1)
