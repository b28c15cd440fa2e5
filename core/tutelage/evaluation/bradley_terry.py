"""Ranking of all models from their pairwise results (Bradley & Terry, 1952)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from tutelage.evaluation.intervals import Bootstrap, Floats, Metric, metrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRIOR_PRECISION = 0.01
"""Precision of the normal prior on each strength (standard deviation 10). Without a prior, a model that won every
comparison would have infinite strength."""

_STEPS = 100
"""Maximum number of Newton steps."""
_LONGEST_STEP = 2.0
"""Maximum Newton step, in log-odds. Where the likelihood is flat, a full step would overshoot."""


@frozen
class Strength:
    """The strength of one model."""

    model: str
    strength: Metric
    """In log-odds, with mean 0 over the models: a model beats another with probability 1 / (1 + exp(other - own)).
    n counts the model's parsed comparisons."""


def connected(met: NDArray[np.bool_]) -> bool:
    """Return whether the results link every model with every other, directly or through other models.

    ``met[i, j]`` is true if models i and j have results against each other: shape (models, models).
    """
    import numpy as np

    reached = np.arange(len(met)) == 0
    for _ in met:
        reached = reached | (met | met.T)[reached].any(axis=0)
    return bool(len(met) and reached.all())


def rank(models: Sequence[str], wins: Floats, resampled_wins: Floats, bootstrap: Bootstrap) -> tuple[Strength, ...]:
    """Rank models, strongest first; equal strengths are ordered by name.

    ``wins[i, j]`` is the number of wins of model i over model j, with a tie as half a win for each: shape (models,
    models). ``resampled_wins`` has the wins of every resample: shape (resamples, models, models).
    """
    strengths = fit(wins[None])[0]
    counts = (wins + wins.T).sum(axis=1).round().astype(int)
    measured = metrics(strengths, fit(resampled_wins), counts, bootstrap)
    order = sorted(range(len(models)), key=lambda number: (-strengths[number], models[number]))
    return tuple(Strength(models[number], measured[number]) for number in order)


def fit(wins: Floats) -> Floats:
    """Compute the maximum-a-posteriori strengths for each table of wins: (tables, models, models) to (tables, models).

    Uses Newton's method (the log-posterior is concave) for all tables at once. Each row of strengths has mean 0.
    """
    import numpy as np

    games = wins + wins.transpose(0, 2, 1)
    own = wins.sum(axis=2)
    strengths = np.zeros(own.shape)
    diagonal = np.arange(own.shape[1])
    for _ in range(_STEPS):
        chances = 1 / (1 + np.exp(strengths[:, None, :] - strengths[:, :, None]))
        gradient = own - (games * chances).sum(axis=2) - PRIOR_PRECISION * strengths
        curvature = games * chances * (1 - chances)
        hessian = -curvature
        hessian[:, diagonal, diagonal] += curvature.sum(axis=2) + PRIOR_PRECISION
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0].clip(-_LONGEST_STEP, _LONGEST_STEP)
        strengths = strengths + step
        if np.abs(step).max(initial=0.0) < 1e-9:
            break
    centred: Floats = strengths - strengths.mean(axis=1, keepdims=True)
    return centred
