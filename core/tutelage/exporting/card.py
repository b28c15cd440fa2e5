"""The model card of an exported model: lineage, data, training, results, recipe and versions of its run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath, PureWindowsPath
from typing import Any, Literal

import yaml
from attrs import frozen

from tutelage.evaluation.health import FirstLast, TrainingHealth, training_health
from tutelage.exporting.lineage import data_steps, trainings
from tutelage.exporting.model_card import (
    CARD,
    adapter_paragraph,
    card,
    code,
    fenced,
    inherited_metadata,
    method_of,
    objective_table,
    plain,
    standard_metadata,
    table,
)
from tutelage.exporting.results import ModelResults
from tutelage.files.jsonl import read_json, read_rows
from tutelage.objectives import Dpo
from tutelage.planning.artifacts import DESCRIPTION, metrics_beside
from tutelage.planning.steps import PlannedModel, Train
from tutelage.recipe.loading import to_values
from tutelage.recipe.schema import Recipe
from tutelage.results.summary import read_summary
from tutelage.results.wording import counts_words, title
from tutelage.runs.run import RunModels

_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
"""User name and password in a web address."""


@frozen
class Published:
    """The properties of an export that its card names."""

    name: str
    """Name by which the model is loaded: OWNER/NAME, or the name of its folder."""
    license: str | None = None
    """Licence identifier of the hub. None: the licence of the start model, if it is known."""
    changed: str = ""
    """The conversion of the weights, such as "in bfloat16"; empty for a plain copy."""
    format: Literal["transformers", "gguf"] = "transformers"
    """Format of the files; see ``Conversion``."""


def whole_card(models: RunModels, planned: PlannedModel, published: Published) -> str:
    """Make the card of a trained model of a run. Raises ``InputError`` if an artifact of the run is damaged."""
    return card(_metadata(models, planned, published), _Sections(models, planned, published).all())


def publishable(value: Any) -> Any:
    """Return plain values without local information.

    An absolute path is reduced to its last part. User names and passwords are removed from web addresses.
    """
    if isinstance(value, Mapping):
        return {key: publishable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [publishable(inner) for inner in value]
    return publishable_text(value) if isinstance(value, str) else value


def publishable_text(text: str) -> str:
    """Return a text without local information, as ``publishable`` does."""
    path: PurePath = PurePath(text) if text.startswith(("/", "~")) else PureWindowsPath(text)
    if path.is_absolute() or text.startswith("~"):
        return path.name
    return _USERINFO.sub("", text)


def _metadata(models: RunModels, planned: PlannedModel, published: Published) -> dict[str, Any]:
    inherited = inherited_metadata(models.store.path(planned.worker.checkpoint) / CARD)
    if published.license:
        inherited = {"base_model": inherited.get("base_model"), "license": published.license}
    relation = {"base_model_relation": "finetune"} if inherited.get("base_model") else {}
    tags = [planned.pipeline] if planned.pipeline else []
    method = method_of(trainings(models.run.plan, planned.seed, planned.id)[-1].objective).lower()
    known = {key: value for key, value in inherited.items() if value}
    if not _is_of_transformers(models, planned):
        return {"pipeline_tag": "text-generation", "tags": ["tutelage", method, *tags], **known, **relation}
    return {**standard_metadata(method, *tags), **known, **relation}


def _is_of_transformers(models: RunModels, planned: PlannedModel) -> bool:
    """Whether the checkpoint is a folder that transformers can load. Students of other plugins may have other files."""
    return models.store.path(f"{planned.worker.checkpoint}/config.json").is_file()


@frozen
class _Sections:
    """The paragraphs of a card."""

    models: RunModels
    planned: PlannedModel
    published: Published

    @property
    def recipe(self) -> Recipe:
        return self.models.recipe

    @property
    def line(self) -> list[Train]:
        return trainings(self.models.run.plan, self.planned.seed, self.planned.id)

    @property
    def is_of_transformers(self) -> bool:
        return _is_of_transformers(self.models, self.planned)

    def all(self) -> Iterator[str]:
        yield f"# {plain(self.recipe.name)}: {plain(self.planned.id)}"
        yield self.introduction()
        yield from self.use()
        yield "## Lineage"
        yield self.lineage()
        has_adapter = self.models.store.path(f"{self.planned.worker.checkpoint}/adapter").is_dir()
        if has_adapter and self.published.format == "transformers":
            yield adapter_paragraph(self.name_of(self.line[-1].start.id))
        yield "## Training data"
        yield self.data()
        yield "## Last training"
        yield objective_table(self.line[-1].objective)
        yield self.health()
        yield "## Results"
        yield from self.results()
        yield "## Recipe"
        recipe = yaml.safe_dump(publishable(to_values(self.recipe)), sort_keys=False, allow_unicode=True)
        yield f"<details>\n<summary>recipe.yaml, every key resolved</summary>\n\n{fenced(recipe, 'yaml')}\n\n</details>"
        yield "## Versions"
        yield self.versions()

    def introduction(self) -> str:
        pipeline = self.planned.pipeline
        how = "supervised fine-tuning on seed data"
        if pipeline:
            how = f"{code(pipeline)} ({self.models.run.declared.of(pipeline).help})"
        changed = ""
        if self.published.changed:
            changed = (
                f" The weights are {self.published.changed}; the results below were measured before the conversion."
            )
        kind = "A causal language model" if self.is_of_transformers else "A model"
        return (
            f"{kind}, aligned by {how} with tutelage: {code(self.planned.id)} of the run "
            f"{code(self.recipe.name)}, seed {self.planned.seed}.{changed}"
        )

    def use(self) -> Iterator[str]:
        name, tokens = self.published.name, self.recipe.generation.max_new_tokens
        yield "## Use"
        if self.published.format == "gguf":
            yield fenced("ollama create my-model -f Modelfile\nollama run my-model", "sh")
            yield (
                "`model.gguf` has the tokenizer and the chat template that was used for training, sampling and "
                "judging; `llama-cli -m model.gguf --jinja` reads them. The `Modelfile` has the template, the stop "
                "tokens and the sampling parameters of the training candidates for Ollama. For the greedy results "
                "below, set the temperature to 0."
            )
            return
        if not self.is_of_transformers:
            student = self.recipe.models.student
            reader = (student.generator or student).plugin
            yield fenced(f"tutelage chat {reader}:{name} 'Why is the sky blue?'", "sh")
            yield f"The plugin {code(reader)} of tutelage reads the folder {code(name)}. It must be installed."
            return
        yield fenced(
            f"from transformers import pipeline\n\nchat = pipeline('text-generation', {name!r})\n"
            f"question = [{{'role': 'user', 'content': 'Why is the sky blue?'}}]\n"
            f"print(chat(question, max_new_tokens={tokens})[0]['generated_text'][-1]['content'])",
            "python",
        )
        sampling = self.recipe.generation
        more = (f", top-k {sampling.top_k}" if sampling.top_k else "") + (
            f", min-p {sampling.min_p:g}" if sampling.min_p else ""
        )
        yield (
            "The tokenizer has the chat template that was used for training, sampling and judging. By default, answers "
            f"are sampled with the parameters of the training candidates (temperature {sampling.temperature:g}, top-p "
            f"{sampling.top_p:g}{more}), which are set in `generation_config.json`. For the greedy results below, set "
            "`do_sample=False` (temperature 0)."
        )

    def lineage(self) -> str:
        finished = self.models.store.finished_steps()
        rows = [("M0", self.name_of("M0"), "the base model", "", "")]
        for step in self.line:
            reference = f", reference {step.reference.id}" if step.reference else ""
            done, examples = finished.get(step.output), self.models.store.path(step.examples)
            count = f"{sum(1 for _ in read_rows(examples)):,} {'pairs' if _is_dpo(step) else 'examples'}"
            steps = f"{done.counts.get('steps', 0):,}" if done else "?"
            rows.append((step.model, step.start.id, f"{method_of(step.objective)}{reference}", count, steps))
        return table(("model", "from", "by", "on", "steps"), rows)

    def name_of(self, id: str) -> str:
        """The name of a model in the card: for M0, that of the base model."""
        if id != "M0":
            return id
        student = self.recipe.models.student
        return publishable_text(student.model) or f"the default model of {student.plugin}"

    def data(self) -> str:
        finished = self.models.store.finished_steps()
        rows = [
            (title(step), counts_words(step, finished[step.output].counts), step.output)
            for step in data_steps(self.models.run.plan, self.line)
            if step.output in finished
        ]
        return table(("step", "result", "artifact of the run"), rows)

    def health(self) -> str:
        last = self.line[-1]
        metrics = self.models.store.path(metrics_beside(last.output))
        if not metrics.exists():
            return ""
        beta = last.objective.beta if isinstance(last.objective, Dpo) else None
        rows = list(_health_rows(training_health((row for _, row in read_rows(metrics)), beta)))
        return table(("mean over the steps", "first tenth", "last tenth"), rows) if rows else ""

    def results(self) -> Iterator[str]:
        summary = self.models.run.summary
        if self.recipe.evaluation is None:
            yield "Nothing was measured: the recipe has no evaluation."
        elif not summary.exists():
            yield "Nothing has been measured yet: the run was not finished when this card was written."
        else:
            yield from ModelResults(read_summary(summary), self.planned.id, self.planned.seed).paragraphs(self.recipe)

    def versions(self) -> str:
        path = self.models.store.path(DESCRIPTION)
        found = read_json(path) if path.exists() else {}
        rows = [("tutelage", found.get("tutelage")), ("Python", found.get("python"))]
        if self.is_of_transformers:  # they are the libraries of such a student
            rows += [*found.get("libraries", {}).items()]
        used = _names_in(to_values(self.recipe))
        rows += [
            (f"plugin {name}", version)
            for name, version in found.get("plugins", {}).items()
            if self.is_of_transformers or name in used
        ]
        return table(("what", "version"), [(name, f"{version or '?'}") for name, version in rows])


def _names_in(value: Any) -> set[str]:
    """Return the texts of a recipe up to a slash, keys included: among them are the plugins that it uses."""
    if isinstance(value, Mapping):
        return {name for pair in value.items() for one in pair for name in _names_in(one)}
    if isinstance(value, list | tuple):
        return {name for one in value for name in _names_in(one)}
    return {value.partition("/")[0]} if isinstance(value, str) else set()


def _is_dpo(step: Train) -> bool:
    return isinstance(step.objective, Dpo)


def _health_rows(health: TrainingHealth) -> Iterator[tuple[str, str, str]]:
    shown: dict[str, FirstLast] = {
        "loss": health.loss,
        "chosen answers' log-probability, change in nats": health.chosen_change,
        "rejected answers' log-probability, change in nats": health.rejected_change,
        "pairs whose chosen answer gained more": health.accuracy,
    }
    for name, ends in shown.items():
        if ends.first is not None and ends.last is not None:
            yield name, f"{ends.first:.3f}", f"{ends.last:.3f}"
