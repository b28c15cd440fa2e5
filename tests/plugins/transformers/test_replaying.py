"""When a captured pass is replayed, and when a pass is computed without graphs.

Recordings stand for CUDA graphs, which need a GPU: a replay computes the pass again, into the same tensors. The graphs
themselves are tested in ``test_captured_training_gpu.py``.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from stock_training import Pair, write_ragged_pairs

from tutelage.objectives import Dpo, Lora
from tutelage_transformers.training import capturing, graphs, packing
from tutelage_transformers.training.capturing import CapturedBackbone, bytes_to_come, collected_warnings, reason_of
from tutelage_transformers.training.filling import TOKEN_SIZES, Size
from tutelage_transformers.training.graphs import CapturedPass

torch = pytest.importorskip("torch")

DPO = Dpo(epochs=2, learning_rate=1e-3, batch_size=4)
GIB = 2**30


@frozen
class Recording:
    """Stands for a CUDA graph."""

    replay: Callable[[], None]


def recorder() -> Callable[..., CapturedPass]:
    """Stands for ``graphs.capture``. All recordings keep their activations in one place, as graphs do."""
    shared: dict[str, Any] = {}

    def record(compute: Any, ids: Any, packing: Mapping[str, Any], weights: Any, gradients: Any, _: Any) -> Any:
        with torch.no_grad():
            hidden = torch.zeros_like(compute(ids, packing))
        upstream = torch.zeros_like(hidden)

        def forward() -> None:
            with torch.enable_grad():
                shared["hidden"] = compute(ids, packing)
            hidden.copy_(shared["hidden"].detach())

        def backward() -> None:
            for own, gradient in zip(gradients, torch.autograd.grad(shared["hidden"], weights, upstream), strict=True):
                own.copy_(gradient)

        inputs = {"ids": ids, **{name: one for name, one in packing.items() if isinstance(one, torch.Tensor)}}
        return CapturedPass(inputs, Recording(forward), hidden, upstream, Recording(backward), gradients)

    return record


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Passes are recorded. Has an entry for each pass forward that is replayed."""
    found: list[bool] = []
    replay = graphs.replay
    monkeypatch.setattr(graphs, "capture", recorder())

    def noted(*arguments: Any) -> Any:
        found.append(True)
        return replay(*arguments)

    monkeypatch.setattr(graphs, "replay", noted)
    monkeypatch.setattr(capturing, "device_memory", lambda device: 80 * GIB)
    return found


@pytest.fixture
def trainer_of(base: Path, tmp_path: Path) -> Callable[..., Any]:
    """Returns a packed trainer, whose passes are captured from the first one on unless ``graphs`` is false."""

    def build(objective: Dpo = DPO, graphs: bool = True) -> Any:
        trainer = Pair(base, None, objective, write_ragged_pairs(tmp_path / "rows.jsonl"), tmp_path).ours
        if graphs:
            packing.capture(trainer, 200, TOKEN_SIZES)
            captured = backbone_of(trainer)
            captured._pool, captured._token_bytes = object(), 1.0
        return trainer

    return build


def backbone_of(trainer: Any) -> CapturedBackbone:
    [found] = [vars(module)[name] for module in trainer.model.modules() for name in vars(module) if "captured" in name]
    assert isinstance(found, CapturedBackbone)
    return found


def batches_of(trainer: Any) -> list[Any]:
    trainer.model.train()
    rows = [trainer.train_dataset[number] for number in range(12)]
    names = trainer._signature_columns or list(rows[0])
    rows = [{name: row[name] for name in row if name in names} for row in rows]
    return [trainer._prepare_inputs(trainer.data_collator(rows[start : start + 4])) for start in (0, 4, 8)]


def gradients_of(trainer: Any) -> list[Any]:
    return [weight.grad.clone() for weight in trainer.model.parameters() if weight.requires_grad]


def loss_of(trainer: Any, batch: Any) -> Any:
    return trainer.compute_loss(trainer.model, dict(batch))


def assert_same_gradients(one: Any, other: Any) -> None:
    for left, right in zip(gradients_of(one), gradients_of(other), strict=True):
        assert torch.allclose(left, right, atol=1e-6)


