"""What a stage lets pass: results that are sound by themselves, and exactly one for each question.

A plugin's promise is checked as its results come, so that a wrong one never reaches a file. Results join their
questions by id; the ids of the questions are remembered as the plugin draws them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Generic, Protocol, TypeVar

from tutelage.errors import InputError, PluginError, StageError, TutelageError
from tutelage.files.disk_errors import error_text
from tutelage.records import Candidate, Demonstration, Judgement, Outcome, Rubric, Verdict

SHOWN = 3
"""How many missing ids an error names."""


class HasId(Protocol):
    """A prompt, an item to judge, a comparison."""

    @property
    def id(self) -> str:
        """Unique among the questions of one call."""


QuestionT = TypeVar("QuestionT", bound=HasId)
ResultT = TypeVar("ResultT", Candidate, Judgement, Demonstration, Verdict)
StageResult = Candidate | Judgement | Demonstration | Verdict


class Questions(Generic[QuestionT]):
    """The questions of one call: handed on one by one, remembered by id, and ticked off as answers come.

    It is an iterator: a plugin can go through it once.
    """

    def __init__(self, questions: Iterable[QuestionT], times: int = 1) -> None:
        self._source = iter(questions)
        self._times = times
        self._open: dict[str, set[int]] = {}
        self.error: BaseException | None = None
        """What the source of the questions itself raised: not the plugin's fault."""

    def __iter__(self) -> Iterator[QuestionT]:
        return self

    def __next__(self) -> QuestionT:
        try:
            question = next(self._source)
            if question.id in self._open:
                raise InputError(f"the id {question.id!r} is asked twice in one call")
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise
        self._open[question.id] = set(range(self._times))
        return question

    def answered(self, result: StageResult) -> str | None:
        """Tick off one answer; what is wrong with it, where it answers nothing that was asked."""
        id, index = _answers(result)
        if id not in self._open:
            return f"answers {id!r}, which was not asked"
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < self._times:
            return f"numbers an answer to {id!r} as {index!r}, outside 0 to {self._times - 1}"
        if index not in self._open[id]:
            return f"answers {id!r} number {index} twice"
        self._open[id].remove(index)
        return None

    def missing(self) -> str | None:
        """What has not been answered, where anything has not."""
        missing = [f"{id!r} number {index}" for id, indices in self._open.items() for index in sorted(indices)]
        if missing:
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            return f"ended without answering {', '.join(missing[:SHOWN])}{more}"
        if left := list(islice(self, 1)):
            return f"ended before it asked for {left[0].id!r}"
        return None


@contextmanager
def blaming(who: str, questions: Questions[QuestionT] | None = None) -> Iterator[None]:
    """Turn an exception in a plugin's code into a ``StageError`` that names it.

    A ``TutelageError`` passes as it is, and so does what came out of the questions, not out of the plugin.
    """
    try:
        yield
    except TutelageError:
        raise
    except (Exception, SystemExit) as error:
        if questions is not None and error is questions.error:
            raise
        raise StageError(f"{who} failed: {error_text(error)}") from error


def check_result(result: object, kind: type[ResultT], rubric: Rubric | None, who: str) -> ResultT:
    """One result, sound by itself.

    Raises ``PluginError`` naming ``who`` where it is of another type, holds a value of another type, or has a score or
    preference that its outcome or the rubric does not allow.
    """
    if not isinstance(result, kind):
        raise PluginError(f"{who} yielded {result!r}, not a {kind.__name__}")
    if problem := _problem(result, rubric):
        raise PluginError(f"{who}, for {_answers(result)[0]!r}: {problem}")
    return result


def _answers(result: StageResult) -> tuple[str, int]:
    """The id of the question that a result answers, and which answer to it this is."""
    match result:
        case Candidate():
            return result.prompt_id, result.index
        case Judgement():
            return result.item_id, result.sample
        case Demonstration():
            return result.prompt_id, 0
        case Verdict():
            return result.comparison_id, 0


def _problem(result: StageResult, rubric: Rubric | None) -> str | None:
    if not isinstance(result.outcome, Outcome):
        return f"the outcome is {result.outcome!r}: it must be a tutelage.Outcome"
    match result:
        case Candidate() | Demonstration():
            return _text_problem(result.text)
        case Judgement():
            low, high = (rubric.lowest, rubric.highest) if rubric else (-math.inf, math.inf)
            return _number_problem("score", result.score, result.outcome, low, high)
        case Verdict():
            return _number_problem("preference", result.preference, result.outcome, 0.0, 1.0)


def _text_problem(text: object) -> str | None:
    return None if isinstance(text, str) else f"the text is {text!r}, of type {type(text).__name__}"


def _number_problem(name: str, number: object, outcome: Outcome, low: float, high: float) -> str | None:
    """A number where there is an answer, none where there is not; a reply cut after its number may have one."""
    if number is None:
        return f"the outcome is ANSWERED, but there is no {name}" if outcome is Outcome.ANSWERED else None
    if not outcome.has_text:
        return f"the outcome is {outcome.name}, but there is a {name} ({number!r}): it must be None"
    if isinstance(number, bool) or not isinstance(number, int | float):
        return f"the {name} is {number!r}, of type {type(number).__name__}: it must be a plain number"
    return None if low <= number <= high else f"the {name} is {number}, outside {low:g} to {high:g}"
