"""A complete run of AlpacaEval: a model's answers, the annotator's verdicts on them, and the annotations.

The verdicts are made by the stage ``evaluate``, so they are in the ledger and count towards the budget. All files are
durable in one folder. Calling it again with the same folder continues.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from tutelage.alpaca_eval.library import Annotator, model_stands_first
from tutelage.context import Context
from tutelage.errors import InputError
from tutelage.plugins import stages
from tutelage.plugins.registry import Registry
from tutelage.records import Candidate, Comparison, Model, Outcome, Prompt, Sampling, Verdict, content_id
from tutelage.results.alpaca_eval_files import Output, write_list
from tutelage.runs.durable import DurableStage, Unit, finish_file

OUTPUTS = "model_outputs.json"
ANNOTATIONS = "annotations.json"
_SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=1)
"""Sampling parameters of the annotator. The probabilities of its one token do not depend on the sampled token."""
_DRAW = 1.5


@frozen
class Pair:
    """One instruction with both answers, and their comparison."""

    baseline: Output
    output: Output
    model_first: bool
    comparison: Comparison

    @property
    def is_same(self) -> bool:
        """Whether the answers are equal. They are a draw, for which the evaluator is not called."""
        return self.baseline.output == self.output.output


def answer(
    model: DurableStage, name: str, reference: Sequence[Output], sampling: Sampling, folder: Path
) -> list[Output]:
    """Let a model answer the benchmark's instructions, and write ``model_outputs.json``.

    ``name`` is the name of the generator. A failed answer is left out, and requested again by the next call. A refused
    answer is an empty text.
    """
    prompts = {Prompt(row.instruction).id: row for row in reference}
    units = [Unit(Prompt(row.instruction), (f"{id}/0",)) for id, row in prompts.items()]

    path = folder / f"candidates-{_fingerprint(model.model, sampling)}.jsonl"
    seed = (sampling.seed, "alpaca-eval")
    found = finish_file(path, Candidate, units, model, stages.generate_candidates, sampling, seed, n=1)
    texts = {candidate.prompt_id: candidate.text for candidate in found if candidate.outcome is not Outcome.FAILED}
    outputs = [Output(row.instruction, texts[id], name, row.dataset) for id, row in prompts.items() if id in texts]
    write_list(folder / OUTPUTS, [_output_row(output) for output in outputs])
    return outputs


def check_evaluator(registry: Registry, evaluator: Model, annotator: Annotator) -> None:
    """Raise ``PluginError`` or ``InputError`` if the evaluator cannot be called, before anything is generated."""
    stages.evaluate(registry, evaluator, (), annotator.rubric, _SAMPLING, Context())


def annotate(
    evaluator: DurableStage,
    annotator: Annotator,
    outputs: Sequence[Output],
    reference: Sequence[Output],
    folder: Path,
) -> list[Mapping[str, Any]]:
    """Let the evaluator compare both answers to each instruction; write and return the annotations.

    Each pair is compared in one order, which is seeded by the instruction. The annotations have the library's format
    and the order of ``reference``. Raises ``InputError`` if ``outputs`` and ``reference`` have no instruction in
    common, and the errors of the stage.
    """
    pairs = _pairs(outputs, reference, f"{annotator.name} {_fingerprint(evaluator.model, annotator.rubric)}")
    units = [Unit(pair.comparison, (pair.comparison.id,)) for pair in pairs if not pair.is_same]

    path, rubric = folder / "verdicts.jsonl", annotator.rubric
    found = finish_file(path, Verdict, units, evaluator, stages.evaluate, _SAMPLING, None, rubric=rubric)
    verdicts = {verdict.comparison_id: verdict for verdict in found}
    name = _annotator_name(annotator, evaluator.model)
    rows = [_annotation(pair, verdicts.get(pair.comparison.id), name) for pair in pairs]
    write_list(folder / ANNOTATIONS, rows)
    return rows


def _pairs(outputs: Sequence[Output], reference: Sequence[Output], asked: str) -> list[Pair]:
    by_instruction = {output.instruction: output for output in outputs}
    is_model_first = model_stands_first()
    pairs = []
    for baseline in reference:
        if output := by_instruction.get(baseline.instruction):
            model_first = is_model_first(baseline.instruction)
            texts = (output.output, baseline.output) if model_first else (baseline.output, output.output)
            id = content_id(asked, baseline.instruction, *texts)
            pairs.append(Pair(baseline, output, model_first, Comparison(id, baseline.instruction, *texts)))
    if not pairs:
        raise InputError(
            "none of the outputs answers an instruction of the reference; check that both are of the same benchmark"
        )
    return pairs


def _annotation(pair: Pair, verdict: Verdict | None, annotator: str) -> Mapping[str, Any]:
    return {
        "instruction": pair.baseline.instruction,
        "output_1": pair.baseline.output,
        "generator_1": pair.baseline.generator,
        "dataset": pair.baseline.dataset,
        "output_2": pair.output.output,
        "generator_2": pair.output.generator,
        "annotator": annotator,
        "preference": _DRAW if pair.is_same else _preference(pair, verdict),
        "raw_completion": _raw_completion(verdict),
    }


def _preference(pair: Pair, verdict: Verdict | None) -> float | None:
    """Return a number from 1 (the baseline's answer is better) to 2 (the model's is); None if there is no verdict."""
    if verdict is None or verdict.preference is None:
        return None
    return 1 + verdict.preference if pair.model_first else 2 - verdict.preference


def _raw_completion(verdict: Verdict | None) -> Mapping[str, Any] | None:
    """Return the reply in the format in which the library stores and parses replies."""
    if verdict is None or verdict.preference is None or not verdict.raw.startswith("{"):
        return None
    reply = json.loads(verdict.raw)
    top = [{"token": token, "logprob": log_probability} for token, log_probability in reply["alternatives"]]
    return {
        "finish_reason": "length",
        "index": 0,
        "logprobs": {"content": [{"token": reply["text"], "top_logprobs": top}]},
        "message": {"content": reply["text"], "role": "assistant"},
        "text": reply["text"],
    }


def _annotator_name(annotator: Annotator, evaluator: Model) -> str:
    """Return the name of the annotator.

    It is the library's name if the evaluator is the annotator's own model at its own service. Otherwise the plugin and
    the model of the evaluator are appended.
    """
    called = (evaluator.plugin, evaluator.name)
    if called == (annotator.provider, annotator.model) and "base_url" not in evaluator.settings:
        return annotator.name
    return f"{annotator.name} by {evaluator.plugin}:{evaluator.name}".rstrip(":")


def _fingerprint(model: Model, *others: object) -> str:
    """Return an id of the model, its settings and ``others``, so that results of other models are not reused."""
    settings = json.dumps({key: value for key, value in model.settings.items() if key != "limits"}, sort_keys=True)
    return content_id(model.plugin, model.name, settings, *map(repr, others))


def _output_row(output: Output) -> dict[str, str]:
    return {
        "dataset": output.dataset,
        "instruction": output.instruction,
        "output": output.output,
        "generator": output.generator,
    }
