"""Head-to-head comparisons over files: the answers of several models, their comparison in both orders, and verdicts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from tutelage.errors import InputError
from tutelage.evaluation.contests import Contest
from tutelage.evaluation.head_to_head import HeadToHead, head_to_head
from tutelage.evaluation.intervals import NOTHING, Cluster
from tutelage.files.jsonl import read_rows, write_rows
from tutelage.plugins import stages
from tutelage.preferences.comparisons import split_equal
from tutelage.records import Comparison, Outcome, Rubric, Sampling, Verdict, content_id
from tutelage.results.alpaca_eval_files import read_list, text_in
from tutelage.runs.durable import DurableStage, Unit, finish_file

VERDICTS = "verdicts.jsonl"


@frozen
class Answers:
    """One model's answers, by seed and prompt."""

    model: str
    prompts: Mapping[str, str]
    """Text of each prompt, by its id."""
    texts: Mapping[Cluster, str]
    """The answer to each prompt under each seed."""


@frozen
class JudgedContest:
    """A verdict with the models whose answers were compared: a row that needs no other file."""

    comparison_id: str
    prompt_id: str
    first: str
    """The model of the first answer."""
    second: str
    """The model of the second answer."""
    preference: float | None
    """Probability that the first answer is better; None if the reply could not be parsed."""
    outcome: Outcome = Outcome.ANSWERED
    first_words: int | None = None
    second_words: int | None = None
    seed: int = 0
    raw: str = ""
    detail: str = ""

    @property
    def id(self) -> str:
        """The comparison's id: each comparison has one verdict."""
        return self.comparison_id

    @property
    def contest(self) -> Contest:
        """The contest without the verdict; an unknown length is 0."""
        words = self.first_words or 0, self.second_words or 0
        return Contest(self.comparison_id, self.prompt_id, self.first, self.second, *words, self.seed)

    @property
    def verdict(self) -> Verdict:
        """The verdict without the contest."""
        return Verdict(self.comparison_id, self.preference, self.outcome, self.raw, self.detail)


@frozen
class Compared:
    """Verdicts in both orders."""

    verdicts: tuple[JudgedContest, ...]
    unmatched: int = 0
    """Number of prompts that only some of the models answered."""
    models: tuple[str, ...] = field(default=())
    """The models, in the order in which they are shown."""

    def head_to_head(self) -> HeadToHead:
        """Return the figures. Figures that need lengths are None if the length of an answer is unknown."""
        contests = [judged.contest for judged in self.verdicts]
        figures = head_to_head(contests, [judged.verdict for judged in self.verdicts], self.models)
        if any(judged.first_words is None or judged.second_words is None for judged in self.verdicts):
            return evolve(figures, winner_words=NOTHING, loser_words=NOTHING, longer_wins=NOTHING)
        return figures


def read_verdicts(path: Path) -> Compared:
    """Read stored verdicts: rows with ``prompt_id``, ``first``, ``second`` and ``preference``.

    ``comparison_id``, ``seed``, ``first_words`` and ``second_words`` may be left out. Raises ``InputError`` with file
    and line if a row is invalid; ``head_to_head`` checks whether the rows are consistent.
    """
    rows = [_judged(row, f"{path}, line {line}") for line, row in read_rows(path)]
    if not rows:
        raise InputError(f"{path}: empty; at least one row is needed")
    return Compared(tuple(rows))


def is_verdicts(path: Path) -> bool:
    """Return whether a file contains stored verdicts, not answers."""
    _, row = next(read_list(path))
    return row.keys() >= {"prompt_id", "first", "second"}


def read_answers(path: Path) -> Answers:
    """Read one model's answers: AlpacaEval's outputs, or rows with ``prompt``, ``answer`` and optionally ``model``.

    The model's name is that in the rows, or the name of the file. Raises ``InputError`` with the position if a row has
    another format, a prompt is answered twice, or the answers are of several models.
    """
    prompts: dict[str, str] = {}
    texts: dict[Cluster, str] = {}
    names: set[str] = set()
    for place, row in read_list(path):
        keys = ("instruction", "output", "generator") if "instruction" in row else ("prompt", "answer", "model")
        prompt = text_in(row, keys[0], place)
        id = content_id(prompt)
        if id in prompts:
            raise InputError(f"{place}: the prompt {prompt[:60]!r} is answered twice")
        prompts[id] = prompt
        texts[0, id] = text_in(row, keys[1], place)
        names.add(str(row.get(keys[2]) or path.stem))
    if len(names) > 1:
        raise InputError(f"{path}: answers of several models ({', '.join(sorted(names))}); use one file per model")
    return Answers(names.pop(), prompts, texts)


