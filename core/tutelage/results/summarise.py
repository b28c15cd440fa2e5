"""The summary of a run: reads the run's artifacts by seed, and computes the metrics with ``evaluation``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import attrs
from attrs import evolve, field, frozen

from tutelage.evaluation.agreement import Rating, agreement, joined_by_id, ratings
from tutelage.evaluation.chance import chance
from tutelage.evaluation.contests import Contest
from tutelage.evaluation.head_to_head import HeadToHead, head_to_head
from tutelage.evaluation.health import TrainingHealth
from tutelage.evaluation.intervals import Metric
from tutelage.evaluation.measures import SeedMeasurement, measure_difference, measure_metrics
from tutelage.evaluation.scores import GradedAnswer, graded, score_differences, score_metrics
from tutelage.evaluation.self_preference import SelfPreference, self_preference
from tutelage.measure import MeasureInfo, Measurement
from tutelage.planning.artifacts import ModelArtifacts
from tutelage.planning.evaluation_plan import comparison_id
from tutelage.planning.steps import PlannedModel, Summarise, Train
from tutelage.preferences.judging import average
from tutelage.recipe.schema import Recipe
from tutelage.records import Candidate, Judgement, Prompt, Scores, Verdict
from tutelage.results.run_warnings import health_of, warnings_of_results, warnings_of_step
from tutelage.results.summary import (
    SCHEMA,
    AgreementResult,
    ComparisonResult,
    Difference,
    Evaluator,
    ModelResult,
    StepResult,
    Summary,
    TrainingResult,
    coverage_of,
)
from tutelage.runs.integrity import FinishedStep
from tutelage.runs.run import Run

Graded = dict[str, dict[str, list[GradedAnswer]]]
"""Graded answers by model id and decoding (``greedy`` or ``sampled``)."""
AGREEMENT_METRICS = (
    "pairwise_accuracy",
    "five_best",
    "exact_match",
    "spearman",
    "kendall_tau",
    "spearman_within",
    "kendall_within",
    "parsed",
)


def summarise(run: Run) -> Summary:
    """Compute the summary of a run whose other steps are finished."""
    reader, recipe = Reader(run), run.recipe
    scopes: list[int | None] = [*recipe.seeds, *([None] if len(recipe.seeds) > 1 else [])]
    training = tuple(reader.training())
    differences = tuple(result for scope in scopes for result in reader.differences(scope))
    overall = reader.head_to_head(scopes[-1])
    return Summary(
        schema=SCHEMA,
        recipe=recipe.name,
        seeds=recipe.seeds,
        models=tuple(result for scope in scopes for result in reader.models(scope)),
        differences=differences,
        comparisons=tuple(result for scope in scopes for result in reader.comparisons(scope)),
        agreement=tuple(result for scope in scopes for result in reader.agreement(scope, _has_self_preference(recipe))),
        training=training,
        evaluator=Evaluator(overall.position_bias, overall.inconsistent),
        steps=tuple(StepResult(step.output, step.counts) for step in _in_plan_order(run)),
        warnings=tuple(_warnings(reader, training, differences)),
        measures=dict(reader.measures),
    )


@frozen
class Reader:
    """Reads a run's artifacts and converts them to the inputs of ``evaluation``.

    A scope is one seed, or None for all seeds.
    """

    run: Run
    _graded: dict[int, Graded] = field(factory=dict, init=False)
    _head_to_head: dict[int | None, HeadToHead] = field(factory=dict, init=False)

    def graded(self, seed: int) -> Graded:
        """Return every model's answers of one seed with their gold scores. The result is cached."""
        if seed not in self._graded:
            self._graded[seed] = {
                model.id: {decoding: self.graded_answers(model, decoding) for decoding in self.decodings()}
                for model in self.run.plan.models_of(seed)
            }
        return self._graded[seed]

    def decodings(self) -> list[str]:
        """Return ``greedy``, and ``sampled`` if the recipe samples answers."""
        sampled = self.run.recipe.evaluation is not None and self.run.recipe.evaluation.sampled > 0
        return ["greedy", "sampled"] if sampled else ["greedy"]

    def seeds(self, scope: int | None) -> Sequence[int]:
        """Return the seeds of a scope."""
        return self.run.recipe.seeds if scope is None else (scope,)

    def answers(self, model: str, decoding: str, scope: int | None) -> list[GradedAnswer]:
        """Return one model's graded answers in a scope."""
        return [answer for seed in self.seeds(scope) for answer in self.graded(seed)[model][decoding]]

    @property
    def measures(self) -> Mapping[str, MeasureInfo]:
        """The measures of plugins, by their names in the recipe."""
        evaluation = self.run.recipe.evaluation
        used = evaluation.measures if evaluation is not None else {}
        return {name: self.run.declared.measures[use.measure] for name, use in used.items()}

    def measured(self, name: str, model: str, scope: int | None) -> list[SeedMeasurement] | None:
        """Return the values of a measure of one model in a scope; None if the measure is not taken of the model."""
        path = {seed: self.run.plan.model(seed, model).files.measured(name) for seed in self.seeds(scope)}
        steps = {step.output for step in self.run.plan.steps}
        if not steps.issuperset(path.values()):
            return None
        return [SeedMeasurement(one, seed) for seed in path for one in self.run.store.read(path[seed], Measurement)]

    def measure_metrics(self, model: str, scope: int | None) -> dict[str, Metric]:
        """Return the measures of one model, each with its coverage."""
        found: dict[str, Metric] = {}
        for name, info in self.measures.items():
            if (values := self.measured(name, model, scope)) is not None:
                found[name], found[coverage_of(name)] = measure_metrics(values, info.is_share)
        return found

    def models(self, scope: int | None) -> Iterator[ModelResult]:
        """Yield the metrics of each model."""
        for model in self.run.plan.models_of(self.run.recipe.seeds[0]):
            metrics = {
                _prefix(decoding) + name: metric
                for decoding in self.decodings()
                for name, metric in score_metrics(self.answers(model.id, decoding, scope)).items()
            }
            metrics |= self.measure_metrics(model.id, scope)
            yield ModelResult(model.id, model.pipeline, model.iteration, model.parent, scope, metrics)

    def differences(self, scope: int | None) -> Iterator[Difference]:
        """Yield the differences of each model to its parent, to M1, and to the control that mirrors its pipeline."""
        for left, right in self._compared():
            metrics = {
                _prefix(decoding) + name: metric
                for decoding in self.decodings()
                for name, metric in score_differences(
                    self.answers(left, decoding, scope), self.answers(right, decoding, scope)
                ).items()
            }
            for name in self.measures:
                values = [self.measured(name, model, scope) for model in (left, right)]
                if values[0] is not None and values[1] is not None:
                    metrics[name] = measure_difference(values[0], values[1])
            yield Difference(left, right, scope, metrics)

    def comparisons(self, scope: int | None) -> Iterator[ComparisonResult]:
        """Yield the head-to-head result of every two models that were compared."""
        for pair in self.head_to_head(scope).pairs:
            yield ComparisonResult(
                pair.left, pair.right, scope, pair.wins, pair.ties, pair.losses, pair.unparsed, pair.n, pair.win_rate
            )

    def head_to_head(self, scope: int | None) -> HeadToHead:
        """Return the head-to-head results of a scope, with the later one of two models on the left. They are cached."""
        if scope not in self._head_to_head:
            self._head_to_head[scope] = head_to_head(*self.contests(scope), self.order())
        return self._head_to_head[scope]

    def order(self) -> list[str]:
        """Return the ids of the models, the last one first."""
        return [model.id for model in reversed(self.run.plan.models_of(self.run.recipe.seeds[0]))]

    def contests(self, scope: int | None) -> tuple[list[Contest], list[Verdict]]:
        """Return the contests of a scope and their verdicts. The seed is added to the comparison ids."""
        contests: list[Contest] = []
        verdicts: list[Verdict] = []
        for seed in self.seeds(scope):
            contests += self._contests_of(seed)
            verdicts += (
                evolve(verdict, comparison_id=f"{seed}|{verdict.comparison_id}")
                for verdict in self.run.store.read(self.run.evaluation_plan(seed).files.verdicts, Verdict)
            )
        return contests, verdicts

    def agreement(self, scope: int | None, self_preference: bool) -> Iterator[AgreementResult]:
        """Yield the agreement of each model, as a judge, with the gold, on its own answers and on the mixed answers.

        If ``self_preference``, the results on mixed answers have the metrics of ``evaluation.self_preference``.
        """
        measures = self.run.evaluation_plan(self.run.recipe.seeds[0])
        if not measures.judges_measured:
            return
        names = (*AGREEMENT_METRICS, *(("unique_best",) if len(measures.own_scores) > 1 else ()))
        mixed = [rating for seed in self.seeds(scope) for rating in self._mixed_gold(seed)]
        for model in self.run.plan.models_of(self.run.recipe.seeds[0]):
            own = [rating for seed in self.seeds(scope) for rating in self._own_gold(seed, model.id)]
            for (answers, gold), scores in product((("own", own), ("mixed", mixed)), measures.own_scores):
                judged = [
                    rating
                    for seed in self.seeds(scope)
                    for rating in self._own_ratings(seed, model.id, answers, scores)
                ]
                found = agreement(judged, gold)
                metrics: dict[str, Metric] = {name: getattr(found, name) for name in names}
                if self_preference and answers == "mixed":
                    metrics |= attrs.asdict(self._self_preference(scope, model.id, scores), recurse=False)
                yield AgreementResult(model.id, answers, scope, metrics, scores, chance(judged, gold))

    def _self_preference(self, scope: int | None, model: str, scores: Scores) -> SelfPreference:
        """The self-preference of a model: its own answers against the mixed answers of the other models."""
        own: list[tuple[Rating, Rating]] = []
        others: list[tuple[Rating, Rating]] = []
        for seed in self.seeds(scope):
            own += joined_by_id(self._own_ratings(seed, model, "own", scores), self._own_gold(seed, model))
            mixed = self.run.store.read(self.run.evaluation_plan(seed).files.mixed, Candidate)
            of_others = {answer.id for answer in mixed if answer.model != model}
            judged = [one for one in self._own_ratings(seed, model, "mixed", scores) if one.id in of_others]
            others += joined_by_id(judged, self._mixed_gold(seed))
        return self_preference(own, others)

    def training(self) -> Iterator[TrainingResult]:
        """Yield the health of each training."""
        for step in self.run.plan.steps:
            if isinstance(step, Train):
                yield TrainingResult(step.model, step.seed, self._health(step))

    def _health(self, step: Train) -> TrainingHealth:
        before, after = (self._mean_words(step.seed, model) for model in (step.start.id, step.model))
        return health_of(self.run, step, before, after)

    def gold_scores(self, seed: int) -> list[float]:
        """Return all scores that the evaluator gave to the models' answers of one seed."""
        answers = (
            answer for by_decoding in self.graded(seed).values() for found in by_decoding.values() for answer in found
        )
        return [answer.gold for answer in answers if answer.gold is not None]

    def _mean_words(self, seed: int, model: str) -> float | None:
        counts = [answer.words for answer in self.graded(seed)[model]["greedy"] if answer.words is not None]
        return sum(counts) / len(counts) if counts else None

    def _compared(self) -> list[tuple[str, str]]:
        models = self.run.plan.models_of(self.run.recipe.seeds[0])
        pairs = [(model.id, model.parent) for model in models if model.parent]
        pairs += [(model.id, "M1") for model in models if model.iteration > 2]
        for name, control in self.run.recipe.controls.items():
            iterations = range(2, self.run.recipe.iterations + 2)
            mirrored = [f"M{iteration}/{control.mirrors}" for iteration in iterations]
            pairs += [(id, f"M2/{name}") for id in mirrored if any(model.id == id for model in models)]
        return pairs

    def graded_answers(self, model: PlannedModel, decoding: str) -> list[GradedAnswer]:
        """Return the graded answers of one model of one seed. Only its own files are read."""
        gold = average(self.run.store.read(model.files.gold(decoding), Judgement))
        candidates = self.run.store.read(model.files.held_out(decoding), Candidate)
        return graded(candidates, {id: score.score for id, score in gold.items()}, model.seed)

    def _contests_of(self, seed: int) -> Iterator[Contest]:
        measures, evaluation = self.run.evaluation_plan(seed), self.run.recipe.evaluation
        if evaluation is None:
            return
        words = {
            model.id: {
                answer.prompt_id: len(answer.text.split())
                for answer in self.run.store.read(model.files.held_out("greedy"), Candidate)
                if answer.outcome.has_text
            }
            for model in measures.models
        }
        prompts = self.run.store.read(measures.files.prompts, Prompt)
        for pair in measures.compared(evaluation):
            for prompt in prompts:
                for first, second in (pair, pair[::-1]):
                    yield Contest(
                        f"{seed}|{comparison_id(first, second, prompt.id)}",
                        prompt.id,
                        first,
                        second,
                        words[first].get(prompt.id, 0),
                        words[second].get(prompt.id, 0),
                        seed,
                    )

    def _own_ratings(self, seed: int, model: str, answers: str, scores: Scores) -> list[Rating]:
        averages = average(self.run.store.read(self._files(seed, model).own_judgements(answers, scores), Judgement))
        measures = self.run.evaluation_plan(seed)
        answered = measures.files.mixed if answers == "mixed" else self._files(seed, model).held_out("sampled")
        texts = {one.id: one.text for one in self.run.store.read(answered, Candidate)}
        return ratings(averages, {item: item.partition("/")[0] for item in averages}, seed, texts)

    def _own_gold(self, seed: int, model: str) -> list[Rating]:
        prompts = self.run.store.read(self.run.evaluation_plan(seed).files.prompts, Prompt)[: self._agreement_prompts]
        wanted = {prompt.id for prompt in prompts}
        gold = average(self.run.store.read(self._files(seed, model).gold("sampled"), Judgement))
        scores = {item: score for item, score in gold.items() if item.partition("/")[0] in wanted}
        return ratings(scores, {item: item.partition("/")[0] for item in scores}, seed)

    def _mixed_gold(self, seed: int) -> list[Rating]:
        measures = self.run.evaluation_plan(seed)
        gold = {
            model.id: average(self.run.store.read(model.files.gold("sampled"), Judgement)) for model in measures.models
        }
        mixed = self.run.store.read(measures.files.mixed, Candidate)
        scores = {answer.id: gold[answer.model][answer.id] for answer in mixed if answer.id in gold[answer.model]}
        return ratings(scores, {answer.id: answer.prompt_id for answer in mixed}, seed)

    def _files(self, seed: int, model: str) -> ModelArtifacts:
        return self.run.plan.model(seed, model).files

    @property
    def _agreement_prompts(self) -> int:
        return self.run.recipe.evaluation.agreement_prompts if self.run.recipe.evaluation else 0


def _has_self_preference(recipe: Recipe) -> bool:
    return recipe.evaluation is not None and recipe.evaluation.self_preference


def _prefix(decoding: str) -> str:
    return "" if decoding == "greedy" else f"{decoding}_"


def _in_plan_order(run: Run) -> Iterator[FinishedStep]:
    finished = run.store.finished_steps()
    steps = (step for step in run.plan.steps if not isinstance(step, Summarise))
    return (finished[step.output] for step in steps if step.output in finished)


def _warnings(reader: Reader, training: Sequence[TrainingResult], differences: Sequence[Difference]) -> Iterator[str]:
    run = reader.run
    for result in training:
        for warning in result.health.warnings:
            yield f"{result.model}, seed {result.seed}: {warning}"
    finished = run.store.finished_steps()
    for step in run.plan.steps:
        if step.output in finished and not isinstance(step, Train):
            yield from warnings_of_step(run, step, finished[step.output].counts)
    gold = {seed: reader.gold_scores(seed) for seed in run.recipe.seeds}
    yield from warnings_of_results(run, training, differences, gold)
