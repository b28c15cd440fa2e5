"""The contract: what each hook promises, as one small function a promise.

The docstring of a function is the promise as the report words it; an exception is the breach. What the stages check on
every call (types, ids, counts, ranges) is checked here by calling them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tutelage.files.settings import describe_settings
from tutelage.files.trl_format import preference_row, supervised_row
from tutelage.plugin.stages import release, train_step
from tutelage.records import Dpo, Model, Objective, Preference, Prompt, Sft
from tutelage.testing.subject import Subject

HEAVY = (
    "torch", "transformers", "trl", "peft", "datasets", "accelerate", "tensorflow", "jax", "numpy", "scipy", "pandas",
    "sklearn", "openai", "anthropic", "google.generativeai", "google.genai",
)  # fmt: skip
"""Modules that no plugin's entry module may import: they would slow every command of every user down."""

MANY = 500
"""Prompts in the input of the streaming check: far more than any service is asked at once."""

Promise = Callable[[Subject, str], None]
"""Called with the plugin and the hook; raises where the promise is broken."""


class BrokenPromiseError(AssertionError):
    """A promise was checked and does not hold."""


def _expect(condition: bool, problem: str) -> None:
    if not condition:
        raise BrokenPromiseError(problem)


# describe


def _one_line_of_help(subject: Subject, hook: str) -> None:
    """says in one line what the plugin is"""
    help = subject.info.help
    _expect(bool(help.strip()) and "\n" not in help, f"help is {help!r}")


def _documented_settings(subject: Subject, hook: str) -> None:
    """gives every setting a help text"""
    settings = describe_settings(subject.info.settings) if subject.info.settings else []
    silent = [setting.name for setting in settings if not setting.help]
    _expect(not silent, f'without metadata={{"help": ...}}: {", ".join(silent)}')


def _light_entry_module(subject: Subject, hook: str) -> None:
    """costs nothing at start-up: the entry module imports nothing heavy"""
    if subject.module is None:
        return
    program = f"import sys, {subject.module}\nprint(*set({HEAVY!r}).intersection(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    _expect(done.returncode == 0, done.stderr)
    heavy = done.stdout.strip()
    _expect(not heavy, f"importing {subject.module} imports {heavy}: import it inside the hooks")


def _sets_that_keep_their_word(subject: Subject, hook: str) -> None:
    """gives at most the number of items asked for, none twice, the same ones for the same seed"""
    for kind in ("prompt_sets", "example_sets", "rated_sets"):
        for name, offered in getattr(subject.info, kind).items():
            first, again = list(offered.load(5, 1)), list(offered.load(5, 1))
            _expect(first == again, f"{kind}[{name!r}] differs between two calls with the same seed")
            _expect(len(first) <= 5, f"{kind}[{name!r}] gave {len(first)} items when asked for 5")
            _expect(all(item not in first[:place] for place, item in enumerate(first)), f"{kind}[{name!r}] repeats")


# The stages that stream


def _ask(subject: Subject, hook: str, *, empty: bool = False) -> Sequence[Any]:
    """Everything that a stage gives for its small inputs, or for none."""
    match hook:
        case "generate_candidates":
            return subject.candidates([] if empty else subject.prompts)
        case "judge":
            return subject.judgements([] if empty else subject.items)
        case "demonstrate":
            return subject.demonstrations([] if empty else subject.prompts)
        case _:
            return subject.verdicts([] if empty else subject.comparisons)


def _answers_everything(subject: Subject, hook: str) -> None:
    """answers every question exactly once, from an iterator that can be read only once"""
    _ask(subject, hook)


def _silent_without_questions(subject: Subject, hook: str) -> None:
    """gives nothing for no questions"""
    _ask(subject, hook, empty=True)


def _typed_outcomes(subject: Subject, hook: str) -> None:
    """says why, where there is no answer, and can be written as JSON"""
    for result in _ask(subject, hook):
        json.dumps(attrs.asdict(result))
        explained = result.outcome.has_text or result.detail
        _expect(bool(explained), f"{result.id!r} is {result.outcome.name} and its detail is empty")


