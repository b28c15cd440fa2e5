"""The results of a run, as ``summary.json`` has them and ``tutelage.run`` returns them; without times and paths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from attrs import field, frozen

from tutelage.errors import InputError
from tutelage.evaluation.chance import Chance
from tutelage.evaluation.frames import Frame, frame_of
from tutelage.evaluation.health import TrainingHealth
from tutelage.evaluation.intervals import Metric
from tutelage.files.jsonl import converter, read_json
from tutelage.measure import MeasureInfo
from tutelage.records import Scores

SummaryTable: TypeAlias = Literal["models", "differences", "comparisons", "agreement", "training", "variants"]
"""The parts of a summary that are tables."""

SCHEMA = 1
"""Version of the format of ``summary.json``."""


@frozen
class ModelResult:
    """The metrics of one model."""

    id: str
    """Id of the model: ``M1``, ``M2/self-reward``."""
    pipeline: str | None
    """The pipeline or control that trained the model; None for M0 and M1."""
    iteration: int
    """Number of the model in its series: 0 for M0, 1 for M1."""
    parent: str | None
    """Id of the previous model of the series; None for M0."""
    seed: int | None
    """Seed of the run; None for the metrics over all seeds."""
    metrics: dict[str, Metric] = field(factory=dict)
    """``gold_score``, ``gold_exact``, ``gold_scored`` and ``answer_words`` of the greedy answers, and the same metrics
    of the sampled answers with the prefix ``sampled_``. They are defined in ``evaluation.scores.score_metrics``. Each
    measure of the recipe has its name, and ``NAME_measured`` is the share of its units that have a value."""


@frozen
class Difference:
    """The differences of two models' metrics, paired by prompt."""

    left: str
    """Id of the first model."""
    right: str
    """Id of the second model."""
    seed: int | None
    """Seed of the run; None for the differences over all seeds."""
    metrics: dict[str, Metric] = field(factory=dict)
    """Left minus right, with the names of ``ModelResult.metrics``."""


@frozen
class ComparisonResult:
    """The head-to-head result of two models' greedy answers, with both orders of the answers to each prompt."""

    left: str
    """Id of the first model."""
    right: str
    """Id of the second model."""
    seed: int | None
    """Seed of the run; None for the results over all seeds."""
    wins: int
    """Number of prompts on which left won."""
    ties: int
    """Number of prompts on which neither won."""
    losses: int
    """Number of prompts on which right won."""
    unparsed: int
    """Number of prompts without a verdict in both orders."""
    n: int
    """Number of prompts: the sum of the four counts above."""
    win_rate: Metric
    """Win rate of left over the parsed prompts; a tie counts half."""


@frozen
class AgreementResult:
    """The agreement of a model's scores, as a judge, with the gold scores."""

    model: str
    """Id of the model that judges."""
    answers: str
    """The judged answers. ``own``: the model's own sampled answers; ``mixed``: answers of all models, the same for
    every judge."""
    seed: int | None
    """Seed of the run; None for the agreement over all seeds."""
    metrics: dict[str, Metric] = field(factory=dict)
    """``pairwise_accuracy``, ``five_best``, ``exact_match``, ``spearman``, ``kendall_tau``, ``parsed`` and others, as
    defined in ``evaluation.agreement``. ``unique_best`` only if the recipe uses expected scores. ``self_preference``,
    ``own_overrating`` and ``others_overrating`` (``evaluation.self_preference``) only of mixed answers, if the recipe
    has ``evaluation.self_preference``."""
    scores: Scores = "parsed"
    """How the model's scores were made. A recipe with ``judging.score: expected`` has both on the same answers."""
    chance: Chance = field(factory=dict)
    """The values that judges without skill reach on the same answers: ``constant``, ``length`` and ``random``, as
    defined in ``evaluation.chance``. Empty in summaries of older versions."""


@frozen
class TrainingResult:
    """The health of one training."""

    model: str
    """Id of the trained model."""
    seed: int
    """Seed of the run."""
    health: TrainingHealth
    """Signs of success and failure of the training, computed from its metrics."""


@frozen
class Evaluator:
    """The biases of the evaluator, over all comparisons."""

    position_bias: Metric
    """Mean preference for the first answer, minus 0.5."""
    inconsistent: Metric
    """Share of prompts whose two orders prefer different answers."""


@frozen
class StepResult:
    """The counts of one step."""

    output: str
    """Path of the step's artifact in the run."""
    counts: dict[str, int]
    """Number of items by outcome, or by the reason for which they were dropped."""


