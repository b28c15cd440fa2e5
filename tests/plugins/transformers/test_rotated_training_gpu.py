"""The rotation of queries and keys in training, in one kernel: its bits, its gradient, its models. Needs a GPU.

On a GPU machine: ``python -m pytest tests/plugins/transformers/test_rotated_training_gpu.py``. The same kernel without
a gradient is in ``test_gpu.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

from model_families import FAMILIES, config_of  # noqa: E402
from stock_training import Pair, write_ragged_pairs  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

from tutelage.objectives import Dpo, Lora  # noqa: E402
from tutelage_transformers.attention.kernels import rotate  # noqa: E402
from tutelage_transformers.attention.rotary import fuse_rotations, fused, is_known  # noqa: E402
from tutelage_transformers.training import packing  # noqa: E402

TYPES = [
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    (torch.float16, torch.float16),
    (torch.bfloat16, torch.float32),
    (torch.float16, torch.float32),
]
"""Of queries and keys, and of cosines and sines; the last two are those of mixed precision."""
TOLERANCE = 1e-2
"""Distance of two gradients of all weights, relative to their length: attention backward adds in any order."""

STRIDES: dict[str, Callable[[Any], Any]] = {
    "dense": lambda values: values,
    "tokens before heads": lambda values: values.transpose(1, 2).contiguous().transpose(1, 2),
    "part of a head": lambda values: torch.cat([values, values], -1)[..., : values.shape[-1]],
    "the same for all heads": lambda values: values[:, :1].expand_as(values),
    "one number": lambda values: values[:1, :1, :1, :1].expand_as(values),
    "last dimension not dense": lambda values: values.transpose(2, 3).contiguous().transpose(2, 3),
}


def rotation_of(family: str) -> Any:
    return import_module(f"transformers.models.{family}.modeling_{family}").apply_rotary_pos_emb


def results(function: Any, inputs: list[Any], angles: list[Any], strides: Callable[[Any], Any]) -> list[Any]:
    """Rotated queries and keys, and the gradients of both from a random one with these strides."""
    found = function(*inputs, *angles)
    generator = torch.Generator(device="cuda").manual_seed(1)
    upstream = [strides(torch.randn(one.shape, generator=generator, device="cuda").to(one.dtype)) for one in found]
    return [*found, *torch.autograd.grad(found, inputs, upstream)]


@pytest.mark.parametrize("strides", STRIDES)
@pytest.mark.parametrize("types", TYPES, ids=str)
@pytest.mark.parametrize(
    ("family", "size", "rotated"),
    [("llama", 64, 64), ("gemma", 256, 256), ("phi", 32, 32), ("phi3", 96, 96), ("phi3", 96, 72), ("gpt_neox", 80, 20)],
)
def test_the_rotation_kernel_and_its_gradient_have_the_bits_of_transformers_functions(
    family: str, size: int, rotated: int, types: tuple[Any, Any], strides: str
) -> None:
    torch.manual_seed(0)
    states, angles = types
    wide = [torch.randn(1, 50, heads, size + 8, device="cuda", dtype=states).transpose(1, 2) for heads in (6, 2)]
    inputs = [one[..., :size].detach().requires_grad_() for one in wide]  # Phi passes a part of each head
    cos_and_sin = [torch.randn(1, 50, rotated, device="cuda", dtype=angles) for _ in range(2)]
    expected = results(rotation_of(family), inputs, cos_and_sin, STRIDES[strides])
    found = results(rotate, inputs, cos_and_sin, STRIDES[strides])
    for one, two in zip(found, expected, strict=True):
        assert one.dtype == two.dtype
        assert torch.equal(one, two)


@pytest.mark.parametrize("types", TYPES, ids=str)
@pytest.mark.parametrize("with_gradient", [False, True])
@pytest.mark.parametrize("family", ["llama", "gemma3", "phi", "phi3", "gpt_neox", "qwen3"])
def test_these_families_are_known_for_all_types(family: str, types: tuple[Any, Any], with_gradient: bool) -> None:
    assert is_known(rotation_of(family), torch.device("cuda"), types, with_gradient)


def test_a_function_that_returns_another_type_in_mixed_precision_is_known_for_one_type_alone() -> None:
    rotation, device = rotation_of("olmo2"), torch.device("cuda")  # it returns the type of the queries
    assert is_known(rotation, device, (torch.float32, torch.float32), True)
    assert not is_known(rotation, device, (torch.bfloat16, torch.float32), True)


def test_a_function_with_another_gradient_is_not_known_for_a_training() -> None:
    def doubled(queries: Any, keys: Any, cos: Any, sin: Any) -> Any:
        return rotation_of("llama")(queries + (queries - queries.detach()), keys, cos, sin)

    def halted(queries: Any, keys: Any, cos: Any, sin: Any) -> Any:
        return rotation_of("llama")(queries, keys.detach(), cos, sin)

    types = torch.float32, torch.float32
    for function in (doubled, halted):
        assert is_known(function, torch.device("cuda"), types, False)
        assert not is_known(function, torch.device("cuda"), types, True)


def test_types_that_are_not_known_are_rotated_by_the_original() -> None:
    rotation = fused(lambda *_: ("original", "original"), {(torch.bfloat16, torch.float32)})
    queries, angles = torch.randn(1, 2, 5, 16, device="cuda"), torch.randn(1, 5, 16, device="cuda")
    assert rotation(queries, queries, angles, angles) == ("original", "original")
    assert rotation(queries.bfloat16(), queries.bfloat16(), angles, angles)[0].dtype == torch.float32


def test_without_a_gradient_nothing_is_recorded() -> None:
    queries = torch.randn(1, 2, 5, 16, device="cuda", requires_grad=True)
    angles = torch.randn(1, 5, 16, device="cuda")
    assert rotate(queries, queries, angles, angles)[0].requires_grad
    assert not rotate(queries.detach(), queries.detach(), angles, angles)[0].requires_grad
    with torch.no_grad():
        assert not rotate(queries, queries, angles, angles)[0].requires_grad


def packed_gradient(model: Any) -> Any:
    """The gradients of all weights in one vector, from a packed pass in bfloat16 or mixed precision."""
    plan = packing.plan([40, 23, 1, 31], 40, [0, 0, 0, 12])
    plan = {name: value.cuda() if hasattr(value, "cuda") else value for name, value in plan.items()}
    ids = torch.arange(160, device="cuda").view(4, 40) % 50
    ids[3, :12] = ids[1, :12]
    with torch.autocast("cuda", dtype=torch.bfloat16):
        states = model.base_model(ids, torch.ones_like(ids), packing=plan, use_cache=False).last_hidden_state
    direction = torch.randn(states.shape, generator=torch.Generator().manual_seed(0)).cuda()
    (states.float() * direction).sum().backward()
    return torch.cat([weight.grad.float().flatten() for weight in model.parameters() if weight.grad is not None])


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "name", ["llama", "gemma", "gemma3_text", "mistral", "qwen2", "qwen3", "phi", "phi3", "gpt_neox", "olmo2"]
)
def test_a_packed_step_has_the_gradients_of_the_step_without_the_kernel(
    name: str, dtype: Any, checkpointing: bool
) -> None:
    torch.manual_seed(0)
    config = config_of(next(family for family in FAMILIES if family.model_type == name))
    plain = AutoModelForCausalLM.from_config(config, dtype=dtype).cuda().train()
    model = copy.deepcopy(plain)
    assert fuse_rotations(model, torch.bfloat16) == config.num_hidden_layers
    gradients = []
    for one in (model, plain):
        packing.pack(one)
        if checkpointing:
            one.gradient_checkpointing_enable()
        gradients.append(packed_gradient(one))
    assert gradients[1].norm() > 0
    assert (gradients[0] - gradients[1]).norm() < TOLERANCE * gradients[1].norm()


@pytest.mark.parametrize("lora", [None, Lora(r=4, alpha=8, dropout=0.0)])
def test_a_packed_training_on_a_gpu_rotates_by_the_kernel_and_saves_the_same_names(
    base: Path, other_base: Path, tmp_path: Path, lora: Lora | None
) -> None:
    file = write_ragged_pairs(tmp_path / "examples.jsonl")
    pair = Pair(base, other_base, Dpo(batch_size=4, lora=lora), file, tmp_path, device="cuda")
    replaced, stock = (
        [module for module in trainer.model.modules() if type(module).__name__ == "PhiAttention"]
        for trainer in pair.both()
    )
    assert replaced
    assert all("forward" in vars(module) for module in replaced)
    assert not any("forward" in vars(module) for module in stock)
    pair.losses(slice(0, 4))  # a pass forward and backward, with the adapter's layers inside the replaced modules
    names = [trainer.model.state_dict().keys() for trainer in pair.both()]
    assert names[0] == names[1]
