"""Trainings in kept worker processes on a CPU, compared with those of processes that are started for one training."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve
from ranks import train_together

from tutelage.context import Context
from tutelage.errors import InputError, StageError
from tutelage.files.trl_format import message
from tutelage.objectives import Dpo, Lora, Objective, Sft
from tutelage.plugin_info import RunNeeds
from tutelage.plugins.files import PluginFile
from tutelage.plugins.registry import Registry
from tutelage.plugins.stages import train_step
from tutelage.records import Message, Model, Prompt, Sampling
from tutelage_transformers.checking import check_run
from tutelage_transformers.devices import parallel
from tutelage_transformers.devices.capacity import Capacity, capacity_of
from tutelage_transformers.generation.answering import candidates
from tutelage_transformers.models import chat
from tutelage_transformers.models.chat import prompt_text
from tutelage_transformers.models.tokenizers import read_tokenizer
from tutelage_transformers.processes import pool
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training import ahead, together
from tutelage_transformers.training.request import TrainingRequest
from tutelage_transformers.training.step import train

TWO = TransformersSettings(processes=2, device="cpu")
SFT = Sft(epochs=2, learning_rate=1e-2, batch_size=4, lora=Lora(r=4, alpha=8, dropout=0.2))
DPO = Dpo(epochs=1, learning_rate=1e-3, batch_size=4)

Training = Callable[..., tuple[list[Any], Path]]

# Two processes take ten seconds of processor time to import their libraries. The tests that need them are in an order
# in which each works with those of the test before it.


@pytest.fixture(scope="module", autouse=True)
def ended() -> Iterator[None]:
    pool.end_all()
    yield
    pool.end_all()


@pytest.fixture
def trained(base: Path, tmp_path: Path) -> Training:
    """Trains by kept processes: trained(objective, examples, output name, settings, cancelled=..., log=...)."""
    (tmp_path / "scratch").mkdir()

    def by_kept(
        objective: Objective, examples: Path, name: str, settings: TransformersSettings = TWO, **given: Any
    ) -> tuple[list[Any], Path]:
        rows: list[Any] = []
        output = tmp_path / name
        output.mkdir(exist_ok=True)
        context = Context(settings=settings, scratch=tmp_path / "scratch", **{"log": rows.append, **given})
        train(Model("transformers", str(base)), None, objective, examples, output, context)
        return rows, output

    return by_kept


def weights(output: Path) -> bytes:
    return (output / "model.safetensors").read_bytes()


def models_in_memory() -> dict[int, list[str]]:
    kept = pool.current()
    assert kept is not None
    return dict(kept.run("worker_probe:models_in_memory", {0: None, 1: None}, "probing"))


def process_ids() -> list[int]:
    kept = pool.current()
    return kept.process_ids if kept else []


def sizes_of_groups() -> dict[int, int]:
    """The number of processes of the group of each kept process; 0 if it is in none."""
    kept = pool.current()
    assert kept is not None
    return dict(kept.run("worker_probe:size_of_group", dict.fromkeys(range(len(kept.devices))), "probing"))


def groups_formed() -> int:
    """The number of process groups that the kept processes have formed: each has a file."""
    kept = pool.current()
    assert kept is not None
    return len(list(kept.folder.glob("group-*")))


def test_processes_start_before_the_checks_and_end_if_a_check_finds_a_problem(tmp_path: Path) -> None:
    pool.end_all()
    needs = RunNeeds(hooks=frozenset({"train_step"}), trainings=(SFT,))
    started = ahead.start(TWO, needs, capacity_of(TWO))
    processes = process_ids()
    assert started == ["cpu", "cpu"] and len(processes) == 2
    assert ahead.start(TWO, needs, capacity_of(TWO)) == (), "they run already"
    ahead.end(())
    assert process_ids() == processes, "they were started by another caller"
    ahead.end(started)
    assert process_ids() == []


@pytest.mark.parametrize("ending", ["a problem", "an interrupt"])
def test_processes_that_start_before_the_checks_end_with_them(
    base: Path, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of the free space is one of the last. The user may press Ctrl-C in it."""
    pool.end_all()
    seen: list[int] = []

    def found(folder: Path) -> Any:
        seen.extend(process_ids())
        if ending == "an interrupt":
            raise KeyboardInterrupt
        return SimpleNamespace(free=0)

    monkeypatch.setattr("shutil.disk_usage", found)
    needs = RunNeeds(hooks=frozenset({"train_step"}), trainings=(SFT,), directory=tmp_path)
    if ending == "an interrupt":
        with pytest.raises(KeyboardInterrupt):
            list(check_run(TWO, str(base), needs))
    else:
        [problem] = check_run(TWO, str(base), needs)
        assert problem.what == "disk"
    assert len(seen) == 2 and process_ids() == []


