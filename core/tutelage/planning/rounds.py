"""One round of a pipeline or control: its declared steps become steps of the plan, with paths, models and counts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from attrs import define, evolve, frozen

from tutelage.objectives import Objective
from tutelage.pipeline import Pipeline
from tutelage.pipeline_steps import (
    MIRRORED_PAIRS,
    MIRRORED_TRAINING,
    PROMPTS,
    By,
    ChosenStep,
    CombineStep,
    CompareStep,
    DemonstrateStep,
    DisputedStep,
    GivenStep,
    JoinStep,
    JudgeStep,
    Kind,
    LabelStep,
    PairStep,
    PipelineStep,
    SampleStep,
    TrainStep,
    TransformStep,
)
from tutelage.planning.declared import judging_of
from tutelage.planning.judge_steps import (
    CombineScores,
    CompareCandidates,
    SelectDisputed,
    jury_steps,
    win_rate_steps,
)
from tutelage.planning.label_steps import LabelAnswers, UnpairAnswers
from tutelage.planning.roles import answerer, jurors
from tutelage.planning.series import Series
from tutelage.planning.steps import (
    ChosenExamples,
    Demonstrate,
    JoinPairs,
    Judge,
    MakePairs,
    PlannedModel,
    Sample,
    SelectExamples,
    Step,
    Train,
    Transform,
    Worker,
)
from tutelage.planning.trained_by import TRAINED_ON
from tutelage.preferences.pairing import PairOptions
from tutelage.recipe.schema import MemberSettings, Pairs

_SHARED = SampleStep("")
"""A sampling step with the defaults, except for its name."""


@frozen
class PlannedArtifact:
    """An artifact of a round."""

    path: str
    count: int
    """Planned number of records."""
    kind: Kind


@define(frozen=True, slots=False)  # slots would exclude cached_property
class Round:
    """One round of a pipeline or control, which trains one model."""

    series: Series
    name: str
    number: int
    """1 for the round that trains M2."""

    @cached_property
    def pipeline(self) -> Pipeline:
        """The declaration."""
        declared = self.series.declared
        return (declared.controls if self.mirrors else declared.pipelines)[self.name]

    @property
    def mirrors(self) -> str:
        """Name of the pipeline that a control mirrors; empty for a pipeline."""
        control = self.series.recipe.controls.get(self.name)
        return control.mirrors if control is not None else ""

    @cached_property
    def settings(self) -> MemberSettings:
        """The settings of the pipeline or control."""
        return self.series.declared.settings(self.series.recipe, self.name)

    @cached_property
    def objective(self) -> Objective:
        """The objective, with its settings."""
        return self.series.declared.objective(self.series.recipe, self.name)

    @property
    def student(self) -> PlannedModel:
        """The model that the round starts from."""
        return self.series.model(self.name, self.number)

    @property
    def trained(self) -> PlannedModel:
        """The model that the round trains."""
        return self.series.model(self.name, self.number + 1)

    @cached_property
    def artifacts(self) -> dict[str, PlannedArtifact]:
        """The artifacts of the round by name, without the checkpoint."""
        series = self.series
        found = {PROMPTS: PlannedArtifact(self.student.files.prompts, series.prompt_count, "prompts")}
        if self.mirrors:
            mirrored = Round(series, self.mirrors, 1)
            found[MIRRORED_PAIRS], found[MIRRORED_TRAINING] = mirrored.own_examples, mirrored.examples
        for step in self.pipeline.steps:
            if not isinstance(step, TrainStep):
                found[step.name] = PlannedArtifact(self._path(step), self._count(step, found), step.kind)
        return found

    @property
    def own_examples(self) -> PlannedArtifact:
        """The artifact of this round that its training uses."""
        return self.artifacts[self.pipeline.training.examples]

    @property
    def parts(self) -> tuple[PlannedArtifact, ...]:
        """What the training uses: the artifact of its round, and for pairs those of all rounds and of the user."""
        if self.own_examples.kind != "preferences":
            return (self.own_examples,)
        series = self.series
        first = 1 if series.recipe.preferences == "all" else self.number
        parts = tuple(Round(series, self.name, number).own_examples for number in range(first, self.number + 1))
        if self.joins_given:
            parts = (PlannedArtifact(series.given_path, series.given_count, "preferences"), *parts)
        return parts

    @property
    def joins_given(self) -> bool:
        """Whether the training uses the user's pairs, too. A control does what the pipeline does that it mirrors."""
        return self.series.joins_given(self.mirrors or self.name)

    @property
    def trained_on(self) -> PlannedArtifact:
        """The file that the training reads: ``examples``, or what is made of them for the objective."""
        examples, kind = self.examples, self.objective.examples
        if kind == examples.kind:
            return examples
        return PlannedArtifact(
            self.trained.files.named(TRAINED_ON), examples.count * (2 if kind == "labelled" else 1), kind
        )

    @property
    def examples(self) -> PlannedArtifact:
        """What the model learns from: the artifact of the round, or all its parts joined."""
        parts, files = self.parts, self.trained.files
        if len(parts) == 1:
            return parts[0]
        path = files.joined_preferences if self.joins_given else files.preferences_of_all_rounds
        return PlannedArtifact(path, sum(part.count for part in parts), "preferences")

    def steps(self) -> Iterator[Step]:
        """Yield the steps of the round. Steps that several pipelines share are yielded by each of them."""
        has_prompts = False
        for step in self.pipeline.steps:
            if not has_prompts and PROMPTS in dict(step.reads):
                has_prompts = True
                yield self.series.fresh_prompts(self.student, self.number)
            if isinstance(step, TrainStep):
                yield from self._training()
            elif isinstance(step, GivenStep) and step.source == "preferences":
                yield from self.series.given_pairs()
            else:
                yield from self._planned_with_parts(step)

    def _planned_with_parts(self, step: PipelineStep) -> Iterator[Step]:
        """Yield the planned step; for a jury and for comparisons, the steps that make its parts before it."""
        planned, jury = self._planned(step), jurors(self.series.recipe)
        if isinstance(planned, Judge) and planned.worker.role == "judge" and jury:
            yield from jury_steps(planned, jury, self.settings.judging.jury)
        elif isinstance(planned, CompareCandidates):
            assert isinstance(step, CompareStep)
            yield from win_rate_steps(planned, self.artifacts[step.answers].count)
        else:
            yield planned

    def _path(self, step: PipelineStep) -> str:
        if isinstance(step, SampleStep) and evolve(step, name="") == _SHARED:
            return self.student.files.candidates
        if isinstance(step, GivenStep) and step.source == "preferences":
            return self.series.given_path
        return self.trained.files.named(step.name)

    def _count(self, step: PipelineStep, known: dict[str, PlannedArtifact]) -> int:
        """The planned number of records of a step; an upper bound for most of them."""
        counts = [known[name].count for name, _ in step.reads]
        match step:
            case SampleStep():
                return counts[0] * (step.n or self.series.recipe.generation.n)
            case JudgeStep():
                return known[step.answers].count * judging_of(step, self.settings.judging).samples
            case PairStep():
                return known[step.prompts].count
            case CompareStep():
                answers, prompts = known[step.answers].count, max(1, known[step.prompts].count)
                return round(answers * max(0.0, answers / prompts - 1))
            case DisputedStep():
                return math.floor(counts[0] * self.settings.judging.dispute_share)
            case CombineStep():
                return max(counts)
            case LabelStep():
                return known[step.answers].count
            case JoinStep():
                return sum(counts)
            case TransformStep():
                return round(counts[0] * step.times)
            case GivenStep(source="preferences"):
                return self.series.given_count
            case GivenStep():
                ift = self.series.recipe.data.ift
                return self.series.counts.ift if ift is None or ift.count is None else ift.count
            case _:
                return counts[0]

    def _planned(self, step: PipelineStep) -> Step:
        made = self.artifacts[step.name]
        common = {"output": made.path, "count": made.count, "seed": self.series.seed}
        match step:
            case SampleStep() | JudgeStep() | CompareStep() | DemonstrateStep():
                return self._asked(step, common)
            case PairStep():
                return self._pairs(step, common)
            case LabelStep():
                return self._labels(step, common)
            case TransformStep():
                return self._transform(step, common)
            case _:
                return self._selected(step, common)

    def _asked(self, step: SampleStep | JudgeStep | CompareStep | DemonstrateStep, common: dict[str, Any]) -> Step:
        """The planned step of a step in which a model answers, judges or compares."""
        recipe = self.series.recipe
        common |= {"worker": self._worker(step.by), "prompts": self._path_of(step.prompts)}
        match step:
            case SampleStep():
                sampling = step.sampling(recipe.generation.sampling())
                return Sample(n=step.n or recipe.generation.n, sampling=sampling, **common)
            case JudgeStep():
                judging = judging_of(step, self.settings.judging)
                return Judge(
                    answers=self._path_of(step.answers),
                    rubric=judging.rubric,
                    samples=judging.samples,
                    sampling=judging.sampling(judging.score),
                    score=judging.score,
                    **common,
                )
            case CompareStep():
                return CompareCandidates(
                    answers=self._path_of(step.answers),
                    rubric=step.rubric or self.settings.judging.pairwise_rubric,
                    sampling=self.settings.judging.sampling(),
                    **common,
                )
            case DemonstrateStep():
                return Demonstrate(sampling=recipe.generation.sampling(), **common)

    def _selected(self, step: PipelineStep, common: dict[str, Any]) -> Step:
        """The planned step of a step that combines or selects the records of other artifacts."""
        path = self._path_of
        match step:
            case CombineStep():
                how = step.how or self.settings.judging.jury
                return CombineScores(parts=tuple(map(path, step.judgements)), how=how, **common)
            case DisputedStep():
                return SelectDisputed(
                    answers=path(step.answers),
                    judgements=path(step.judgements),
                    spread=self.settings.judging.dispute_spread,
                    share=self.settings.judging.dispute_share,
                    **common,
                )
            case JoinStep():
                return JoinPairs(parts=tuple(map(path, step.parts)), **common)
            case ChosenStep():
                return ChosenExamples(preferences=path(step.preferences), **common)
            case GivenStep():
                return SelectExamples(**common)
            case _:
                raise TypeError("a training has steps before it; see _training")

    def _pairs(self, step: PairStep, common: dict[str, Any]) -> MakePairs:
        path, of_recipe = self._path_of, self.settings.pairs
        pairs = Pairs(keep_cut=of_recipe.keep_cut) if step.fixed else of_recipe
        return MakePairs(
            prompts=path(step.prompts),
            candidates=path(step.answers),
            judgements=path(step.scores),
            demonstrations=path(step.demonstrations),
            like=path(step.like),
            rule=pairs.rule or step.rule,
            margin=pairs.margin,
            keep_cut=pairs.keep_cut,
            near_best=pairs.near_best,
            length_ratio=pairs.length_ratio,
            **common,
        )

    def _labels(self, step: LabelStep, common: dict[str, Any]) -> LabelAnswers:
        path, of_recipe = self._path_of, self.settings.pairs
        threshold = step.threshold if of_recipe.threshold is None else of_recipe.threshold
        assert threshold is not None, "checked with the recipe"
        return LabelAnswers(
            prompts=path(step.prompts),
            candidates=path(step.answers),
            judgements=path(step.scores),
            threshold=threshold,
            keep_cut=of_recipe.keep_cut,
            **common,
        )

    def _transform(self, step: TransformStep, common: dict[str, Any]) -> Transform:
        judged_as = self.series.declared.settings(self.series.recipe, self.mirrors or self.name)
        return Transform(
            options=_options(self.settings.pairs, self.series.seed) if "options" in step.takes else None,
            rubric=judged_as.judging.rubric if "rubric" in step.takes else "",
            unit=step.makes,
            pipeline=self.name,
            is_control=bool(self.mirrors),
            name=step.name,
            function=step.function_name,
            makes=step.makes,
            reads=tuple((self.artifacts[name].path, self.artifacts[name].kind) for name in step.reads_from),
            **common,
        )

    def _path_of(self, name: str) -> str:
        """The path of an artifact; empty if no artifact is named."""
        return self.artifacts[name].path if name else ""

    def _training(self) -> Iterator[Step]:
        """The training of the model, after the steps that join the pairs and make what it is trained on of them."""
        series, examples, model, objective = self.series, self.examples, self.trained, self.objective
        if len(self.parts) > 1:
            if self.joins_given:
                yield from series.given_pairs()
            parts = tuple(part.path for part in self.parts)
            yield JoinPairs(output=examples.path, count=examples.count, seed=series.seed, parts=parts)
        trained_on = self.trained_on
        if trained_on != examples:
            make = UnpairAnswers if trained_on.kind == "labelled" else ChosenExamples
            yield make(output=trained_on.path, count=trained_on.count, seed=series.seed, preferences=examples.path)
        yield Train(
            output=model.files.checkpoint,
            count=round(trained_on.count * objective.epochs),
            seed=series.seed,
            examples=trained_on.path,
            start=self._policy(series.recipe.start),
            reference=self._policy(series.recipe.reference) if objective.has_reference else None,
            objective=evolve(objective, seed=series.seed),
            model=model.id,
        )

    def _policy(self, name: str) -> Worker:
        """The model that ``previous``, ``M1`` or ``M0`` means in the training."""
        if name == "M0":
            return Worker("student", "M0")
        return self.series.model(self.name, self.number if name == "previous" else 1).worker

    def _worker(self, by: By) -> Worker:
        if by in ("teacher", "judge", "evaluator"):
            return Worker(by, by)
        iteration = {"student": self.number, "predecessor": self.number - 1, "M0": 0}[by]
        return answerer(self.series.recipe, self.series.model(self.name, iteration))


def _options(pairs: Pairs, seed: int) -> PairOptions:
    return PairOptions(seed, pairs.margin, pairs.near_best, pairs.length_ratio, pairs.keep_cut)
