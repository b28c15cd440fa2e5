"""The promises of ``describe``: the description, what the plugin offers by name, its entry module and distribution."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from itertools import product

from tutelage.files.settings import describe_settings
from tutelage.hookspecs import STAGES
from tutelage.planning.trial import rubric_problems
from tutelage.plugins.discovery import OWN_DISTRIBUTION
from tutelage.plugins.pair_rules import guarded_rule
from tutelage.plugins.preparation import is_prepared
from tutelage.preferences.pairing import Group, PairOptions, ScoredAnswer
from tutelage.testing.subject import Subject, expect

HEAVY = (
    "torch", "transformers", "trl", "peft", "datasets", "accelerate", "tensorflow", "jax", "numpy", "scipy", "pandas",
    "sklearn", "openai", "anthropic", "google.generativeai", "google.genai",
)  # fmt: skip
"""Modules that a plugin's entry module must not import, because the import would slow down every command."""

_END_OF_PRINTS = "\x1f"


def one_line_of_help(subject: Subject, hook: str) -> None:
    """help is one line"""
    help = subject.info.help
    expect(bool(help.strip()) and "\n" not in help, f"help is {help!r}")


def documented_settings(subject: Subject, hook: str) -> None:
    """every setting has a help text, also those of objectives and measures"""
    measures = [measure.settings for measure in subject.info.measures.values()]
    classes = [one for one in (subject.info.settings, *subject.info.objectives.values(), *measures) if one]
    undocumented = [setting.name for one in classes for setting in describe_settings(one) if not setting.help]
    expect(
        not undocumented,
        f"settings without a help text (the string below the field, or metadata help): {', '.join(undocumented)}",
    )


def marked_hooks(subject: Subject, hook: str) -> None:
    """every function with the name and arguments of a hook is marked with ``hookimpl``"""
    unmarked = subject.registry.unmarked(subject.name)
    expect(not unmarked, f"functions that are never called: {', '.join(unmarked)}; put @tutelage.hookimpl above them")


def reachable_settings(subject: Subject, hook: str) -> None:
    """a plugin with settings that only wraps hooks wraps one with ``context``, from which it gets them"""
    wraps = subject.registry.wrapped_by(subject.name)
    only_wraps = bool(wraps) and set(subject.registry.hooks(subject.name)) == {"describe"}
    expect(
        subject.info.settings is None or not only_wraps or bool({*STAGES}.intersection(wraps)),
        f"it has settings, and its wrappers of {', '.join(wraps)} get none: only those of {', '.join(STAGES)} have "
        "context.wrapper_settings",
    )


def light_entry_module(subject: Subject, hook: str) -> None:
    """the entry module imports no heavy libraries, and prints nothing when it is imported"""
    if subject.module is None:
        return
    path = [entry for entry in sys.path if isinstance(entry, str)]
    program = f"import sys\nsys.path[:] = {path!r}\nimport {subject.module}\n"
    program += f"print({_END_OF_PRINTS!r}, *set({HEAVY!r}).intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True)
    expect(done.returncode == 0, done.stderr)
    printed, _, heavy = done.stdout.partition(_END_OF_PRINTS)
    expect(not heavy.strip(), f"importing {subject.module} imports {heavy.strip()}: import it inside the hooks")
    expect(
        not printed,
        f"importing {subject.module} prints {printed[:60]!r}: remove it, because it would be a part of the output of "
        "every command, such as `tutelage plan --json`",
    )


def range_of_versions(subject: Subject, hook: str) -> None:
    """its distribution requires tutelage from a version on, and its requirements are those that are installed"""
    from packaging.requirements import Requirement  # pytest requires it

    status = next((one for one in subject.registry.statuses() if one.name == subject.name), None)
    if status is None or status.distribution in (None, OWN_DISTRIBUTION):
        return
    texts = importlib.metadata.requires(str(status.distribution)) or []
    needed = [one for one in map(Requirement, texts) if one.marker is None or one.marker.evaluate({"extra": ""})]
    of_tutelage = [one for one in needed if one.name == OWN_DISTRIBUTION]
    installed = importlib.metadata.version(OWN_DISTRIBUTION)
    advice = f'add dependencies = ["{OWN_DISTRIBUTION}>={".".join(installed.split(".")[:2])}"] to its pyproject.toml'
    expect(bool(of_tutelage), f"{status.distribution} does not require {OWN_DISTRIBUTION}: {advice}")
    starts = [clause for one in of_tutelage for clause in one.specifier if clause.operator in (">=", "==", "~=", ">")]
    expect(bool(starts), f"{status.distribution} requires any version of {OWN_DISTRIBUTION}: {advice}")
    for one in needed:
        try:
            version = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            expect(False, f"{status.distribution} requires {one}, which is not installed")
        else:
            fits = one.specifier.contains(version, prereleases=True)
            expect(fits, f"{status.distribution} requires {one}, and {one.name} {version} is installed")


def reproducible_sets(subject: Subject, hook: str) -> None:
    """each set returns at most `count` items, without duplicates, and the same items for the same seed"""
    for kind in ("prompt_sets", "example_sets", "rated_sets", "preference_sets"):
        for name, offered in getattr(subject.info, kind).items():
            if offered.preparation is not None and not is_prepared(offered.preparation):
                continue  # its files are not on this machine
            first, again = list(offered.load(5, 1)), list(offered.load(5, 1))
            expect(first == again, f"{kind}[{name!r}] differs between two calls with the same seed")
            expect(len(first) <= 5, f"{kind}[{name!r}] returned {len(first)} items for count 5")
            has_duplicates = any(item in first[:position] for position, item in enumerate(first))
            expect(not has_duplicates, f"{kind}[{name!r}] has duplicates")


def usable_rubrics(subject: Subject, hook: str) -> None:
    """each rubric has a scale, and its template has the placeholders of a judgement or of a comparison"""
    for name, rubric in subject.info.rubrics.items():
        is_comparison = "{first}" in rubric.template or "{second}" in rubric.template
        for problem in rubric_problems(rubric, is_comparison):
            expect(False, f"rubrics[{name!r}]: {problem}")


def total_pair_rules(subject: Subject, hook: str) -> None:
    """each pair rule accepts every group (no answers, no scores, ties, no demonstration), and gives the same again"""
    for name, group in product(subject.info.pair_rules, _groups(subject)):
        rule = guarded_rule(subject.registry, f"{subject.name}/{name}")
        first, again = (list(rule(group, PairOptions(seed=1))) for _ in range(2))
        scores = [answer.score for answer in group.answers]
        expect(first == again, f"pair_rules[{name!r}] differs between two calls, for answers with the scores {scores}")


def _groups(subject: Subject) -> list[Group]:
    prompt = subject.prompts[0]
    demonstration = ScoredAnswer(f"{prompt.id}/demonstration", "Blue, as the sky.")
    kinds: tuple[tuple[float | None, ...], ...] = ((), (3.0,), (None, None), (2.0, 2.0), (1.0, None, 4.5), (0.0, 5.0))
    return [
        Group(prompt, tuple(ScoredAnswer(f"{prompt.id}/{n}", f"Answer {n}.", s) for n, s in enumerate(scores)), shown)
        for scores, shown in product(kinds, (None, demonstration))
    ]
