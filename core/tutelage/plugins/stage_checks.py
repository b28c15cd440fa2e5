"""The checks of a stage: every result is valid, and there is exactly one result for each request.

Each result is checked when the plugin yields it, so that an invalid one is never written to a file. Results are matched
to questions (prompts, items to judge, comparisons) by id. The ids are recorded as the plugin reads the questions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Generic, Protocol, TypeVar

from tutelage.errors import InputError, PluginError, StageError, TutelageError
from tutelage.files.disk_errors import error_text
from tutelage.plugins.registry import Registry
from tutelage.preferences.expected_scores import expected_score_problem
from tutelage.records import Candidate, Demonstration, Judgement, Outcome, Rubric, Sampling, Scores, Verdict

SHOWN = 3
"""Maximum number of missing ids that an error names."""
_LONGEST = 200
"""Maximum number of characters of a wrong result that an error shows."""


class HasId(Protocol):
    """A prompt, an item to judge, or a comparison."""

    @property
    def id(self) -> str:
        """Unique among the questions of one call."""


QuestionT = TypeVar("QuestionT", bound=HasId)
ResultT = TypeVar("ResultT", Candidate, Judgement, Demonstration, Verdict)
StageResult = Candidate | Judgement | Demonstration | Verdict


class Questions(Generic[QuestionT]):
    """The questions of one call of a stage, as an iterator for the plugin. It records which answers are missing.

    Each question needs ``times`` results, with the indices 0 to ``times - 1``.
    """

    def __init__(self, questions: Iterable[QuestionT], times: int = 1) -> None:
        self._source = iter(questions)
        self._times = times
        self._open: dict[str, set[int]] = {}
        self.error: BaseException | None = None
        """The exception of the iterable of questions, if it raised one. The plugin did not cause it."""

    def __iter__(self) -> Iterator[QuestionT]:
        return self

    def __next__(self) -> QuestionT:
        try:
            question = next(self._source)
            if question.id in self._open:
                raise InputError(f"the id {question.id!r} occurs twice in one call; ids must be unique")
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise
        self._open[question.id] = set(range(self._times))
        return question

    def answered(self, result: StageResult) -> str | None:
        """Record one result. Returns the problem if no question needs it; None if it is valid."""
        id, index = _question_of(result)
        if id not in self._open:
            return f"answers {id!r}, which was not asked: a result has the id of its prompt, item or comparison"
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < self._times:
            return f"gives an answer to {id!r} the number {index!r}, outside 0 to {self._times - 1}"
        if index not in self._open[id]:
            return f"answers {id!r} number {index} twice"
        self._open[id].remove(index)
        return None

    def missing(self) -> str | None:
        """Return a message about the questions that have not been answered; None if all have been."""
        missing = [f"{id!r} number {index}" for id, indices in self._open.items() for index in sorted(indices)]
        if missing:
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            each = f"; each needs {self._times} results, with the numbers 0 to {self._times - 1}"
            return f"ended without answering {', '.join(missing[:SHOWN])}{more}{each if self._times > 1 else ''}"
        if unread := list(islice(self, 1)):
            return f"ended before it read the question {unread[0].id!r}"
        return None


@contextmanager
def plugin_errors(
    label: str, questions: Questions[QuestionT] | None = None, modules: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Turn an exception in a plugin's code into a ``StageError`` that begins with ``label``.

    ``modules`` are the modules of the plugins in the call, by the names of the plugins: if there are several, the error
    names the one that raised the exception. A ``TutelageError`` is raised unchanged, and so is an exception of the
    iterable of questions.
    """
    try:
        yield
    except TutelageError:
        raise
    except (Exception, SystemExit) as error:
        if questions is not None and error is questions.error:
            raise
        raise StageError(f"{label} failed{_origin(error, modules or {})}: {_text_of(error)}") from error


def _text_of(error: BaseException) -> str:
    """The text of an exception, with the remedy if pluggy raised it: a wrapper yielded twice, or not at all."""
    is_of_wrapper = isinstance(error, RuntimeError) and str(error).startswith("wrap_controller at ")
    return error_text(error) + ("; a wrapper must yield exactly once" if is_of_wrapper else "")


def _origin(error: BaseException, modules: Mapping[str, str]) -> str:
    """Which of several plugins raised an exception: that of the innermost frame; empty if it is not known."""
    owners: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        unit = _unit(trace.tb_frame.f_globals.get("__name__", ""))
        owners = [name for name, module in modules.items() if _unit(module) == unit] or owners
        trace = trace.tb_next
    return f" in {owners[0]!r}" if len(owners) == 1 < len(modules) else ""


