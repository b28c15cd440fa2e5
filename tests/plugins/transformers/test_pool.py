"""Candidates that two processes generate on a CPU, compared with those of one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tutelage.context import Context
from tutelage.errors import InputError, StageError
from tutelage.records import Candidate, Model, Prompt, Sampling
from tutelage_transformers.generation import dispatch
from tutelage_transformers.generation.answering import candidates
from tutelage_transformers.generation.pool import ANSWERER, split_evenly
from tutelage_transformers.settings import TransformersSettings

ONE, TWO = TransformersSettings(device="cpu", processes=1), TransformersSettings(device="cpu", processes=2)
GREEDY = Sampling(temperature=0.0, max_new_tokens=8)
DRAWN = Sampling(temperature=1.0, max_new_tokens=8, seed=3)
PROMPTS = [Prompt(f"sort the words cat dog{' red' * (number % 5)}{' please' * number}") for number in range(9)]


@pytest.fixture(scope="module", autouse=True)
def released() -> Iterator[None]:
    yield
    dispatch.release_all()


def answers(base: Path, settings: TransformersSettings, sampling: Sampling, n: int = 2) -> dict[str, Candidate]:
    found = candidates(Model("transformers", str(base)), iter(PROMPTS), n, sampling, Context(settings=settings))
    return {candidate.id: candidate for candidate in found}


def answerers() -> set[int]:
    """The process ids of the child processes that generate."""
    me, found = str(os.getpid()), set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and ANSWERER.encode() in (entry / "cmdline").read_bytes():
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                found |= {int(entry.name)} if parent == me else set()
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def by_one(base: Path) -> dict[Sampling, dict[str, Candidate]]:
    return {sampling: answers(base, ONE, sampling) for sampling in (GREEDY, DRAWN)}


def test_two_processes_give_the_candidates_of_one_and_stay_for_the_next_call(
    base: Path, by_one: dict[Sampling, dict[str, Candidate]]
) -> None:
    assert answers(base, TWO, GREEDY) == by_one[GREEDY]
    processes = answerers()
    assert len(processes) == 2
    assert answers(base, TWO, DRAWN) == by_one[DRAWN]
    dispatch.release(Model("transformers", "another"))
    assert answerers() == processes


def test_completions_of_a_cancelled_call_are_not_given_to_the_next_call(
    base: Path, by_one: dict[Sampling, dict[str, Candidate]]
) -> None:
    stream = candidates(Model("transformers", str(base)), iter(PROMPTS), 2, GREEDY, Context(settings=TWO))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert answers(base, TWO, DRAWN) == by_one[DRAWN]


def test_a_process_that_dies_is_one_error_and_the_next_call_succeeds(base: Path) -> None:
    stream = candidates(Model("transformers", str(base)), iter(PROMPTS), 2, GREEDY, Context(settings=TWO))
    next(stream)
    for process in answerers():
        os.kill(process, signal.SIGKILL)
    stream.close()  # type: ignore[attr-defined]
    with pytest.raises(StageError, match="the process that generates on cpu died; the last lines of its log:"):
        answers(base, TWO, GREEDY)
    assert answerers() == set()
    list(candidates(Model("transformers", str(base)), iter(PROMPTS[:1]), 2, GREEDY, Context(settings=TWO)))
    assert len(answerers()) == 1, "one prompt needs one process"


def test_a_signal_that_stops_the_whole_job_does_not_end_the_work_in_progress(
    base: Path, by_one: dict[Sampling, dict[str, Candidate]]
) -> None:
    """A service manager sends SIGTERM to all processes of a job; the run stops when its current work is finished."""
    answers(base, TWO, DRAWN)  # both processes have started
    stream = candidates(Model("transformers", str(base)), iter(PROMPTS), 2, GREEDY, Context(settings=TWO))
    first = next(stream)
    processes = answerers()
    for process in processes:
        os.kill(process, signal.SIGTERM)
        os.kill(process, signal.SIGHUP)
    found = {candidate.id: candidate for candidate in (first, *stream)}
    assert found == by_one[GREEDY]
    assert answerers() == processes


def test_releasing_the_model_ends_its_processes(base: Path) -> None:
    list(candidates(Model("transformers", str(base)), iter(PROMPTS[:1]), 2, GREEDY, Context(settings=TWO)))
    assert answerers()
    dispatch.release(Model("transformers", str(base)))
    assert answerers() == set()


def test_a_missing_model_is_the_error_that_one_process_gives(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model .*/nowhere: there is no such folder"):
        answers(tmp_path / "nowhere", TWO, GREEDY)
    assert answerers() == set()


def test_generating_processes_end_with_their_parent(base: Path) -> None:
    program = f"""
from tutelage.context import Context
from tutelage.records import Model, Prompt, Sampling
from tutelage_transformers.generation.answering import candidates
from tutelage_transformers.settings import TransformersSettings
context = Context(settings=TransformersSettings(device="cpu", processes=2))
prompts = [Prompt("sort")]
list(candidates(Model("transformers", {str(base)!r}), prompts, 1, Sampling(max_new_tokens=2), context))
import os
children = [entry for entry in os.listdir("/proc") if entry.isdigit()]
print(*[child for child in children if open(f"/proc/{{child}}/stat").read().split()[3] == str(os.getpid())], flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        children = [Path("/proc", number) for number in parent.stdout.readline().split()]
        assert len(children) == 1
        parent.kill()
    while any(child.exists() for child in children):  # a child that does not end keeps this test from ending
        time.sleep(0.05)


def test_prompts_are_dealt_out_by_length_back_and_forth() -> None:
    assert split_evenly([1, 2, 3, 4, 5, 6], 2) == [[5, 2, 1], [4, 3, 0]]
    assert split_evenly([1], 3) == [[0], [], []]
