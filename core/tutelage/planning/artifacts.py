"""The paths of all files and folders in a run. No other module spells them.

Paths are relative to the run's folder and use ``/``.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from attrs import frozen

from tutelage.records import Scores

RECIPE = "recipe.yaml"
"""The resolved recipe. A folder that contains it is a run."""
DESCRIPTION = "run.json"
"""Versions of tutelage, its plugins and libraries."""
SUMMARY = "summary.json"
STEP_LOG = "steps.jsonl"
"""One row per finished step: seconds, counts, cost."""
MADE = "made"
"""Folder with one record per artifact: what the artifact was made from."""
PIPELINES = "pipelines.json"
"""The declarations of the pipelines and controls that plugins offer, for readers without these plugins."""
MEASURES = "measures.json"
"""What readers need to know of the measures that plugins offer, for readers without these plugins."""
VARIANTS = "variants"
"""Folder with the runs of the recipe's variants."""
REPLACED = ".replaced"
"""Folder with the artifacts that a changed recipe does not use, by fingerprint."""
REPORT = "report.html"
"""The page about the finished run. It is no artifact: no step makes it, and it contains times."""
TRACKING = "tracking"
"""Folder for the files of experiment trackers (``report_to``). They are no artifacts."""
TRACEBACK = "traceback.txt"
"""The traceback of the plugin's error with which the last process ended. It is no artifact, and contains no key."""
LOCK = ".lock"
SCRATCH = ".scratch"
"""Folder for the temporary files of unfinished steps."""


@frozen
class ModelArtifacts:
    """The artifacts of one model of one seed."""

    folder: str
    """Folder of the model, for example ``seed-0/self-reward/M2``."""
    evaluation: str
    """Folder of the evaluator's judgements of the model, for example ``evaluation/seed-0/M2/self-reward``."""

    def has(self, path: str) -> bool:
        """Return whether a path is that of one of these artifacts."""
        return path.startswith((f"{self.folder}/", f"{self.evaluation}/"))

    def named(self, name: str) -> str:
        """Return the artifact that a step of the model's pipeline calls ``name``."""
        return f"{self.folder}/{name}.jsonl"

    @property
    def checkpoint(self) -> str:
        """The folder of the model's weights."""
        return f"{self.folder}/checkpoint"

    @property
    def examples(self) -> str:
        """The supervised examples that the model is trained on (SFT)."""
        return f"{self.folder}/examples.jsonl"

    @property
    def preferences(self) -> str:
        """The preference pairs of the model's own round (DPO)."""
        return f"{self.folder}/preferences.jsonl"

    @property
    def preferences_of_all_rounds(self) -> str:
        """The pairs of the model's round and of all earlier rounds, if the recipe trains on all of them."""
        return f"{self.folder}/preferences-of-all-rounds.jsonl"

    @property
    def joined_preferences(self) -> str:
        """The pairs of its rounds together with those of the user, if the recipe joins them."""
        return f"{self.folder}/preferences-joined.jsonl"

    @property
    def prompts(self) -> str:
        """The fresh prompts that the model answers for the next round."""
        return f"{self.folder}/samples/prompts.jsonl"

    @property
    def candidates(self) -> str:
        """The model's answers to ``prompts``."""
        return f"{self.folder}/samples/candidates.jsonl"

    def held_out(self, decoding: str) -> str:
        """Return the model's answers to the held-out prompts; ``decoding`` is ``greedy`` or ``sampled``."""
        return f"{self.folder}/samples/held-out-{decoding}.jsonl"

    def own_judgements(self, answers: str, scores: Scores = "parsed") -> str:
        """Return the model's judgements of its sampled answers (``own``), or of the mixed set (``mixed``)."""
        suffix = "" if scores == "parsed" else f"-{scores}"
        return f"{self.folder}/samples/judgements-{answers}{suffix}.jsonl"

    def gold(self, decoding: str) -> str:
        """Return the evaluator's judgements of the model's answers; ``decoding`` as in ``held_out``."""
        return f"{self.evaluation}/gold-{decoding}.jsonl"

    def measured(self, name: str) -> str:
        """Return the values of a measure; ``name`` is its name in the recipe."""
        return f"{self.evaluation}/measured-{name}.jsonl"


@frozen
class EvaluationArtifacts:
    """The artifacts that all models of one seed share in the evaluation."""

    seed: int

    @property
    def folder(self) -> str:
        """The folder of the other artifacts."""
        return f"evaluation/seed-{self.seed}"

    @property
    def prompts(self) -> str:
        """The held-out prompts."""
        return f"{self.folder}/prompts.jsonl"

    @property
    def mixed(self) -> str:
        """One set of answers from all models, judged by each model."""
        return f"{self.folder}/mixed.jsonl"

    @property
    def verdicts(self) -> str:
        """The verdicts of the head-to-head comparisons."""
        return f"{self.folder}/verdicts.jsonl"


def seed_folder(seed: int) -> str:
    """Return the folder of all models of one seed."""
    return f"seed-{seed}"


def own_preferences(seed: int) -> str:
    """Path of the user's pairs of one seed, if they only join the pairs of pipelines."""
    return f"{seed_folder(seed)}/own-preferences.jsonl"


def model_artifacts(seed: int, id: str, pipeline: str | None, iteration: int) -> ModelArtifacts:
    """Return the artifacts of one model. ``pipeline`` is None for M0 and M1, which all pipelines share."""
    parts = (seed_folder(seed), *((pipeline,) if pipeline else ()), f"M{iteration}")
    return ModelArtifacts("/".join(parts), f"{EvaluationArtifacts(seed).folder}/{id}")


def metrics_beside(checkpoint: str) -> str:
    """Return the path of the training metrics of a checkpoint."""
    return str(PurePosixPath(checkpoint).with_name("metrics.jsonl"))


def dropped_beside(artifact: str) -> str:
    """Return the path of the list of texts that were dropped while an artifact was made, with the reasons."""
    path = PurePosixPath(artifact)
    return str(path.with_name(f"{path.stem}-dropped.jsonl"))


def table(name: str) -> str:
    """Return the path of a CSV table of results: ``models``, ``differences``, ``agreement`` or ``comparisons``."""
    return f"evaluation/{name}.csv"


TABLES = ("models", "differences", "agreement", "comparisons", "variants")
"""The names of the CSV tables of results."""


def record_of(artifact: str) -> str:
    """Return the path of the record of an artifact."""
    return f"{MADE}/{PurePosixPath(artifact).with_suffix('.json')}"


def beside(artifact: str) -> tuple[str, ...]:
    """Return the paths of the files that belong to an artifact. They do not all exist for every artifact."""
    if artifact == SUMMARY:
        return tuple(table(name) for name in TABLES)
    if PurePosixPath(artifact).name == "checkpoint":
        return (metrics_beside(artifact),)
    return (dropped_beside(artifact),)
