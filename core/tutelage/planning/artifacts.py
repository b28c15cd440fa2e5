"""The names of all files and folders inside a run: the only place that spells them.

Paths are relative to the run's folder and use ``/``.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from attrs import frozen

RECIPE = "recipe.yaml"
"""The resolved recipe. A folder that holds it is a run."""
DESCRIPTION = "run.json"
"""Versions of tutelage, its plugins and libraries."""
SUMMARY = "summary.json"
STEP_LOG = "steps.jsonl"
"""One row per finished step: seconds, counts, cost."""
LOCK = ".lock"
SCRATCH = ".scratch"
"""Temporary files of the steps at work."""


@frozen
class ModelArtifacts:
    """The artifacts of one model of one seed."""

    folder: str
    """``seed-0/self-reward/M2``."""
    evaluation: str
    """``evaluation/seed-0/M2/self-reward``: the measurements of the model by the evaluator."""

    @property
    def checkpoint(self) -> str:
        """The folder of its weights."""
        return f"{self.folder}/checkpoint"

    @property
    def examples(self) -> str:
        """The supervised examples that it is trained on (SFT)."""
        return f"{self.folder}/examples.jsonl"

    @property
    def preferences(self) -> str:
        """The preference pairs of its own round (DPO)."""
        return f"{self.folder}/preferences.jsonl"

    @property
    def preferences_of_all_rounds(self) -> str:
        """The pairs of its round and of all earlier rounds, where the recipe trains on all of them."""
        return f"{self.folder}/preferences-of-all-rounds.jsonl"

    @property
    def judgements(self) -> str:
        """The judgements of the candidates that its pairs are made of."""
        return f"{self.folder}/judgements.jsonl"

    @property
    def demonstrations(self) -> str:
        """The teacher's answers that its pairs are made of."""
        return f"{self.folder}/demonstrations.jsonl"

    @property
    def prompts(self) -> str:
        """The fresh prompts that it answers for the next round."""
        return f"{self.folder}/samples/prompts.jsonl"

    @property
    def candidates(self) -> str:
        """Its answers to these prompts."""
        return f"{self.folder}/samples/candidates.jsonl"

    def held_out(self, decoding: str) -> str:
        """Its answers to the held-out prompts; ``decoding`` is ``greedy`` or ``sampled``."""
        return f"{self.folder}/samples/held-out-{decoding}.jsonl"

    def own_judgements(self, answers: str) -> str:
        """Its own judgements of its ``own`` sampled answers, or of the ``mixed`` set."""
        return f"{self.folder}/samples/judgements-{answers}.jsonl"

    def gold(self, decoding: str) -> str:
        """The evaluator's judgements of its answers to the held-out prompts."""
        return f"{self.evaluation}/gold-{decoding}.jsonl"


@frozen
class EvaluationArtifacts:
    """The artifacts that all models of one seed share in the evaluation."""

    seed: int

    @property
    def folder(self) -> str:
        """The folder of the others."""
        return f"evaluation/seed-{self.seed}"

    @property
    def prompts(self) -> str:
        """The held-out prompts."""
        return f"{self.folder}/prompts.jsonl"

    @property
    def mixed(self) -> str:
        """One set of answers of all models, judged by each of them."""
        return f"{self.folder}/mixed.jsonl"

    @property
    def verdicts(self) -> str:
        """The verdicts of the head-to-head comparisons."""
        return f"{self.folder}/verdicts.jsonl"


def seed_folder(seed: int) -> str:
    """The folder of all models of one seed."""
    return f"seed-{seed}"


def model_artifacts(seed: int, id: str, pipeline: str | None, iteration: int) -> ModelArtifacts:
    """The artifacts of one model. ``pipeline`` is None for M0 and M1, which all pipelines share."""
    parts = (seed_folder(seed), *((pipeline,) if pipeline else ()), f"M{iteration}")
    return ModelArtifacts("/".join(parts), f"{EvaluationArtifacts(seed).folder}/{id}")


def metrics_beside(checkpoint: str) -> str:
    """The training metrics of a checkpoint."""
    return str(PurePosixPath(checkpoint).with_name("metrics.jsonl"))


def dropped_beside(artifact: str) -> str:
    """The list of what was dropped while an artifact was made, with the reasons."""
    path = PurePosixPath(artifact)
    return str(path.with_name(f"{path.stem}-dropped.jsonl"))


def table(name: str) -> str:
    """A table of results as CSV: ``models``, ``differences``, ``agreement`` or ``comparisons``."""
    return f"evaluation/{name}.csv"
