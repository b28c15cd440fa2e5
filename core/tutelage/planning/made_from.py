"""The fingerprint of each step: exactly what its result depends on, and nothing else.

A result depends on the settings of its step, the model that the step uses, the content of the files that it reads, and
the artifacts that it reads. Of the settings of a plugin, those count that differ from their defaults and that the
plugin does not list as neutral. Artifacts that are made from the recipe's sources alone are compared by their content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import evolve, field, frozen

from tutelage.files.digests import file_digest, folder_digest, rows_digest, value_digest
from tutelage.files.jsonl import converter
from tutelage.objectives import Dpo
from tutelage.planning.judge_steps import CompareCandidates
from tutelage.planning.roles import binding, bound_model, endpoint_of, role_key
from tutelage.planning.source_rows import FROM_SOURCES, rows_of
from tutelage.planning.sources import Sources
from tutelage.planning.steps import (
    BuildExamples,
    Compare,
    Demonstrate,
    Judge,
    MakePairs,
    Plan,
    Sample,
    SelectExamples,
    Step,
    Summarise,
    Train,
    Transform,
    Worker,
    WritePrompts,
)
from tutelage.plugins.helpers import wrapper_settings
from tutelage.plugins.registry import Registry
from tutelage.preferences.pairing import unused_options
from tutelage.recipe.schema import Recipe
from tutelage.records import ADDED_KEY, Prompt

_NOT_VALUES = {"count", "unit", "worker", "start", "reference", "objective", "examples", "source"}
"""Attributes of steps that do not change results, that are inputs, or that are resolved below."""
_HOOKS: Mapping[type[Step], str] = {
    Train: "train_step",
    Sample: "generate_candidates",
    WritePrompts: "generate_candidates",
    Judge: "judge",
    Demonstrate: "demonstrate",
    Compare: "evaluate",
    CompareCandidates: "evaluate",
}
"""The hook that does a step."""
_NEUTRAL_OBJECTIVE = {"micro_batch_size", "seed"}
"""``seed`` is the seed of the step, which counts as such."""
_OF_EXPECTED_SCORES = "score_prefix"
"""The attribute of a rubric that expected scores alone depend on."""


@frozen
class MadeFrom:
    """What the result of one step depends on."""

    values: Mapping[str, Any]
    """Settings of the step and of its model, by name."""
    inputs: Mapping[str, str] = field(factory=dict)
    """The identity of each artifact that the step reads, by path."""
    sources: Mapping[str, Any] = field(factory=dict)
    """For a step that reads the recipe's sources: the sources and how they are read. They explain the result, but its
    content, which is one of ``values``, decides."""

    @property
    def fingerprint(self) -> str:
        """The digest of everything that the result depends on."""
        return value_digest([dict(self.values), dict(self.inputs)])

    @property
    def identity(self) -> str:
        """What the steps that read the artifact depend on: its content if it is known, otherwise the fingerprint."""
        content = self.values.get("content")
        return str(content) if content else self.fingerprint


Known = Callable[[str], MadeFrom | None]
"""Returns what an artifact in place was made from, by its path; None if there is none."""


def _as_made(artifact: str, made_from: MadeFrom) -> MadeFrom:
    return made_from


def made_from(
    plan: Plan,
    sources: Sources,
    known: Known,
    summaries: Mapping[str, str] | None = None,
    found_in_place: Callable[[str, MadeFrom], MadeFrom] = _as_made,
) -> dict[str, MadeFrom]:
    """Return what every step of the plan of ``sources.recipe`` depends on, by the path of its artifact.

    ``known`` saves reading sources again: if an artifact in place was made from the same unchanged sources, its content
    is taken from its record. ``summaries`` are the fingerprints of the summaries of the recipe's variants, by path: the
    summary of the recipe compares them. ``found_in_place`` may return another origin of an artifact, on which the later
    steps then depend. Raises InputError if a source or a model on this machine cannot be read.
    """
    maker = _Maker(sources, known)
    found: dict[str, MadeFrom] = {}
    for step in plan.steps:
        inputs = {path: found[path].identity for path in step.inputs}
        if isinstance(step, Summarise):
            inputs = {path: made.fingerprint for path, made in found.items()} | dict(summaries or {})
        found[step.output] = found_in_place(step.output, maker.make(step, inputs))
    return found


@frozen
class _Maker:
    sources: Sources
    known: Known
    _weights: dict[Path, str] = field(factory=dict, init=False)
    """Digests of folders and files of weights, by path."""

    @property
    def recipe(self) -> Recipe:
        return self.sources.recipe

    @property
    def registry(self) -> Registry:
        return self.sources.registry

    def make(self, step: Step, inputs: Mapping[str, str]) -> MadeFrom:
        if isinstance(step, FROM_SOURCES):
            return self._from_sources(step)
        return MadeFrom(dict(self._values(step)), inputs)

    def _from_sources(self, step: Step) -> MadeFrom:
        sources = dict(self._read_by(step))
        before = self.known(step.output)
        if before is not None and before.sources == sources:
            return before
        found = rows_of(step, self.sources)
        whole, content = rows_digest(found.rows), rows_digest(map(_without_path, found.rows))
        values = {**_names(step), "content": content, **({"rows": whole} if whole != content else {})}
        if found.dropped is not None:
            values["dropped"] = rows_digest(found.dropped)
        return MadeFrom(values, {}, sources)

    def _read_by(self, step: Step) -> Iterator[tuple[str, Any]]:
        yield from _names(step).items()
        data = self.recipe.data
        if isinstance(step, BuildExamples):
            for key, source in (("data.ift", data.ift), ("data.eft", data.eft)):
                if source is not None:
                    yield from self._source(key, source.source)
                    yield f"{key}.count", source.count
            yield "rubric", self._rubric(self.recipe.judging.rubric)
        elif isinstance(step, SelectExamples):
            yield "count", step.count
            if data.ift is not None:
                yield from self._source("data.ift", data.ift.source)
        else:
            yield from _plain(step, {"output", "count", "unit"})
            yield from self._source("source", str(getattr(step, "source", "")))
            yield "count", step.count
            yield "iterations", self.recipe.iterations
        if getattr(step, "decontaminate", True):
            yield from self._decontamination(self._source)

    def _values(self, step: Step) -> Iterator[tuple[str, Any]]:
        yield from _names(step).items()
        yield from _plain(step, _NOT_VALUES | (unused_options(step.rule) if isinstance(step, MakePairs) else set()))
        if isinstance(step, Train):
            yield "objective", type(step.objective).__name__
            for loss in step.objective.plugin_losses if isinstance(step.objective, Dpo) else ():
                yield from ((f"{loss}.{key}", version) for key, version in self._plugin_version(loss))
            yield from _flat("", _plain_values(step.objective), _NEUTRAL_OBJECTIVE)
            yield "start", step.start.id
            yield "reference", step.reference.id if step.reference else None
            yield from self._model("student", any(not one.checkpoint for one in (step.start, step.reference) if one))
        if isinstance(step, Sample | Demonstrate | Judge | Compare | CompareCandidates | WritePrompts):
            yield from self._worker(step.worker, has_chunks=not isinstance(step, WritePrompts))
        if (hook := _HOOKS.get(type(step))) is not None:
            worker: Worker = getattr(step, "start" if isinstance(step, Train) else "worker")
            yield from self._wrappers(hook, worker.role)
        if isinstance(step, Judge | Compare | CompareCandidates):
            yield "rubric.content", self._rubric(step.rubric)
        if isinstance(step, Judge) and step.score == "expected":
            yield "rubric.score_prefix", self.registry.get("rubrics", step.rubric).score_prefix
        if isinstance(step, MakePairs):
            yield from self._plugin_version(step.rule)
        if isinstance(step, Transform):
            yield from self._plugin_version(step.pipeline)
        if isinstance(step, WritePrompts):
            yield "count", step.count
            yield from _flat("self_instruct", _plain_values(self.recipe.data.self_instruct), set())
            yield from self._content("data.prompts", step.source)
            yield from self._decontamination(self._content)
        if isinstance(step, Summarise):
            yield from self._results()

    def _worker(self, worker: Worker, has_chunks: bool) -> Iterator[tuple[str, Any]]:
        """The model of a worker; ``has_chunks``: whether the recipe sets the size of its chunks."""
        yield "model", worker.id
        yield from self._model(worker.role, not worker.checkpoint)
        bound = binding(self.recipe, worker.role)
        if has_chunks and bound is not None and not self.registry.info(bound.plugin).item_by_item:
            yield "chunk", self.recipe.chunk  # it decides which items share a batch and a seed

    def _wrappers(self, hook: str, role: str) -> Iterator[tuple[str, Any]]:
        """The plugins that wrap a hook of a role, with their settings, without those that change no result."""
        model = bound_model(self.recipe, role, self.registry)
        for name in self.registry.wrappers(hook, model):
            info = self.registry.info(name)
            if not info.result_version:
                continue
            yield f"{hook}.wrapped_by.{name}", info.result_version
            if (settings := wrapper_settings(self.registry, model, name)) is not None:
                changed = _changed(settings, info.neutral_settings)
                yield from _flat(f"{hook}.wrapped_by.{name}.settings", changed, set())

    def _model(self, role: str, as_bound: bool) -> Iterator[tuple[str, Any]]:
        """The plugin of a role and its settings; ``as_bound``: whether it runs the model that the recipe binds."""
        bound = bound_model(self.recipe, role, self.registry)
        info = self.registry.info(bound.plugin)
        yield f"{role}.plugin", self.registry.name_of(bound.plugin)
        if info.result_version != 1:
            yield f"{role}.plugin.result_version", info.result_version
        settings = self.registry.settings(bound.plugin, bound.settings, f"{role_key(role)}.settings")
        if settings is not None:
            yield from _flat(f"{role}.settings", _changed(settings, info.neutral_settings), set())
        if not as_bound:
            return
        endpoint = endpoint_of(self.recipe, role, self.registry)
        if endpoint is not None:
            yield f"{role}.model", endpoint.model
            yield f"{role}.address", endpoint.base_url
        elif bound.name and Path(bound.name).exists():
            yield f"{role}.model.content", self._weights_digest(Path(bound.name))
        else:
            yield f"{role}.model", bound.name

    def _weights_digest(self, path: Path) -> str:
        if path not in self._weights:
            self._weights[path] = folder_digest(path) if path.is_dir() else file_digest(path)
        return self._weights[path]

    def _rubric(self, name: str) -> str:
        plain = converter().unstructure(self.registry.get("rubrics", name))
        return value_digest({key: value for key, value in plain.items() if key != _OF_EXPECTED_SCORES})

    def _decontamination(self, source: Callable[[str, str], Iterator[tuple[str, Any]]]) -> Iterator[tuple[str, Any]]:
        settings, evaluation = self.recipe.data.decontaminate, self.recipe.evaluation
        if settings is None:
            return
        yield from _flat("data.decontaminate", converter().unstructure(settings), {"against"})
        for number, name in enumerate(settings.against):
            yield from source(f"data.decontaminate.against.{number}", name)
        if evaluation is not None:
            yield from source("evaluation.prompts", evaluation.prompts.source)
            yield "evaluation.prompts.count", evaluation.prompts.count

    def _source(self, key: str, name: str) -> Iterator[tuple[str, Any]]:
        """The name of a source, and the content of its file or the version of its plugin."""
        yield key, name
        yield from self._content(key, name)

    def _content(self, key: str, name: str) -> Iterator[tuple[str, Any]]:
        """The content of a source's file, which may have any path, or the name and the version of a plugin's set."""
        if Path(name).is_file():
            yield f"{key}.content", file_digest(Path(name))
        else:
            yield key, name
            yield from ((f"{key}.{what}", value) for what, value in self._plugin_version(name))

    def _plugin_version(self, name: str) -> Iterator[tuple[str, Any]]:
        """The version of the results of the plugin that offers ``PLUGIN/NAME``, if it was ever raised."""
        plugin, slash, _ = name.partition("/")
        if slash and self.registry.name_of(plugin) in self.registry.names():
            version = self.registry.info(plugin).result_version
            if version != 1:
                yield "result_version", version

    def _results(self) -> Iterator[tuple[str, Any]]:
        recipe = self.recipe
        yield "recipe", recipe.name
        yield "seeds", list(recipe.seeds)
        yield "iterations", recipe.iterations
        yield "pipelines", list(recipe.pipelines)
        yield "controls", {name: control.mirrors for name, control in recipe.controls.items()}
        yield from _flat("evaluation", _plain_values(recipe.evaluation), set())
        yield from _flat("judging", _plain_values(recipe.judging), set())  # warnings name its values


def _without_path(row: Any) -> Any:
    """A row without the path of its file, which no later step uses."""
    return evolve(row, source="") if isinstance(row, Prompt) and Path(row.source).is_file() else row


def _names(step: Step) -> dict[str, Any]:
    version = {"version": step.version} if step.version != 1 else {}
    return {"step": type(step).__name__, **version, "output": step.output}


def _plain(step: Step, without: set[str]) -> Iterator[tuple[str, Any]]:
    """The attributes of a step as flat values."""
    for attribute in attrs.fields(type(step)):
        is_default = attribute.metadata.get(ADDED_KEY) and getattr(step, attribute.name) == attribute.default
        if attribute.name not in without and not is_default:
            yield from _flat(attribute.name, _plain_values(getattr(step, attribute.name)), set())


def _plain_values(value: Any) -> Any:
    """Unstructure a value, without the keys that were added later and have their defaults (``records.added_key``)."""
    plain = converter().unstructure(value)
    if not attrs.has(type(value)):
        return plain
    kept = {}
    for attribute in attrs.fields(type(value)):
        own = getattr(value, attribute.name)
        if attribute.name in plain and not (attribute.metadata.get(ADDED_KEY) and own == attribute.default):
            kept[attribute.name] = _plain_values(own) if attrs.has(type(own)) else plain[attribute.name]
    return kept


def _flat(key: str, value: Any, without: set[str]) -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, with dotted names."""
    if not isinstance(value, Mapping):
        yield key, value
        return
    for name, inner in value.items():
        if name not in without:
            yield from _flat(f"{key}.{name}" if key else str(name), inner, set())


def _changed(settings: Any, neutral: tuple[str, ...]) -> dict[str, Any]:
    """The settings that differ from their defaults, without the neutral ones, as plain values."""
    defaults = converter().unstructure(type(settings)()) if _has_defaults(type(settings)) else {}
    values = converter().unstructure(settings)
    return {name: value for name, value in values.items() if name not in neutral and value != defaults.get(name, ...)}


def _has_defaults(cls: type) -> bool:
    return all(attribute.default is not attrs.NOTHING for attribute in attrs.fields(cls) if attribute.init)