@pytest.mark.parametrize("lora", [None, Lora(r=4, alpha=8, dropout=0.0)])
def test_a_training_of_replayed_passes_has_the_losses_of_one_without(
    trainer_of: Callable[..., Any], replays: list[bool], lora: Lora | None
) -> None:
    found = []
    for captured in (True, False):
        trainer = trainer_of(Dpo(epochs=4, learning_rate=1e-3, batch_size=4, micro_batch_size=2, lora=lora), captured)
        trainer.train()
        found.append([row["loss"] for row in trainer.state.log_history if "loss" in row])
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert len(replays) == 24, "each of 12 steps has two passes"


def test_a_pass_before_the_backward_of_an_earlier_one_is_not_replayed(
    trainer_of: Callable[..., Any], replays: list[bool]
) -> None:
    graphs, plain = trainer_of(), trainer_of(graphs=False)
    for trainer in (graphs, plain):
        first, second, _ = batches_of(trainer)
        losses = [loss_of(trainer, first), loss_of(trainer, second)]
        for loss in losses:
            loss.backward()
    assert len(replays) == 1
    assert_same_gradients(graphs, plain)
    loss_of(graphs, batches_of(graphs)[2]).backward()
    assert len(replays) == 2, "afterwards passes are replayed again"


def test_a_pass_that_is_dropped_without_a_backward_does_not_end_replaying(
    trainer_of: Callable[..., Any], replays: list[bool]
) -> None:
    trainer = trainer_of()
    for batch in batches_of(trainer):
        loss_of(trainer, batch)
    assert len(replays) == 3


def test_losses_that_are_kept_after_their_backward_do_not_end_replaying(
    trainer_of: Callable[..., Any], replays: list[bool]
) -> None:
    trainer, kept = trainer_of(), []
    for batch in batches_of(trainer):
        kept.append(loss_of(trainer, batch))
        kept[-1].backward()
    assert len(replays) == 3


def test_a_pass_without_gradients_is_not_replayed_and_leaves_the_activations(
    trainer_of: Callable[..., Any], replays: list[bool]
) -> None:
    graphs, plain = trainer_of(), trainer_of(graphs=False)
    for trainer in (graphs, plain):
        first, second, _ = batches_of(trainer)
        loss = loss_of(trainer, first)
        with torch.no_grad():
            loss_of(trainer, second)
        loss.backward()
    assert len(replays) == 1
    assert_same_gradients(graphs, plain)


def test_a_first_pass_without_gradients_does_not_measure_the_activations(trainer_of: Callable[..., Any]) -> None:
    trainer = trainer_of()
    backbone_of(trainer)._token_bytes = None
    with torch.no_grad():
        loss_of(trainer, batches_of(trainer)[0])
    assert backbone_of(trainer)._token_bytes is None


@pytest.mark.usefixtures("replays")
def test_a_replayed_pass_cannot_go_backward_twice(trainer_of: Callable[..., Any]) -> None:
    trainer = trainer_of()
    loss = loss_of(trainer, batches_of(trainer)[0])
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="a captured pass cannot go backward twice"):
        loss.backward()


