"""What a run's summary costs: nine models, 256 prompts, five seeds, every measure and every pair."""

import random
import time
from itertools import combinations, permutations

from tutelage.evaluation.agreement import Rating, agreement
from tutelage.evaluation.contests import Contest
from tutelage.evaluation.head_to_head import head_to_head
from tutelage.evaluation.scores import GradedAnswer, score_differences, score_metrics
from tutelage.records import Verdict

MODELS = [f"M{number}" for number in range(9)]
CLUSTERS = [(seed, f"p{number:03}") for seed in range(5) for number in range(256)]


def test_the_summary_of_five_seeds_takes_little_time() -> None:
    """Meant to take 2 s (1.5 s where this was written); twice that is slack for a slow and shared machine."""
    draw = random.Random(0)
    answers = {
        model: [GradedAnswer(prompt, draw.randint(2, 9), float(draw.randint(0, 5)), seed) for seed, prompt in CLUSTERS]
        for model in MODELS
    }
    judged = {
        model: [
            Rating(f"{prompt}/{index}", prompt, draw.randint(0, 15) / 3, seed, parsed=3, asked=3)
            for seed, prompt in CLUSTERS
            for index in range(4)
        ]
        for model in MODELS
    }
    gold = [
        Rating(f"{prompt}/{index}", prompt, float(draw.randint(0, 5)), seed)
        for seed, prompt in CLUSTERS
        for index in range(4)
    ]
    contests = [
        Contest(f"{seed}/{prompt}/{first}/{second}", prompt, first, second, 3, 4, seed)
        for seed, prompt in CLUSTERS
        for first, second in permutations(MODELS, 2)
    ]
    verdicts = [Verdict(contest.comparison_id, float(draw.randint(0, 1))) for contest in contests]
    start = time.process_time()
    for model in MODELS:
        score_metrics(answers[model])
        agreement(judged[model], gold)
    for left, right in combinations(MODELS, 2):
        score_differences(answers[left], answers[right])
    made = head_to_head(contests, verdicts)
    took = time.process_time() - start
    assert len(made.pairs) == 36
    assert took < 4, f"{took:.1f} s"
