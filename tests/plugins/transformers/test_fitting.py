"""How a training step is divided among a GPU's memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve
from model_families import FAMILIES, config_of
from saved_activations import kept_by_autograd

from tutelage.errors import InputError
from tutelage.objectives import Dpo, Lora, Sft
from tutelage_transformers.attention.activations import fuse_activations
from tutelage_transformers.devices.capacity import Capacity
from tutelage_transformers.models.loading import LoadedModel
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training import adapters, cpu_memory, fitting, packing
from tutelage_transformers.training.arguments import lora_config
from tutelage_transformers.training.fitting import StepDivision, fastest_division

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of PEFT, by transformers

SFT = Sft(batch_size=16, lora=Lora(r=4))
LENGTHS = [500] * 40
GIB = 2**30


def by_tokens(tokens: int, checkpointing: bool) -> int:
    """As if a token took 10 bytes, and with checkpointing 2."""
    return tokens * (2 if checkpointing else 10)


def test_the_whole_batch_is_held_at_once_if_it_fits() -> None:
    assert fastest_division(SFT, None, LENGTHS, 16 * 500 * 10, by_tokens) == StepDivision(16, False)


def test_fewer_rows_are_held_at_once_if_they_keep_the_gpu_busy() -> None:
    assert fastest_division(SFT, None, [1000] * 40, 16_000 * 10 - 1, by_tokens) == StepDivision(8, False)


def test_gradient_checkpointing_is_preferred_to_an_idle_gpu() -> None:
    assert fastest_division(SFT, None, LENGTHS, 16 * 500 * 10 - 1, by_tokens) == StepDivision(16, True)


def test_a_requested_division_is_used() -> None:
    assert fastest_division(evolve(SFT, micro_batch_size=2), False, LENGTHS, 2 * 500 * 10, by_tokens) == StepDivision(
        2, False
    )
    assert fastest_division(SFT, True, LENGTHS, 10**9, by_tokens) == StepDivision(16, True)


def test_the_longest_rows_may_be_in_one_batch() -> None:
    assert fastest_division(SFT, False, [100] * 24 + [900] * 16, 16 * 900 * 10 - 1, by_tokens) == StepDivision(8, False)


@pytest.mark.parametrize(("packed", "rows"), [(True, 16), (False, 4)])
def test_all_rows_of_a_padded_batch_take_as_much_as_its_longest_one(
    packed: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen rows of Gemma 2, one of them of 2,048 tokens, were estimated at 13 GiB, and padded they are at 35 GiB."""
    import torch

    model = SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr(fitting, "device_memory", lambda device: 10 * 8192 / fitting.USABLE_SHARE)
    monkeypatch.setattr(fitting, "training_bytes", lambda objective, model, tokens, *_: 10 * tokens)
    settings = TransformersSettings(gradient_checkpointing=False)
    assert fitting.divide_step(SFT, model, [2048] + [400] * 15, packed, settings).rows == rows


