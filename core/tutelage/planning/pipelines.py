"""The pipelines and the two controls as data, and the plan of a recipe.

Each pipeline is one entry of ``PIPELINES``: the role that scores the candidates, the role that demonstrates, and the
rule that makes pairs. All pipelines share M1 and its samples. ``own-preferences`` makes no pairs: it trains once on
those of the user. A control mirrors the first iteration of a pipeline, in
which both start from the same model and the same candidates. Later iterations would compare models with different
histories.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, frozen

from tutelage.planning.artifacts import SUMMARY, own_preferences
from tutelage.planning.evaluation_plan import EvaluationPlan
from tutelage.planning.roles import answerer, answering_role
from tutelage.planning.steps import (
    BuildExamples,
    ChosenExamples,
    Demonstrate,
    JoinPairs,
    Judge,
    MakePairs,
    Plan,
    PlannedModel,
    Sample,
    SelectPreferences,
    SelectPrompts,
    Step,
    Summarise,
    Train,
    Worker,
    WritePrompts,
)
from tutelage.recipe.schema import OWN_PREFERENCES, MemberSettings, Recipe


@frozen
class Pipeline:
    """The way from prompts to preference pairs in one pipeline."""

    name: str
    help: str
    scored_by: str | None
    """Role that judges the student's candidates; "student" is the model that wrote them. None if none judges."""
    demonstrated_by: str | None
    """Role whose answers to the prompts are the chosen ones. None if none demonstrates."""
    rule: str | None
    """Default pair rule, used if the recipe names none. None if the pairs are given by the user."""

    @property
    def samples(self) -> bool:
        """Whether the student samples candidates, in every round."""
        return self.rule is not None


PIPELINES = {
    pipeline.name: pipeline
    for pipeline in (
        Pipeline("self-reward", "the student judges its own candidates", "student", None, "best-worst"),
        Pipeline("teacher-reward", "the teacher judges the student's candidates", "judge", None, "best-worst"),
        Pipeline(
            "teacher-demonstration",
            "the teacher's answer is chosen, the student's own rejected",
            None,
            "teacher",
            "demonstration-vs-own",
        ),
        Pipeline(
            OWN_PREFERENCES, "DPO on the pairs of `data.preferences`, without sampling or judging", None, None, None
        ),
    )
}

CONTROLS = {
    "random-pairs": "the same candidates, pairs drawn at random: what DPO does without a judge",
    "sft-on-chosen": "SFT on the chosen side of the same pairs: what the answers do without DPO",
}


@frozen
class SourceCounts:
    """Number of rows of each source that the recipe names no ``count`` for. 0 if it is not known."""

    ift: int = 0
    eft: int = 0
    evaluation: int = 0
    """Number of held-out prompts."""


def make_plan(recipe: Recipe, counts: SourceCounts | None = None) -> Plan:
    """Return the steps and models of the whole run.

    Depends on the arguments only. The recipe must have passed its checks. ``counts`` changes only the planned numbers
    of items: without it, a source without ``count`` counts as 0.
    """
    steps: dict[str, Step] = {}
    models: list[PlannedModel] = []
    for seed in recipe.seeds:
        series = Series(recipe, seed, counts or SourceCounts())
        models += series.models()
        for step in series.steps():
            steps.setdefault(step.output, step)
    if recipe.evaluation:
        steps[SUMMARY] = Summarise(output=SUMMARY, count=1)
    return Plan(tuple(steps.values()), tuple(models))