def test_processes_of_gpus_that_torch_does_not_find_are_ended_after_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver has two GPUs, but torch may be one for the CPU."""
    pool.end_all()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    needs = RunNeeds(hooks=frozenset({"train_step"}), trainings=(SFT,))
    two_gpus = Capacity(8 * 2**30, "the GPU", True, devices=2)
    started = ahead.start(TransformersSettings(), needs, two_gpus)
    assert started == ["cuda:0", "cuda:1"] and len(process_ids()) == 2
    ahead.keep(started, TransformersSettings(), needs, two_gpus)
    assert process_ids() == []


@pytest.mark.parametrize(
    ("settings", "batch_size", "visible"),
    [
        (TransformersSettings(processes=3), 6, None),
        (TransformersSettings(processes=2), 5, None),
        (TransformersSettings(device="cuda:1"), 4, None),
        (TransformersSettings(), 4, "1"),
        (TransformersSettings(accelerate_config="config.yaml"), 4, None),
    ],
    ids=["more than the GPUs", "a batch that cannot be shared", "one GPU", "one visible GPU", "by accelerate"],
)
def test_no_process_starts_before_the_checks_if_several_devices_will_not_train(
    settings: TransformersSettings, batch_size: int, visible: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.end_all()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    needs = RunNeeds(hooks=frozenset({"train_step"}), trainings=(evolve(SFT, batch_size=batch_size),))
    two_gpus = Capacity(8 * 2**30, "the GPU", True, devices=2)
    assert ahead.start(settings, needs, two_gpus) == ()
    assert process_ids() == []


def test_a_run_that_trains_on_several_devices_starts_its_processes_while_it_is_checked(
    base: Path, tmp_path: Path
) -> None:
    pool.end_all()
    needs = RunNeeds(hooks=frozenset({"train_step"}), trainings=(SFT,), directory=tmp_path / "run")
    one = TransformersSettings(processes=1, device="cpu")
    for settings, changed in ((TWO, {"download": False}), (TWO, {"trainings": ()}), (one, {})):
        assert list(check_run(settings, str(base), evolve(needs, **changed))) == []
        assert process_ids() == []
    assert [problem.what for problem in check_run(TWO, str(tmp_path), needs)] == ["model"]
    assert process_ids() == []
    assert list(check_run(TWO, str(base), needs)) == []
    assert len(process_ids()) == 2
    kept = pool.current()
    assert kept is not None
    imported = kept.run("worker_probe:has_imported", dict.fromkeys(range(2), "trl.trainer.dpo_trainer"), "probing")
    assert dict(imported) == {0: True, 1: True}
    assert pool.kept(parallel.device_names(TWO)) is kept
    assert sizes_of_groups() == {0: 2, 1: 2}
    assert list(check_run(TWO, str(base), needs)) == []
    assert pool.current() is kept and groups_formed() == 1, "the next check starts nothing again"


def test_trainings_one_after_the_other_give_the_weights_that_new_processes_give(
    base: Path, sft_file: Path, dpo_file: Path, tmp_path: Path, trained: Training
) -> None:
    """Nothing of a training, or of generation, remains in a process: neither random numbers nor accelerate's state."""
    expected = {}
    for name, objective, file in (("sft", SFT, sft_file), ("dpo", DPO, dpo_file)):
        output = tmp_path / f"new-{name}"
        output.mkdir()
        request = TrainingRequest(Model("transformers", str(base)), None, objective, file, output, tmp_path, TWO)
        statuses, rows = train_together(request, tmp_path / f"request-{name}")
        assert statuses == [0, 0]
        expected[name] = rows, weights(output)

    first, sft = trained(SFT, sft_file, "first")
    processes = process_ids()
    prompts = [Prompt("sort the words cat dog"), Prompt("sort the words")]
    sampled = candidates(Model("transformers", str(sft)), prompts, 2, Sampling(max_new_tokens=4), Context(settings=TWO))
    assert len(list(sampled)) == 4
    second, dpo = trained(DPO, dpo_file, "second")
    assert models_in_memory() == {0: [], 1: []}, "neither the model that generated nor the trained one is in memory"
    third, again = trained(SFT, sft_file, "third")
    assert (first, weights(sft)) == (third, weights(again)) == expected["sft"]
    assert (second, weights(dpo)) == expected["dpo"]
    assert process_ids() == processes and len(processes) == 2
    assert groups_formed() == 1 and sizes_of_groups() == {0: 2, 1: 2}, "one group did all trainings"


