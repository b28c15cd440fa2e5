"""The results of a run: what ``summary.json`` holds and ``tutelage.run`` returns. No times and no paths in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

from tutelage.errors import InputError
from tutelage.evaluation.health import TrainingHealth
from tutelage.evaluation.intervals import Metric
from tutelage.files.jsonl import converter

SCHEMA = 1


@frozen
class ModelResult:
    """What was measured of one model."""

    id: str
    """``M1``, ``M2/self-reward``."""
    pipeline: str | None
    iteration: int
    parent: str | None
    seed: int | None
    """None: over all seeds."""
    metrics: dict[str, Metric] = field(factory=dict)
    """``gold_score``, ``gold_exact``, ``gold_scored``, ``answer_words`` of its greedy answers; of its sampled ones the
    same names after ``sampled_``."""


@frozen
class Difference:
    """How much better one model is than another, paired by prompt."""

    left: str
    right: str
    seed: int | None
    metrics: dict[str, Metric] = field(factory=dict)
    """Left minus right, by the names of ``ModelResult.metrics``."""


@frozen
class ComparisonResult:
    """Head-to-head of two models' greedy answers, each prompt in both orders."""

    left: str
    right: str
    seed: int | None
    wins: int
    """Of left."""
    ties: int
    losses: int
    unparsed: int
    n: int
    win_rate: Metric
    """A tie counts half; over the prompts that were parsed."""


@frozen
class AgreementResult:
    """How well a model judges: its scores against the gold."""

    model: str
    answers: str
    """``own``: its own sampled answers; ``mixed``: answers of all models, the same for every judge."""
    seed: int | None
    metrics: dict[str, Metric] = field(factory=dict)
    """``pairwise_accuracy``, ``five_best``, ``exact_match``, ``spearman``, ``kendall_tau``, ``parsed`` and others."""


@frozen
class TrainingResult:
    """How one training went."""

    model: str
    seed: int
    health: TrainingHealth


@frozen
class Evaluator:
    """How the evaluator behaved over all comparisons."""

    position_bias: Metric
    """Mean preference for the first place, less one half."""
    inconsistent: Metric
    """Share of prompts whose two orders name different answers."""


@frozen
class StepResult:
    """What became of the items of one step."""

    output: str
    counts: dict[str, int]


@frozen
class Summary:
    """All results of a run."""

    schema: int
    recipe: str
    seeds: tuple[int, ...]
    models: tuple[ModelResult, ...]
    differences: tuple[Difference, ...]
    comparisons: tuple[ComparisonResult, ...]
    agreement: tuple[AgreementResult, ...]
    training: tuple[TrainingResult, ...]
    evaluator: Evaluator | None
    steps: tuple[StepResult, ...]
    warnings: tuple[str, ...]

    def model(self, id: str, seed: int | None = None) -> ModelResult:
        """The results of one model; over all seeds, or of the only one, unless ``seed`` is given. Raises KeyError."""
        wanted = self.seeds[0] if seed is None and len(self.seeds) == 1 else seed
        for result in self.models:
            if result.id == id and result.seed == wanted:
                return result
        raise KeyError(id)

    def overall(self, rows: tuple[ModelResult, ...] | None = None) -> tuple[ModelResult, ...]:
        """One row a model: over all seeds where there are several."""
        wanted = self.seeds[0] if len(self.seeds) == 1 else None
        return tuple(row for row in (rows or self.models) if row.seed == wanted)


def read_summary(path: Path) -> Summary:
    """Read a ``summary.json``. Raises InputError where it is not one, or of a schema that is not known."""
    import json

    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); has the run finished? see `tutelage status`"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(values, Mapping) or values.get("schema") != SCHEMA:
        raise InputError(f"{path}: not a summary of schema {SCHEMA}")
    try:
        return converter().structure(values, Summary)
    except Exception as error:
        raise InputError(f"{path}: not a summary of schema {SCHEMA} ({error})") from error
