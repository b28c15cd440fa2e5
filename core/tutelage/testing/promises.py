"""The contract of the hooks, as one function per requirement.

The docstring of a function is the text of the requirement in the report. The function raises an exception if the
requirement is not fulfilled. The stages themselves check types, ids, counts and ranges of results on every call, so
these are checked by calling the stages.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
from attrs import evolve

from tutelage.context import Tracking
from tutelage.errors import TutelageError
from tutelage.files.settings import describe_settings
from tutelage.files.trl_format import preference_row, supervised_row
from tutelage.objectives import Dpo, Objective, Sft
from tutelage.plugin_info import Conversion, Finding, RunNeeds
from tutelage.plugins import helpers
from tutelage.plugins.preparation import is_prepared
from tutelage.plugins.stages import release, train_step
from tutelage.preferences.expected_scores import expected_judgement, expected_score_problem
from tutelage.preferences.judging import ADDITIVE_RUBRIC
from tutelage.records import Model, Preference, Prompt
from tutelage.testing.subject import Subject

HEAVY = (
    "torch", "transformers", "trl", "peft", "datasets", "accelerate", "tensorflow", "jax", "numpy", "scipy", "pandas",
    "sklearn", "openai", "anthropic", "google.generativeai", "google.genai",
)  # fmt: skip
"""Modules that a plugin's entry module must not import, because the import would slow down every command."""

MANY = 500
"""Number of prompts in the streaming check, far more than a service is asked at once."""

_SAME_SCORE = 1e-3
"""Maximum difference of two scores that count as equal."""

Promise = Callable[[Subject, str], None]
"""A requirement: called with the plugin and the hook, raises an exception if it is not fulfilled."""


class BrokenPromiseError(AssertionError):
    """A requirement of the contract is not fulfilled."""


def _expect(condition: bool, problem: str) -> None:
    if not condition:
        raise BrokenPromiseError(problem)


# describe


def _one_line_of_help(subject: Subject, hook: str) -> None:
    """help is one line"""
    help = subject.info.help
    _expect(bool(help.strip()) and "\n" not in help, f"help is {help!r}")


def _documented_settings(subject: Subject, hook: str) -> None:
    """every setting has a help text"""
    settings = describe_settings(subject.info.settings) if subject.info.settings else []
    undocumented = [setting.name for setting in settings if not setting.help]
    _expect(not undocumented, f'settings without metadata={{"help": ...}}: {", ".join(undocumented)}')


def _light_entry_module(subject: Subject, hook: str) -> None:
    """the entry module imports no heavy libraries"""
    if subject.module is None:
        return
    program = f"import sys, {subject.module}\nprint(*set({HEAVY!r}).intersection(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    _expect(done.returncode == 0, done.stderr)
    heavy = done.stdout.strip()
    _expect(not heavy, f"importing {subject.module} imports {heavy}: import it inside the hooks")


def _reproducible_sets(subject: Subject, hook: str) -> None:
    """each set returns at most `count` items, without duplicates, and the same items for the same seed"""
    for kind in ("prompt_sets", "example_sets", "rated_sets", "preference_sets"):
        for name, offered in getattr(subject.info, kind).items():
            if offered.preparation is not None and not is_prepared(offered.preparation):
                continue  # its files are not on this machine
            first, again = list(offered.load(5, 1)), list(offered.load(5, 1))
            _expect(first == again, f"{kind}[{name!r}] differs between two calls with the same seed")
            _expect(len(first) <= 5, f"{kind}[{name!r}] returned {len(first)} items for count 5")
            has_duplicates = any(item in first[:position] for position, item in enumerate(first))
            _expect(not has_duplicates, f"{kind}[{name!r}] has duplicates")


def _finds_nothing_unexplained(subject: Subject, hook: str) -> None:
    """yields a Finding with a detail for each problem, and does not raise or write into the run's folder"""
    folder = subject.folder / "run-that-does-not-exist"
    needs = RunNeeds(
        hooks=frozenset(subject.registry.hooks(subject.name)),
        trainings=(Sft(), Dpo()),
        directory=folder,
        download=False,
    )
    for name in (subject.model.name, str(subject.folder / "no-such-model")):
        _are_findings(helpers.check_run(subject.registry, evolve(subject.model, name=name), needs) or ())
    _expect(not folder.exists(), "check_run created the run's folder")


def _finds_what_it_needs(subject: Subject, hook: str) -> None:
    """yields a Finding with a detail for each requirement, and does not raise; not called if it asks a service"""
    if helpers.endpoint(subject.registry, subject.model) is None:
        _are_findings(helpers.check(subject.registry, subject.model) or ())


