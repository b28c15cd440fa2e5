"""LoRA layers as one node of autograd, compared with PEFT's. Skipped without a GPU.

On a GPU machine: ``python -m pytest tests/plugins/transformers/test_adapter_kernels_gpu.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

from attrs import evolve  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from saved_activations import kept_by_autograd  # noqa: E402
from stock_training import write_ragged_pairs  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402
from transformers import AutoModelForCausalLM, LlamaConfig, PhiConfig  # noqa: E402

from tutelage.context import Context  # noqa: E402
from tutelage.objectives import Dpo, Lora  # noqa: E402
from tutelage.records import Model  # noqa: E402
from tutelage_transformers.attention.activations import fuse_activations  # noqa: E402
from tutelage_transformers.models.loading import read  # noqa: E402
from tutelage_transformers.models.quiet import quiet  # noqa: E402
from tutelage_transformers.settings import TransformersSettings  # noqa: E402
from tutelage_transformers.training import adapters, fitting, packing  # noqa: E402
from tutelage_transformers.training.arguments import lora_config  # noqa: E402
from tutelage_transformers.training.request import TrainingRequest  # noqa: E402
from tutelage_transformers.training.step import build, training_dtype  # noqa: E402

BFLOAT16, FLOAT16, FLOAT32 = torch.bfloat16, torch.float16, torch.float32
SHAPES = [(37, 70, 45), (1000, 640, 2560), (2049, 2563, 517)]
"""Rows, inputs and outputs."""
FAR = 1.5
"""Allowed error, in relation to that of PEFT's layer. Both are those of a few roundings."""


def adapted(inputs: int, outputs: int, rank: int, dropout: float = 0.0, bias: bool = True, **types: Any) -> Any:
    """A PEFT model of one linear layer on the GPU whose adapter is not zero, in training mode."""
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(inputs, outputs, bias=bias)).to("cuda", types.get("base", BFLOAT16))
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=dropout, target_modules=["0"])
    model = get_peft_model(base, config)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, device="cuda").div(weight.shape[1] ** 0.5)
            weight.data = weight.data.to(types.get("adapter", FLOAT32))
    return model.train()


def one_node(*arguments: Any, **options: Any) -> Any:
    model = adapted(*arguments, **options)
    assert adapters.fuse_adapters(model) == 1
    return model


def states(*shape: int, dtype: Any = BFLOAT16) -> Any:
    return torch.randn(*shape, generator=torch.Generator("cuda").manual_seed(1), device="cuda").to(dtype)


def outcome(model: Any, x: Any, upstream: Any, call: Callable[[Any], Any] | None = None) -> list[Any]:
    """The output, and the gradients of the input and of the adapter, in float64. ``call`` may call the model."""
    x = x.clone().requires_grad_()
    result = (call or model)(x)
    result.backward(upstream)
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    assert len(gradients) == 2
    assert all(gradient.dtype == weight.dtype for gradient, weight in zip(gradients, trained(model), strict=True))
    return [tensor.detach().double() for tensor in (result, x.grad, *gradients)]


def trained(model: Any) -> list[Any]:
    return [weight for weight in model.parameters() if weight.requires_grad]