def roles_needed(recipe: Recipe) -> dict[str, set[str]]:
    """Return the hooks that the plugin of each role must implement."""
    needed: dict[str, set[str]] = {"student": {"train_step"}}
    answering = answering_role(recipe)
    is_sampling = any(PIPELINES[name].samples for name in recipe.pipelines)
    if is_sampling or recipe.evaluation:
        needed.setdefault(answering, set()).add("generate_candidates")
    if is_sampling and (self_instruct := recipe.data.self_instruct) is not None:
        writer = answering_role(recipe, self_instruct.writer)
        needed.setdefault(writer, set()).add("generate_candidates")
    for name in recipe.pipelines:
        pipeline = PIPELINES[name]
        if pipeline.scored_by:
            scorer = answering_role(recipe, pipeline.scored_by)
            needed.setdefault(scorer, set()).add("judge")
        if pipeline.demonstrated_by:
            needed.setdefault(pipeline.demonstrated_by, set()).add("demonstrate")
    if recipe.evaluation:
        needed["evaluator"] = {"judge", "evaluate"}
        if recipe.evaluation.agreement_prompts and recipe.evaluation.sampled > 1:
            needed.setdefault(answering, set()).add("judge")
    return needed


@frozen
class Series:
    """The plan of one seed."""

    recipe: Recipe
    seed: int
    counts: SourceCounts = SourceCounts()  # frozen, so safe to share

    def models(self) -> list[PlannedModel]:
        """Return M0, M1, then round by round the model of each pipeline. The controls are in the first round.

        Without seed examples there is no M1.
        """
        found = [PlannedModel("M0", self.seed, None, 0, None)]
        if self.recipe.data.has_seed_examples:
            found.append(PlannedModel("M1", self.seed, None, 1, "M0"))
        for round_number in range(1, self.recipe.iterations + 1):
            names = [*self.pipelines_of(round_number), *(self.recipe.controls if round_number == 1 else ())]
            found += [self.model(name, round_number + 1) for name in names]
        return found

    def pipelines_of(self, round_number: int) -> list[str]:
        """Return the names of the pipelines that train a model in a round. ``own-preferences`` trains in the first."""
        return [name for name in self.recipe.pipelines if round_number == 1 or name != OWN_PREFERENCES]

    def model(self, pipeline: str, iteration: int) -> PlannedModel:
        """Return the shared start model if ``iteration`` is 1, otherwise the model of a pipeline or control.

        The start model is M1. Without seed examples it is M0.
        """
        if iteration == 1 and not self.recipe.data.has_seed_examples:
            return PlannedModel("M0", self.seed, None, 0, None)
        if iteration == 1:
            return PlannedModel("M1", self.seed, None, 1, "M0")
        parent = self.model(pipeline, iteration - 1).id
        return PlannedModel(f"M{iteration}/{pipeline}", self.seed, pipeline, iteration, parent)

    def steps(self) -> Iterator[Step]:
        """Yield every step of this seed: M1, round by round the pipelines, the controls, then the evaluation."""
        if self.recipe.data.has_seed_examples:
            yield from self.first_model()
        for round_number in range(1, self.recipe.iterations + 1):
            for name in self.pipelines_of(round_number):
                pipeline, settings = PIPELINES[name], self.recipe.for_pipeline(name)
                if pipeline.rule is None:
                    yield from self.given_pairs()
                    child = self.model(name, 2)
                    yield self.dpo(child, settings, child.files.preferences, self.given_count)
                else:
                    yield from self.round(pipeline, pipeline.rule, settings, round_number)
        for name, control in self.recipe.controls.items():
            yield from self.control(name, control.mirrors, self.recipe.for_control(name))
        yield from EvaluationPlan(self.recipe, self.seed, tuple(self.models()), self.counts.evaluation).steps()

    def first_model(self) -> Iterator[Step]:
        """Yield the steps of M1: its examples and its training."""
        recipe = self.recipe
        model = self.model("", 1)
        examples = model.files.examples
        sources = ((recipe.data.ift, self.counts.ift), (recipe.data.eft, self.counts.eft))
        count = sum(rows if source.count is None else source.count for source, rows in sources if source)
        yield BuildExamples(output=examples, count=count, seed=self.seed)
        yield Train(
            output=model.files.checkpoint,
            count=round(count * recipe.sft.epochs),
            seed=self.seed,
            examples=examples,
            start=Worker("student", "M0"),
            reference=None,
            objective=evolve(recipe.sft, seed=self.seed),
            model=model.id,
        )

    def given_pairs(self) -> Iterator[Step]:
        """Yield the step that draws the user's pairs of this seed. All models that train on them share it."""
        if (source := self.recipe.data.preferences) is not None:
            yield SelectPreferences(
                output=self.given_path, count=self.given_count, seed=self.seed, source=source.source
            )

    def round(self, pipeline: Pipeline, rule: str, settings: MemberSettings, round_number: int) -> Iterator[Step]:
        """Yield one round of a pipeline: prompts, candidates, scores or demonstrations, pairs, and the next model."""
        parent, child = self.model(pipeline.name, round_number), self.model(pipeline.name, round_number + 1)
        prompts, candidates = parent.files.prompts, parent.files.candidates
        judgements = demonstrations = ""
        yield from self.samples(parent, round_number)
        if pipeline.scored_by:
            judgements = child.files.judgements
            worker = answerer(self.recipe, parent) if pipeline.scored_by == "student" else Worker("judge", "judge")
            yield Judge(
                output=judgements,
                count=self.prompt_count * self.recipe.generation.n * settings.judging.samples,
                seed=self.seed,
                worker=worker,
                prompts=prompts,
                answers=candidates,
                rubric=settings.judging.rubric,
                samples=settings.judging.samples,
                sampling=settings.judging.sampling(settings.judging.score),
                score=settings.judging.score,
            )
        if pipeline.demonstrated_by:
            demonstrations = child.files.demonstrations
            yield Demonstrate(
                output=demonstrations,
                count=self.prompt_count,
                seed=self.seed,
                worker=Worker("teacher", "teacher"),
                prompts=prompts,
                sampling=self.recipe.generation.sampling(),
            )
        yield MakePairs(
            output=child.files.preferences,
            count=self.prompt_count,
            seed=self.seed,
            prompts=prompts,
            candidates=candidates,
            judgements=judgements,
            demonstrations=demonstrations,
            rule=settings.pairs.rule or rule,
            margin=settings.pairs.margin,
            keep_cut=settings.pairs.keep_cut,
            near_best=settings.pairs.near_best,
            length_ratio=settings.pairs.length_ratio,
        )
        yield from self.preference_training(child, settings, self.joins_given(pipeline.name))

    def samples(self, model: PlannedModel, round_number: int) -> Iterator[Step]:
        """Yield the prompts and candidates of a model for the next round; all pipelines from this model share them."""
        prompts = model.files.prompts
        yield self.fresh_prompts(model, round_number, prompts)
        yield Sample(
            output=model.files.candidates,
            count=self.prompt_count * self.recipe.generation.n,
            seed=self.seed,
            worker=answerer(self.recipe, model),
            prompts=prompts,
            n=self.recipe.generation.n,
            sampling=self.recipe.generation.sampling(),
        )

    def fresh_prompts(self, model: PlannedModel, round_number: int, output: str) -> Step:
        """Return the step for the prompts of one round: a model writes them, or they are a slice of the source.

        No two rounds take the same slice.
        """
        source, self_instruct = self.recipe.data.fresh_prompts.source, self.recipe.data.self_instruct
        if self_instruct is None:
            return SelectPrompts(
                output=output,
                count=self.prompt_count,
                seed=self.seed,
                source=source,
                skip=(round_number - 1) * self.prompt_count,
                take=self.prompt_count,
                decontaminate=True,
            )
        before = (self.model(model.pipeline or "", iteration) for iteration in range(1, model.iteration))
        return WritePrompts(
            output=output,
            count=self.prompt_count,
            seed=self.seed,
            worker=answerer(self.recipe, model) if self_instruct.writer == "student" else Worker("teacher", "teacher"),
            source=source,
            earlier=tuple(earlier.files.prompts for earlier in before),
            sampling=self_instruct.sampling(),
        )

    def control(self, name: str, mirrors: str, settings: MemberSettings) -> Iterator[Step]:
        """Yield the steps of a control of the pipeline ``mirrors``: its pairs or examples, and its M2."""
        parent, child = self.model(name, 1), self.model(name, 2)
        mirrored = self.model(mirrors, 2).files
        if name == "random-pairs":
            yield MakePairs(
                output=child.files.preferences,
                count=self.prompt_count,
                seed=self.seed,
                prompts=parent.files.prompts,
                candidates=parent.files.candidates,
                like=mirrored.preferences,
                rule="random-pairs",
                keep_cut=settings.pairs.keep_cut,
            )
            yield from self.preference_training(child, settings, self.joins_given(mirrors))
            return
        preferences, count = mirrored.preferences, self.prompt_count
        if mirrors == OWN_PREFERENCES:
            count = self.given_count
        elif self.joins_given(mirrors):
            preferences, count = mirrored.joined_preferences, self.given_count + self.prompt_count
        examples = child.files.examples
        yield ChosenExamples(output=examples, count=count, seed=self.seed, preferences=preferences)
        yield Train(
            output=child.files.checkpoint,
            count=round(count * settings.sft.epochs),
            seed=self.seed,
            examples=examples,
            start=parent.worker,
            reference=None,
            objective=evolve(settings.sft, seed=self.seed),
            model=child.id,
        )

    def preference_training(self, child: PlannedModel, settings: MemberSettings, joins_given: bool) -> Iterator[Step]:
        """Yield the DPO training of ``child`` on the pairs of its round or of all rounds, and the join of its pairs."""
        first = 2 if self.recipe.preferences == "all" else child.iteration
        models = (self.model(child.pipeline or "", iteration) for iteration in range(first, child.iteration + 1))
        parts = tuple(model.files.preferences for model in models)
        examples = child.files.preferences if len(parts) == 1 else child.files.preferences_of_all_rounds
        count = self.prompt_count * len(parts)
        if joins_given:
            yield from self.given_pairs()
            parts, count = (self.given_path, *parts), count + self.given_count
            examples = child.files.joined_preferences
        if len(parts) > 1:
            yield JoinPairs(output=examples, count=count, seed=self.seed, parts=parts)
        yield self.dpo(child, settings, examples, count)

    def dpo(self, child: PlannedModel, settings: MemberSettings, examples: str, count: int) -> Train:
        """Return the DPO training of ``child`` on ``count`` pairs, with the start and reference models of the recipe.

        By default, both are the previous model.
        """
        return Train(
            output=child.files.checkpoint,
            count=round(count * settings.dpo.epochs),
            seed=self.seed,
            examples=examples,
            start=self.policy(self.recipe.start, child),
            reference=self.policy(self.recipe.reference, child),
            objective=evolve(settings.dpo, seed=self.seed),
            model=child.id,
        )

    def policy(self, name: str, child: PlannedModel) -> Worker:
        """Return the model that ``previous``, ``M1`` or ``M0`` means in the training of ``child``."""
        if name == "M0":
            return Worker("student", "M0")
        return self.model(child.pipeline or "", child.iteration - 1 if name == "previous" else 1).worker

    def joins_given(self, pipeline: str) -> bool:
        """Whether the user's pairs join those of a pipeline."""
        return self.recipe.data.preferences is not None and pipeline in self.recipe.data.preferences.join

    @property
    def given_path(self) -> str:
        """Path of the user's pairs of this seed: the pairs of ``own-preferences`` if the recipe runs this pipeline."""
        if OWN_PREFERENCES in self.recipe.pipelines:
            return self.model(OWN_PREFERENCES, 2).files.preferences
        return own_preferences(self.seed)

    @property
    def given_count(self) -> int:
        """Number of the user's pairs."""
        return (self.recipe.data.preferences.count or 0) if self.recipe.data.preferences else 0

    @property
    def prompt_count(self) -> int:
        """Number of fresh prompts per iteration."""
        return (self.recipe.data.prompts.count or 0) if self.recipe.data.prompts else 0