def test_a_failed_capture_is_reported_once_and_the_training_continues_without_graphs(
    trainer_of: Callable[..., Any],
    replays: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The second size of a batch fails: its graphs would be in the memory of the first one's."""
    record, attempts = recorder(), []

    def fail(*arguments: Any) -> CapturedPass:
        attempts.append(len(arguments[1]))
        if len(attempts) == 1:
            return record(*arguments)
        try:
            raise torch.OutOfMemoryError("CUDA out of memory.\nMore about it.")
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    monkeypatch.setattr(graphs, "capture", fail)
    found = []
    with caplog.at_level(logging.WARNING):
        for captured in (True, False):
            trainer = trainer_of(DPO, captured)
            trainer.train()
            found.append([row["loss"] for row in trainer.state.log_history if "loss" in row])
            if captured:
                left = backbone_of(trainer)
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert len(attempts) == 2 and 1 <= len(replays) < 6
    assert not left._passes and not left._gradients
    [notice] = [record.getMessage() for record in caplog.records]
    assert notice == (
        "plugin transformers: a training step could not be captured as a CUDA graph, and this training continues "
        "without graphs: CUDA out of memory."
    )


def test_the_reason_of_an_error_without_text_is_its_class() -> None:
    assert reason_of(NotImplementedError()) == "NotImplementedError"


def test_the_reason_of_a_capture_is_its_first_error_and_not_what_this_error_explains() -> None:
    def fail() -> None:
        try:
            raise KeyError("mask")
        except KeyError as missing:
            raise ValueError("this model needs a mask\nof its own") from missing

    def end_of_capture() -> None:
        try:
            fail()
        finally:
            raise RuntimeError("the capture is invalid")

    with pytest.raises(RuntimeError) as caught:
        end_of_capture()
    assert reason_of(caught.value) == "this model needs a mask"


def weight(numbers: int, dtype: Any) -> Any:
    return torch.nn.Parameter(torch.zeros(numbers, dtype=dtype))


def test_gradients_and_moments_are_counted_until_they_exist_in_the_types_of_the_weights() -> None:
    backbone, head = weight(1000, torch.float32), weight(300, torch.bfloat16)
    optimizer = torch.optim.AdamW([backbone, head])

    def to_come(has_graphs: bool = False) -> int:
        return bytes_to_come([backbone, head], [backbone], optimizer.state, has_graphs)

    of_graphs = 3 * 4000
    assert to_come() == (4000 + 600) + 2 * (4000 + 600) + of_graphs
    backbone.grad = torch.zeros_like(backbone)
    assert to_come() == 600 + 2 * (4000 + 600) + of_graphs
    head.grad = torch.zeros_like(head)
    assert to_come() == 2 * (4000 + 600) + of_graphs
    optimizer.step()
    assert sum(one.nbytes for state in optimizer.state.values() for one in state.values() if one.dim()) == 9200
    assert to_come() == of_graphs
    assert to_come(has_graphs=True) == 2 * 4000


@pytest.mark.parametrize(("memory", "fits"), [(40, True), (32, False)])
def test_graphs_are_captured_if_gradients_and_moments_fit_beside_them(
    monkeypatch: pytest.MonkeyPatch, memory: int, fits: bool
) -> None:
    """A billion weights in float32 are counted by memory, not by number: with all that is to come they need 28 GB.

    The activations need 5 GB, so that a million weights fit into both GPUs.
    """
    monkeypatch.setattr(capturing, "device_memory", lambda device: memory * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4 * 10**9)
    size = Size(tokens=1000, copies=0, sequences=9, longest=500)
    many, few = torch.nn.Parameter(torch.empty(10**9, device="meta")), weight(10**6, torch.float32)
    assert CapturedBackbone([many], 500, token_bytes=2e6)._fits(size) is fits
    assert CapturedBackbone([few], 500, token_bytes=2e6)._fits(size)


@pytest.mark.usefixtures("replays")
def test_the_optimizer_state_of_a_trainer_is_asked_for_when_it_is_needed(trainer_of: Callable[..., Any]) -> None:
    trainer = trainer_of()
    captured = backbone_of(trainer)
    assert not captured.optimizer_state()
    trainer.train()
    every = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    assert {*captured.weights, *captured.others} == {*every}
    assert all(weight in captured.optimizer_state() for weight in every)


def test_other_warnings_reach_the_user_while_some_are_collected() -> None:
    with pytest.warns(UserWarning) as shown:  # noqa: SIM117
        with collected_warnings("waits for the GPU") as found:
            warnings.warn("an operation waits for the GPU (1)", UserWarning, stacklevel=1)
            warnings.warn("something else", UserWarning, stacklevel=1)
            warnings.warn("an operation waits for the GPU (2)", UserWarning, stacklevel=1)
    assert found == ["an operation waits for the GPU (1)", "an operation waits for the GPU (2)"]
    assert [(str(one.message), one.filename) for one in shown] == [("something else", __file__)]


def test_the_filters_of_the_user_apply_to_other_warnings_only() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="of no interest")
        with collected_warnings("waits for the GPU") as found:
            warnings.warn("it waits for the GPU", UserWarning, stacklevel=1)
            warnings.warn("of no interest", UserWarning, stacklevel=1)
            with pytest.raises(UserWarning, match="something else"):
                warnings.warn("something else", UserWarning, stacklevel=1)
    assert found == ["it waits for the GPU"]