def errors(found: list[Any], exact: list[Any]) -> list[float]:
    return [float((one - other).norm() / other.norm()) for one, other in zip(found, exact, strict=True)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rank", [8, 16, 64, 128])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16])
def test_the_layer_is_as_exact_as_pefts(
    dtype: Any, rows: int, inputs: int, outputs: int, rank: int, bias: bool
) -> None:
    types = {"base": dtype, "adapter": dtype}
    pefts = adapted(inputs, outputs, rank, bias=bias, **types)
    x, upstream = states(rows, inputs, dtype=dtype), states(rows, outputs, dtype=dtype)
    exact = outcome(deepcopy(pefts).double(), x.double(), upstream.double())
    found = outcome(one_node(inputs, outputs, rank, bias=bias, **types), x, upstream)
    allowed = errors(outcome(pefts, x, upstream), exact)
    for error, of_peft in zip(errors(found, exact), allowed, strict=True):
        assert error <= FAR * of_peft + 1e-6


@pytest.mark.parametrize("rank", [8, 16, 64, 128])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_a_float32_adapter_is_used_in_the_type_of_the_base(rows: int, inputs: int, outputs: int, rank: int) -> None:
    pefts = adapted(inputs, outputs, rank)
    x, upstream = states(rows, inputs), states(rows, outputs)
    exact = outcome(deepcopy(pefts).double(), x.double(), upstream.double())
    found = outcome(one_node(inputs, outputs, rank), x, upstream)
    adapters.fuse_adapters(pefts, with_kernels=False)
    for error, without in zip(errors(found, exact), errors(outcome(pefts, x, upstream), exact), strict=True):
        assert error <= FAR * without + 1e-6


def test_the_layer_has_the_shape_of_its_input_which_may_be_a_view() -> None:
    model = one_node(64, 48, 8)
    x = states(64, 3, 7).permute(1, 2, 0)
    assert model(x).shape == (3, 7, 48)
    assert torch.equal(model(x), model(x.contiguous()))
    found, expected = (outcome(model, one, states(3, 7, 48)) for one in (x, x.contiguous()))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert torch.equal(model(x[0, 0]), model(x[0, :1])[0])
    output = model(x)
    output += 1  # a model may do this to the output of a layer
    output.sum().backward()


def dropped(x: Any, seed: Any, dropout: float) -> Any:
    """``dropout(x)``, one block of columns after the other: its product with rows of the identity."""
    from tutelage_transformers.training.adapter_kernels import project

    identity = torch.eye(x.shape[1], device="cuda", dtype=x.dtype)
    return torch.cat([project(x, rows.contiguous(), seed, 1.0, dropout) for rows in identity.split(128)], 1)


@pytest.mark.parametrize("dropout", [0.0, 0.05, 0.5])
@pytest.mark.parametrize(("rows", "size"), [(1, 64), (37, 70), (1000, 640), (2049, 2563)])
@pytest.mark.parametrize("rank", [8, 16, 64, 128])
def test_all_products_drop_the_same_numbers(rank: int, rows: int, size: int, dropout: float) -> None:
    from tutelage_transformers.training.adapter_kernels import gradients, project

    seed = torch.tensor([2**40 + rows], device="cuda")
    x = states(rows, size).abs() + 1  # no number is zero before it is dropped
    kept = dropped(x, seed, dropout)
    mask = (kept != 0).double()
    scaled = mask / (1 - dropout)
    assert torch.allclose(kept.double(), x.double() * scaled, rtol=0.01)
    down, d_inner = states(rank, size), states(rows, rank)
    kept = x.double() * scaled
    upstream = states(rows, size)
    d_x = upstream.clone()
    expected = [
        kept @ down.double().t() * 2,
        d_inner.double().t() @ kept * 2,
        upstream.double() + scaled * (d_inner.double() @ down.double()) * 2,
    ]
    d_down = gradients(x, d_x, d_inner, down, seed, 2.0, dropout)
    found = [project(x, down, seed, 2.0, dropout), d_down, d_x]
    assert max(errors([one.double() for one in found], expected)) < 0.005
    assert torch.equal(d_down, gradients(x, upstream, d_inner, down, seed, 2.0, dropout))


@pytest.mark.parametrize("dropout", [0.05, 0.5])
def test_the_mask_is_random_in_rows_columns_and_seeds(dropout: float) -> None:
    """Rates and correlations are divided by their standard deviation for independent numbers."""
    x = torch.ones(4096, 2560, device="cuda", dtype=BFLOAT16)
    keep = 1 - dropout
    masks = [(dropped(x, torch.tensor([seed], device="cuda"), dropout) != 0).double() for seed in (5, 6, 5 + 2**32)]
    scores = [(mask - keep) / (keep * dropout) ** 0.5 for mask in masks]
    one = scores[0]
    sums = [(score.sum(), score.numel()) for score in scores]
    sums += [((one * score).sum(), one.numel()) for score in scores[1:]]
    for down, right in ((0, 1), (0, 64), (0, 128), (1, 0), (1, 1), (64, 0)):
        product = one[down:, right:] * one[: len(one) - down, : one.shape[1] - right]
        sums.append((product.sum(), product.numel()))
    assert max(abs(float(total)) / number**0.5 for total, number in sums) < 5
    assert one.sum(0).abs().max() / len(one) ** 0.5 < 6
    assert one.sum(1).abs().max() / one.shape[1] ** 0.5 < 6


def test_each_call_in_training_draws_another_mask_and_a_seed_repeats_them() -> None:
    model, x = one_node(64, 48, 8, dropout=0.3), states(100, 64)
    torch.manual_seed(3)
    first, second = model(x), model(x)
    torch.manual_seed(3)
    assert not torch.equal(first, second)
    assert torch.equal(first, model(x)) and torch.equal(second, model(x))
    state = torch.cuda.get_rng_state()
    model.eval()
    assert torch.equal(model(x), model(x))
    assert torch.equal(state, torch.cuda.get_rng_state())


def test_a_disabled_adapter_leaves_the_base() -> None:
    model, x = one_node(64, 48, 8, dropout=0.3), states(100, 64)
    with model.disable_adapter():
        assert torch.equal(model(x), model.get_base_model()[0].base_layer(x))
    with torch.no_grad():
        assert not model(x).requires_grad


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_recomputed_layer_drops_the_same_numbers(reentrant: bool) -> None:
    model, upstream = one_node(64, 48, 8, dropout=0.3), states(100, 48)
    torch.manual_seed(3)
    expected = outcome(model, states(100, 64), upstream)
    torch.manual_seed(3)
    found = outcome(model, states(100, 64), upstream, lambda x: checkpoint(model, x, use_reentrant=reentrant))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_each_replay_of_a_cuda_graph_draws_another_mask_for_both_passes() -> None:
    model, x = one_node(64, 48, 8, dropout=0.5), states(100, 64).requires_grad_()

    def step() -> Any:
        result = model(x)
        return result, *torch.autograd.grad(result, [x, *trained(model)], torch.ones_like(result))

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = step()
    replays = []
    for _ in range(2):
        graph.replay()
        replays.append([output.clone() for output in outputs])
    differ = [not torch.equal(one, other) for one, other in zip(*replays, strict=True)]
    assert differ == [True] * 4


def test_other_layers_have_no_kernels() -> None:
    wide = adapted(256, 256, 200)
    adapters.fuse_adapters(wide)
    float32 = adapted(64, 48, 8, base=FLOAT32)
    adapters.fuse_adapters(float32)
    assert name_of_node(wide, states(5, 256)) == name_of_node(float32, states(5, 64, dtype=FLOAT32)) != NODE
    layer = one_node(64, 48, 8)
    assert name_of_node(layer, states(5, 64)) == NODE
    with torch.autocast("cuda", FLOAT16):
        assert name_of_node(layer, states(5, 64)) != NODE
    with torch.autocast("cuda", BFLOAT16):
        assert name_of_node(layer, states(5, 64)) == NODE
    layer.get_base_model()[0].base_layer.weight.requires_grad_()
    assert name_of_node(layer, states(5, 64)) != NODE


NODE = "AdaptedLinearBackward"


def name_of_node(model: Any, x: Any) -> str:
    return type(model(x).grad_fn).__name__


def small_model(config: type, layers: int) -> Any:
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4, "num_hidden_layers": layers}
    made = config(vocab_size=32, max_position_embeddings=1024, **sizes)
    return AutoModelForCausalLM.from_config(made).to("cuda", BFLOAT16)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of PEFT, by transformers
