"""A plugin that fulfils the contract of its hooks, for the checks of plugins that wrap hooks of other plugins."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from tutelage.context import Context
from tutelage.hookspecs import hookimpl
from tutelage.plugin_info import PluginInfo, TokenCounts
from tutelage.records import Candidate, Comparison, Demonstration, JudgeItem, Judgement, Model, Prompt, Rubric, Verdict


class Reference:
    """Answers in capitals, prefers long answers, and trains by counting the rows."""

    @hookimpl
    def describe(self) -> PluginInfo:
        """Describe the plugin."""
        return PluginInfo("The plugin that the test kit lets a wrapper wrap.")

    @hookimpl
    def generate_candidates(self, prompts: Iterable[Prompt], n: int) -> Iterator[Candidate]:
        """Answer in capitals."""
        for prompt in prompts:
            yield from (Candidate(prompt.id, index, prompt.text.upper()) for index in range(n))

    @hookimpl
    def judge(self, items: Iterable[JudgeItem], rubric: Rubric, samples: int) -> Iterator[Judgement]:
        """Give an answer with text the highest score."""
        for item in items:
            score = rubric.highest if item.answer else rubric.lowest
            yield from (Judgement(item.id, sample, score) for sample in range(samples))

    @hookimpl
    def demonstrate(self, prompts: Iterable[Prompt]) -> Iterator[Demonstration]:
        """Answer in capitals."""
        yield from (Demonstration(prompt.id, prompt.text.upper()) for prompt in prompts)

    @hookimpl
    def evaluate(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        """Prefer the longer answer."""
        for one in comparisons:
            first, second = len(one.first), len(one.second)
            yield Verdict(one.id, 0.5 + 0.5 * ((first > second) - (first < second)))

    @hookimpl
    def train_step(self, model: Model, examples: Path, output: Path, context: Context) -> Model:
        """Count the rows, one per step."""
        rows = examples.read_text(encoding="utf-8").splitlines()
        context.expect(len(rows))
        for step, _ in enumerate(rows, 1):
            context.log({"step": step, "loss": 1 / step})
            context.advance(1)
        (output / "weights.json").write_text(json.dumps({"rows": len(rows)}))
        return evolve(model, name=str(output))

    @hookimpl
    def release(self) -> None:
        """Free nothing: there is no memory of a model."""

    @hookimpl
    def count_tokens(self, rows: Sequence[Mapping[str, Any]]) -> TokenCounts:
        """Count the characters."""
        return TokenCounts(tuple(len(json.dumps(row)) for row in rows), context=2**20)

    @hookimpl
    def devices(self) -> int:
        """Return one device."""
        return 1

    @hookimpl
    def requests_at_once(self) -> int:
        """Answer one request after the other."""
        return 1