def _are_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        _expect(finding.ok in (True, False, None), f"the ok of {finding!r} is not True, False or None")
        _expect(bool(finding.detail.strip()), f"the detail of {finding!r} is empty")


def _names_its_service(subject: Subject, hook: str) -> None:
    """returns equal endpoints with an address and a model for the same settings and name, without a request"""
    first, again = (helpers.endpoint(subject.registry, subject.model) for _ in range(2))
    _expect(first == again, "endpoint differs between two calls")
    if first is not None:
        _expect(bool(first.base_url and first.model), f"{first!r} has no address or no model")


def _explains_in_words(subject: Subject, hook: str) -> None:
    """returns a text for prompts of any kind"""
    helpers.check_prompts(subject.registry, subject.model, subject.prompt_texts)


def _refuses_an_unknown_tracker(subject: Subject, hook: str) -> None:
    """yields a problem for a tracker that does not exist"""
    found = helpers.check_report_to(subject.registry, subject.model, ["no such tracker"])
    _expect(bool(found), "check_report_to accepts the tracker 'no such tracker'")


def _reports_within_its_folder(subject: Subject, hook: str) -> None:
    """adds metrics to a tracked run without trackers, or to files in its folder"""
    tracking = Tracking((), "project", "run/M2", subject.folder / "tracking")
    helpers.report(subject.registry, subject.model, tracking, {"pairs": 3.0}, 0)


def _counts_each_row(subject: Subject, hook: str) -> None:
    """returns a positive length for each row, and a context length, or raises a TutelageError for a wrong model"""
    rows = [supervised_row(prompt.turns, "An answer.") for prompt in subject.prompts]
    counts = helpers.count_tokens(subject.registry, subject.model, rows, download=False)
    if counts is not None:
        _expect(min(counts.tokens) > 0, f"count_tokens returned {counts.tokens}: each row has a prompt and an answer")
        _expect(counts.context > 0, f"count_tokens returned the context length {counts.context}")


def _changes_no_checkpoint(subject: Subject, hook: str) -> None:
    """does not change the folder of the checkpoint, also if it refuses the conversion"""
    checkpoint, output = subject.folder / "no-checkpoint", subject.folder / "converted"
    for folder in (checkpoint, output):
        folder.mkdir(exist_ok=True)
    with suppress(TutelageError):
        helpers.convert(subject.registry, subject.name, checkpoint, output, Conversion(dtype="float32"))
    _expect(not any(checkpoint.iterdir()), "convert wrote into the folder of the checkpoint")


def _has_a_device(subject: Subject, hook: str) -> None:
    """returns at least 1"""
    helpers.devices(subject.registry, subject.model)


def _names_the_key_of_an_objective(subject: Subject, hook: str) -> None:
    """accepts the default objectives, and yields lines `KEY: problem` with a key of the objective"""
    for objective in (Sft(), Dpo()):
        found = helpers.check_objective(subject.registry, subject.model, objective)
        _expect(not found, f"check_objective refuses the default {type(objective).__name__}: {found}")
    for objective in (Sft(epochs=-1.0, batch_size=0), Dpo(beta=-1.0, loss_type="no-such-loss")):
        keys = {field.name for field in attrs.fields(type(objective))}
        for line in helpers.check_objective(subject.registry, subject.model, objective):
            key = line.partition(":")[0].partition(".")[0]
            _expect(key in keys, f"check_objective yields {line!r}, which does not begin with a key of the objective")


# The stages that yield results


def _results(subject: Subject, hook: str, *, empty: bool = False) -> Sequence[Any]:
    """All results of a stage for the small inputs, or for an empty input."""
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
    """yields every result exactly once, for an input that can be read only once"""
    _results(subject, hook)


def _no_results_for_empty_input(subject: Subject, hook: str) -> None:
    """yields nothing for an empty input"""
    _results(subject, hook, empty=True)


def _explained_outcomes(subject: Subject, hook: str) -> None:
    """results can be written as JSON, and have a detail if there is no answer"""
    for result in _results(subject, hook):
        json.dumps(attrs.asdict(result))
        explained = result.outcome.has_text or result.detail
        _expect(bool(explained), f"{result.id!r} is {result.outcome.name} and its detail is empty")


def _repeatable(subject: Subject, hook: str) -> None:
    """yields the same results for the same arguments and the same seed (services are exempt)"""
    if subject.info.item_by_item:
        return  # services are not repeatable; therefore each of their answers is stored
    first, again = ({result.id: result for result in _results(subject, hook)} for _ in range(2))
    changed = [id for id in first if first[id] != again[id]]
    _expect(not changed, f"differs between two calls: {', '.join(changed)}")


