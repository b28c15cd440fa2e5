"""The results of runs for ``tutelage evaluate``: contests, answers, scores and judgements of their models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from attrs import evolve, frozen

from tutelage.errors import InputError, nearest
from tutelage.evaluation.calibration import JudgedItem
from tutelage.evaluation.contests import Contest
from tutelage.evaluation.scores import GradedAnswer
from tutelage.evaluation.significance import Observation
from tutelage.planning.artifacts import ModelArtifacts
from tutelage.preferences.judging import average
from tutelage.records import Candidate, Judgement, Prompt, Verdict
from tutelage.results.score_files import ObservedModel, prompt_of
from tutelage.results.summarise import Reader
from tutelage.results.summary import AgreementResult
from tutelage.results.verdict_files import Answers
from tutelage.runs.run import Run

T = TypeVar("T")

METRICS = ("gold_score", "gold_exact", "answer_words")
"""Metrics of a single answer."""
_HIGHEST = 5.0
"""Highest score of the gold rubric."""


@frozen
class RunResults:
    """The results of one run, over all its seeds."""

    name: str
    """Name of the run's folder. It identifies the run of a model if there are several runs."""
    reader: Reader

    @classmethod
    def open(cls, root: Path) -> RunResults:
        """Open a run. Raises ``InputError`` if the folder holds no run, or if its recipe has no evaluation."""
        run = Run.open(root)
        if run.recipe.evaluation is None:
            raise InputError(f"{root}: the run was not evaluated, because its recipe has no evaluation")
        return cls(root.resolve().name, Reader(run))

    @property
    def run(self) -> Run:
        """The run."""
        return self.reader.run

    def models(self) -> list[str]:
        """Return the ids of all models."""
        return [model.id for model in self.run.plan.models_of(self.run.recipe.seeds[0])]

    def contests(self) -> tuple[list[Contest], list[Verdict]]:
        """Return the contests of all seeds and their stored verdicts."""
        return self.reader.contests(None)

    def answers(self, model: str) -> Answers:
        """Return a model's greedy answers to the held-out prompts, for all seeds.

        Raises ``InputError`` if the run has no such model.
        """
        self.check_model(model)
        prompts: dict[str, str] = {}
        texts = {}
        for seed in self.run.recipe.seeds:
            files = self._files(model, seed)
            prompts |= {
                prompt.id: prompt.text for prompt in self._read(self.run.evaluation_plan(seed).files.prompts, Prompt)
            }
            for answer in self._read(files.held_out("greedy"), Candidate):
                if answer.outcome.has_text:
                    texts[seed, answer.prompt_id] = answer.text
        return Answers(model, prompts, texts)

    def observed(self, model: str, metric: str) -> ObservedModel:
        """Return a metric of each of a model's greedy answers, for all seeds.

        ``metric`` is one of ``METRICS``. Raises ``InputError`` if the run has no such model.
        """
        self.check_model(model)
        values = [(one, measured_value(one, metric)) for one in self.reader.answers(model, "greedy", None)]
        found = tuple(Observation(one.prompt_id, value, one.seed) for one, value in values if value is not None)
        return ObservedModel(model, found, len(values) - len(found))

    def agreement(self) -> list[AgreementResult]:
        """Return the agreement of each model, as a judge, with the gold, over all seeds; with its self-preference."""
        seeds = self.run.recipe.seeds
        found = self.reader.agreement(seeds[0] if len(seeds) == 1 else None, self_preference=True)
        return [evolve(result, seed=None) for result in found]

    def judged(self, model: str) -> list[JudgedItem]:
        """Return a model's judgements of its own sampled answers, with the gold scores, for all seeds.

        Empty if the run has no such judgements. Raises ``InputError`` if the run has no such model.
        """
        self.check_model(model)
        return [item for seed in self.run.recipe.seeds for item in self._judged(model, seed)]

    def _judged(self, model: str, seed: int) -> Iterator[JudgedItem]:
        if not self.run.evaluation_plan(seed).judges_measured:
            return
        files = self._files(model, seed)
        samples: dict[str, dict[int, float | None]] = {}
        for judgement in self._read(files.own_judgements("own"), Judgement):
            samples.setdefault(judgement.item_id, {})[judgement.sample] = judgement.score
        texts = {answer.id: answer.text for answer in self._read(files.held_out("sampled"), Candidate)}
        gold = average(self._read(files.gold("sampled"), Judgement))
        for id, scores in samples.items():
            ordered = tuple(score for _, score in sorted(scores.items()))
            truth = gold[id].score if id in gold else None
            yield JudgedItem(id, prompt_of(id), ordered, len(texts[id].split()), truth, seed)

    def check_model(self, model: str) -> None:
        """Raise ``InputError`` if the run has no such model."""
        if model not in self.models():
            raise InputError(f"{self.run.store.root}: no model {model!r}{nearest(model, self.models())}")

    def _files(self, model: str, seed: int) -> ModelArtifacts:
        return self.run.plan.model(seed, model).files

    def _read(self, path: str, cls: type[T]) -> list[T]:
        return self.run.store.read(path, cls)


def measured_value(answer: GradedAnswer, metric: str) -> float | None:
    """Return a metric of one answer; None if it was not measured. ``metric`` is one of ``METRICS``."""
    if metric == "answer_words":
        return answer.words
    if answer.gold is None:
        return None
    return answer.gold if metric == "gold_score" else float(answer.gold == _HIGHEST)