@pytest.mark.parametrize("config", [PhiConfig, LlamaConfig])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_estimate_of_activations_is_near_above_what_autograd_keeps(config: type, checkpointing: bool) -> None:
    tokens, lora = 1024, Lora(r=8)
    kept, estimates = [], []
    for layers in (2, 4):
        model = small_model(config, layers)
        estimate = fitting.training_bytes(Dpo(lora=lora), model, tokens, tokens, True, checkpointing)
        estimates.append(estimate - fitting._state_bytes(Dpo(lora=lora), model))
        packing.pack(model)
        fuse_activations(model)
        peft = get_peft_model(model, lora_config(lora, model)).train()
        adapters.fuse_adapters(peft)
        if checkpointing:
            peft.gradient_checkpointing_enable({"use_reentrant": False})
            peft.enable_input_require_grads()
        kept.append(kept_by_autograd(peft, forward_of(model, tokens)))
    ratio = (estimates[1] - estimates[0]) / (kept[1] - kept[0])
    assert 0.9 < ratio < (1.2 if checkpointing else 1.8)


def forward_of(model: Any, tokens: int) -> Callable[[], Any]:
    ids = torch.zeros(1, tokens, dtype=torch.long, device="cuda")
    plan = {
        name: value.cuda() if isinstance(value, torch.Tensor) else value
        for name, value in packing.plan([tokens], tokens).items()
    }
    return lambda: model.model(ids, torch.ones_like(ids), use_cache=False, packing=plan)


def losses(start: Path, folder: Path, dropout: float, cuda_graphs: bool) -> list[float]:
    """The losses of a packed training, in steps of 4 pairs."""
    folder.mkdir()
    objective = Dpo(epochs=10, learning_rate=1e-3, batch_size=4, lora=Lora(r=8, alpha=16, dropout=dropout))
    settings = evolve(TransformersSettings(device="cuda"), cuda_graphs=cuda_graphs)
    loaded = read(Model("transformers", str(start)), settings, training_dtype(objective, settings))
    file = write_ragged_pairs(folder / "rows.jsonl")
    request = TrainingRequest(Model("transformers", str(start)), None, objective, file, folder, folder, settings)
    with quiet():
        trainer = build(request, loaded, None, folder, Context())
        trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_a_training_has_the_losses_of_one_without_kernels(
    base: Path, tmp_path: Path, cuda_graphs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = losses(base, tmp_path / "with", 0.0, cuda_graphs)
    dropping = losses(base, tmp_path / "dropping", 0.3, cuda_graphs)
    monkeypatch.setattr(adapters, "has_kernels", lambda *_: False)
    expected = losses(base, tmp_path / "without", 0.0, cuda_graphs)
    assert found == pytest.approx(expected, rel=2e-2, abs=5e-3)
    assert dropping[-1] < 0.97 * dropping[0]
