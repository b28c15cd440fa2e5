"""Ranking of all models from their pairwise results (Bradley & Terry, 1952)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import field, frozen

from tutelage.evaluation.intervals import Bootstrap, Clusters, Estimates, Floats, Metric
from tutelage.evaluation.variation import Variation, jackknifed

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


def rank(
    models: Sequence[str], wins: Floats, clusters: Clusters, pairs: Sequence[tuple[int, int]], bootstrap: Bootstrap
) -> tuple[Strength, ...]:
    """Rank models, strongest first; equal strengths are ordered by name.

    ``wins[c, p]`` has the wins of the left and of the right model of pair p in cluster c, with a tie as half a win for
    each: shape (clusters, pairs, 2). ``pairs`` has the indices of the models: (left, right).

    The intervals are those of a posterior: the strengths of randomly weighted wins. The weight of a prompt is
    exponential (the Bayesian bootstrap; Rubin, 1981), and each side of a pair that met gets additional wins, whose
    number is Gamma(1/2). The share of wins of a pair whose prompts are independent is then Beta(wins + 1/2, losses +
    1/2), the posterior of Jeffreys' prior. A model that won every comparison has therefore an interval that depends on
    the number of comparisons. With several seeds, the interval also contains that of ``variation``.
    """
    import numpy as np

    tables = _Tables(len(models), np.array(pairs, int).reshape(-1, 2))
    total = wins.sum(axis=0)
    met = (total.sum(axis=1) > 0)[:, None]
    generator = np.random.default_rng(bootstrap.seed)
    prior = generator.gamma(0.5, size=(bootstrap.resamples, *total.shape))
    weights = generator.exponential(size=(bootstrap.resamples, len(set(clusters.prompts))))[:, clusters.prompts]
    replicates = fit(tables.of(np.tensordot(weights, wins, axes=1) + met * prior))
    counts = tables.of(total[None])
    strengths, counts = fit(counts)[0], counts[0]
    games = (counts + counts.T).sum(axis=1).round().astype(int)
    involved = tables.of(wins)
    played = (involved + involved.transpose(0, 2, 1)).sum(axis=2) > 0
    variation = None
    if not clusters.is_of_one_seed:
        influence = jackknifed(strengths, fit(tables.of(total - wins)))
        variation = Variation.of(influence, played, clusters.seeds, clusters.prompts)
    any_number = np.full(len(models), bootstrap.fewest)  # the prior gives an interval for any number of prompts
    measured = Estimates(strengths, any_number, replicates, variation).metrics(games, bootstrap)
    order = sorted(range(len(models)), key=lambda number: (-strengths[number], models[number]))
    return tuple(Strength(models[number], measured[number]) for number in order)


@frozen
class _Tables:
    """Makes tables of wins from the wins of pairs."""

    models: int
    pairs: NDArray[np.int64] = field(eq=False)
    """Indices of the left and of the right model: shape (pairs, 2)."""

    def of(self, wins: Floats) -> Floats:
        """Arrange (tables, pairs, 2) as (tables, models, models): wins of the row's model over the column's."""
        import numpy as np

        tables = np.zeros((len(wins), self.models, self.models))
        lefts, rights = self.pairs.T
        tables[:, lefts, rights] = wins[:, :, 0]
        tables[:, rights, lefts] = wins[:, :, 1]
        return tables


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
