"""Simulated coverage of the intervals, and false positives of the p-values: with the methods of tutelage, and with the
methods that they replaced.

Each figure is a share of simulated studies in which the truth is known. The former methods were a percentile bootstrap
over seeds and prompts, a p-value by the normal approximation with its standard error, and Wilson's interval only for
independent trials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from tutelage.evaluation.bradley_terry import fit, rank
from tutelage.evaluation.intervals import DEFAULT, Clusters, Metric, paired_ratio, ratio_metrics

Floats: TypeAlias = NDArray[np.float64]
Figures: TypeAlias = dict[str, dict[str, float]]
"""``before`` and ``after`` by the name of a case."""

STUDIES = 2000
PROMPTS = (2, 3, 4, 5, 6, 8, 10, 11, 12, 15, 20, 50, 100, 200, 800)
SEEDS = (2, 3, 5, 10, 20)
DEVIATIONS = (0.0, 0.05, 0.1, 0.2, 0.4)
"""Standard deviations between seeds."""


def symmetric(generator: np.random.Generator, shape: tuple[int, int]) -> Iterator[tuple[str, Floats]]:
    """Differences of two models with the same distribution: (prompts, studies)."""

    def difference(draw: Callable[[], Floats]) -> Floats:
        return draw() - draw()

    yield "normal", difference(lambda: generator.normal(size=shape))
    yield "skewed", difference(lambda: generator.exponential(size=shape))
    yield "heavy tails", difference(lambda: generator.standard_t(2, size=shape))
    yield "scores 0 to 5", difference(lambda: generator.binomial(5, 0.8, size=shape).astype(float))
    yield "ten ties in eleven", difference(lambda: (generator.random(shape) < 0.05).astype(float))
    yield "0/1", difference(lambda: (generator.random(shape) < 0.5).astype(float))
    yield "0/1 with noise", difference(lambda: generator.integers(0, 2, shape) + generator.normal(0, 0.01, shape))


def asymmetric(generator: np.random.Generator, shape: tuple[int, int]) -> Iterator[tuple[str, Floats]]:
    """Differences with mean 0 whose distribution is skewed, which two equal models do not have."""
    yield "exponential", generator.exponential(size=shape) - 1
    yield "lognormal", generator.lognormal(size=shape) - np.exp(0.5)


def false_positives(
    studies: int = STUDIES,
    prompts: tuple[int, ...] = PROMPTS,
    differences: Callable[[np.random.Generator, tuple[int, int]], Iterator[tuple[str, Floats]]] = symmetric,
) -> dict[str, Figures]:
    """Share of p-values below 0.05 where both models are equal, by number of prompts and distribution."""
    found: dict[str, Figures] = {}
    for count in prompts:
        generator = np.random.default_rng(count)
        for name, values in differences(generator, (count, studies)):
            found.setdefault(str(count), {})[name] = {
                "before": float(np.mean(_p_values_before(values) < 0.05)),
                "after": float(np.mean([p is not None and p < 0.05 for p in _p_values(values)])),
            }
    return found


def seeds(
    studies: int = STUDIES,
    numbers: tuple[int, ...] = SEEDS,
    deviations: tuple[float, ...] = DEVIATIONS,
    prompts: int = 50,
) -> dict[str, dict[str, Figures]]:
    """Coverage of the mean over seeds and prompts: for shared and own prompts, by number of seeds and deviation."""
    found: dict[str, dict[str, Figures]] = {}
    for shared in (True, False):
        table = found.setdefault("prompts that seeds share" if shared else "prompts of their own", {})
        for number in numbers:
            for deviation in deviations:
                generator = np.random.default_rng([number, round(100 * deviation)])
                values = seed_values(generator, number, prompts, deviation, shared, studies)
                clusters = _clusters(number, prompts, shared)
                made = ratio_metrics(values, np.ones_like(values), clusters, DEFAULT)
                ends = _bootstrap_before(values, np.ones_like(values), number)
                table.setdefault(str(number), {})[str(deviation)] = {
                    "before": _covered_by(*ends, 0.0),
                    "after": covered(made, 0.0),
                    "half_width": float(np.median([(m.high or 0) - (m.low or 0) for m in made]) / 2),
                }
    return found


def seed_values(
    generator: np.random.Generator, number: int, prompts: int, deviation: float, shared: bool, studies: int
) -> Floats:
    """Values with mean 0, (seeds * prompts, studies): a seed's deviation, a prompt's difficulty, and a residual."""
    of_seed = generator.normal(0, deviation, (number, 1, studies))
    of_prompt = generator.normal(0, 1, (1 if shared else number, prompts, studies))
    residual = generator.normal(0, 1, (number, prompts, studies))
    return (of_seed + of_prompt + residual).reshape(number * prompts, studies)


def clustered_shares(
    studies: int = STUDIES,
    shares: tuple[float, ...] = (0.01, 0.03, 0.1, 0.5, 0.97),
    correlations: tuple[float, ...] = (0.0, 0.3, 0.6, 0.9),
    prompts: tuple[int, ...] = (30, 200),
    answers: int = 4,
) -> dict[str, Figures]:
    """Coverage of a share with several answers per prompt, by number of prompts, share and correlation of answers."""
    found: dict[str, Figures] = {}
    for count in prompts:
        for share in shares:
            for correlation in correlations:
                generator = np.random.default_rng([count, round(1000 * share), round(10 * correlation)])
                size = 1 / correlation - 1 if correlation else 0.0
                chance = generator.beta(share * size, (1 - share) * size, (count, studies)) if size else share
                hits = generator.binomial(answers, chance, (count, studies)).astype(float)
                units = np.full_like(hits, answers)
                made = ratio_metrics(hits, units, _clusters(1, count, True), DEFAULT, proportion=True)
                found.setdefault(f"{count} prompts, share {share}", {})[str(correlation)] = {
                    "before": _covered_by(*_bootstrap_before(hits, units, 1, share=True), share),
                    "after": covered(made, share),
                }
    return found


def win_rates(
    studies: int = STUDIES,
    prompts: tuple[int, ...] = (10, 50, 200),
    ties: tuple[float, ...] = (0.0, 0.2, 0.8, 0.95, 0.99, 1.0),
    shares: tuple[float, ...] = (0.5, 0.8, 1.0),
) -> dict[str, Figures]:
    """Coverage of a win rate, by number of prompts, share of ties, and share of wins among the decided prompts."""
    found: dict[str, Figures] = {}
    for count in prompts:
        for tied in ties:
            for share in shares:
                generator = np.random.default_rng([count, round(100 * tied), round(10 * share)])
                chances = [(1 - tied) * share, tied, (1 - tied) * (1 - share)]
                values = generator.choice([1.0, 0.5, 0.0], size=(count, studies), p=chances)
                truth = chances[0] + tied / 2
                made = ratio_metrics(values, np.ones_like(values), _clusters(1, count, True), DEFAULT, proportion=True)
                found.setdefault(f"{count} prompts, {tied:.0%} ties", {})[str(share)] = {
                    "before": _covered_by(*_bootstrap_before(values, np.ones_like(values), 1, share=True), truth),
                    "after": covered(made, truth),
                }
    return found


def strengths(
    studies: int = 500, prompts: tuple[int, ...] = (1, 5, 20, 100), chances: tuple[float, ...] = (0.5, 0.8, 0.95)
) -> dict[str, Figures]:
    """Coverage of a Bradley-Terry strength of two models, by number of verdicts and probability of a win."""
    found: dict[str, Figures] = {}
    for count in prompts:
        clusters = _clusters(1, count, True)
        for chance in chances:
            generator = np.random.default_rng([count, round(100 * chance)])
            truth = float(np.log(chance / (1 - chance))) / 2
            made, before = [], []
            for _ in range(studies):
                won = (generator.random(count) < chance).astype(float)[:, None]
                wins = np.stack([won, 1 - won], axis=2)
                made.append({one.model: one.strength for one in rank("ab", wins, clusters, [(0, 1)], DEFAULT)}["a"])
                tables = np.zeros((2000, 2, 2))
                resampled = _resamples_before([count]) @ wins[:, 0]
                tables[:, 0, 1], tables[:, 1, 0] = resampled.T
                before.append(np.quantile(fit(tables)[:, 0], (0.025, 0.975)))
            low, high = np.array(before).T
            found.setdefault(f"{count} verdicts", {})[str(chance)] = {
                "before": _covered_by(low, high, truth),
                "after": covered(made, truth),
            }
    return found


def covered(made: list[Metric], truth: float) -> float:
    """Share of the metrics whose interval contains the truth. No interval contains nothing."""
    return float(np.mean([m.low is not None and m.high is not None and m.low <= truth <= m.high for m in made]))


def prove() -> dict[str, Any]:
    return {
        "false_positives": false_positives(),
        "false_positives_of_asymmetric_differences": false_positives(differences=asymmetric),
        "seeds": seeds(),
        "clustered_shares": clustered_shares(),
        "win_rates": win_rates(),
        "strengths": strengths(),
    }


def _clusters(seeds: int, prompts: int, shared: bool) -> Clusters:
    return Clusters.of(
        (seed, f"{0 if shared else seed:02}-{prompt:04}") for seed in range(seeds) for prompt in range(prompts)
    )


def _p_values(differences: Floats) -> list[float | None]:
    ones = np.ones_like(differences)
    clusters = _clusters(1, len(differences), True)
    estimates = paired_ratio((differences, ones), (np.zeros_like(ones), ones), clusters, DEFAULT)
    return [estimates.p_value(study) for study in range(differences.shape[1])]


def _p_values_before(differences: Floats) -> Floats:
    """By the normal approximation, with the standard deviation of the bootstrap means."""
    means = _resamples_before([len(differences)]) @ differences / len(differences)
    values, errors = differences.mean(axis=0), means.std(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        p_values: Floats = 2 * ndtr(-np.abs(values) / errors)
    return np.where(values == 0, 1.0, np.where(errors > 0, p_values, 0.0))


def _bootstrap_before(
    numerators: Floats, denominators: Floats, number: int, share: bool = False
) -> tuple[Floats, Floats]:
    """Percentile intervals; Wilson's for shares of independent trials, and for shares of 0 and 1."""
    weights = _resamples_before([len(numerators) // number] * number)
    low, high = np.quantile((weights @ numerators) / (weights @ denominators), (0.025, 0.975), axis=0)
    if not share:
        return low, high
    values, count = numerators.sum(axis=0) / denominators.sum(axis=0), len(numerators)
    trials = np.isin(numerators, (0.0, 1.0)).all(axis=0) & (denominators == 1).all(axis=0)
    square = 1.96**2 / count
    middle = (values + square / 2) / (1 + square)
    half = 1.96 / (1 + square) * np.sqrt(values * (1 - values) / count + square / (4 * count))
    wilson = trials | np.isin(values, (0.0, 1.0))
    return np.where(wilson, middle - half, low), np.where(wilson, middle + half, high)


def _resamples_before(sizes: list[int], resamples: int = 2000) -> Floats:
    """Seeds drawn with replacement, then the prompts of each drawn seed: how often each cluster was drawn."""
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=resamples)
    blocks = [generator.multinomial(drawn[:, seed] * size, np.full(size, 1 / size)) for seed, size in enumerate(sizes)]
    return np.concatenate(blocks, axis=1).astype(float)


def _covered_by(low: Floats, high: Floats, truth: float) -> float:
    return float(np.mean((low <= truth + 1e-12) & (truth - 1e-12 <= high)))