def test_a_gpu_that_is_too_small_is_one_error_with_advice() -> None:
    with pytest.raises(InputError, match=r"too small.* 1 at once.*try settings.quantization: 4bit"):
        fastest_division(SFT, None, LENGTHS, 999, by_tokens)
    with pytest.raises(InputError, match="try an adapter"):
        fastest_division(evolve(SFT, lora=None), None, LENGTHS, 999, by_tokens)
    with pytest.raises(InputError, match="micro_batch_size and gradient_checkpointing left open"):
        fastest_division(evolve(SFT, micro_batch_size=4), None, LENGTHS, 999, by_tokens)
    with pytest.raises(InputError, match=r"it takes about 3\.0 GiB with 1 at once, and 1\.5 GiB can be used"):
        fastest_division(SFT, None, [3 * GIB // 2] * 40, 3 * GIB // 2, by_tokens)


def test_on_a_cpu_the_batch_is_divided_only_on_request(loaded: LoadedModel) -> None:
    assert fitting.divide_step(SFT, loaded.model, LENGTHS, False, TransformersSettings()) == StepDivision(16, False)
    asked = fitting.divide_step(
        evolve(SFT, micro_batch_size=4), loaded.model, LENGTHS, False, TransformersSettings(gradient_checkpointing=True)
    )
    assert asked == StepDivision(4, True)


def of_machine(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let this machine have ``size`` bytes."""
    machine = Capacity(size, "this machine", False)
    monkeypatch.setattr(cpu_memory, "capacity_of_machine", lambda: machine)


def gemma_270m(layers: int = 18) -> Any:
    """A model of the shape of Gemma 3 270M, without memory for its weights."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        vocab_size=262_144,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
    )
    with torch.device("meta"):
        return Gemma3ForCausalLM(config)


def on_cpu(model: Any, objective: Any, length: int = 500, **settings: Any) -> StepDivision:
    """The division on this machine's CPU of a model that may be on the meta device."""

    class OnCpu:
        device = SimpleNamespace(type="cpu")

        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

    return fitting.divide_step(objective, OnCpu(), [length] * 40, False, TransformersSettings(**settings))


@pytest.mark.parametrize(
    ("gib", "expected"),
    [(64, StepDivision(16, False)), (24, StepDivision(8, False)), (12, StepDivision(2, False))],
)
def test_on_a_cpu_as_many_rows_are_held_as_fit_into_the_machine(
    monkeypatch: pytest.MonkeyPatch, gib: int, expected: StepDivision
) -> None:
    of_machine(monkeypatch, gib * GIB)
    assert on_cpu(gemma_270m(), Sft(batch_size=16, lora=None)) == expected


def test_on_a_cpu_gradient_checkpointing_is_used_only_if_one_row_does_not_fit_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_machine(monkeypatch, 12 * GIB)
    assert on_cpu(gemma_270m(), Sft(batch_size=16, lora=None), 2500).checkpointing
    assert not on_cpu(gemma_270m(), Sft(batch_size=16, lora=None), 500).checkpointing


def test_a_machine_that_is_too_small_is_one_error_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    of_machine(monkeypatch, 4 * GIB)
    with pytest.raises(InputError, match=r"this machine is too small for this training: .*try an adapter \(lora\)"):
        on_cpu(gemma_270m(), Sft(batch_size=16, lora=None))


def test_processes_on_a_cpu_share_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    of_machine(monkeypatch, 64 * GIB)
    whole = on_cpu(gemma_270m(), Sft(batch_size=64, lora=None)).rows
    assert on_cpu(gemma_270m(), Sft(batch_size=64, lora=None), processes=4).rows < whole / 2


@pytest.mark.parametrize("lora", [None, Lora(r=4)])
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "phi", "gpt2"])
def test_the_estimate_for_a_cpu_is_above_what_autograd_keeps_but_not_by_far(family: str, lora: Lora | None) -> None:
    tokens = 128
    kept = [kept_on_cpu(family, layers, tokens, lora is not None) for layers in (2, 4)]
    estimates = [
        cpu_memory.step_bytes(Sft(lora=lora), wide_family(family, layers), 0, tokens, tokens, False)
        - (1 if lora else 4) * wide_family(family, layers).get_memory_footprint()
        for layers in (2, 4)
    ]
    assert 0.98 < (estimates[1] - estimates[0]) / (kept[1] - kept[0]) < 1.6


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3_text", "phi", "gpt2"])
def test_the_estimate_for_a_cpu_has_the_attention_probabilities_that_autograd_keeps(family: str) -> None:
    """The part that grows with the square of the length, without what both have for each token."""

    def kept(tokens: int) -> int:
        return kept_on_cpu(family, 4, tokens, False) - kept_on_cpu(family, 2, tokens, False)

    def activations(layers: int, tokens: int) -> int:
        model = wide_family(family, layers)
        weights = 4 * int(model.get_memory_footprint())
        return cpu_memory.step_bytes(Sft(lora=None), model, 0, tokens, tokens, False) - weights

    def estimate(tokens: int) -> int:
        return activations(4, tokens) - activations(2, tokens)

    assert 1 <= (estimate(128) - 2 * estimate(64)) / (kept(128) - 2 * kept(64)) < 1.05


@pytest.mark.parametrize(("family", "checkpointing"), [("gemma2", False), ("llama", False), ("llama", True)])
def test_the_estimate_for_a_gpu_has_the_scores_that_eager_attention_keeps(family: str, checkpointing: bool) -> None:
    """Gemma 2 is trained with eager attention on a GPU, too: 2,048 tokens of its 2B model have 7 GB of scores."""
    import torch

    def kept(tokens: int) -> int:
        two, four = (kept_on_cpu(family, layers, tokens, False, torch.bfloat16) for layers in (2, 4))
        return four - two

    def estimate(tokens: int, attention: str = "eager") -> int:
        few, many = (wide_family(family, layers) for layers in (2, 4))
        for model in (few, many):
            model.config._attn_implementation = attention
        of_layers = [fitting.training_bytes(SFT, model, tokens, tokens, False, checkpointing) for model in (few, many)]
        return of_layers[1] - of_layers[0] - (fitting._state_bytes(SFT, many) - fitting._state_bytes(SFT, few))

    of_scores = estimate(128) - 2 * estimate(64)
    assert estimate(128, "sdpa") == 2 * estimate(64, "sdpa")
    if checkpointing:  # those of one layer alone, whatever the number of layers
        assert of_scores == 0
    else:
        assert 1 <= of_scores / (kept(128) - 2 * kept(64)) < 1.05


def wide_family(name: str, layers: int) -> Any:
    """A model of a family whose layers are wide enough for small tensors not to matter."""
    from transformers import AutoModelForCausalLM

    family = next(family for family in FAMILIES if family.model_type == name)
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": layers, "head_dim": 64}
    known = {
        key: value for key, value in sizes.items() if name != "gpt2" or key in ("hidden_size", "num_hidden_layers")
    }
    changes = {key: value for key, value in family.changes.items() if key != "layer_types"} | known
    model: Any = AutoModelForCausalLM.from_config(config_of(evolve(family, changes=changes)))
    model.set_attn_implementation("eager")
    return model


