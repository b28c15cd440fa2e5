"""The promises of ``train_step``: what a training writes and reports, and what it returns if it is cancelled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from attrs import evolve

from tutelage.examples import Preference
from tutelage.files.trl_format import preference_row, supervised_row
from tutelage.objectives import OBJECTIVES, ExampleKind, Objective
from tutelage.plugins.stages import train_step
from tutelage.records import Model
from tutelage.testing.subject import Subject, expect


def trains_by_sft(subject: Subject, hook: str) -> None:
    """SFT: writes a checkpoint to its output folder only, logs its steps, and can load the checkpoint"""
    _train_by(subject, {"sft"})


def trains_by_dpo(subject: Subject, hook: str) -> None:
    """DPO: writes a checkpoint to its output folder only, logs its steps, and can load the checkpoint"""
    _train_by(subject, {"dpo"})


def trains_by_others(subject: Subject, hook: str) -> None:
    """each other objective of `PluginInfo.trains`: as by SFT"""
    _train_by(subject, {*subject.info.trains} - OBJECTIVES.keys())


def _train_by(subject: Subject, names: Set[str]) -> None:
    """Train by those of the objectives that the plugin trains."""
    for name in sorted(names & {*subject.info.trains}):
        objective = _objective(subject, name)
        _train(subject, objective, _rows(subject, objective.examples))


def _objective(subject: Subject, name: str) -> Objective:
    objective: Objective = subject.registry.get("objectives", name)(epochs=1, batch_size=2, max_length=512)
    return objective


def _rows(subject: Subject, kind: ExampleKind) -> list[dict[str, Any]]:
    """A row of training data for each prompt."""
    if kind == "preferences":
        return [
            preference_row(Preference(prompt.id, prompt.text, "Blue.", "No.", f"{prompt.id}/0", f"{prompt.id}/1"))
            for prompt in subject.prompts
        ]
    rows = [supervised_row(prompt, "Blue.") for prompt in subject.prompt_texts]
    return [{**row, "label": number % 2 == 0} for number, row in enumerate(rows)] if kind == "labelled" else rows


def returns_no_incomplete_checkpoint(subject: Subject, hook: str) -> None:
    """raises an exception if the user has asked to stop, or returns a checkpoint that it can load"""
    trains = sorted(subject.info.trains, key=lambda name: (name != "sft", name))
    if not trains:
        return
    objective = _objective(subject, trains[0])
    examples, output = subject.folder / "cancelled.jsonl", subject.folder / "cancelled-checkpoint"
    _write(examples, _rows(subject, objective.examples)[:1])
    reference = subject.model if objective.has_reference else None
    context = evolve(subject.context, cancelled=lambda: True)
    try:
        trained = train_step(subject.registry, subject.model, reference, objective, examples, output, context)
    except Exception:  # of any kind: the user has asked to stop
        return
    _load_and_answer(subject, trained)


def _train(subject: Subject, objective: Objective, rows: Sequence[Mapping[str, Any]]) -> None:
    name = type(objective).__name__.lower()
    examples, output = subject.folder / f"{name}.jsonl", subject.folder / f"{name}-checkpoint"
    _write(examples, rows)
    logged: list[Mapping[str, Any]] = []
    totals: list[int] = []
    steps: list[int] = []
    context = evolve(subject.context, log=logged.append, expect=totals.append, advance=steps.append)
    reference = subject.model if objective.has_reference else None
    before = _files_beside(output)
    trained = train_step(subject.registry, subject.model, reference, objective, examples, output, context)
    expect(before == _files_beside(output), "it wrote or changed a file outside its output folder")
    expect(any("step" in row for row in logged), "it logged no row with a step through context.log")
    expect(bool(totals), "it did not report its number of steps with context.expect")
    expect(sum(steps) == totals[-1], f"it reported {sum(steps)} of {totals[-1]} steps with context.advance")
    _load_and_answer(subject, trained)


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _files_beside(output: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in output.parent.iterdir() if path.is_file()}


def _load_and_answer(subject: Subject, trained: Model) -> None:
    """Check that the plugin can load the checkpoint."""
    if "generate_candidates" in subject.registry.hooks(subject.name):
        subject.candidates(subject.prompts[:1], 1, trained)