def _repeatable(subject: Subject, hook: str) -> None:
    """gives the same results for the same arguments, the seed included (unless it is a service)"""
    if subject.info.item_by_item:
        return  # a service promises no such thing, which is why each of its answers is kept
    first, again = ({result.id: result for result in _ask(subject, hook)} for _ in range(2))
    changed = [id for id in first if first[id] != again[id]]
    _expect(not changed, f"differs between two calls: {', '.join(changed)}")


def _stops_when_told(subject: Subject, hook: str) -> None:
    """stops without an error when nobody draws its results any more, and works again after that"""
    stream = subject.stream_candidates(iter(subject.prompts), 2)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # the stages are generators
    subject.candidates(subject.prompts[:1])


def _streams(subject: Subject, hook: str) -> None:
    """gives its first answer long before it has read the last question (for a service)"""
    if not subject.info.item_by_item:
        return  # local work may be batched as its author likes
    drawn = 0

    def prompts() -> Iterator[Prompt]:
        nonlocal drawn
        for number in range(MANY):
            drawn += 1
            yield Prompt(f"{subject.prompt_texts[0]} ({number})")

    stream = subject.stream_candidates(prompts(), 1)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # the stages are generators
    _expect(drawn < MANY, f"it had read all of {MANY} prompts")


# train_step


def _trains_by_sft(subject: Subject, hook: str) -> None:
    """SFT: writes a whole checkpoint into its output folder alone, logs its steps, and can use what it wrote"""
    rows = [supervised_row(prompt, "Blue.") for prompt in subject.prompt_texts]
    _train(subject, Sft(epochs=1, batch_size=2, max_length=512), rows)


def _trains_by_dpo(subject: Subject, hook: str) -> None:
    """DPO: writes a whole checkpoint into its output folder alone, logs its steps, and can use what it wrote"""
    rows = [
        preference_row(Preference(prompt.id, prompt.text, "Blue.", "No.", f"{prompt.id}/0", f"{prompt.id}/1"))
        for prompt in subject.prompts
    ]
    _train(subject, Dpo(epochs=1, batch_size=2, max_length=512), rows)


def _train(subject: Subject, objective: Objective, rows: Sequence[Mapping[str, Any]]) -> None:
    name = type(objective).__name__.lower()
    examples, output = subject.folder / f"{name}.jsonl", subject.folder / f"{name}-checkpoint"
    examples.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    logged: list[Mapping[str, Any]] = []
    context = attrs.evolve(subject.context, log=logged.append)
    reference = subject.model if isinstance(objective, Dpo) else None
    before = _files_beside(output)
    trained = train_step(subject.registry, subject.model, reference, objective, examples, output, context)
    _expect(before == _files_beside(output), "it wrote or changed a file outside its output folder")
    _expect(any("step" in row for row in logged), "it logged no row with a step through context.log")
    _answers_with(subject, trained)


def _files_beside(output: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in output.parent.iterdir() if path.is_file()}


def _answers_with(subject: Subject, trained: Model) -> None:
    """A checkpoint that the same plugin cannot load is none."""
    if "generate_candidates" in subject.registry.hooks(subject.name):
        subject.candidates(subject.prompts[:1], 1, trained)


# release


def _can_be_released_twice(subject: Subject, hook: str) -> None:
    """frees a model, whether or not it is held"""
    release(subject.registry, subject.model)
    release(subject.registry, subject.model)


_STREAMING = (_answers_everything, _silent_without_questions, _typed_outcomes, _repeatable)

PROMISES: dict[str, tuple[Promise, ...]] = {
    "describe": (_one_line_of_help, _documented_settings, _light_entry_module, _sets_that_keep_their_word),
    "generate_candidates": (*_STREAMING, _stops_when_told, _streams),
    "judge": _STREAMING,
    "demonstrate": _STREAMING,
    "evaluate": _STREAMING,
    "train_step": (_trains_by_sft, _trains_by_dpo),
    "release": (_can_be_released_twice,),
}
"""Every hook's promises; a test holds that no hook is without one."""
