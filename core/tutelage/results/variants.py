"""The comparison of a recipe's variants: the last model of each pipeline, ranked by its gold score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import evolve, frozen

from tutelage.evaluation.scores import score_metrics
from tutelage.evaluation.significance import Observation, Separation, compare, holm
from tutelage.recipe.variants import BASE
from tutelage.results.summarise import Reader
from tutelage.results.summary import VariantResult
from tutelage.runs.run import Run


@frozen
class _Measured:
    variant: str
    model: str
    reader: Reader

    def observations(self) -> list[Observation]:
        """The gold scores of the greedy answers, over all seeds."""
        answers = self.reader.answers(self.model, "greedy", None)
        return [Observation(one.prompt_id, one.gold, one.seed) for one in answers if one.gold is not None]

    def result(self) -> VariantResult:
        """The model's metrics, not compared yet."""
        metrics = {
            prefix + name: metric
            for decoding, prefix in (("greedy", ""), ("sampled", "sampled_"))
            if decoding in self.reader.decodings()
            for name, metric in score_metrics(self.reader.answers(self.model, decoding, None)).items()
        }
        return VariantResult(self.variant, self.model, metrics | self.reader.measure_metrics(self.model, None))


def variant_results(base: Run, variants: Mapping[str, Run]) -> tuple[VariantResult, ...]:
    """Return the results of the recipe itself and of its variants, the best one first.

    A model is compared with the model of the same name of the recipe itself, on their common prompts, paired by prompt
    and seed. The p-values are adjusted for the number of comparisons (Holm, 1979). Empty without variants.
    """
    if not variants:
        return ()
    of_base = {one.model: one for one in _measured(BASE, base)}
    others = [one for name, run in variants.items() for one in _measured(name, run)]
    compared = [one for one in others if one.model in of_base]
    separations = [compare(one.observations(), of_base[one.model].observations()) for one in compared]
    adjusted = holm([separation.p_value for separation in separations])
    found = [one.result() for one in (*of_base.values(), *(one for one in others if one.model not in of_base))]
    found += [_with(one, *both) for one, both in zip(compared, zip(separations, adjusted, strict=True), strict=True)]
    return tuple(sorted(found, key=lambda one: (-_gold(one), one.variant, one.model)))


def _with(measured: _Measured, separation: Separation, p_value: float | None) -> VariantResult:
    return evolve(measured.result(), difference=separation.difference, p_value_adjusted=p_value)


def _measured(name: str, run: Run) -> Iterator[_Measured]:
    """The last model of each pipeline and control."""
    reader = Reader(run)
    last = {model.pipeline: model.id for model in run.plan.models_of(run.recipe.seeds[0]) if model.pipeline}
    yield from (_Measured(name, model, reader) for model in last.values())


def _gold(result: VariantResult) -> float:
    value = result.metrics["gold_score"].value
    return float("-inf") if value is None else value