@frozen
class VariantResult:
    """The last model of a pipeline in one variant of the recipe, over all seeds."""

    variant: str
    """Name of the variant; ``base`` for the recipe itself."""
    model: str
    """Id of the model in its run."""
    metrics: dict[str, Metric]
    """Its metrics, as in ``ModelResult``."""
    difference: Metric | None = None
    """Gold score minus that of the same model of the recipe itself, paired by prompt and seed; None for the recipe
    itself, and for a model that it does not train."""
    p_value_adjusted: float | None = None
    """Two-sided p-value of the difference, adjusted for the number of compared models (Holm, 1979)."""

    @property
    def name(self) -> str:
        """The name of the model among all variants: ``M2/self-reward@dpo.beta=0.3``."""
        return f"{self.model}@{self.variant}"


@frozen
class Summary:
    """All results of a run."""

    schema: int
    """Version of the format of ``summary.json``."""
    recipe: str
    """Name of the recipe."""
    seeds: tuple[int, ...]
    """Seeds of the run."""
    models: tuple[ModelResult, ...]
    """The metrics of each model, for each seed and over all seeds."""
    differences: tuple[Difference, ...]
    """The differences between models, for each seed and over all seeds."""
    comparisons: tuple[ComparisonResult, ...]
    """The head-to-head results, for each seed and over all seeds."""
    agreement: tuple[AgreementResult, ...]
    """How well the models judge, for each seed and over all seeds."""
    training: tuple[TrainingResult, ...]
    """The health of each training."""
    evaluator: Evaluator | None
    """The biases of the evaluator; None if nothing was compared."""
    steps: tuple[StepResult, ...]
    """The counts of each step."""
    warnings: tuple[str, ...]
    """What the reader of the results must know, one text for each warning."""
    variants: tuple[VariantResult, ...] = ()
    """The models of the recipe and of its variants, the best one first. Not written if the recipe has no variants."""
    measures: dict[str, MeasureInfo] = field(factory=dict)
    """The measures of plugins by their names in the recipe. Not written if the recipe has none."""

    def model(self, id: str, seed: int | None = None) -> ModelResult:
        """Return the results of one model for ``seed``; by default over all seeds, or for the only seed of the run.

        Raises ``KeyError`` if there are no results of this model and seed.
        """
        wanted = self.seeds[0] if seed is None and len(self.seeds) == 1 else seed
        for result in self.models:
            if result.id == id and result.seed == wanted:
                return result
        raise KeyError(id)

    def overall(self, rows: tuple[ModelResult, ...] | None = None) -> tuple[ModelResult, ...]:
        """Return one row per model: over all seeds, or for the only seed of the run."""
        wanted = self.seeds[0] if len(self.seeds) == 1 else None
        return tuple(row for row in (rows or self.models) if row.seed == wanted)

    def frame(self, table: SummaryTable = "models") -> Frame:
        """Return one of the tables as a ``pandas.DataFrame``, one row per record, with a column for each metric.

        The columns are described in ``evaluation.frames.frame_of``. Raises ``InputError`` if pandas is not installed.
        """
        return frame_of(getattr(self, table))

    def _repr_html_(self) -> str | None:
        """The models as a table, which a notebook shows; None without pandas, so that it shows the plain text."""
        try:
            return str(self.frame().to_html(float_format="{:.3f}".format, na_rep=""))
        except InputError:
            return None


def start_model(summary: Summary) -> str:
    """Return the id of the model that the others are compared with: M1, or M0 if there is no M1."""
    return "M1" if any(model.id == "M1" for model in summary.models) else "M0"


def coverage_of(measure: str) -> str:
    """Return the name of the metric with the coverage of a measure: the share of its units that have a value."""
    return f"{measure}_measured"


def read_summary(path: Path) -> Summary:
    """Read a ``summary.json``. Raises ``InputError`` if it cannot be read, is invalid or has another schema version."""
    if not path.exists():
        raise InputError(f"{path}: does not exist; check with `tutelage status` whether the run is finished")
    values = read_json(path)
    if not isinstance(values, Mapping) or values.get("schema") != SCHEMA:
        raise InputError(f"{path}: not a summary of schema {SCHEMA}")
    try:
        return converter().structure(values, Summary)
    except Exception as error:
        raise InputError(f"{path}: not a summary of schema {SCHEMA} ({error})") from error
