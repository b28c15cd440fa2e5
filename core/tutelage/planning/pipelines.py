"""The three pipelines and the two controls as data, and the plan of a recipe.

Each pipeline is one entry of ``PIPELINES``: the role that scores the candidates, the role that demonstrates, and the
rule that makes pairs. All pipelines share M1 and its samples. A control mirrors the first iteration of a pipeline, in
which both start from the same model and the same candidates. Later iterations would compare models with different
histories.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, frozen

from tutelage.planning.artifacts import SUMMARY
from tutelage.planning.evaluation_plan import EvaluationPlan
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
    SelectPrompts,
    Step,
    Summarise,
    Train,
    Worker,
    WritePrompts,
)
from tutelage.recipe.schema import Control, PipelineSettings, Recipe


@frozen
class Pipeline:
    """The way from prompts to preference pairs in one pipeline."""

    name: str
    help: str
    scored_by: str | None
    """Role that judges the student's candidates; "student" is the model that wrote them. None if none judges."""
    demonstrated_by: str | None
    """Role whose answers to the prompts are the chosen ones. None if none demonstrates."""
    rule: str
    """Default pair rule, used if the recipe names none."""


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
    )
}

CONTROLS = {
    "random-pairs": "the same candidates, pairs drawn at random: what DPO does without a judge",
    "sft-on-chosen": "SFT on the chosen side of the same pairs: what the answers do without DPO",
}


def make_plan(recipe: Recipe) -> Plan:
    """Return the steps and models of the whole run. Depends on the recipe only, which must have passed its checks."""
    steps: dict[str, Step] = {}
    models: list[PlannedModel] = []
    for seed in recipe.seeds:
        series = Series(recipe, seed)
        models += series.models()
        for step in series.steps():
            steps.setdefault(step.output, step)
    if recipe.evaluation:
        steps[SUMMARY] = Summarise(output=SUMMARY, count=1)
    return Plan(tuple(steps.values()), tuple(models))


def roles_needed(recipe: Recipe) -> dict[str, set[str]]:
    """Return the hooks that the plugin of each role must implement."""
    needed: dict[str, set[str]] = {"student": {"generate_candidates", "train_step"}}
    if (self_instruct := recipe.data.prompts.self_instruct) is not None:
        needed.setdefault(self_instruct.writer, set()).add("generate_candidates")
    for name in recipe.pipelines:
        pipeline = PIPELINES[name]
        if pipeline.scored_by:
            needed.setdefault(pipeline.scored_by, set()).add("judge")
        if pipeline.demonstrated_by:
            needed.setdefault(pipeline.demonstrated_by, set()).add("demonstrate")
    if recipe.evaluation:
        needed["evaluator"] = {"judge", "evaluate"}
        if recipe.evaluation.agreement_prompts and recipe.evaluation.sampled > 1:
            needed["student"].add("judge")
    return needed


