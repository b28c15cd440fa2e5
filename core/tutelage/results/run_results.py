"""What the stand-alone measures take from a run: its contests, its models' answers, scores and own judging."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from attrs import evolve, frozen

from tutelage.errors import InputError, nearest
from tutelage.evaluation.calibration import JudgedItem
from tutelage.evaluation.contests import Contest
from tutelage.evaluation.head_to_head import HeadToHead, head_to_head
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
_TOP = 5.0


@frozen
class RunResults:
    """The measured artifacts of one run, over all its seeds."""

    name: str
    """The folder's name: says which run a model is of, where there are several."""
    reader: Reader

    @classmethod
    def open(cls, root: Path) -> RunResults:
        """Read a run. Raises ``InputError`` where there is none, or it has no evaluation."""
        run = Run.open(root)
        if run.recipe.evaluation is None:
            raise InputError(f"{root}: its recipe has no evaluation, so nothing of it was measured")
        return cls(root.resolve().name, Reader(run))

    @property
    def run(self) -> Run:
        """The run that is read."""
        return self.reader.run

    def models(self) -> list[str]:
        """Ids of all models."""
        return [model.id for model in self.run.plan.models_of(self.run.recipe.seeds[0])]

    def contests(self) -> tuple[list[Contest], list[Verdict]]:
        """What was compared under every seed, and the stored verdicts."""
        return self.reader.asked(None)

    def answers(self, model: str) -> Answers:
        """A model's greedy answers to the held-out prompts, under every seed. Raises ``InputError`` for no model."""
        self._check(model)
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
        """A metric of each of a model's greedy answers. Raises ``InputError`` for no such model."""
        self._check(model)
        values = [(one, _measured_value(one, metric)) for one in self.reader.answers(model, "greedy", None)]
        found = tuple(Observation(one.prompt_id, value, one.seed) for one, value in values if value is not None)
        return ObservedModel(model, found, len(values) - len(found))

    def agreement(self) -> list[AgreementResult]:
        """How well each model's own judging agrees with the gold, over all seeds."""
        seeds = self.run.recipe.seeds
        return [evolve(result, seed=None) for result in self.reader.agreement(seeds[0] if len(seeds) == 1 else None)]

    def judged(self, model: str) -> list[JudgedItem]:
        """A model's judging of its own sampled answers, with the gold. Empty where the run measured none."""
        self._check(model)
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

    def _check(self, model: str) -> None:
        if model not in self.models():
            raise InputError(f"{self.run.store.root}: no model {model!r}{nearest(model, self.models())}")

    def _files(self, model: str, seed: int) -> ModelArtifacts:
        return self.run.plan.model(seed, model).files

    def _read(self, path: str, cls: type[T]) -> list[T]:
        return self.run.store.read(path, cls)


def head_to_head_of_runs(runs: Sequence[RunResults]) -> HeadToHead:
    """All stored comparisons of one run, or of several, whose models are then named after their run's folder.

    Raises ``InputError`` where two runs have folders of one name.
    """
    if len(runs) == 1:
        return head_to_head(*runs[0].contests(), runs[0].reader.order())
    if len({run.name for run in runs}) < len(runs):
        raise InputError(f"two of the runs have folders of one name: {', '.join(run.name for run in runs)}")
    contests: list[Contest] = []
    verdicts: list[Verdict] = []
    for run in runs:
        asked, said = run.contests()
        contests += (_of_run(contest, run.name) for contest in asked)
        verdicts += (evolve(one, comparison_id=f"{run.name}|{one.comparison_id}") for one in said)
    return head_to_head(contests, verdicts)


def _of_run(contest: Contest, run: str) -> Contest:
    id, first, second = f"{run}|{contest.comparison_id}", f"{run}:{contest.first}", f"{run}:{contest.second}"
    return evolve(contest, comparison_id=id, first=first, second=second)


def _measured_value(answer: GradedAnswer, metric: str) -> float | None:
    if metric == "answer_words":
        return answer.words
    if answer.gold is None:
        return None
    return answer.gold if metric == "gold_score" else float(answer.gold == _TOP)
