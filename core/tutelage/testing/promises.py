"""The contract of the hooks, as one function per requirement.

The docstring of a function is the text of the requirement in the report. The function raises an exception if the
requirement is not fulfilled. The stages themselves check types, ids, counts and ranges of results on every call, so
these are checked by calling the stages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import attrs
from attrs import evolve

from tutelage.context import Tracking
from tutelage.errors import TutelageError
from tutelage.files.trl_format import supervised_row
from tutelage.objectives import OBJECTIVES, Dpo, Sft
from tutelage.plugin_info import Conversion, Finding, RunNeeds
from tutelage.plugins import helpers
from tutelage.plugins.stages import generate_candidates, release
from tutelage.preferences.expected_scores import expected_judgement, expected_score_problem
from tutelage.preferences.judging import ADDITIVE_RUBRIC
from tutelage.records import Prompt
from tutelage.testing import described, trainings
from tutelage.testing.subject import Subject, expect

MANY = 500
"""Number of prompts in the streaming check, far more than a service is asked at once."""

_SAME_SCORE = 1e-3
"""Maximum difference of two scores that count as equal."""

Promise = Callable[[Subject, str], None]
"""A requirement: called with the plugin and the hook, raises an exception if it is not fulfilled."""


# The helper hooks


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
    expect(not folder.exists(), "check_run created the run's folder")


def _finds_what_it_needs(subject: Subject, hook: str) -> None:
    """yields a Finding with a detail for each requirement, and does not raise; not called if it asks a service"""
    if helpers.endpoint(subject.registry, subject.model) is None:
        _are_findings(helpers.check(subject.registry, subject.model) or ())


def _are_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        expect(finding.ok in (True, False, None), f"the ok of {finding!r} is not True, False or None")
        expect(bool(finding.detail.strip()), f"the detail of {finding!r} is empty")


def _names_its_service(subject: Subject, hook: str) -> None:
    """returns equal endpoints with an address and a model for the same settings and name, without a request"""
    first, again = (helpers.endpoint(subject.registry, subject.model) for _ in range(2))
    expect(first == again, "endpoint differs between two calls")
    if first is not None:
        expect(bool(first.base_url and first.model), f"{first!r} has no address or no model")


def _explains_in_words(subject: Subject, hook: str) -> None:
    """returns a text for prompts of any kind"""
    helpers.check_prompts(subject.registry, subject.model, subject.prompt_texts)


def _refuses_an_unknown_tracker(subject: Subject, hook: str) -> None:
    """yields a problem for a tracker that does not exist"""
    found = helpers.check_report_to(subject.registry, subject.model, ["no such tracker"])
    expect(bool(found), "check_report_to accepts the tracker 'no such tracker'")


def _reports_within_its_folder(subject: Subject, hook: str) -> None:
    """adds metrics to a tracked run without trackers, or to files in its folder"""
    tracking = Tracking((), "project", "run/M2", subject.folder / "tracking")
    helpers.report(subject.registry, subject.model, tracking, {"pairs": 3.0}, 0)


def _counts_each_row(subject: Subject, hook: str) -> None:
    """returns a positive length for each row, and a context length, or raises a TutelageError for a wrong model"""
    rows = [supervised_row(prompt.turns, "An answer.") for prompt in subject.prompts]
    counts = helpers.count_tokens(subject.registry, subject.model, rows, download=False)
    if counts is not None:
        expect(min(counts.tokens) > 0, f"count_tokens returned {counts.tokens}: each row has a prompt and an answer")
        expect(counts.context > 0, f"count_tokens returned the context length {counts.context}")


def _changes_no_checkpoint(subject: Subject, hook: str) -> None:
    """does not change the folder of the checkpoint, also if it refuses the conversion"""
    checkpoint, output = subject.folder / "no-checkpoint", subject.folder / "converted"
    for folder in (checkpoint, output):
        folder.mkdir(exist_ok=True)
    with suppress(TutelageError):
        helpers.convert(subject.registry, subject.name, checkpoint, output, Conversion(dtype="float32"))
    expect(not any(checkpoint.iterdir()), "convert wrote into the folder of the checkpoint")


def _is_at_least_one(subject: Subject, hook: str) -> None:
    """returns at least 1"""
    getattr(helpers, hook)(subject.registry, subject.model)


def _names_the_key_of_an_objective(subject: Subject, hook: str) -> None:
    """accepts the default objectives, and yields lines `KEY: problem` with a key of the objective"""
    for objective in [cls() for name, cls in OBJECTIVES.items() if name in subject.info.trains]:
        found = helpers.check_objective(subject.registry, subject.model, objective)
        expect(not found, f"check_objective refuses the default {type(objective).__name__}: {found}")
    for objective in (Sft(epochs=-1.0, batch_size=0), Dpo(beta=-1.0, loss_type="no-such-loss")):
        keys = {field.name for field in attrs.fields(type(objective))}
        for line in helpers.check_objective(subject.registry, subject.model, objective):
            key = line.partition(":")[0].partition(".")[0]
            expect(key in keys, f"check_objective yields {line!r}, which does not begin with a key of the objective")


# The stages that yield results


def _results(subject: Subject, hook: str) -> Sequence[Any]:
    """All results of a stage for the small inputs."""
    return list(subject.stream(hook))


def _answers_everything(subject: Subject, hook: str) -> None:
    """yields every result exactly once, for an input that can be read only once"""
    _results(subject, hook)


def _no_results_for_empty_input(subject: Subject, hook: str) -> None:
    """yields nothing for an empty input"""
    list(subject.stream(hook, empty=True))


def _explained_outcomes(subject: Subject, hook: str) -> None:
    """results can be written as JSON, and have a detail if there is no answer"""
    for result in _results(subject, hook):
        json.dumps(attrs.asdict(result))
        explained = result.outcome.has_text or result.detail
        expect(bool(explained), f"{result.id!r} is {result.outcome.name} and its detail is empty")


def _repeatable(subject: Subject, hook: str) -> None:
    """yields the same results for the same arguments and the same seed (services are exempt)"""
    if subject.info.item_by_item:
        return  # services are not repeatable; therefore each of their answers is stored
    first, again = ({result.id: result for result in _results(subject, hook)} for _ in range(2))
    changed = [id for id in first if first[id] != again[id]]
    expect(not changed, f"differs between two calls: {', '.join(changed)}")


def _stores_each_paid_answer(subject: Subject, hook: str) -> None:
    """a plugin that calls a service has an endpoint or is item_by_item, so that no paid answer is requested again"""
    before = subject.context.caller.tally.outcomes.total()
    _results(subject, hook)
    calls = subject.context.caller.tally.outcomes.total() - before
    expect(
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
        expect(judged == again[item_id], f"the expected score of {item_id!r} differs between two calls")
        if judged.score is not None:
            expect(bool(judged.probabilities), f"the expected score of {item_id!r} has no probabilities")
            mean = expected_judgement(item_id, judged.probabilities, rubric).score
            expect(
                mean is not None and abs(mean - judged.score) < _SAME_SCORE,
                f"the expected score of {item_id!r} is {judged.score:.6g}, and by its probabilities it is "
                + ("none" if mean is None else f"{mean:.6g}"),
            )


def _can_be_closed_early(subject: Subject, hook: str) -> None:
    """can be closed before its last result without an error, and works again after that"""
    stream = subject.stream(hook)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # the stages are generators
    _results(subject, hook)


def _stops_if_cancelled(subject: Subject, hook: str) -> None:
    """ends without an error once the user has asked to stop, with all results or some"""
    list(subject.stream(hook, evolve(subject.context, cancelled=lambda: True)))


def _counts_tokens_of_answers(subject: Subject, hook: str) -> None:
    """an answer has at most ``sampling.max_new_tokens`` tokens, if their number is given (services are exempt)"""
    if subject.info.item_by_item:
        return  # a service may count other tokens, such as those of its reasoning
    most = subject.sampling.max_new_tokens
    for one in _results(subject, hook):
        fits = one.tokens is None or (isinstance(one.tokens, int) and 0 <= one.tokens <= most)
        expect(fits, f"{one.id!r} has {one.tokens!r} tokens; the limit is {most}")


def _shows_the_text_so_far(subject: Subject, hook: str) -> None:
    """calls ``context.partial``, if at all, with texts that the text of the candidate starts with"""
    shown: list[str] = []
    context = evolve(subject.context, partial=shown.append)
    prompts = iter(subject.prompts[:1])
    [one] = generate_candidates(subject.registry, subject.model, prompts, 1, subject.sampling, context)
    wrong = [text for text in shown if not one.text.startswith(text)]
    expect(not wrong, f"context.partial was called with {wrong[:1]}, and the text is {one.text[:60]!r}")


def _applies_its_sampling(subject: Subject, hook: str) -> None:
    """applies the keys in ``PluginInfo.sampling``: with one token to choose from, every seed gives the same answers"""
    if subject.info.item_by_item:
        return  # an answer of a service may differ without another seed
    of_one_token = {"top_k": evolve(subject.sampling, top_k=1), "min_p": evolve(subject.sampling, min_p=1.0)}
    for key in subject.info.sampling:
        sampling = evolve(of_one_token[key], temperature=1.0)
        first, again = ({r.id: r for r in subject.stream(hook, sampling=evolve(sampling, seed=n))} for n in (1, 2))
        expect(first == again, f"with {key}={getattr(sampling, key):g} the answers differ between two seeds")


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
    expect(read < MANY, f"it read all {MANY} prompts before its first result")


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
    _can_be_closed_early,
    _stops_if_cancelled,
    _stores_each_paid_answer,
)

PROMISES: dict[str, tuple[Promise, ...]] = {
    "describe": (
        described.one_line_of_help,
        described.documented_settings,
        described.marked_hooks,
        described.reachable_settings,
        described.light_entry_module,
        described.range_of_versions,
        described.reproducible_sets,
        described.usable_rubrics,
        described.total_pair_rules,
    ),
    "generate_candidates": (
        *_STREAMING,
        _streams,
        _counts_tokens_of_answers,
        _shows_the_text_so_far,
        _applies_its_sampling,
    ),
    "judge": (*_STREAMING, _gives_expected_scores),
    "demonstrate": _STREAMING,
    "evaluate": _STREAMING,
    "train_step": (
        trainings.trains_by_sft,
        trainings.trains_by_dpo,
        trainings.trains_by_others,
        trainings.returns_no_incomplete_checkpoint,
    ),
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
    "devices": (_is_at_least_one,),
    "requests_at_once": (_is_at_least_one,),
}
"""The requirements of every hook. A test checks that every hook has at least one."""

OF_WRAPPERS: dict[str, tuple[Promise, ...]] = {
    **dict.fromkeys(("generate_candidates", "judge", "demonstrate", "evaluate"), _STREAMING),
    "train_step": (trainings.trains_by_sft, trainings.trains_by_dpo),
    **{hook: PROMISES[hook] for hook in ("release", "count_tokens", "devices", "requests_at_once")},
}
"""The requirements of a hook that a plugin wraps, around a plugin that fulfils them."""
