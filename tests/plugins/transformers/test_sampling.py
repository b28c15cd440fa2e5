"""The sampled tokens: the same from a few candidates as from the whole vocabulary, and of transformers' nucleus."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tutelage.records import Sampling
from tutelage_transformers.generation import sampling as module
from tutelage_transformers.generation.sampling import mask_beyond, sample_tokens

SETTINGS = [
    Sampling(temperature, top_p, top_k=top_k, min_p=min_p)
    for temperature, top_p, top_k, min_p in [
        (1.0, 1.0, None, 0.0),
        (0.7, 0.9, None, 0.0),
        (1.3, 0.5, None, 0.0),
        (0.3, 1.0, None, 0.0),
        (1.0, 1e-6, None, 0.0),
        (1.0, 1.0, 7, 0.0),
        (1.0, 0.8, 40, 0.0),
        (1.0, 1.0, 1, 0.0),
        (1.0, 1.0, None, 0.05),
        (0.9, 0.95, 50, 0.02),
        (1.0, 1.0, None, 1.0),
    ]
]


def rows(kind: str, count: int, vocabulary: int) -> Any:
    """Logits of one kind of distribution."""
    generator = torch.Generator().manual_seed(len(kind))
    logits = torch.randn(count, vocabulary, generator=generator)
    match kind:
        case "flat":
            return logits * 0.1
        case "peaked":
            return logits * 4
        case "tied":  # as logits in bfloat16 are
            return (logits * 3).round()
        case "equal":
            return torch.zeros(count, vocabulary)
        case "masked":
            return torch.where(logits > 1.5, logits, -torch.inf)
        case _:
            return logits.index_fill(0, torch.tensor([1, 3]), torch.nan)


@pytest.mark.parametrize("kind", ["flat", "peaked", "tied", "equal", "masked", "not-finite"])
@pytest.mark.parametrize("sampling", SETTINGS, ids=lambda one: f"{one.temperature}-{one.top_p}-{one.top_k}-{one.min_p}")
def test_a_few_candidates_give_the_tokens_of_the_whole_vocabulary(
    kind: str, sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large vocabulary is sorted in part. It must change no token, whatever the distribution and its ties."""
    logits, vocabulary = rows(kind, 400, 600), 600
    uniform = torch.rand(400, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    uniform[:3] = torch.tensor([0.0, 0.5, 1 - 2**-53])
    whole = sample_tokens(logits, sampling, uniform)
    assert vocabulary < module._SORTED_WHOLE
    for candidates in ((2,), (30, 200), (200,)):
        monkeypatch.setattr(module, "_SORTED_WHOLE", 0)
        monkeypatch.setattr(module, "_CANDIDATES", candidates)
        assert torch.equal(sample_tokens(logits, sampling, uniform), whole), candidates


def test_for_distributions_of_language_models_the_candidates_are_enough() -> None:
    """It keeps away a faster path that always falls back to the slow one."""
    ranks = torch.arange(1, 20_001, dtype=torch.float64)
    logits = (-1.2 * ranks.log()).float()[torch.randperm(20_000, generator=torch.Generator().manual_seed(0))]
    probabilities = torch.softmax(logits.expand(200, -1), -1)
    uniform = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    _, is_decided = module._of_candidates(probabilities, Sampling(1.0, 1.0), uniform, module._CANDIDATES[0])
    assert is_decided.float().mean() > 0.8
    _, is_decided = module._of_candidates(probabilities, Sampling(1.0, 0.5), uniform, module._CANDIDATES[0])
    assert is_decided.all()


@pytest.mark.parametrize(
    ("top_p", "top_k", "min_p"),
    [(1.0, 5, 0.0), (0.8, 12, 0.0), (1.0, None, 0.1), (0.7, 20, 0.15), (0.9, 500, 0.0), (1.0, 1, 0.5)],
)
def test_the_nucleus_and_its_probabilities_are_those_of_transformers(
    top_p: float, top_k: int | None, min_p: float
) -> None:
    """transformers applies temperature, top_k, top_p and min_p in this order."""
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    torch.manual_seed(0)
    logits = torch.randn(1, 30) * 2
    scores = TemperatureLogitsWarper(0.7)(None, logits)
    scores = TopKLogitsWarper(top_k)(None, scores) if top_k else scores
    scores = TopPLogitsWarper(top_p)(None, scores) if top_p < 1 else scores
    scores = MinPLogitsWarper(min_p)(None, scores) if min_p else scores
    expected = torch.softmax(scores, -1)[0].double()
    count = 20_000
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    tokens = sample_tokens(logits.expand(count, -1), Sampling(0.7, top_p, top_k=top_k, min_p=min_p), uniform)
    shares = torch.bincount(tokens, minlength=30).double() / count
    assert torch.equal(shares > 0, expected > 0)
    assert (shares - expected).abs().max() < 2 / count


def test_greedy_decoding_ignores_top_k_and_min_p() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0]])
    uniform = torch.tensor([0.99], dtype=torch.float64)
    assert sample_tokens(logits, Sampling(temperature=0.0, top_k=2, min_p=0.1), uniform).tolist() == [1]


def test_tokens_beyond_the_most_probable_ones_are_masked_but_not_those_as_probable_as_the_last() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0, 2.0, 0.0], [0.0, 1.0, 2.0, 3.0, 4.0]])
    assert mask_beyond(logits, 2).isfinite().tolist() == [[True, False, True, True, False], [False] * 3 + [True] * 2]
    assert mask_beyond(logits, 9).isfinite().all()
