from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tutelage.context import Context
from tutelage.errors import Interrupted
from tutelage.hookspecs import hookimpl
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.registry import Registry
from tutelage.plugins.stages import generate_candidates
from tutelage.records import Candidate, Model, Outcome, Prompt, Sampling
from tutelage.runs.durable import DurableStage, Unit, derive_seed, in_chunks, one_by_one
from tutelage.runs.store import Journal, Store

UNITS = [Unit(f"p{number}", (f"p{number}/0", f"p{number}/1")) for number in range(5)]


class Worker:
    """A stage that can be set to die after a number of results, and to fail on some items."""

    def __init__(
        self, dies_after: int | None = None, fails: Collection[str] = (), outcome: Outcome = Outcome.FAILED
    ) -> None:
        self.asked: list[tuple[tuple[str, ...], int]] = []
        self.numbers: list[tuple[int, ...]] = []
        self.left, self.fails, self.outcome = dies_after, fails, outcome

    def __call__(self, items: Sequence[str], chunk: int, chunks: Sequence[int] = (), /) -> Iterator[Candidate]:
        self.asked.append((tuple(items), chunk))
        self.numbers.append(tuple(chunks))
        for item, number in zip(items, chunks or [chunk] * len(items), strict=True):
            for index in range(2):
                if self.left == 0:
                    raise KeyboardInterrupt
                self.left = None if self.left is None else self.left - 1
                outcome = self.outcome if item in self.fails else Outcome.ANSWERED
                yield Candidate(item, index, f"{item} in chunk {number}", outcome)


@pytest.fixture
def journal(tmp_path: Path) -> Journal[Candidate]:
    return Store(tmp_path).journal("candidates.jsonl", Candidate)


def test_an_unfinished_chunk_is_computed_again_completely_and_a_finished_one_is_not(
    journal: Journal[Candidate],
) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(in_chunks(UNITS, 2, Worker(dies_after=7), journal))
    again = Worker()
    results = list(in_chunks(UNITS, 2, again, journal))
    assert again.asked == [(("p2", "p3"), 1), (("p4",), 2)]
    assert results == list(in_chunks(UNITS, 2, Worker(), Store(journal.path.parent).journal("other", Candidate)))


def test_several_chunks_are_computed_at_once_with_the_results_of_single_ones(journal: Journal[Candidate]) -> None:
    together = Worker()
    results = list(in_chunks(UNITS, 2, together, journal, at_once=2))
    assert together.asked == [(("p0", "p1", "p2", "p3"), 0), (("p4",), 2)]
    assert together.numbers == [(0, 0, 1, 1), ()]
    assert results == list(in_chunks(UNITS, 2, Worker(), Store(journal.path.parent).journal("other", Candidate)))
    assert list(in_chunks(UNITS, 2, Worker(dies_after=0), journal)) == results, "all of them are stored"


def test_chunks_that_were_finished_before_an_error_of_their_call_are_not_computed_again(
    journal: Journal[Candidate],
) -> None:
    """A GPU gets up to 4,096 requests in a call: running out of memory for the last ones lost all of them."""
    with pytest.raises(KeyboardInterrupt):
        list(in_chunks(UNITS, 2, Worker(dies_after=7), journal, at_once=3))
    again = Worker()
    results = list(in_chunks(UNITS, 2, again, journal, at_once=3))
    assert again.asked == [(("p2", "p3", "p4"), 1)]
    assert results == list(in_chunks(UNITS, 2, Worker(), Store(journal.path.parent).journal("other", Candidate)))


def test_work_that_was_stopped_with_other_devices_continues_with_the_chunks_that_are_not_stored(
    journal: Journal[Candidate],
) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(in_chunks(UNITS, 1, Worker(dies_after=3), journal))
    again = Worker()
    results = list(in_chunks(UNITS, 1, again, journal, at_once=3))
    assert again.asked == [(("p1", "p2"), 1), (("p3", "p4"), 3)]
    assert again.numbers == [(1, 2), (3, 4)]
    assert [result.id for result in results] == [id for unit in UNITS for id in unit.results]


class Seeds:
    """A plugin whose answers name the seed of their prompt; the user stops once some of them are there."""

    def __init__(self) -> None:
        self.handed: list[int] = []
        self.answers, self.stops_at = 0, 10**6

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo(help="Answers with seeds.")

    @hookimpl
    def generate_candidates(
        self, model: Model, prompts: Iterable[Prompt], n: int, sampling: Sampling, context: Context
    ) -> Iterator[Candidate]:
        prompts = list(prompts)
        self.handed.append(len(prompts))
        self.called()
        for prompt in prompts:
            self.answers += 1
            yield Candidate(prompt.id, 0, str(context.seeds.get(prompt.id, sampling.seed)))
            if context.cancelled():
                return

    def called(self) -> None:
        """Is called at the start of each call."""

    def cancelled(self) -> bool:
        return self.answers >= self.stops_at


