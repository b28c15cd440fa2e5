"""Measure the time to summarise 305,900 verdicts (20 models, 805 prompts), compared with a scipy bootstrap per pair.

    python tests/bench/bench_summary.py

``head_to_head`` computes wins, ties, losses, unparsed and the win rate with its interval for each of the 190 pairs,
position bias, lengths and the Bradley-Terry ranking with intervals. The alternative computes only the 190 win rates
with their intervals.
"""

from __future__ import annotations

import random
import time
from itertools import combinations, permutations

import numpy as np
from scipy import stats

from tutelage.evaluation.contests import Contest
from tutelage.evaluation.head_to_head import head_to_head
from tutelage.records import Verdict

MODELS = [f"model-{number:02}" for number in range(20)]
PROMPTS = 805
RESAMPLES = 2000


def main() -> None:
    contests, verdicts = synthetic_verdicts()
    started = time.perf_counter()
    found = head_to_head(contests, verdicts)
    ours = time.perf_counter() - started
    started = time.perf_counter()
    alternative_rates = scipy_win_rates(verdicts)
    alternative = time.perf_counter() - started
    largest = max(abs(alternative_rates[pair.left, pair.right] - (pair.win_rate.value or 0.0)) for pair in found.pairs)
    print(f"{len(verdicts):,} verdicts, {len(found.pairs)} pairs: {ours:.1f} s")
    print(f"scipy.stats.bootstrap for each pair: {alternative:.1f} s, {alternative / ours:.1f} times as long")
    print(f"largest difference of a win rate: {largest:.1e}")


def synthetic_verdicts() -> tuple[list[Contest], list[Verdict]]:
    """Random verdicts for each pair of models on every prompt, in both orders."""
    draw = random.Random(0)
    contests, verdicts = [], []
    for prompt in range(PROMPTS):
        for first, second in permutations(MODELS, 2):
            name = f"{prompt}|{first}|{second}"
            contests.append(Contest(name, f"p{prompt:04}", first, second, 3, 4))
            verdicts.append(Verdict(name, float(draw.random() < 0.5)))
    return contests, verdicts


def scipy_win_rates(verdicts: list[Verdict]) -> dict[tuple[str, str], float]:
    """Win rates, each with a bootstrap interval; disagreeing orders are a tie."""
    preferences = {verdict.comparison_id: verdict.preference for verdict in verdicts if verdict.preference is not None}
    rates = {}
    for left, right in combinations(MODELS, 2):
        scores = np.array(
            [
                (1 + np.sign(preferences[f"{prompt}|{left}|{right}"] - preferences[f"{prompt}|{right}|{left}"])) / 2
                for prompt in range(PROMPTS)
            ]
        )
        stats.bootstrap((scores,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=0)
        rates[left, right] = float(scores.mean())
    return rates


if __name__ == "__main__":
    main()