def test_a_warning_of_the_processes_is_logged_once_for_all_their_work(
    merging_base: Path,
    sft_chats: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both processes train. They, and this process, then render the template of a checkpoint with another name."""
    monkeypatch.setattr(chat, "_reported", set())
    start = Model("transformers", str(merging_base))
    context = Context(settings=TWO, scratch=tmp_path)
    (tmp_path / "M1").mkdir()
    trained = train(start, None, SFT, sft_chats, tmp_path / "M1", context)
    [(logger, level, text)] = caplog.record_tuples
    assert (logger, level) == (chat.__name__, logging.WARNING)
    assert text.startswith(f"tokenizer of {merging_base}: its chat template has no system role; ")
    conversations = [[Message("system", "sort the words"), Message("user", words)] for words in ("cat", "dog")]
    prompts = [Prompt.of_messages(messages) for messages in conversations]
    assert len(list(candidates(trained, prompts, 1, Sampling(max_new_tokens=2), context))) == 2
    tokenizer = read_tokenizer(trained.name, local_only=True)
    assert "sort" in prompt_text(tokenizer, [*message("system", "sort"), *message("user", "cat")])
    assert len(caplog.records) == 1


def test_progress_is_reported_and_a_cancelled_training_continues(sft_file: Path, trained: Training) -> None:
    kept = evolve(TWO, checkpoint_minutes=0)
    reported: list[int] = []
    expected, whole = trained(SFT, sft_file, "whole", kept, expect=reported.append, advance=reported.append)
    assert reported == [8] + [1] * 8 and len(expected) == 8
    processes = pool.current()
    assert processes is not None
    folder = processes.folder
    assert folder.is_dir()
    rows: list[Any] = []
    with pytest.raises(StageError, match=r"training was cancelled after \d of 8 steps; the same command continues"):
        trained(SFT, sft_file, "stopped", kept, log=rows.append, cancelled=lambda: len(rows) > 0)
    assert rows == expected[: len(rows)]
    assert not processes.is_open and not folder.exists()
    again, stopped = trained(SFT, sft_file, "stopped", kept)
    assert again == expected
    assert weights(stopped) == weights(whole)


PLUGIN_FILE = '''"""Offers a loss of pairs and an objective."""

from attrs import frozen

from tutelage import Objective, PairLoss, PluginInfo, hookimpl


def squared(batch, settings):
    return (1 - (batch.chosen - batch.rejected)) ** 2


@frozen
class Likelihood(Objective):
    """Negative log-likelihood of the answers."""

    examples = "examples"
    weight: float = 1.0
    """Factor of the loss."""

    def loss(self, batch):
        return -self.weight * batch.log_probability


@hookimpl
def describe():
    losses = {"squared": PairLoss(squared, "Squares the margin.")}
    return PluginInfo("Offers.", pair_losses=losses, objectives={"likelihood": Likelihood})
'''


def test_losses_and_objectives_of_a_plugin_file_train_in_several_processes_as_in_one(
    base: Path, sft_file: Path, dpo_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "offering.py"
    path.write_text(PLUGIN_FILE)
    registry = Registry.discover()
    registry.load_files([PluginFile.of(str(path))])
    offered: type[Any] = registry.get("objectives", "offering/likelihood")
    likelihood = offered(epochs=1, learning_rate=1e-3, batch_size=4, weight=2.0)

    def losses_of(objective: Objective, examples: Path, processes: int) -> list[float]:
        rows: list[Any] = []
        model = Model("transformers", str(base), {"device": "cpu", "processes": processes})
        output = tmp_path / f"trained-{len(list(tmp_path.glob('trained-*')))}"
        context = Context(scratch=tmp_path, log=rows.append)
        train_step(registry, model, model, objective, examples, output, context)
        return [row["loss"] for row in rows if "loss" in row]

    squared = evolve(DPO, loss_type="offering/squared")
    for objective, examples in ((squared, dpo_file), (likelihood, sft_file)):
        alone, together = (losses_of(objective, examples, processes) for processes in (1, 2))
        assert len(alone) == 4
        assert together == pytest.approx(alone, rel=1e-3)
    assert len(process_ids()) == 2
    path.write_text(f"{PLUGIN_FILE}\n# changed")
    with pytest.raises(InputError, match=r"offering\.py has changed since the run loaded it"):
        losses_of(likelihood, sft_file, 2)


def test_processes_leave_a_group_for_one_of_another_size(tmp_path: Path) -> None:
    with closing(pool.WorkerPool(["cpu"] * 3, "bare_worker")) as workers:
        for number, processes in enumerate((2, 3, 2)):
            group = {"processes": processes, "device": "cpu", "store": str(tmp_path / f"group-{number}")}
            arguments = {rank: {"rank": rank, **group} for rank in range(3)}
            sums = dict(workers.run("worker_probe:sum_of_group", arguments, "probing"))
            assert sums == {rank: processes if rank < processes else 0 for rank in range(3)}


@pytest.mark.slow  # starts three processes that import the libraries of a training
def test_trainings_by_another_number_of_processes_form_another_group(
    base: Path, sft_file: Path, tmp_path: Path
) -> None:
    """The greatest number of GPUs that divides the batch trains: another objective may have another one."""
    three = ["cpu"] * 3
    found = []
    for number, processes in enumerate((2, 3, 2)):
        output = tmp_path / str(number)
        output.mkdir()
        objective = evolve(SFT, batch_size=6)
        request = TrainingRequest(Model("transformers", str(base)), None, objective, sft_file, output, tmp_path, TWO)
        together.train(request, three, processes, Context())
        found.append(weights(output))
        assert sizes_of_groups() == {rank: processes if rank < processes else 0 for rank in range(3)}
    assert found[0] == found[2]


@pytest.mark.slow  # starts processes three times; test_pool.py has the error of a process that dies
def test_after_a_training_that_fails_or_dies_a_new_one_succeeds(
    sft_file: Path, tmp_path: Path, trained: Training
) -> None:
    expected, good = trained(SFT, sft_file, "good")
    processes = process_ids()
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": "text"}\n')
    with pytest.raises(InputError, match=r"broken.jsonl, line 1: 'prompt' is not a list of messages"):
        trained(SFT, broken, "bad")
    assert process_ids() == []
    assert not any(Path("/proc", str(process)).exists() for process in processes)

    def kill_the_second(row: Any) -> None:
        if row["step"] == 2:
            os.kill(process_ids()[1], signal.SIGKILL)

    with pytest.raises(StageError, match=r"^training in several processes: the process that works on cpu died;"):
        trained(evolve(SFT, epochs=100), sft_file, "killed", log=kill_the_second)
    assert process_ids() == []
    rows, output = trained(SFT, sft_file, "after")
    assert (rows, weights(output)) == (expected, weights(good))