def _unit(module: str) -> str:
    """The package that a plugin consists of. A plugin that is a part of tutelage itself is one module."""
    package = module.partition(".")[0]
    return module if package == "tutelage" else package


def check_result(result: object, kind: type[ResultT], rubric: Rubric | None, label: str) -> ResultT:
    """Return a result if it is valid by itself.

    Raises ``PluginError`` that begins with ``label`` if the result or one of its values has a wrong type, or if it has
    a score or preference that its outcome or the rubric does not allow.
    """
    if not isinstance(result, kind):
        raise PluginError(f"{label} yielded {_shown(result)}, not a {kind.__name__}")
    if problem := _problem(result, rubric):
        raise PluginError(f"{label.removesuffix(',')}, for {_question_of(result)[0]!r}: {problem}")
    return result


def _shown(result: object) -> str:
    """A result of a wrong type for a message: a list or a mapping by its type, because it may be long."""
    is_many = isinstance(result, list | tuple | dict | set)
    return f"a {type(result).__name__}" if is_many else f"{result!r}"[:_LONGEST]


def _question_of(result: StageResult) -> tuple[str, int]:
    """Return the id of the question that a result answers, and the number of the answer."""
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
            number = _number_problem("score", result.score, result.outcome, low, high)
            return number or _probabilities_problem(result.probabilities)
        case Verdict():
            return _number_problem("preference", result.preference, result.outcome, 0.0, 1.0)


def _text_problem(text: object) -> str | None:
    return None if isinstance(text, str) else f"the text is {text!r}, of type {type(text).__name__}"


def _number_problem(name: str, number: object, outcome: Outcome, low: float, high: float) -> str | None:
    """Return the problem of a score or preference, if any.

    An answered result must have a number. A result without text must have none. A cut reply may have one.
    """
    if number is None:
        return f"the outcome is ANSWERED, but there is no {name}" if outcome is Outcome.ANSWERED else None
    if not outcome.has_text:
        return f"the outcome is {outcome.name}, but there is a {name} ({number!r}): it must be None"
    if isinstance(number, bool) or not isinstance(number, int | float):
        return f"the {name} is {number!r}, of type {type(number).__name__}: it must be a plain number"
    return None if low <= number <= high else f"the {name} is {number}, outside {low:g} to {high:g}"


def _probabilities_problem(probabilities: object) -> str | None:
    if not isinstance(probabilities, tuple):
        return f"the probabilities are {probabilities!r}, of type {type(probabilities).__name__}: they must be a tuple"
    for one in probabilities:
        if isinstance(one, bool) or not isinstance(one, int | float) or not 0 <= one <= 1:
            return f"the probabilities have {one!r}: each must be a number from 0 to 1"
    return None


def score_problems(registry: Registry, plugin: str, score: Scores, rubric: Rubric, samples: int) -> Iterator[str]:
    """Yield each reason why the plugin's ``judge`` cannot make scores in this way, as ``KEY: problem and remedy``."""
    if score == "parsed":
        return
    if score not in registry.info(plugin).scores:
        yield (
            f"score: {score}; {registry.label(plugin)} cannot compute it: set it to parsed, here or for one pipeline "
            "(pipelines.NAME.judging.score)"
        )
    if samples != 1:
        yield f"samples: {samples}; all samples of an expected score are equal: set it to 1"
    if problem := expected_score_problem(rubric):
        yield f"score: {score}; {problem}"


def sampling_problems(registry: Registry, plugin: str, hook: str, sampling: Sampling) -> Iterator[str]:
    """Yield each key of ``sampling`` that the plugin would ignore in a hook, as ``KEY: problem and remedy``.

    These are the keys that not every plugin knows (see ``PluginInfo.sampling``), if they are set. A hook that does not
    take ``sampling`` samples nothing, so it ignores none.
    """
    supported = registry.info(plugin).sampling
    implementations = registry.caller(plugin, hook).get_hookimpls()  # type: ignore[attr-defined]
    if not any("sampling" in one.argnames for one in implementations if not (one.wrapper or one.hookwrapper)):
        return
    for key in ("top_k", "min_p"):
        value = getattr(sampling, key)
        if value != getattr(Sampling(), key) and key not in supported:
            yield f"{key}: {value}; {registry.label(plugin)} cannot apply it in {hook}: leave it out"
