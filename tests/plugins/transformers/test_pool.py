"""Candidates that two kept processes generate on a CPU, compared with those of one process."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import tutelage_transformers
from tutelage.context import Context
from tutelage.errors import InputError, StageError, TutelageError
from tutelage.plugins.registry import Registry
from tutelage.plugins.stages import generate_candidates
from tutelage.records import Candidate, Model, Prompt, Sampling
from tutelage.runs.durable import DurableStage, Unit
from tutelage.runs.store import Store
from tutelage_transformers.generation import dispatch
from tutelage_transformers.generation.answering import candidates
from tutelage_transformers.generation.shared_model import split_evenly
from tutelage_transformers.models import chat
from tutelage_transformers.processes.pool import WORKER, WorkerPool, current, end_all
from tutelage_transformers.processes.warned import sent_by
from tutelage_transformers.settings import TransformersSettings

FIXTURES = Path(__file__).parents[2] / "fixtures"
ONE, TWO = TransformersSettings(device="cpu", processes=1), TransformersSettings(device="cpu", processes=2)
GREEDY = Sampling(temperature=0.0, max_new_tokens=8)
DRAWN = Sampling(temperature=1.0, max_new_tokens=8, seed=3)
PROMPTS = [Prompt(f"sort the words cat dog{' red' * (number % 5)}{' please' * number}") for number in range(9)]


@pytest.fixture(scope="module", autouse=True)
def released() -> Iterator[None]:
    end_all()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(FIXTURES))
        yield
    dispatch.release_all()
    end_all()


def answers(base: Path, settings: TransformersSettings, sampling: Sampling, n: int = 2) -> dict[str, Candidate]:
    found = candidates(Model("transformers", str(base)), iter(PROMPTS), n, sampling, Context(settings=settings))
    return {candidate.id: candidate for candidate in found}


def workers() -> set[int]:
    """The process ids of the kept processes."""
    me, found = str(os.getpid()), set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and WORKER.encode() in (entry / "cmdline").read_bytes():
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
    processes = workers()
    assert len(processes) == 2
    assert answers(base, TWO, DRAWN) == by_one[DRAWN]
    dispatch.release(Model("transformers", "another"))
    assert workers() == processes


def test_a_kept_process_reports_the_text_so_far_of_the_only_answer(
    base: Path, by_one: dict[Sampling, dict[str, Candidate]]
) -> None:
    texts: list[str] = []
    prompt = max(PROMPTS, key=lambda prompt: len(by_one[DRAWN][f"{prompt.id}/0"].text))
    context = Context(settings=TWO, partial=texts.append)
    [answer] = candidates(Model("transformers", str(base)), iter([prompt]), 1, DRAWN, context)
    assert len(set(texts)) > 1 and texts[-1] == answer.text
    assert all(answer.text.startswith(text) for text in texts)


def test_two_devices_get_two_chunks_at_once_and_draw_what_one_device_draws_for_each(base: Path, tmp_path: Path) -> None:
    registry = Registry.empty()
    registry.register(tutelage_transformers, "transformers")
    found: list[list[Candidate]] = []
    handed: list[int] = []
    for settings in (ONE, TWO):
        model = Model("transformers", str(base), {"device": "cpu", "processes": settings.processes})

        def stage(registry: Registry, model: Model, items: Sequence[Prompt], **given: Any) -> Iterator[Candidate]:
            handed.append(len(items))
            return generate_candidates(registry, model, items, 2, **given)

        units = [Unit(prompt, (f"{prompt.id}/0", f"{prompt.id}/1")) for prompt in PROMPTS]
        journal = Store(tmp_path).journal(f"by-{settings.processes}", Candidate)
        durable = DurableStage(registry, model, Context(), chunk=4)
        results = durable.results(journal, units, stage, DRAWN, ("step",))
        found.append(sorted(results, key=lambda candidate: candidate.id))
    assert handed == [4, 4, 1, 8, 1]
    assert found[0] == found[1]
    same = {prompt.id: answers(base, ONE, DRAWN)[f"{prompt.id}/0"] for prompt in PROMPTS}
    assert any(one.text != same[one.prompt_id].text for one in found[0] if one.index == 0), "each chunk has a seed"


def test_completions_of_a_cancelled_call_are_not_given_to_the_next_call(
    base: Path, by_one: dict[Sampling, dict[str, Candidate]]
) -> None:
    stream = candidates(Model("transformers", str(base)), iter(PROMPTS), 2, GREEDY, Context(settings=TWO))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert answers(base, TWO, DRAWN) == by_one[DRAWN]


def test_a_process_that_dies_between_two_requests_is_one_error() -> None:
    pool = WorkerPool(["cpu", "cpu"], "bare_worker")
    assert len(list(pool.run("worker_probe:repeat", {0: "one", 1: "two"}, "probing"))) == 6
    for process in pool.process_ids:
        os.kill(process, signal.SIGKILL)
    with pytest.raises(StageError, match="probing: the process that works on cpu died; the last lines of its log:"):
        list(pool.run("worker_probe:repeat", {0: "one", 1: "two"}, "probing"))
    assert not pool.is_open


def test_a_warning_of_several_processes_is_logged_once_for_each_request(caplog: pytest.LogCaptureFixture) -> None:
    """It is one message, whatever its text; a surrogate, which cannot be sent, is shown as stderr shows it."""
    hostile = '100%s\n{"request": 1, "failed": null}\r\u2028\x1b[2J'
    logger, expected = "tutelage_transformers.models.probe", []
    with closing(WorkerPool(["cpu", "cpu"], "bare_worker")) as pool:
        for by_second in ("by both", "by one"):
            arguments = {0: [hostile, "by both"], 1: [hostile, by_second]}
            assert sorted(pool.run("worker_probe:warn", arguments, "probing")) == [(0, "done"), (1, "done")]
            texts = {f"a model wrote \\ud800 {text}" for text in (hostile, "by both", by_second)}
            expected += [(logger, logging.WARNING, text) for text in texts] + [(logger, logging.ERROR, "an error")]
            assert sorted(caplog.record_tuples) == sorted(expected)


def test_a_warning_about_a_template_is_logged_once_though_each_text_names_another_checkpoint(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "_reported", set())
    for names in ({0: "M0", 1: "M1"}, {0: "M2"}):
        with closing(WorkerPool(["cpu", "cpu"], "bare_worker")) as pool:
            list(pool.run("worker_probe:warn_of_template", names, "probing"))
    [text] = caplog.messages
    assert text in ("the template of M0", "the template of M1")


def test_a_warning_about_a_request_without_a_waiting_caller_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with closing(WorkerPool(["cpu"], "bare_worker")) as pool:
        pool.post("worker_probe:warn", {0: ["unasked"]})
        list(pool.run("worker_probe:repeat", {0: "next"}, "probing"))
    assert [text for text in caplog.messages if text.endswith("unasked")]


def test_a_warning_that_cannot_be_shown_does_not_end_the_work() -> None:
    shown: list[str] = []

    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            shown.append(record.getMessage())
            raise ValueError("I/O operation on closed file")

    handler, logger = Failing(), logging.getLogger("tutelage_transformers")
    logger.addHandler(handler)
    try:
        with closing(WorkerPool(["cpu"], "bare_worker")) as pool:
            assert list(pool.run("worker_probe:warn", {0: ["first"]}, "probing")) == [(0, "done")]
    finally:
        logger.removeHandler(handler)
    assert len(shown) == 2


def test_a_warning_that_cannot_be_sent_does_not_end_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with sent_by(lambda warning: os.write(writer, str(warning).encode())):
        logging.getLogger("tutelage_transformers.models.probe").warning("lost")
    os.close(writer)
    assert "BrokenPipeError" in capsys.readouterr().err


def test_kept_processes_import_nothing_from_the_current_folder(shadowing_folder: Path) -> None:
    pool = WorkerPool(["cpu"], "bare_worker")
    with closing(pool):
        assert list(pool.run("worker_probe:repeat", {0: "a"}, "probing")) == [(0, f"a {n}") for n in range(3)]


def test_the_shared_folder_exists_until_the_processes_end() -> None:
    pool = WorkerPool(["cpu", "cpu"], "bare_worker")
    folder = pool.folder
    assert folder.is_dir() and pool.folder == folder
    pool.close()
    assert not folder.exists()
    with pytest.raises(StageError, match="the processes that work on cpu, cpu have ended; try again"):
        _ = pool.folder


@pytest.mark.slow  # each process imports torch
def test_a_process_that_dies_is_one_error_and_the_next_call_succeeds(base: Path) -> None:
    stream = candidates(Model("transformers", str(base)), iter(PROMPTS), 2, GREEDY, Context(settings=TWO))
    next(stream)
    for process in workers():
        os.kill(process, signal.SIGKILL)
    stream.close()  # type: ignore[attr-defined]
    with pytest.raises(StageError, match="generation: the process that works on cpu died; the last lines of its log:"):
        answers(base, TWO, GREEDY)
    assert workers() == set()
    assert len(answers(base, TWO, GREEDY)) == 2 * len(PROMPTS)
    assert len(workers()) == 2


def test_a_signal_that_stops_the_whole_job_does_not_end_the_work_in_progress(
    base: Path, by_one: dict[Sampling, dict[str, Candidate]]
) -> None:
    """A service manager sends SIGTERM to all processes of a job; the run stops when its current work is finished."""
    answers(base, TWO, DRAWN)  # both processes have started
    stream = candidates(Model("transformers", str(base)), iter(PROMPTS), 2, GREEDY, Context(settings=TWO))
    first = next(stream)
    processes = workers()
    for process in processes:
        os.kill(process, signal.SIGTERM)
        os.kill(process, signal.SIGHUP)
    found = {candidate.id: candidate for candidate in (first, *stream)}
    assert found == by_one[GREEDY]
    assert workers() == processes


def held() -> list[list[str]]:
    """The names of the models that each kept process has in memory, of those that it keeps and of all objects."""
    pool = current()
    assert pool is not None
    found = dict(pool.run("worker_probe:models_in_memory", dict.fromkeys(range(2)), "probing"))
    return [found[number] for number in range(2)]


def test_releasing_the_model_frees_its_memory_and_keeps_the_processes(base: Path) -> None:
    model = Model("transformers", str(base))
    list(candidates(model, iter(PROMPTS[:1]), 2, GREEDY, Context(settings=TWO)))
    processes = workers()
    assert held() == [[str(base)]] * 2, "a process without a prompt loads the model as well"
    dispatch.release(model)
    assert held() == [[], []]
    assert workers() == processes


def test_another_model_replaces_the_one_before_in_the_same_processes(
    base: Path, other_base: Path, by_one: dict[Sampling, dict[str, Candidate]]
) -> None:
    assert answers(base, TWO, GREEDY) == by_one[GREEDY]
    processes = workers()
    other = answers(other_base, TWO, GREEDY)
    assert other != by_one[GREEDY] and other == answers(other_base, ONE, GREEDY)
    assert answers(other_base, TWO, GREEDY) == other
    assert held() == [[str(other_base)]] * 2
    assert answers(base, TWO, GREEDY) == by_one[GREEDY]
    assert workers() == processes


@pytest.mark.parametrize(
    ("failing", "message"),
    [
        ({0: "plain", 1: "other"}, "^a plain error$"),
        ({0: "other", 1: "hang"}, "^probing on cpu failed: ValueError: another error; the last lines of its log:\n"),
        ({0: "other", 1: "die"}, "^probing: the process that works on cpu died; the last lines of its log:\nwill die$"),
    ],
    ids=["an error of tutelage first", "with the log of the process", "a death before its consequences"],
)
def test_several_failures_are_one_error_and_end_all_processes(failing: dict[int, str], message: str) -> None:
    pool = WorkerPool(["cpu", "cpu"], "bare_worker")
    processes = pool.process_ids
    with pytest.raises(TutelageError, match=message) as raised:
        list(pool.run("worker_probe:fail", failing, "probing"))
    assert ("Traceback" in str(raised.value)) == (failing[1] == "hang")
    assert not pool.is_open
    assert not any(Path("/proc", str(process)).exists() for process in processes)


def test_requests_of_two_threads_are_worked_on_one_after_the_other_and_get_their_own_results() -> None:
    pool = WorkerPool(["cpu", "cpu"], "bare_worker")

    def results_of(word: str) -> list[tuple[int, Any]]:
        return sorted(pool.run("worker_probe:repeat", {0: word, 1: word}, "probing"))

    with closing(pool), ThreadPoolExecutor(2) as threads:
        for word, results in zip(("one", "two"), threads.map(results_of, ("one", "two")), strict=True):
            assert results == [(process, f"{word} {number}") for process in range(2) for number in range(3)]


def test_cancelling_a_request_cancels_no_other() -> None:
    pool = WorkerPool(["cpu"], "bare_worker")
    with closing(pool):
        work = pool.run("worker_probe:until_cancelled", {0: None}, "probing")
        assert next(work) == (0, "working")
        work.close()  # type: ignore[attr-defined]
        assert list(pool.run("worker_probe:repeat", {0: "next"}, "probing")) == [(0, f"next {n}") for n in range(3)]
        asked = iter([False, False, False])
        results = list(pool.run("worker_probe:until_cancelled", {0: None}, "probing", lambda: next(asked, True)))
        assert results[0] == (0, "working") and results[-1] == (0, "stopped")


def test_a_missing_model_is_the_error_that_one_process_gives(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model .*/nowhere: there is no such folder"):
        answers(tmp_path / "nowhere", TWO, GREEDY)
    assert workers() == set()


@pytest.mark.parametrize(
    ("function", "received"), [("repeat", "list"), ("until_cancelled", "next")], ids=["without a request", "at work"]
)
def test_processes_end_with_their_parent(function: str, received: str) -> None:
    program = f"""
from tutelage_transformers.processes.pool import WorkerPool
pool = WorkerPool(["cpu", "cpu"], "bare_worker")
work = pool.run("worker_probe:{function}", {{0: "word", 1: "word"}}, "probing")
{received}(work)
print(*pool.process_ids, flush=True)
input()
"""
    end_the_parent_and_wait_for_its_children(program)


@pytest.mark.slow  # each process imports torch
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
    end_the_parent_and_wait_for_its_children(program)


def end_the_parent_and_wait_for_its_children(program: str) -> None:
    """Start a Python program that prints the ids of its two child processes and waits."""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        children = [Path("/proc", number) for number in parent.stdout.readline().split()]
        assert len(children) == 2
        parent.kill()
    while any(child.exists() for child in children):  # a child that does not end keeps this test from ending
        time.sleep(0.05)


def test_prompts_are_dealt_out_by_length_back_and_forth() -> None:
    assert split_evenly([1, 2, 3, 4, 5, 6], 2) == [[5, 2, 1], [4, 3, 0]]
    assert split_evenly([1], 3) == [[0], [], []]