def kept_on_cpu(name: str, layers: int, tokens: int, adapted: bool, dtype: Any = None) -> int:
    """Bytes that autograd keeps of a padded forward pass, in float32 or ``dtype``, the weights aside."""
    import torch
    from peft import get_peft_model

    model = wide_family(name, layers).to(dtype)
    backbone = model.base_model
    if adapted:
        model = get_peft_model(model, lora_config(Lora(r=4), model))
    model.train()
    ids = torch.zeros(1, tokens, dtype=torch.long)
    return kept_by_autograd(model, lambda: backbone(ids, attention_mask=torch.ones_like(ids), use_cache=False))


def test_an_adapters_size_is_that_of_pefts_adapter() -> None:
    model = wide_model(2)
    expected = fitting.adapter_size(model, Lora(r=4))
    adapted = with_adapter(model)
    assert sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad) == expected


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_estimate_of_activations_is_near_what_autograd_keeps(checkpointing: bool) -> None:
    tokens = 256
    kept = [kept_bytes(layers, tokens, checkpointing) for layers in (2, 4)]
    objective = Dpo(lora=Lora(r=4))
    estimates = [
        fitting.training_bytes(objective, wide_model(layers), tokens, tokens, True, checkpointing)
        - fitting._state_bytes(objective, wide_model(layers))
        for layers in (2, 4)
    ]
    assert (estimates[1] - estimates[0]) / (kept[1] - kept[0]) == pytest.approx(1, abs=0.2)


def test_a_gated_block_of_gemma_is_counted_as_that_of_llama() -> None:
    """Its activation, a GELU, does not tell: StarCoder 2 has the same one in a block that is not gated."""
    llama, gemma, ungated = (
        fitting.training_bytes(SFT, model, 256, 256, True, False) - fitting._state_bytes(SFT, model)
        for model in (wide_family(name, 2) for name in ("llama", "gemma", "starcoder2"))
    )
    assert llama == gemma > ungated


def test_masks_are_counted_unless_kernels_compute_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layers of GPT-2, of quantised models and of experts have none of these kernels."""
    import torch

    lora = Lora(r=8)
    packed = Sft(lora=lora)

    def step_bytes(model: Any, is_packed: bool = True) -> int:
        return fitting.training_bytes(packed, model, 256, 256, is_packed, False)

    def saved_by_kernels(model: Any, is_packed: bool = True) -> int:
        with monkeypatch.context() as patch:
            without = step_bytes(model, is_packed)
            patch.setattr(adapters, "has_kernels", lambda device, dtype, rank: rank == lora.r)
            return without - step_bytes(model, is_packed)

    model = wide_family("llama", 2).to(torch.bfloat16)
    assert saved_by_kernels(model) > 0
    assert saved_by_kernels(model, is_packed=False) == 0
    assert saved_by_kernels(wide_family("llama", 2).to(torch.float16)) == 0
    for name in ("gpt2", "qwen2_moe"):
        assert saved_by_kernels(wide_family(name, 2).to(torch.bfloat16)) == 0
    model.is_quantized = True
    assert saved_by_kernels(model) == 0


def wide_model(layers: int) -> Any:
    import torch
    from transformers import PhiConfig, PhiForCausalLM

    config = PhiConfig(
        vocab_size=32,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=256,
    )
    return PhiForCausalLM(config).to(torch.bfloat16)


def with_adapter(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    layers = ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"]
    return get_peft_model(model, LoraConfig(r=4, lora_dropout=0.05, target_modules=layers))


def kept_bytes(layers: int, tokens: int, checkpointing: bool) -> int:
    """Bytes that autograd keeps of a packed forward pass, the weights aside."""
    import torch

    model = wide_model(layers)
    packing.pack(model)
    fuse_activations(model)
    adapted = with_adapter(model)
    adapters.fuse_adapters(adapted)
    adapted.train()
    if checkpointing:
        adapted.gradient_checkpointing_enable({"use_reentrant": False})
        adapted.enable_input_require_grads()
    ids = torch.zeros(1, tokens, dtype=torch.long)
    plan = packing.plan([tokens], tokens)
    return kept_by_autograd(adapted, lambda: model.model(ids, torch.ones_like(ids), use_cache=False, packing=plan))


@pytest.mark.parametrize(
    ("objective", "rows", "advice"),
    [
        (SFT, 16, "set sft.micro_batch_size to 8 or less; the same run then continues"),
        (Dpo(batch_size=16), 4, "set dpo.micro_batch_size to 2 or less"),
        (Dpo(batch_size=16), 1, "quantization to 4bit"),
    ],
)
def test_running_out_of_memory_in_training_is_one_error_that_names_the_setting(
    objective: Any, rows: int, advice: str
) -> None:
    import torch

    with (
        pytest.raises(InputError, match=f"ran out of memory in training, with {rows} at once; .*{advice}"),
        fitting.explain_out_of_memory(objective, rows),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