@frozen
class Series:
    """The plan of one seed."""

    recipe: Recipe
    seed: int

    def models(self) -> list[PlannedModel]:
        """Return M0, M1, then round by round the model of each pipeline. The controls are in the first round."""
        found = [
            PlannedModel("M0", self.seed, None, 0, None),
            PlannedModel("M1", self.seed, None, 1, "M0"),
        ]
        for round_number in range(1, self.recipe.iterations + 1):
            names = [*self.recipe.pipelines, *(self.recipe.controls if round_number == 1 else ())]
            found += [self.model(name, round_number + 1) for name in names]
        return found

    def model(self, pipeline: str, iteration: int) -> PlannedModel:
        """Return M1 if ``iteration`` is 1, otherwise the model of a pipeline or control."""
        if iteration == 1:
            return PlannedModel("M1", self.seed, None, 1, "M0")
        parent = "M1" if iteration == 2 else f"M{iteration - 1}/{pipeline}"
        return PlannedModel(f"M{iteration}/{pipeline}", self.seed, pipeline, iteration, parent)

    def steps(self) -> Iterator[Step]:
        """Yield every step of this seed: M1, round by round the pipelines, the controls, then the evaluation."""
        yield from self.first_model()
        for round_number in range(1, self.recipe.iterations + 1):
            for name, settings in self.recipe.pipelines.items():
                yield from self.round(PIPELINES[name], settings, round_number)
        for name, control in self.recipe.controls.items():
            yield from self.control(name, control)
        yield from EvaluationPlan(self.recipe, self.seed, tuple(self.models())).steps()

    def first_model(self) -> Iterator[Step]:
        """Yield the steps of M1: its examples and its training."""
        recipe = self.recipe
        model = self.model("", 1)
        examples = model.files.examples
        count = sum(source.count or 0 for source in (recipe.data.ift, recipe.data.eft) if source)
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

    def round(self, pipeline: Pipeline, settings: PipelineSettings, round_number: int) -> Iterator[Step]:
        """Yield one round of a pipeline: prompts, candidates, scores or demonstrations, pairs, and the next model."""
        parent, child = self.model(pipeline.name, round_number), self.model(pipeline.name, round_number + 1)
        prompts, candidates = parent.files.prompts, parent.files.candidates
        judgements = demonstrations = ""
        yield from self.samples(parent, round_number)
        if pipeline.scored_by:
            judgements = child.files.judgements
            worker = parent.worker if pipeline.scored_by == "student" else Worker("judge", "judge")
            yield Judge(
                output=judgements,
                count=self.prompt_count * self.recipe.generation.n * settings.judging.samples,
                seed=self.seed,
                worker=worker,
                prompts=prompts,
                answers=candidates,
                rubric=settings.judging.rubric,
                samples=settings.judging.samples,
                sampling=settings.judging.sampling(),
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
            rule=settings.pairs.rule or pipeline.rule,
            margin=settings.pairs.margin,
            keep_cut=settings.pairs.keep_cut,
            near_best=settings.pairs.near_best,
            length_ratio=settings.pairs.length_ratio,
        )
        yield from self.preference_training(child, settings)

    def samples(self, model: PlannedModel, round_number: int) -> Iterator[Step]:
        """Yield the prompts and candidates of a model for the next round; all pipelines from this model share them."""
        prompts = model.files.prompts
        yield self.fresh_prompts(model, round_number, prompts)
        yield Sample(
            output=model.files.candidates,
            count=self.prompt_count * self.recipe.generation.n,
            seed=self.seed,
            worker=model.worker,
            prompts=prompts,
            n=self.recipe.generation.n,
            sampling=self.recipe.generation.sampling(),
        )

    def fresh_prompts(self, model: PlannedModel, round_number: int, output: str) -> Step:
        """Return the step for the prompts of one round: a model writes them, or they are a slice of the source.

        No two rounds take the same slice.
        """
        source, self_instruct = self.recipe.data.prompts.source, self.recipe.data.prompts.self_instruct
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
            worker=model.worker if self_instruct.writer == "student" else Worker("teacher", "teacher"),
            source=source,
            earlier=tuple(earlier.files.prompts for earlier in before),
            sampling=self_instruct.sampling(),
        )

    def control(self, name: str, control: Control) -> Iterator[Step]:
        """Yield the steps of a control: its pairs or examples, and its M2."""
        parent, child = self.model(name, 1), self.model(name, 2)
        mirrored = self.model(control.mirrors, 2).files.preferences
        if name == "random-pairs":
            yield MakePairs(
                output=child.files.preferences,
                count=self.prompt_count,
                seed=self.seed,
                prompts=parent.files.prompts,
                candidates=parent.files.candidates,
                like=mirrored,
                rule="random-pairs",
                keep_cut=control.pairs.keep_cut,
            )
            yield from self.preference_training(child, control)
            return
        examples = child.files.examples
        yield ChosenExamples(output=examples, count=self.prompt_count, seed=self.seed, preferences=mirrored)
        yield Train(
            output=child.files.checkpoint,
            count=round(self.prompt_count * control.sft.epochs),
            seed=self.seed,
            examples=examples,
            start=parent.worker,
            reference=None,
            objective=evolve(control.sft, seed=self.seed),
            model=child.id,
        )

    def preference_training(self, child: PlannedModel, settings: PipelineSettings | Control) -> Iterator[Step]:
        """Yield the DPO training of ``child``, with the start and reference models that the recipe sets.

        By default, both are the previous model.
        """
        examples = child.files.preferences
        rounds = child.iteration - 1
        if self.recipe.preferences == "all" and rounds > 1:
            models = (self.model(child.pipeline or "", iteration) for iteration in range(2, child.iteration + 1))
            parts = tuple(model.files.preferences for model in models)
            examples = child.files.preferences_of_all_rounds
            yield JoinPairs(output=examples, count=self.prompt_count * rounds, seed=self.seed, parts=parts)
        count = self.prompt_count * (rounds if self.recipe.preferences == "all" else 1)
        yield Train(
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
        """Return the model that ``previous``, ``M1`` or ``M0`` stands for in the training of ``child``."""
        if name == "M0":
            return Worker("student", "M0")
        return self.model(child.pipeline or "", child.iteration - 1 if name == "previous" else 1).worker

    @property
    def prompt_count(self) -> int:
        """Number of fresh prompts per iteration."""
        return self.recipe.data.prompts.count or 0
