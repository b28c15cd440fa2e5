"""The plan of the evaluation: answers to held-out prompts, gold scores, the models' own judging, comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from attrs import frozen

from tutelage.planning.artifacts import EvaluationArtifacts
from tutelage.planning.judging_uses import measures_judging
from tutelage.planning.roles import answerer
from tutelage.planning.steps import Compare, Judge, MixAnswers, PlannedModel, Sample, SelectPrompts, Step, Worker
from tutelage.recipe.schema import Evaluation, Recipe
from tutelage.records import Sampling, Scores

EVALUATOR = Worker("evaluator", "evaluator")
MIXED_ANSWERS = 4
"""Maximum number of answers per prompt in the mixed set. Each answer is from a model drawn at random."""


@frozen
class EvaluationPlan:
    """The plan of the evaluation of one seed's models."""

    recipe: Recipe
    seed: int
    models: tuple[PlannedModel, ...]
    rows: int = 0
    """Number of rows of the source of the held-out prompts, for a recipe that names no count; 0 if it is not known."""

    def prompt_count(self, evaluation: Evaluation) -> int:
        """Return the number of held-out prompts; 0 if it is not known."""
        return self.rows if evaluation.prompts.count is None else evaluation.prompts.count

    def judged_prompts(self, evaluation: Evaluation) -> int:
        """Return the number of held-out prompts whose answers the models judge: at most all of them."""
        known = self.prompt_count(evaluation)
        return min(evaluation.agreement_prompts, known) if known else evaluation.agreement_prompts

    def steps(self) -> Iterator[Step]:
        """Yield the steps model by model, so that each model is loaded once, then the mixed set and the comparisons."""
        if (evaluation := self.recipe.evaluation) is None:
            return
        yield SelectPrompts(
            output=self.files.prompts,
            count=self.prompt_count(evaluation),
            seed=self.seed,
            source=evaluation.prompts.source,
            skip=0,
            take=evaluation.prompts.count,
        )
        for model in self.models:
            yield from self.answers(evaluation, model)
        for model in self.models:
            yield from self.gold(evaluation, model)
        if self.judges_measured:
            yield from self.mixed(evaluation)
        yield self.comparisons(evaluation)

    @property
    def files(self) -> EvaluationArtifacts:
        """The paths of the artifacts that all models share."""
        return EvaluationArtifacts(self.seed)

    @property
    def judges_measured(self) -> bool:
        """Whether the models' own judging is compared with the gold scores (needs several answers per prompt)."""
        return measures_judging(self.recipe)

    def decodings(self, evaluation: Evaluation) -> Iterator[tuple[str, int, Sampling]]:
        """Yield the name, the number of answers per prompt and the sampling parameters of each decoding."""
        yield "greedy", 1, Sampling(0.0, 1.0, evaluation.max_new_tokens)
        if evaluation.sampled:
            yield "sampled", evaluation.sampled, evaluation.sampling()

    def answers(self, evaluation: Evaluation, model: PlannedModel) -> Iterator[Step]:
        """Yield the steps in which a model answers, and judges its own sampled answers."""
        for decoding, n, sampling in self.decodings(evaluation):
            yield Sample(
                output=model.files.held_out(decoding),
                count=self.prompt_count(evaluation) * n,
                seed=self.seed,
                worker=answerer(self.recipe, model),
                prompts=self.files.prompts,
                n=n,
                sampling=sampling,
            )
        if self.judges_measured:
            yield from self.own_judging(evaluation, model, "own", model.files.held_out("sampled"), evaluation.sampled)

    @property
    def own_scores(self) -> tuple[Scores, ...]:
        """How the scores of the models' own judging are made: in both ways if the recipe uses expected scores."""
        return ("parsed",) if self.recipe.judging.score == "parsed" else ("parsed", "expected")

    def own_judging(
        self, evaluation: Evaluation, model: PlannedModel, kind: str, answers: str, n: int
    ) -> Iterator[Judge]:
        """Yield the steps in which a model judges ``answers`` as in self-reward: same rubric, same number of samples.

        ``kind`` is ``own`` or ``mixed``; ``n`` is the number of answers per prompt.
        """
        judging = self.recipe.judging
        for scores in self.own_scores:
            yield Judge(
                output=model.files.own_judgements(kind, scores),
                count=self.judged_prompts(evaluation) * n * judging.samples,
                seed=self.seed,
                worker=answerer(self.recipe, model),
                prompts=self.files.prompts,
                answers=answers,
                rubric=judging.rubric,
                samples=judging.samples,
                sampling=judging.sampling(scores),
                take=evaluation.agreement_prompts,
                score=scores,
            )

    def gold(self, evaluation: Evaluation, model: PlannedModel) -> Iterator[Step]:
        """Yield the steps in which the evaluator scores a model's answers."""
        for decoding, n, _ in self.decodings(evaluation):
            yield Judge(
                output=model.files.gold(decoding),
                count=self.prompt_count(evaluation) * n,
                seed=self.seed,
                worker=EVALUATOR,
                prompts=self.files.prompts,
                answers=model.files.held_out(decoding),
                rubric=evaluation.rubric,
                samples=1,
                sampling=Sampling(0.0, 1.0, evaluation.judgement_tokens),
            )

    def mixed(self, evaluation: Evaluation) -> Iterator[Step]:
        """Yield the steps that make one set of answers from all models, and let each model judge it."""
        n = min(MIXED_ANSWERS, evaluation.sampled)
        yield MixAnswers(
            output=self.files.mixed,
            count=self.judged_prompts(evaluation) * n,
            seed=self.seed,
            answers={model.id: model.files.held_out("sampled") for model in self.models},
            prompts=self.files.prompts,
            take=evaluation.agreement_prompts,
            n=n,
        )
        for model in self.models:
            yield from self.own_judging(evaluation, model, "mixed", self.files.mixed, n)

    def comparisons(self, evaluation: Evaluation) -> Compare:
        """Return the step that compares the greedy answers of pairs of models, in both orders."""
        pairs = tuple(self.compared(evaluation))
        return Compare(
            output=self.files.verdicts,
            count=2 * len(pairs) * self.prompt_count(evaluation),
            seed=self.seed,
            worker=EVALUATOR,
            pairs=pairs,
            answers={model.id: model.files.held_out("greedy") for model in self.models},
            prompts=self.files.prompts,
            rubric=evaluation.comparison_rubric,
            sampling=Sampling(0.0, 1.0, evaluation.judgement_tokens),
        )

    def compared(self, evaluation: Evaluation) -> Iterator[tuple[str, str]]:
        """Yield pairs of model ids (later model, earlier model), so that a win is a win of the later model."""
        if evaluation.compare == "all":
            for earlier, later in combinations([model.id for model in self.models], 2):
                yield later, earlier
        else:
            for model in self.models:
                if model.parent:
                    yield model.id, model.parent


def comparison_id(first: str, second: str, prompt_id: str) -> str:
    """Return the id of one order of one comparison: the models of the first and the second answer, and the prompt."""
    return f"{first}|{second}|{prompt_id}"