def compare(
    evaluator: DurableStage, rubric: Rubric, sampling: Sampling, models: Sequence[Answers], folder: Path
) -> Compared:
    """Compare the answers of every two models in both orders. The verdicts are stored in ``folder``.

    Calling it again with the same folder continues. Equal answers are a tie, for which the evaluator is not called.
    Raises ``InputError`` if two models have the same name, or no prompt in common.
    """
    names = [answers.model for answers in models]
    if len(set(names)) != len(names):
        raise InputError(f"two of the models have the same name ({', '.join(names)}); rename a generator or a file")
    model = evaluator.model
    question = f"{model.plugin} {model.name} {json.dumps(dict(model.settings), sort_keys=True)} {rubric!r}"
    contests = {contest.comparison_id: contest for contest, _ in _contests(models, question)}
    different, ties = split_equal(comparison for _, comparison in _contests(models, question))
    units = [Unit(comparison, (comparison.id,)) for comparison in different]

    def evaluate(*arguments: Any, **named: Any) -> Iterator[JudgedContest]:
        for verdict in stages.evaluate(*arguments, **named):
            yield _with_contest(contests[verdict.comparison_id], verdict)

    path, seed = folder / VERDICTS, (sampling.seed, "head-to-head")
    found = finish_file(path, JudgedContest, units, evaluator, evaluate, sampling, seed, rubric=rubric)
    known = [_with_contest(contests[verdict.comparison_id], verdict) for verdict in ties]
    verdicts = tuple(sorted([*known, *found], key=lambda judged: judged.id))
    write_rows(path, verdicts)
    return Compared(verdicts, _unmatched(models), tuple(names))


def _contests(models: Sequence[Answers], question: str) -> Iterator[tuple[Contest, Comparison]]:
    """Yield both orders of every two models on every prompt that both answered.

    ``question`` identifies the evaluator and the rubric; it is part of the ids.
    """
    for left, right in combinations(models, 2):
        shared = sorted(left.texts.keys() & right.texts.keys())
        if not shared:
            raise InputError(f"{left.model} and {right.model} answered no prompt in common")
        for seed, prompt_id in shared:
            for first, second in ((left, right), (right, left)):
                texts = first.texts[seed, prompt_id], second.texts[seed, prompt_id]
                words = [len(text.split()) for text in texts]
                id = content_id(question, str(seed), prompt_id, first.model, second.model, *texts)
                contest = Contest(id, prompt_id, first.model, second.model, words[0], words[1], seed)
                yield contest, Comparison(id, left.prompts[prompt_id], *texts)


def _with_contest(contest: Contest, verdict: Verdict) -> JudgedContest:
    return JudgedContest(
        comparison_id=contest.comparison_id,
        prompt_id=contest.prompt_id,
        first=contest.first,
        second=contest.second,
        preference=verdict.preference,
        outcome=verdict.outcome,
        first_words=contest.first_words,
        second_words=contest.second_words,
        seed=contest.seed,
        raw=verdict.raw,
        detail=verdict.detail,
    )


def _unmatched(models: Iterable[Answers]) -> int:
    """Return the number of prompts (per seed) that not every model answered."""
    keys = [answers.texts.keys() for answers in models]
    return len(set().union(*keys)) - len(set(keys[0]).intersection(*keys[1:]))


def _judged(row: Mapping[str, Any], place: str) -> JudgedContest:
    prompt_id, first, second = (text_in(row, key, place) for key in ("prompt_id", "first", "second"))
    seed = _whole(row, "seed", place) or 0
    preference = row.get("preference")
    if "preference" not in row or isinstance(preference, bool) or not isinstance(preference, int | float | None):
        raise InputError(f"{place}: `preference` must be a number from 0 to 1, or null if unparsed")
    return JudgedContest(
        comparison_id=str(row.get("comparison_id") or f"{seed}|{first}|{second}|{prompt_id}"),
        prompt_id=prompt_id,
        first=first,
        second=second,
        preference=preference,
        first_words=_whole(row, "first_words", place),
        second_words=_whole(row, "second_words", place),
        seed=seed,
    )


def _whole(row: Mapping[str, Any], key: str, place: str) -> int | None:
    value = row.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise InputError(f"{place}: `{key}` must be a whole number, not {value!r}")
    return value