class TwoDevices(Seeds):
    """The same on two devices."""

    @hookimpl
    def devices(self) -> int:
        return 2


class OneDevice(Seeds):
    """The same on one device, which answers two prompts in the time of one.

    It keeps how many results were stored before each call.
    """

    def __init__(self, journal: Journal[Candidate]) -> None:
        super().__init__()
        self.journal = journal
        self.stored: list[int] = []

    @hookimpl
    def requests_at_once(self) -> int:
        return 2

    def called(self) -> None:
        self.stored.append(len(list(self.journal)))


def candidates_by_seed(plugin: TwoDevices | OneDevice, journal: Journal[Candidate], count: int = 11) -> dict[str, int]:
    registry = Registry.empty()
    registry.register(plugin, "two")
    prompts = [Prompt(str(number), id=str(number)) for number in range(count)]

    def stage(registry: Registry, model: Model, items: Sequence[Prompt], **given: Any) -> Iterator[Candidate]:
        return generate_candidates(registry, model, items, 1, **given)

    durable = DurableStage(registry, Model("two"), Context(cancelled=plugin.cancelled), chunk=2)
    units = [Unit(prompt, (f"{prompt.id}/0",)) for prompt in prompts]
    results = durable.results(journal, units, stage, Sampling(), ("step",))
    return {result.prompt_id: int(result.text) for result in results}


def test_a_plugin_with_two_devices_gets_two_chunks_at_once_with_the_seed_of_each(journal: Journal[Candidate]) -> None:
    plugin = TwoDevices()
    assert candidates_by_seed(plugin, journal) == {
        str(number): derive_seed("step", number // 2) for number in range(11)
    }
    assert sorted(plugin.handed) == [3, 4, 4]


def test_a_device_gets_the_chunks_that_keep_it_busy_with_the_seed_of_each_and_the_next_ones_once_these_are_stored(
    journal: Journal[Candidate],
) -> None:
    plugin = OneDevice(journal)
    assert candidates_by_seed(plugin, journal, 40) == {
        str(number): derive_seed("step", number // 2) for number in range(40)
    }
    assert plugin.handed == [16, 16, 8]
    assert plugin.stored == [0, 16, 32]


def test_chunks_that_were_finished_before_a_stop_are_not_computed_again_by_two_devices(
    journal: Journal[Candidate],
) -> None:
    stopped = TwoDevices()
    stopped.stops_at = 5
    with pytest.raises(Interrupted):
        candidates_by_seed(stopped, journal)
    stored = len(list(journal))
    assert stored >= 4
    again = TwoDevices()
    assert candidates_by_seed(again, journal) == {str(number): derive_seed("step", number // 2) for number in range(11)}
    assert 11 - stored <= again.answers <= 11 - stored + 2, "an unfinished chunk of two is computed again"


def test_an_answer_that_arrived_before_a_kill_is_not_requested_again(journal: Journal[Candidate]) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(one_by_one(UNITS, Worker(dies_after=7), journal))
    again = Worker()
    results = list(one_by_one(UNITS, again, journal))
    assert again.asked == [(("p3", "p4"), 0)]
    assert sorted(result.id for result in results) == [id for unit in UNITS for id in unit.results]


def test_a_refused_item_is_requested_again_only_with_refusals_false(journal: Journal[Candidate]) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(one_by_one(UNITS, Worker(dies_after=8, fails=("p1",), outcome=Outcome.REFUSED), journal))
    resumed = Worker(dies_after=0)
    with pytest.raises(KeyboardInterrupt):
        list(one_by_one(UNITS, resumed, journal))
    assert resumed.asked == [(("p4",), 0)]
    insisting = Worker()
    results = list(one_by_one(UNITS, insisting, journal, refusals=False))
    assert insisting.asked == [(("p1", "p4"), 0)]
    assert sorted(result.id for result in results) == [id for unit in UNITS for id in unit.results]
    assert {result.outcome for result in one_by_one(UNITS, Worker(), journal)} == {Outcome.ANSWERED}


def test_a_failed_item_is_requested_again_by_the_next_process(journal: Journal[Candidate]) -> None:
    list(one_by_one(UNITS, Worker(fails=["p1"]), journal))
    again = Worker()
    results = list(one_by_one(UNITS, again, journal))
    assert again.asked == [(("p1",), 0)]
    assert sorted(result.id for result in results) == [id for unit in UNITS for id in unit.results]
    assert all(result.outcome is Outcome.ANSWERED for result in results)


def test_seeds_differ_by_step_and_chunk_and_never_change() -> None:
    assert derive_seed(0, "M1/samples", 0) == 1116202229
    assert len({derive_seed(0, step, chunk) for step in "ab" for chunk in range(100)}) == 200