def _stores_each_paid_answer(subject: Subject, hook: str) -> None:
    """a plugin that calls a service has an endpoint or is item_by_item, so that no paid answer is requested again"""
    before = subject.context.caller.tally.outcomes.total()
    _results(subject, hook)
    calls = subject.context.caller.tally.outcomes.total() - before
    _expect(
        calls == 0 or subject.info.item_by_item,
        f"{calls} answers came through context.caller, but PluginInfo has no endpoint and item_by_item is False",
    )


def _gives_expected_scores(subject: Subject, hook: str) -> None:
    """gives expected scores if ``PluginInfo.scores`` names them: the same ones twice, each the mean of its scores"""
    if "expected" not in subject.info.scores:
        return
    rubric = subject.rubric if expected_score_problem(subject.rubric) is None else ADDITIVE_RUBRIC
    first, again = ({one.item_id: one for one in subject.expected_judgements(rubric)} for _ in range(2))
    for item_id, judged in first.items():
        _expect(judged == again[item_id], f"the expected score of {item_id!r} differs between two calls")
        if judged.score is not None:
            _expect(bool(judged.probabilities), f"the expected score of {item_id!r} has no probabilities")
            mean = expected_judgement(item_id, judged.probabilities, rubric).score
            _expect(
                mean is not None and abs(mean - judged.score) < _SAME_SCORE,
                f"the expected score of {item_id!r} is {judged.score:.6g}, and by its probabilities it is "
                + ("none" if mean is None else f"{mean:.6g}"),
            )


def _can_be_closed_early(subject: Subject, hook: str) -> None:
    """can be closed before its last result without an error, and works again after that"""
    stream = subject.stream_candidates(iter(subject.prompts), 2)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # the stages are generators
    subject.candidates(subject.prompts[:1])


def _streams(subject: Subject, hook: str) -> None:
    """a service yields its first result long before it has read the last prompt"""
    if not subject.info.item_by_item:
        return  # local work may read the whole input to form batches
    read = 0

    def prompts() -> Iterator[Prompt]:
        nonlocal read
        for number in range(MANY):
            read += 1
            yield Prompt(f"{subject.prompt_texts[0]} ({number})")

    stream = subject.stream_candidates(prompts(), 1)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # the stages are generators
    _expect(read < MANY, f"it read all {MANY} prompts before its first result")


# train_step


def _trains_by_sft(subject: Subject, hook: str) -> None:
    """SFT: writes a checkpoint to its output folder only, logs its steps, and can load the checkpoint"""
    rows = [supervised_row(prompt, "Blue.") for prompt in subject.prompt_texts]
    _train(subject, Sft(epochs=1, batch_size=2, max_length=512), rows)


def _trains_by_dpo(subject: Subject, hook: str) -> None:
    """DPO: writes a checkpoint to its output folder only, logs its steps, and can load the checkpoint"""
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
    _load_and_answer(subject, trained)


def _files_beside(output: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in output.parent.iterdir() if path.is_file()}


def _load_and_answer(subject: Subject, trained: Model) -> None:
    """Check that the plugin can load the checkpoint."""
    if "generate_candidates" in subject.registry.hooks(subject.name):
        subject.candidates(subject.prompts[:1], 1, trained)


# release


def _can_be_released_twice(subject: Subject, hook: str) -> None:
    """frees a model, and accepts a model that is not loaded"""
    release(subject.registry, subject.model)
    release(subject.registry, subject.model)


_STREAMING = (
    _answers_everything,
    _no_results_for_empty_input,
    _explained_outcomes,
    _repeatable,
    _stores_each_paid_answer,
)

PROMISES: dict[str, tuple[Promise, ...]] = {
    "describe": (
        _one_line_of_help,
        _documented_settings,
        _light_entry_module,
        _reproducible_sets,
    ),
    "generate_candidates": (*_STREAMING, _can_be_closed_early, _streams),
    "judge": (*_STREAMING, _gives_expected_scores),
    "demonstrate": _STREAMING,
    "evaluate": _STREAMING,
    "train_step": (_trains_by_sft, _trains_by_dpo),
    "release": (_can_be_released_twice,),
    "endpoint": (_names_its_service,),
    "check": (_finds_what_it_needs,),
    "check_run": (_finds_nothing_unexplained,),
    "check_prompts": (_explains_in_words,),
    "check_objective": (_names_the_key_of_an_objective,),
    "check_report_to": (_refuses_an_unknown_tracker,),
    "report": (_reports_within_its_folder,),
    "count_tokens": (_counts_each_row,),
    "convert": (_changes_no_checkpoint,),
    "devices": (_has_a_device,),
}
"""The requirements of every hook. A test checks that every hook has at least one."""
